//! The two replicated clocks that begin outside: how much time has [`Elapsed`], and which time of day is believed
//! ([`Wall`]). Kept on every node, so that whoever leads next goes on without a jump; only a leader stamps with them.
//!
//! ```text
//! elapsed   known by: the anchor of this boot in the log · a pong of the leader · as a leader, what a majority of the
//!           voters knows · if none of them does, all were booted anew: the time of day since the last stamp counts
//! wall      last stamp + time since it ── shown by the voters' clocks ──► believed
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::PeerPing;

use super::elapsed::Elapsed;
use super::wall::{NEAR_MS, Wall};
use crate::clock::Clock;
use crate::locked::Locked as _;
use crate::log::Anchor;
use crate::mutants::{self, Mutant};
use crate::queue::State;
use crate::raft::Consensus;
use crate::raft::node::witness::{Seen, Witness};

/// A peer's clock that was told longer ago is not counted.
const SAID_MS_MAX: u64 = 10_000;
/// An answer that took longer tells no time.
const ASKED_MS_MAX: u64 = 1_500;
/// The elapsed clock is moved towards the believed time of day by 1 ms in this time at most: by 0.1 %.
const SLEW_EVERY_MS: u64 = 1_000;
/// An anchor in the log that is off by more is written anew, at most so often.
const ANCHOR_OFF_MS_MAX: u64 = 100;
const ANCHOR_EVERY_MS: u64 = 10_000;

/// Both clocks at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) wall_ms: u64,
    pub(crate) elapsed_ms: u64,
}

impl Now {
    /// What the clocks of a state show.
    pub(crate) fn of(state: &State) -> Self {
        Self { wall_ms: state.wall_ms(), elapsed_ms: state.elapsed_ms() }
    }
}

/// What a look at the clocks asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The believed time of day is not what the state says.
    pub(crate) correct: Option<Correction>,
    /// To be kept in the log.
    pub(crate) anchor: Option<Anchor>,
}

/// How the time of day in the state gets right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// It is behind: any entry brings it forward.
    Forward,
    /// It is ahead, and must be set.
    Back { from_ms: u64, to_ms: u64 },
}

/// What a peer said last.
#[derive(Clone, Copy, Debug)]
struct Said {
    boot_ms: u64,
    /// Its time of day less our time since boot.
    wall: i64,
    elapsed: Elapsed,
}

/// What a leader knows of time, while it leads.
#[derive(Clone, Debug)]
struct Leading {
    voters: Vec<u64>,
    /// Everything that was committed before is applied.
    applied_all: bool,
    wall: Option<Wall>,
    /// The believed time of day less the elapsed one, when the elapsed clock was right, and when it was moved last.
    pace: Option<(i64, u64)>,
}

#[derive(Default)]
struct Inner {
    elapsed: Elapsed,
    said: BTreeMap<u64, Said>,
    /// The clocks of the state as applied.
    applied: Now,
    leading: Option<Leading>,
    anchor: Option<Anchor>,
    /// This node's clock is far off, and this was said.
    alarm: bool,
}

/// The clocks of one node.
pub(crate) struct Times {
    node: u64,
    clock: Arc<dyn Clock>,
    boot_id: Option<u128>,
    witness: Witness,
    inner: Mutex<Inner>,
}

/// `wall_ms` as [`Wall`] tells it.
fn distance(wall_ms: u64, boot_ms: u64) -> i64 {
    i64::try_from(i128::from(wall_ms) - i128::from(boot_ms)).unwrap_or(i64::MAX)
}

impl Times {
    /// `anchor`: what the log has kept.
    pub(crate) fn new(
        node: NodeId,
        clock: Arc<dyn Clock>,
        anchor: Option<Anchor>,
        witness: Witness,
    ) -> Arc<Self> {
        let boot_id = clock.boot_id();
        let mut inner = Inner::default();
        if let Some(anchor) = anchor.filter(|anchor| Some(anchor.boot_id) == boot_id) {
            inner.elapsed.set(anchor.boot_ms, anchor.elapsed_ms);
            inner.anchor = Some(anchor);
        }
        Arc::new(Self { node: node.0, clock, boot_id, witness, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// The state shows this after an entry, or a snapshot.
    pub(crate) fn applied(&self, now: Now) {
        let mut inner = self.inner();
        inner.applied = now;
        let boot_ms = self.clock.boot_ms();
        inner.elapsed.bound(boot_ms, now.elapsed_ms, u64::MAX);
    }

    /// The time since boot, for [`Times::hear`].
    pub(crate) fn asked(&self) -> u64 {
        self.clock.boot_ms()
    }

    /// A peer answered this to what was asked at a time since boot.
    pub(crate) fn hear(&self, peer: NodeId, ping: &PeerPing, asked_ms: u64) {
        let boot_ms = self.clock.boot_ms();
        let took_ms = boot_ms.saturating_sub(asked_ms);
        if took_ms > ASKED_MS_MAX {
            return;
        }
        let mut inner = self.inner();
        let middle = boot_ms - took_ms / 2;
        let mut elapsed = Elapsed::default();
        if let Some(told) = ping.elapsed_ms {
            elapsed.set(middle, told);
            if ping.lead.is_some() && inner.leading.is_none() {
                // It was told at some time while the answer was awaited.
                if inner.elapsed.at(boot_ms).is_none() {
                    inner.elapsed = elapsed;
                }
                inner.elapsed.bound(boot_ms, told, told.saturating_add(took_ms));
                let applied_ms = inner.applied.elapsed_ms;
                inner.elapsed.bound(boot_ms, applied_ms, u64::MAX);
            }
        }
        inner.said.insert(peer.0, Said { boot_ms, wall: distance(ping.wall_ms, middle), elapsed });
        self.begin(&mut inner);
    }

    /// This node leads; these vote.
    pub(crate) fn lead(&self, voters: Vec<u64>) {
        let mut inner = self.inner();
        match &mut inner.leading {
            Some(leading) => leading.voters = voters,
            None => {
                inner.leading = Some(Leading { voters, applied_all: false, wall: None, pace: None });
                self.begin(&mut inner);
            }
        }
    }

    /// This node does not lead.
    pub(crate) fn follow(&self) {
        self.inner().leading = None;
    }

    /// This leader has applied everything that was committed before.
    pub(crate) fn applied_all(&self) {
        let mut inner = self.inner();
        if let Some(leading) = &mut inner.leading {
            leading.applied_all = true;
        }
        self.begin(&mut inner);
    }

    /// Whether this node leads and knows what to stamp.
    pub(crate) fn may_stamp(&self) -> bool {
        self.inner().leading.as_ref().is_some_and(|leading| leading.wall.is_some())
    }

    /// Finds out what this leader goes on from.
    fn begin(&self, inner: &mut Inner) {
        let Inner { elapsed, said, applied, leading: Some(leading), .. } = inner else { return };
        if leading.wall.is_some() {
            return;
        }
        let boot_ms = self.clock.boot_ms();
        let others: Vec<Said> = leading.voters.iter().filter_map(|voter| said.get(voter)).copied().collect();
        let own = usize::from(leading.voters.contains(&self.node));
        let heard = own + others.len() > leading.voters.len() / 2;
        if elapsed.at(boot_ms).is_none() && heard {
            let known = others.iter().filter_map(|said| said.elapsed.at(boot_ms)).max();
            if let Some(known) = known {
                elapsed.set(boot_ms, known.max(applied.elapsed_ms));
            } else if leading.applied_all {
                let mut walls: Vec<i64> = others.iter().map(|said| said.wall).collect();
                walls.push(distance(self.clock.wall_ms(), boot_ms));
                walls.sort_unstable();
                let wall_ms = boot_ms.saturating_add_signed(walls[walls.len() / 2]);
                let stamped = applied.wall_ms > 0;
                let gone_ms = if stamped { wall_ms.saturating_sub(applied.wall_ms) } else { 0 };
                elapsed.set(boot_ms, applied.elapsed_ms + gone_ms);
                tracing::info!(gone_ms, "no voter knows how much time has passed: the time of day counts");
                let Now { wall_ms, elapsed_ms } = *applied;
                self.witness.tell(&Seen::TimeTaken { wall_ms, elapsed_ms, gone_ms });
            }
        }
        let Some(elapsed_ms) = elapsed.at(boot_ms) else { return };
        let base = if applied.wall_ms > 0 {
            let wall_ms = applied.wall_ms + elapsed_ms.saturating_sub(applied.elapsed_ms);
            distance(wall_ms, boot_ms)
        } else {
            distance(self.clock.wall_ms(), boot_ms)
        };
        leading.wall = Some(Wall::new(base));
    }

    /// Both clocks, as far as they are known here.
    pub(crate) fn now(&self) -> Now {
        let inner = self.inner();
        let boot_ms = self.clock.boot_ms();
        let now = inner.now(boot_ms);
        let mut now = now.unwrap_or_else(|| Now { wall_ms: self.clock.wall_ms(), ..inner.applied });
        if mutants::on(Mutant::ElapsedByWall) && inner.applied.wall_ms > 0 {
            let gone_ms = self.clock.wall_ms().saturating_sub(inner.applied.wall_ms);
            now.elapsed_ms = inner.applied.elapsed_ms + gone_ms;
        }
        now
    }

    /// What a ping tells of the elapsed clock.
    pub(crate) fn elapsed_ms(&self) -> Option<u64> {
        self.inner().elapsed.at(self.clock.boot_ms())
    }

    /// How far this node's own clock is ahead of the cluster's time of day, in milliseconds; 0 if that is not known.
    pub(crate) fn off_ms(&self) -> i64 {
        let inner = self.inner();
        let boot_ms = self.clock.boot_ms();
        let stamped = inner.applied.wall_ms > 0;
        let now = inner.now(boot_ms).filter(|_| stamped);
        now.map_or(0, |now| distance(self.clock.wall_ms(), now.wall_ms))
    }

    /// Looks at what the clocks show, ten times a second.
    pub(crate) fn look(&self) -> Look {
        let off_ms = self.off_ms();
        let mut inner = self.inner();
        let off = off_ms.unsigned_abs() > NEAR_MS;
        if off && !inner.alarm {
            tracing::warn!(off_ms, "this node's clock is not believed: it is off the cluster's time");
        } else if inner.alarm && !off {
            tracing::info!(off_ms, "this node's clock shows the cluster's time again");
        }
        inner.alarm = off;
        self.begin(&mut inner);
        let boot_ms = self.clock.boot_ms();
        let correct = self.believe(&mut inner, boot_ms);
        let anchor = self.anchor(&mut inner, boot_ms);
        Look { correct, anchor }
    }

    fn believe(&self, inner: &mut Inner, boot_ms: u64) -> Option<Correction> {
        let Inner { elapsed, said, applied, leading: Some(leading), .. } = inner else { return None };
        let wall = leading.wall.as_mut()?;
        let mut shown = vec![distance(self.clock.wall_ms(), boot_ms)];
        let fresh = |said: &&Said| boot_ms.saturating_sub(said.boot_ms) <= SAID_MS_MAX;
        let voters = leading.voters.iter().filter(|voter| **voter != self.node);
        shown.extend(voters.filter_map(|voter| said.get(voter)).filter(fresh).map(|said| said.wall));
        let jumped = wall.look(boot_ms, &shown, leading.voters.len());
        let elapsed_ms = elapsed.at(boot_ms)?;
        let believed_ms = wall.at(boot_ms);
        let ahead = distance(believed_ms, elapsed_ms);
        match &mut leading.pace {
            Some((right, moved)) if !jumped => {
                if boot_ms.saturating_sub(*moved) >= SLEW_EVERY_MS {
                    *moved = boot_ms;
                    elapsed.shift((ahead - *right).clamp(-1, 1));
                }
            }
            pace => *pace = Some((ahead, boot_ms)),
        }
        if !leading.applied_all || applied.wall_ms == 0 {
            return None;
        }
        let stated_ms = applied.wall_ms + elapsed_ms.saturating_sub(applied.elapsed_ms);
        if stated_ms > believed_ms + NEAR_MS {
            Some(Correction::Back { from_ms: applied.wall_ms, to_ms: believed_ms })
        } else {
            (believed_ms > stated_ms + NEAR_MS).then_some(Correction::Forward)
        }
    }

    fn anchor(&self, inner: &mut Inner, boot_ms: u64) -> Option<Anchor> {
        let (boot_id, elapsed_ms) = (self.boot_id?, inner.elapsed.at(boot_ms)?);
        let kept = inner.anchor.is_some_and(|kept| {
            let since = boot_ms.saturating_sub(kept.boot_ms);
            let off = elapsed_ms.abs_diff(kept.elapsed_ms.saturating_add(since));
            off <= ANCHOR_OFF_MS_MAX || since < ANCHOR_EVERY_MS
        });
        if !kept {
            inner.anchor = Some(Anchor { boot_id, boot_ms, elapsed_ms });
        }
        inner.anchor.filter(|_| !kept)
    }
}

impl Inner {
    /// Both clocks, if they are known: those of a leader, or what its entries come to.
    fn now(&self, boot_ms: u64) -> Option<Now> {
        let elapsed_ms = self.elapsed.at(boot_ms)?;
        let wall = self.leading.as_ref().and_then(|leading| leading.wall);
        let stated = || self.applied.wall_ms + elapsed_ms.saturating_sub(self.applied.elapsed_ms);
        Some(Now { wall_ms: wall.map_or_else(stated, |wall| wall.at(boot_ms)), elapsed_ms })
    }
}

impl Consensus {
    /// How far this node's own clock is ahead of the cluster's time of day, in milliseconds.
    pub(crate) fn clock_off_ms(&self) -> i64 {
        self.times.off_ms()
    }
}

#[cfg(test)]
mod tests;

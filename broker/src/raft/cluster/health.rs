//! What this node can say of how its cluster is, for [`queue_protocol::health::judge`]: whom it hears, who is behind,
//! who refuses whom, what is refused.
//!
//! ```text
//! heartbeats, appends ──► how lately each voter answered, as Raft counts it    pings ──► how lately each member did
//! the end of the log, look by look ──► by how much time an index is behind     dials ──► who does not let whom in
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics};
use queue_protocol::error::Error;
use queue_protocol::health::{Contact, HealthView, LeadView, Refusal};
use queue_protocol::names::NodeId;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::peer::PeerResponse;
use tokio::time::Instant;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::raft::Consensus;
use crate::raft::group::clocks;
use crate::raft::group::leadership::Leadership;
use crate::raft::node::dial::RefusedBy;
use crate::raft::openraft::types::TypeConfig;

/// What was not said again for so long does not hold any more: every member is pinged once a second.
const SAID_MAX: Duration = Duration::from_secs(4);
/// How far back the end of the log is known, and how finely.
const ENDS_MAX: Duration = Duration::from_secs(10);
const ENDS_EVERY: Duration = Duration::from_millis(100);
/// Most members that a status tells of.
const MEMBERS_MAX: usize = 64;

/// When what `node` has answered last was sent, if this node leads.
pub(in crate::raft) fn heard(metrics: &RaftMetrics<TypeConfig>, node: u64) -> Option<clocks::Instant> {
    metrics.heartbeat.as_ref()?.get(&node).copied().flatten().map(|at| *at)
}

/// The index that a member is told to have.
pub(in crate::raft) fn told(matched: u64, last: u64) -> u64 {
    if mutants::on(Mutant::LagIgnored) { last } else { matched }
}

/// What came of dials and pings to one member.
#[derive(Clone, Debug, Default)]
struct Known {
    pong: Option<Instant>,
    /// This node does not let it in.
    refused: Option<(Refusal, Instant)>,
    /// It does not let this node in.
    refuses: Option<(Refusal, Instant)>,
}

/// What came of dials and pings to all members.
#[derive(Default)]
pub(in crate::raft) struct Contacts(Mutex<BTreeMap<u64, Known>>);

impl Contacts {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.0.locked()
    }

    /// A ping to `node` came to this.
    pub(in crate::raft) fn note(&self, node: u64, answer: &io::Result<PeerResponse>) {
        let now = Instant::now();
        let mut inner = self.inner();
        let known = inner.entry(node).or_default();
        match answer {
            Ok(PeerResponse::Pong(_)) => *known = Known { pong: Some(now), ..Known::default() },
            Ok(PeerResponse::Failed(error)) => known.refuses = Some((Refusal::from(error), now)),
            Ok(_) => {}
            Err(error) => {
                let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
                if let Some(own) = own {
                    known.refused = Some((Refusal::from(own), now));
                } else if let Some(by) = RefusedBy::of(error) {
                    known.refuses = Some((Refusal::from(&by.error), now));
                }
            }
        }
    }

    fn of(&self, node: u64, now: Instant) -> Known {
        let known = self.inner().get(&node).cloned().unwrap_or_default();
        // Whose data is not what it was stays so until it is let in, whether it runs or not.
        let lately = |(refusal, at): &(Refusal, Instant)| {
            refusal.is_of_identity() || now.saturating_duration_since(*at) <= SAID_MAX
        };
        Known {
            refused: known.refused.filter(lately),
            refuses: known.refuses.filter(lately),
            pong: known.pong,
        }
    }
}

/// Where the log of this leader ended, look by look.
#[derive(Default)]
pub(in crate::raft) struct LogEnds(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    leadership: Option<Leadership>,
    ends: VecDeque<(Instant, u64)>,
}

impl LogEnds {
    fn inner(&self) -> MutexGuard<'_, Ends> {
        self.0.locked()
    }

    /// The log ends here now, at a leader.
    pub(in crate::raft) fn note(&self, leadership: Leadership, last: u64, now: Instant) {
        let mut inner = self.inner();
        if inner.leadership.replace(leadership) != Some(leadership) {
            inner.ends.clear();
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        if inner.ends.back().is_none_or(|(at, _)| since(*at) >= ENDS_EVERY) {
            inner.ends.push_back((now, last));
        }
        while inner.ends.get(1).is_some_and(|(at, _)| since(*at) >= ENDS_MAX) {
            inner.ends.pop_front();
        }
    }

    /// Up to `index` is everything that the log held so long ago; at least so long, if that is not known.
    fn behind(&self, leadership: Leadership, index: u64, last: u64, now: Instant) -> Duration {
        let inner = self.inner();
        if index >= last || inner.leadership != Some(leadership) {
            return Duration::ZERO;
        }
        let has = inner.ends.iter().rev().find(|(_, end)| *end <= index);
        let at = has.or(inner.ends.front()).map_or(now, |(at, _)| *at);
        now.saturating_duration_since(at)
    }
}

impl Consensus {
    /// Takes note of where the log ends, if this node leads. Called at each beat.
    pub(in crate::raft) fn note_log_end(&self) {
        let Some(leadership) = self.seat.leadership() else { return };
        let last = self.log.state().last.map_or(0, |last| last.index);
        self.log_ends.note(leadership, last, Instant::now());
    }

    /// What this node can say of how its cluster is.
    pub(in crate::raft) fn health(&self) -> HealthView {
        let refusals = [self.refuse_push(), self.refuse_lease()].into_iter().flatten();
        let refusals = refusals.map(|error| Refusal::from(&error)).collect();
        let paused_count = self.read(|state, _| state.paused_count());
        HealthView {
            lead: self.lead_view(),
            contacts: Bounded::new(self.contacts()).expect("no more than 64 were taken"),
            refusals: Bounded::new(refusals).expect("two at most"),
            paused_count,
        }
    }

    fn lead_view(&self) -> Option<LeadView> {
        let leadership = self.seat.leadership()?;
        let (last, now) = (self.log.state().last.map_or(0, |last| last.index), Instant::now());
        let quorum = self.seat.acked_age();
        let quorum = if mutants::on(Mutant::QuorumTakenForGranted) { Some(Duration::ZERO) } else { quorum };
        Some(LeadView {
            ready: self.ready() == Some(leadership),
            quorum_ms: quorum.map(milliseconds),
            lease_ms: milliseconds(self.options.election_max),
            commit_behind_ms: milliseconds(self.log_ends.behind(leadership, self.commit_index(), last, now)),
        })
    }

    /// What this node hears of each other member.
    fn contacts(&self) -> Vec<Contact> {
        let (me, now) = (self.me.credentials.node.0, Instant::now());
        let leadership = self.seat.leadership();
        let last = self.log.state().last.map_or(0, |last| last.index);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership().nodes().map(|(node, _)| *node);
        let others = members.filter(|node| *node != me).take(MEMBERS_MAX);
        let contact = |node: u64| {
            let known = self.known.of(node, now);
            let pong_ms = known.pong.map(|at| milliseconds(now.saturating_duration_since(at)));
            let beat_ms = heard(&metrics, node).map(|at| milliseconds(at.elapsed()));
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&node).copied().flatten());
            let matched = matched.map_or(0, |id| id.index);
            let behind = |leadership| milliseconds(self.log_ends.behind(leadership, matched, last, now));
            let behind_ms = leadership.map(behind);
            Contact {
                node: NodeId(node),
                heard_ms: if leadership.is_some() { beat_ms } else { pong_ms },
                behind_ms: if mutants::on(Mutant::LagIgnored) { behind_ms.map(|_| 0) } else { behind_ms },
                refused: known.refused.map(|(refusal, _)| refusal),
                refuses: known.refuses.map(|(refusal, _)| refusal),
            }
        };
        others.map(contact).collect()
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::error::ErrorCode;

    use super::*;

    const FIRST: Leadership = Leadership { term: 1 };

    #[tokio::test(start_paused = true)]
    async fn an_index_is_behind_by_the_time_since_the_log_ended_there() {
        let ends = LogEnds::default();
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        let behind = |index, last, ms| milliseconds(ends.behind(FIRST, index, last, after(ms)));
        ends.note(FIRST, 100, begin);
        assert_eq!(behind(100, 100, 5_000), 0, "nothing is behind where nothing came");
        ends.note(FIRST, 100, after(4_000));
        ends.note(FIRST, 150, after(5_000));
        ends.note(FIRST, 200, after(6_000));
        assert_eq!((behind(200, 200, 6_500), behind(199, 200, 6_500)), (0, 1_500));
        assert_eq!((behind(150, 200, 6_500), behind(120, 200, 6_500)), (1_500, 2_500));
        assert_eq!(behind(40, 200, 6_500), 6_500, "at least since it is known");
        ends.note(FIRST, 200, after(30_000));
        assert_eq!(behind(40, 200, 30_000), 24_000);
        ends.note(Leadership { term: 2 }, 200, after(31_000));
        let next = ends.behind(Leadership { term: 2 }, 40, 200, after(31_500));
        assert_eq!(next, Duration::from_millis(500), "another leader knows nothing of that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_until_a_pong_or_until_it_is_not_said_any_more() {
        let contacts = Contacts::default();
        let refused =
            Error::refused(ErrorCode::StoreRefused, "n2 is refused: it is a copy. Nothing was changed");
        contacts.note(2, &Err(io::Error::other(refused.clone())));
        let now = Instant::now();
        let known = contacts.of(2, now);
        assert_eq!(
            known.refused.map(|(refusal, _)| refusal.what().to_owned()),
            Some("n2 is refused: it is a copy".into())
        );
        assert!(known.refuses.is_none() && known.pong.is_none());
        contacts.note(2, &Err(io::ErrorKind::TimedOut.into()));
        assert!(contacts.of(2, now).refused.is_some(), "it was not heard since");
        assert!(contacts.of(2, now + 10 * SAID_MAX).refused.is_some(), "nor let in");
        let full = Error::refused(ErrorCode::DiskReserve, "the disk of n2 is full");
        contacts.note(2, &Ok(PeerResponse::Failed(full)));
        assert!(contacts.of(2, now + SAID_MAX).refuses.is_some());
        assert!(contacts.of(2, now + SAID_MAX + ENDS_EVERY).refuses.is_none(), "nothing says so any more");
        assert!(contacts.of(3, now).refused.is_none(), "nothing is known of it");
    }
}

//! Floors: what peers are known to have had on their disks. A process that brings less is not let in.
//!
//! ```text
//! acknowledgements, votes given, pings ──► floors ──► log (with the commit marks)
//!                              hello of a peer ──► admit: its process known? else not below the floor, and a later epoch
//! ```
//!
//! Only what is committed counts: everything else a node may cut or lose. A process that was let in stays known by its
//! epoch and its random number, and what it claims is not looked at again: only a start can bring an older directory.
//! While it is heard of no other is let in, and once another was it is not listened to any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::hello::{JOINING, PeerHello};
use queue_protocol::wire::peer::{AppendResult, PeerPing, Vote};
use tokio::time::Instant;

use super::addresses::came_before;
use super::bounds::{Bounds, started_too_often};
use super::dial::Credentials;
use crate::locked::Locked as _;
use crate::log::{Floor, Log};
use crate::raft::openraft::types::Member;

/// Peers remembered. Numbers are never given again: the lowest are the likeliest to be gone.
const FLOORS_MAX: usize = 64;
/// How often this node makes sure of what it tells of itself.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// A process whose last ping is older may have gone without its connection telling.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// The floors of all peers, and what this node may say of itself.
pub(crate) struct Floors {
    log: Log,
    peers: Mutex<BTreeMap<NodeId, Known>>,
    own: Mutex<Own>,
}

/// A peer and the process of it that was let in last.
struct Known {
    floor: Floor,
    /// Connections it has opened.
    sessions: usize,
    heard: Option<Instant>,
}

impl Known {
    fn new(floor: Floor) -> Self {
        Self { floor, sessions: 0, heard: None }
    }

    fn is(&self, peer: &PeerHello) -> bool {
        (self.floor.epoch, self.floor.boot) == (peer.epoch, peer.boot)
    }

    /// It runs, as far as can be told from here.
    fn lives(&self) -> bool {
        self.sessions > 0 && self.heard.is_some_and(|at| at.elapsed() < SILENCE_MAX)
    }
}

/// A connection that a peer has opened. Dropped, it is closed.
pub(crate) struct Session {
    floors: Arc<Floors>,
    peer: PeerHello,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(known) = self.floors.peers().get_mut(&self.peer.node).filter(|known| known.is(&self.peer))
        {
            known.sessions = known.sessions.saturating_sub(1);
        }
    }
}

/// What is committed here, and voted, and surely on this disk.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    index: u64,
    vote: Option<Vote>,
}

impl Floors {
    /// As the log remembers them.
    pub(crate) fn load(log: Log) -> Self {
        let peers = log.floors().into_iter().map(|floor| (floor.node, Known::new(floor))).collect();
        Self { log, peers: Mutex::new(peers), own: Mutex::default() }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.peers.locked()
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.locked()
    }

    /// What this node may hear in the term that it is in.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds::of(self.log.state().vote)
    }

    /// What this node says of itself in a hello.
    pub(crate) fn hello(&self, me: &Credentials) -> PeerHello {
        let log = self.log.state();
        PeerHello { last: log.last, vote: log.vote, ..me.hello() }
    }

    /// Lets a proved peer in, and knows its process from then on.
    ///
    /// # Errors
    /// It is another store than `member` has, a second process on the same data, or one with less than it had.
    pub(crate) fn admit(&self, peer: &PeerHello, member: Option<&Member>) -> Result<(), Error> {
        if peer.node == JOINING {
            return Ok(());
        }
        self.bounds().hello(peer)?;
        let mut peers = self.peers();
        let known = peers.get(&peer.node);
        let floor = known.map(|known| known.floor);
        let second = known.filter(|known| !known.is(peer) && known.lives());
        let second =
            second.map(|_| "another process with the same data, or a copy of it, is running".to_owned());
        if let Some(why) = objection(peer, floor.as_ref(), member).or(second) {
            let name = member.map_or_else(|| format!("node {}", peer.node), |member| member.name.clone());
            let what = format!(
                "{name} is refused: {why}. Nothing was changed; the other members have what it held. End it, and take a \
                 new node in its place: queuectl cluster replace {name} HOST:PORT"
            );
            return Err(Error::refused(ErrorCode::StoreRefused, what));
        }
        let PeerHello { node, store, epoch, boot, .. } = *peer;
        let fresh =
            Floor { node, store, epoch, boot, acknowledged: 0, term: 0, voted: NodeId(0), secured: false };
        let next = Floor { epoch, boot, ..floor.unwrap_or(fresh) };
        if floor != Some(next) {
            if floor.is_none() && peers.len() >= FLOORS_MAX {
                peers.pop_first();
            }
            peers.insert(node, Known::new(next));
            self.save(&peers);
        }
        Ok(())
    }

    fn save(&self, peers: &BTreeMap<NodeId, Known>) {
        self.log.save_floors(peers.values().map(|known| known.floor).collect());
    }

    /// A peer that was let in has opened a connection.
    pub(crate) fn enter(self: &Arc<Self>, peer: PeerHello) -> Session {
        if let Some(known) = self.peers().get_mut(&peer.node).filter(|known| known.is(&peer)) {
            known.sessions += 1;
            known.heard = Some(Instant::now());
        }
        Session { floors: Arc::clone(self), peer }
    }

    /// No other process of that peer was let in since.
    pub(crate) fn is_current(&self, peer: &PeerHello) -> bool {
        peer.node == JOINING || self.peers().get(&peer.node).is_some_and(|known| known.is(peer))
    }

    /// Raises the floor of a peer that was let in.
    fn raise(&self, peer: NodeId, index: u64, vote: Option<Vote>) {
        let mut peers = self.peers();
        let Some(Known { floor, .. }) = peers.get_mut(&peer) else { return };
        let before = *floor;
        floor.acknowledged = floor.acknowledged.max(index);
        let vote = vote.map_or((0, NodeId(0)), |vote| (vote.term, vote.node));
        (floor.term, floor.voted) = (floor.term, floor.voted).max(vote);
        if *floor != before {
            self.save(&peers);
        }
    }

    /// A follower answered an append that this node sent as a leader under `vote`.
    pub(crate) fn acknowledged(&self, peer: NodeId, result: &AppendResult, vote: Vote) {
        let AppendResult::Durable(upto) = result else { return };
        let log = self.log.state();
        // Under another vote what is committed here may be what another leader wrote.
        let committed = log.committed.filter(|_| log.vote == Some(vote)).map_or(0, |id| id.index);
        self.raise(peer, upto.map_or(0, |upto| upto.index).min(committed), Some(vote));
    }

    /// A peer gave this node its vote.
    pub(crate) fn granted(&self, peer: NodeId, vote: Vote) {
        self.raise(peer, 0, Some(vote));
    }

    /// A peer that was let in speaks TLS: it is not dialed in the clear any more.
    pub(crate) fn spoke_tls(&self, peer: NodeId) {
        self.set_secured(peer, true);
    }

    /// Whether a peer has spoken TLS, so that it is not dialed in the clear.
    pub(crate) fn speaks_tls(&self, peer: NodeId) -> bool {
        self.peers().get(&peer).is_some_and(|known| known.floor.secured)
    }

    /// It may be dialed in the clear again. Gives whether it might not.
    pub(crate) fn forget_tls(&self, peer: NodeId) -> bool {
        self.set_secured(peer, false)
    }

    fn set_secured(&self, peer: NodeId, secured: bool) -> bool {
        let mut peers = self.peers();
        let Some(known) = peers.get_mut(&peer).filter(|known| known.floor.secured != secured) else {
            return false;
        };
        known.floor.secured = secured;
        self.save(&peers);
        true
    }

    /// A peer told of itself.
    pub(crate) fn hear(&self, peer: NodeId, ping: &PeerPing) {
        if let Some(known) = self.peers().get_mut(&peer) {
            known.heard = Some(Instant::now());
        }
        self.raise(peer, ping.durable_index, ping.durable_vote);
    }

    /// What this node tells in a ping: index and vote.
    pub(crate) fn told(&self) -> (u64, Option<Vote>) {
        let own = *self.own();
        (own.index, own.vote)
    }

    /// Keeps making sure of what this node may tell. Ends with the log.
    pub(crate) async fn settle(self: Arc<Self>) {
        loop {
            let log = self.log.state();
            if self.log.flush().await.is_err() {
                return;
            }
            *self.own() = Own { index: log.committed.map_or(0, |id| id.index), vote: log.vote };
            tokio::time::sleep(SETTLE_EVERY).await;
        }
    }
}

/// Why a peer is not who it was.
fn objection(peer: &PeerHello, floor: Option<&Floor>, member: Option<&Member>) -> Option<String> {
    let store = member.map(|member| StoreId(member.store));
    if let Some(expected) = store.or(floor.map(|floor| floor.store)).filter(|store| *store != peer.store) {
        return Some(format!(
            "its data directory is store {}, and that of this member was store {expected}",
            peer.store
        ));
    }
    if let Some(why) = member.and_then(|member| came_before(peer, member)) {
        return Some(why);
    }
    let floor = floor.filter(|floor| floor.store == peer.store);
    let known = floor.map_or(0, |floor| floor.epoch).max(member.map_or(0, |member| member.epoch));
    if let Some(why) = started_too_often(peer.epoch, known) {
        return Some(why);
    }
    let floor = floor?;
    if (peer.epoch, peer.boot) == (floor.epoch, floor.boot) {
        return None;
    }
    let last = peer.last.map_or(0, |last| last.index);
    let voted = peer.vote.map_or((0, NodeId(0)), |vote| (vote.term, vote.node));
    if last < floor.acknowledged {
        Some(format!("its log ends at entry {last}, and it had acknowledged entry {}", floor.acknowledged))
    } else if voted < (floor.term, floor.voted) {
        Some(format!("its last vote is of term {}, and it had voted in term {}", voted.0, floor.term))
    } else if peer.epoch == floor.epoch {
        Some("another process ran or runs on a copy of its data directory".to_owned())
    } else if peer.epoch < floor.epoch {
        Some(format!(
            "its data directory is a copy from before: started {} times, and {} times when it was here last",
            peer.epoch, floor.epoch
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

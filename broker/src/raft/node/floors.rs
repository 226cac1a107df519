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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::hello::{JOINING, PeerHello};
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::peer::{AppendResult, PeerPing, Vote};
use tokio::time::Instant;

use super::addresses::came_before;
use super::bounds::{Bounds, started_too_often};
use super::link::Credentials;
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
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
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
        let fresh = Floor { node, store, epoch, boot, acknowledged: 0, term: 0, voted: NodeId(0) };
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
mod tests {
    use queue_protocol::membership::Standing;
    use queue_protocol::peer::LogId;

    use super::*;

    const STORE: StoreId = StoreId(7);

    fn floor() -> Floor {
        let voted = NodeId(2);
        Floor { node: NodeId(3), store: STORE, epoch: 5, boot: 50, acknowledged: 100, term: 4, voted }
    }

    /// The next start of that node, with all it had.
    fn hello() -> PeerHello {
        let last = Some(LogId { term: 4, leader: NodeId(2), index: 100 });
        let vote = Some(Vote { term: 4, node: NodeId(2), committed: false });
        PeerHello { last, vote, epoch: 6, boot: 60, ..PeerHello::nobody(NodeId(3), STORE) }
    }

    fn member(store: StoreId, epoch: u32) -> Member {
        let (name, address) = ("n3".to_owned(), "10.0.0.3:7410".to_owned());
        Member {
            name,
            address,
            store: store.0,
            standing: Standing::Voter,
            epoch,
            boot: u64::from(epoch) * 10,
        }
    }

    fn says(peer: &PeerHello) -> Option<String> {
        objection(peer, Some(&floor()), Some(&member(STORE, 0)))
    }

    #[test]
    fn a_start_with_all_it_had_is_let_in_and_one_with_less_is_not() {
        let (index, vote) = (hello().last.unwrap(), hello().vote.unwrap());
        assert_eq!(says(&hello()), None);
        let more = PeerHello { last: Some(LogId { index: 180, ..index }), epoch: 9, ..hello() };
        assert_eq!(says(&more), None);
        assert_eq!(objection(&hello(), None, Some(&member(STORE, 6))), None);
        assert!(objection(&hello(), None, Some(&member(STORE, 7))).is_some(), "an older one has moved");
        let refused = |peer: PeerHello, why: &str| {
            let said = says(&peer).expect("it is not who it was");
            assert!(said.contains(why), "{said}");
        };
        refused(PeerHello { last: Some(LogId { index: 99, ..index }), ..hello() }, "ends at entry 99");
        refused(PeerHello { last: None, ..hello() }, "ends at entry 0");
        refused(PeerHello { vote: None, ..hello() }, "of term 0");
        refused(PeerHello { vote: Some(Vote { node: NodeId(1), ..vote }), ..hello() }, "of term 4");
        refused(PeerHello { epoch: 5, ..hello() }, "a copy of its data directory");
        refused(PeerHello { epoch: 4, ..hello() }, "started 4 times");
        refused(PeerHello { store: StoreId(8), ..hello() }, "is store");
    }

    #[test]
    fn the_process_that_is_known_may_say_what_it_likes() {
        // A hello that was on its way while its process acknowledged more.
        let late = PeerHello { last: None, vote: None, epoch: 5, boot: 50, ..hello() };
        assert_eq!(says(&late), None);
        assert_eq!(objection(&late, None, None), None, "nothing is known of it");
        assert!(objection(&late, None, Some(&member(StoreId(8), 0))).is_some());
    }

    mod crashes {
        use std::path::Path;

        use bytes::Bytes;
        use queue_protocol::peer::EntryKind;
        use tokio::sync::oneshot;

        use super::*;
        use crate::fs::rng::Rng;
        use crate::fs::sim::{SimDisk, SimOptions};
        use crate::log::{Entry, LogOptions, LogState};

        const DIR: &str = "log";

        fn options() -> LogOptions {
            LogOptions { segment_size: 64 << 10, spares: 1, ..LogOptions::new(7) }
        }

        async fn open(disk: &SimDisk) -> (Log, u32) {
            let (log, writer, keeper, recovered) =
                Log::open(disk.boot(), Path::new(DIR), options()).await.expect("nothing was damaged");
            tokio::spawn(writer.run());
            tokio::spawn(keeper.run());
            (log, recovered.epoch)
        }

        async fn formatted(seed: u64) -> SimDisk {
            let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
            Log::format(disk.boot(), Path::new(DIR), &options()).await.expect("it is empty");
            disk
        }

        fn entry(index: u64, term: u64) -> Entry {
            let id = LogId { term, leader: NodeId(1), index };
            let commands = Bytes::from(vec![1; 700]);
            Entry { id, kind: EntryKind::Commands, commands, table: [].into(), contents: Some([].into()) }
        }

        /// A leader (whose log stays) and a follower that loses power again and again, at any moment: it may have
        /// written what nobody waited for, and the leader has cut what was not committed.
        async fn follow(seed: u64) {
            let mut rng = Rng::new(seed);
            let (leader_disk, disk) = (formatted(seed).await, formatted(seed + 1).await);
            let (leader, _) = open(&leader_disk).await;
            let floors = Arc::new(Floors::load(leader.clone()));
            let mut last = 0;
            for boot in 1..6 {
                let (follower, epoch) = open(&disk).await;
                let state = follower.state();
                let (node, store) = (NodeId(3), STORE);
                let hello = PeerHello {
                    last: state.last,
                    vote: state.vote,
                    epoch,
                    boot,
                    ..PeerHello::nobody(node, store)
                };
                floors.admit(&hello, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let vote = Vote { term: boot, node: NodeId(1), committed: true };
                leader.save_vote(vote, Box::new(|| {}));
                follower.save_vote(vote, Box::new(|| {}));
                // The new leader cuts what is not committed, here and there.
                let committed = leader.state().committed;
                for log in [&leader, &follower] {
                    log.truncate_after(committed, Box::new(|| {}));
                }
                last = committed.map_or(0, |id| id.index);
                let kept = follower.state().last.map_or(0, |id| id.index);
                assert!(kept >= last, "seed {seed}: the follower lost entry {last}, which is committed");
                for _ in 0..rng.below(12) {
                    last += 1;
                    let (done, durable) = oneshot::channel();
                    leader.append(vec![entry(last, boot)], Box::new(|| {}));
                    let told = Box::new(move || {
                        let _nobody_waits = done.send(());
                    });
                    follower.append(vec![entry(last, boot)], told);
                    let id = LogId { term: boot, leader: NodeId(1), index: last };
                    if rng.below(3) > 0 {
                        durable.await.expect("the disk works");
                        floors.acknowledged(node, &AppendResult::Durable(Some(id)), vote);
                        leader.save_committed(Some(id));
                        if rng.below(2) > 0 {
                            floors.acknowledged(node, &AppendResult::Durable(Some(id)), vote);
                        }
                    }
                }
                if rng.below(2) > 0 {
                    leader.flush().await.expect("the disk works");
                }
                disk.crash(seed * 7 + boot);
                let known = floors.peers()[&node].floor;
                let committed = leader.state().committed.map_or(0, |id| id.index);
                assert!(known.acknowledged <= committed, "seed {seed}: uncommitted entries count");
            }
            assert!(last == 0 || leader.floors().iter().any(|floor| floor.epoch > 1), "seed {seed}");
        }

        fn run(test: impl Future<Output = ()>) {
            let builder =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            builder.expect("a runtime needs nothing").block_on(test);
        }

        async fn put_back() {
            let (leader_disk, disk) = (formatted(1).await, formatted(2).await);
            let (leader, _) = open(&leader_disk).await;
            let floors = Arc::new(Floors::load(leader.clone()));
            let vote = Vote { term: 1, node: NodeId(1), committed: true };
            leader.save_vote(vote, Box::new(|| {}));
            let (follower, epoch) = open(&disk).await;
            follower.save_vote(vote, Box::new(|| {}));
            let hello = |log: &Log, epoch, boot| {
                let LogState { last, vote, .. } = log.state();
                PeerHello { last, vote, epoch, boot, ..PeerHello::nobody(NodeId(3), STORE) }
            };
            floors.admit(&hello(&follower, epoch, 1), None).expect("nothing is known of it");
            let mut image = None;
            for index in 1..=20 {
                for log in [&leader, &follower] {
                    log.append(vec![entry(index, 1)], Box::new(|| {}));
                    log.flush().await.expect("the disk works");
                }
                let id = LogId { term: 1, leader: NodeId(1), index };
                leader.save_committed(Some(id));
                floors.acknowledged(NodeId(3), &AppendResult::Durable(Some(id)), vote);
                if index == 10 {
                    image = Some(disk.image());
                }
            }
            disk.crash(1);
            disk.restore(&image.expect("taken half-way"));
            let (older, epoch) = open(&disk).await;
            let refused = floors.admit(&hello(&older, epoch, 2), None).expect_err("it lacks what it had");
            assert_eq!(refused.code, ErrorCode::StoreRefused);
            assert!(refused.message.contains("cluster replace"), "{refused}");
            assert!(
                refused.message.contains("ends at entry 10, and it had acknowledged entry 20"),
                "{refused}"
            );

            // What is known is in the log.
            tokio::time::sleep(Duration::from_millis(100)).await;
            leader_disk.crash(3);
            let (again, _) = open(&leader_disk).await;
            let floors = Floors::load(again);
            assert!(floors.admit(&hello(&older, epoch, 2), None).is_err(), "forgotten over a restart");
        }

        #[test]
        fn a_directory_that_was_put_back_is_refused_also_after_a_restart() {
            run(put_back());
        }

        #[test]
        fn no_node_that_only_lost_its_unsynced_tail_is_refused() {
            for seed in 0..200 {
                run(follow(seed));
            }
        }
    }
}

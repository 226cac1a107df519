//! Floors of a node that starts, one that was put back, and one that loses power again and again.

use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer::LogId;

use super::*;

const STORE: StoreId = StoreId(7);

fn floor() -> Floor {
    let voted = NodeId(2);
    Floor {
        node: NodeId(3),
        store: STORE,
        epoch: 5,
        boot: 50,
        acknowledged: 100,
        term: 4,
        voted,
        secured: false,
    }
}

/// The next start of that node, with all it had.
fn hello() -> PeerHello {
    let last = Some(LogId { term: 4, leader: NodeId(2), index: 100 });
    let vote = Some(Vote { term: 4, node: NodeId(2), committed: false });
    PeerHello { last, vote, epoch: 6, boot: 60, ..PeerHello::nobody(NodeId(3), STORE) }
}

fn member(store: StoreId, epoch: u32) -> Member {
    let (name, address) = ("n3".to_owned(), "10.0.0.3:7410".to_owned());
    Member { name, address, store: store.0, standing: Standing::Voter, epoch, boot: u64::from(epoch) * 10 }
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
    use queue_protocol::wire::peer::EntryKind;
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
        let builder = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
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
        assert!(refused.message.contains("ends at entry 10, and it had acknowledged entry 20"), "{refused}");

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

//! A full disk, in simulated time: whosever it is, pushes wait and all else goes on, and room alone mends it.

use std::time::Duration;

use harness::simulation::{Cluster, seed};
use queue_broker::raft::RaftOptions;

#[test]
fn a_full_disk_of_any_voter_stops_pushes_alone_and_only_until_there_is_room() {
    let raft = RaftOptions { disk_reserve: Some(1 << 20), ..RaftOptions::default() };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), raft);
    cluster.start(3);
    cluster.push(8);
    // Every member is caught up and a voter.
    cluster.idle(Duration::from_secs(10));
    for name in ["n1", "n2", "n3"] {
        cluster.push(20);
        let capacity = cluster.fill_disk(name);
        // The report of a follower takes a second.
        cluster.idle(Duration::from_secs(2));
        cluster.pop_all();
        assert_eq!(cluster.push_for(20, Duration::from_secs(8)), 0, "{name} is full");
        cluster.widen(name, capacity);
        cluster.wait_for_pushes();
        cluster.pop_all();
    }
}

#[test]
fn a_single_node_whose_disk_is_full_pops_and_acks_and_pushes_again_when_there_is_room() {
    let raft = RaftOptions { disk_reserve: Some(1 << 20), ..RaftOptions::default() };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), raft);
    cluster.start(1);
    cluster.push(20);
    let capacity = cluster.fill_disk("n1");
    cluster.idle(Duration::from_secs(1));
    cluster.pop_all();
    assert_eq!(cluster.push_for(20, Duration::from_secs(8)), 0, "it is full");
    cluster.widen("n1", capacity);
    cluster.wait_for_pushes();
    cluster.pop_all();
}

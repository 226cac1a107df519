//! A full disk, in simulated time: whosever it is, pushes wait and all else goes on, and room alone mends it.

use std::time::Duration;

use harness::simulation::{Cluster, seed};
use queue_broker::mutants::{Mutant, VARIABLE};
use queue_broker::raft::RaftOptions;

const MIB: u64 = 1 << 20;
/// Of a segment of the log.
const SEGMENT_SIZE: u64 = 64 << 10;
/// Room for the log's spares comes first; behind it this much is kept.
const RESERVE: u64 = MIB;

/// A cluster of `count` nodes that keeps all of the log for late followers, if it is let.
fn started(count: u64) -> Cluster {
    let raft = RaftOptions { disk_reserve: Some(RESERVE), ..RaftOptions::default() };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), raft);
    cluster.start(count);
    cluster.push(8);
    cluster.idle(Duration::from_secs(if count > 1 { 10 } else { 1 }));
    cluster.set_body_size(16 << 10);
    cluster
}

/// Nobody's own writes take of the reserve, whoever has the smallest disk.
#[test]
fn pushes_end_before_the_reserve_is_touched() {
    for (count, small) in [(1, "n1"), (3, "n1"), (3, "n2")] {
        let mut cluster = started(count);
        cluster.leave(small, 6 * MIB);
        let (stored, least) = cluster.fill();
        let free = least[small];
        assert!(free + SEGMENT_SIZE >= RESERVE, "{small} of {count} had {free} bytes left of {RESERVE}");
        let held = stored as u64 * (16 << 10);
        assert!(held > 3 * MIB, "{small} of {count}: {held} bytes were taken of 5 MiB");
    }
}

/// What was popped is given back, though all of the log was to be kept, and also after a restart.
#[test]
fn what_is_popped_from_a_full_disk_is_free_within_a_minute() {
    for (count, restart) in [(1, false), (1, true), (3, false)] {
        let mut cluster = started(count);
        cluster.leave("n1", 6 * MIB);
        cluster.fill();
        if restart {
            cluster.power_off("n1");
            cluster.power_on("n1");
        }
        cluster.pop_all();
        cluster.idle(Duration::from_secs(60));
        let free = cluster.free("n1");
        assert!(free > 4 * MIB, "{count} nodes, restart {restart}: {free} bytes are free of 6 MiB");
        cluster.push(20);
        cluster.pop_all();
    }
}

/// The test `name` of this file fails in a process with `mutant`.
fn is_caught_by(name: &str, mutant: Mutant) -> bool {
    let this = std::env::current_exe().expect("a test has a program");
    let mut command = std::process::Command::new(this);
    command.args(["--exact", name]).env(VARIABLE, mutant.name());
    !command.output().expect("it starts").status.success()
}

#[test]
fn planted_bugs_of_full_disks_are_caught() {
    assert!(is_caught_by("pushes_end_before_the_reserve_is_touched", Mutant::RoomLookedAtInTime));
    assert!(is_caught_by(
        "what_is_popped_from_a_full_disk_is_free_within_a_minute",
        Mutant::KeptUnderPressure
    ));
}

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

//! The real broker under a seeded simulator: three nodes, a simulated network and disks that forget what was not
//! synced. One seed a process, because that is what makes a run repeatable.
//!
//! `SIMULATION_SEED=n` runs another seed.

use std::time::Duration;

use harness::simulation::{Cluster, seed};
use queue_broker::raft::RaftOptions;

/// Three crashes of the leader under load, each with loss of what it had not synced, its return, and every acknowledged
/// message taken out exactly once.
#[test]
#[expect(clippy::print_stdout, reason = "a sweep over seeds wants to see what was covered")]
fn what_was_acknowledged_survives_crashes_of_the_leader() {
    // Small numbers, so that snapshots are made and the log is purged.
    let raft = RaftOptions { snapshot_entries: 100, keep_entries: 20, ..RaftOptions::default() };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(1), raft);
    cluster.start(3);
    for _ in 0..3 {
        cluster.push_through_a_crash(120, Duration::from_secs(5));
    }
    cluster.push(20);
    cluster.pop_all();
    let covered = cluster.covered();
    println!("covered {covered:?}");
    // The seed of every build must meet what this is about; another may by chance crash between two writes.
    if std::env::var_os("SIMULATION_SEED").is_none() {
        assert!(covered.terms >= 2, "the leader's crash changed no term: {covered:?}");
        assert!(covered.torn_files > 0, "the crash lost nothing: {covered:?}");
    }
}

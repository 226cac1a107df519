//! The real broker under a seeded simulator: three nodes, a simulated network and disks that forget what was not
//! synced. One seed a process, because that is what makes a run repeatable.
//!
//! `SIMULATION_SEED=n` runs another seed.

mod cluster;
mod outside;

use std::time::Duration;

use cluster::Cluster;

fn seed() -> u64 {
    std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

/// One seed, all of it: pushes, a crash of the leader with loss of what it had not synced, its return, an hour of
/// silence, clocks that jump an hour both ways, and every acknowledged message taken out exactly once.
#[test]
fn what_was_acknowledged_survives_the_leader_and_wrong_clocks() {
    let mut cluster = Cluster::new(seed());
    cluster.start(3);
    cluster.push(150);
    let first = cluster.crash_leader();
    cluster.push(150);
    cluster.bounce(&first);
    cluster.idle(Duration::from_secs(3_600));
    cluster.push(10);
    cluster.jump_clocks(3_600_000);
    cluster.push(10);
    cluster.jump_clocks(-7_200_000);
    cluster.push(10);
    cluster.pop_all();
    let covered = cluster.covered();
    assert!(covered.terms >= 2, "the leader's crash changed no term: {covered:?}");
    assert!(covered.lost_units > 0, "the crash lost nothing that was not synced: {covered:?}");
}

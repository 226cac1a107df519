//! Leases after long silence, in simulated time: as long as they were asked for, and not much longer.
//!
//! `QUEUE_TESTS_LONG=1` is silent for an hour instead of ten minutes.

use std::time::Duration;

use harness::settings::choose;
use harness::simulation::{Cluster, Lasted, seed};
use queue_broker::raft::RaftOptions;

const LENGTH: Duration = Duration::from_secs(2);
/// Leases last no longer than they were asked for and this.
const LONGER_MAX: Duration = Duration::from_millis(1_500);

#[track_caller]
fn check(lasted: Lasted) {
    assert!(lasted.since_sent >= LENGTH, "it ended early: {lasted:?}");
    assert!(lasted.since_received <= LENGTH + LONGER_MAX, "it ended late: {lasted:?}");
}

#[test]
fn a_lease_of_a_lone_node_that_was_idle_is_as_long_as_it_was_asked_for() {
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), RaftOptions::default());
    cluster.start(1);
    cluster.push_to_lease();
    cluster.idle(Duration::from_secs(choose(600, 3_600)));
    cluster.begin_lease(LENGTH);
    check(cluster.wait_for_lease());
}

#[test]
fn a_lease_that_is_asked_for_in_an_outage_of_ten_minutes_is_as_long_as_it_was_asked_for() {
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), RaftOptions::default());
    cluster.start(3);
    cluster.push_to_lease();
    // Every member is caught up and a voter.
    cluster.idle(Duration::from_secs(10));
    for name in ["n1", "n2", "n3"] {
        cluster.cut_off(name);
    }
    cluster.idle(Duration::from_secs(600));
    cluster.begin_lease(LENGTH);
    cluster.idle(Duration::from_secs(1));
    for name in ["n1", "n2", "n3"] {
        cluster.reconnect(name);
    }
    check(cluster.wait_for_lease());
}

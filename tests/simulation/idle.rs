//! Silence and wrong clocks, in simulated time: neither makes a cluster refuse the next push.
//!
//! `QUEUE_TESTS_LONG=1` is silent for an hour instead of ten minutes.

use std::time::Duration;

use harness::settings::choose;
use harness::simulation::{Cluster, seed};
use queue_broker::raft::RaftOptions;

#[test]
fn long_silence_and_clocks_that_jump_an_hour_refuse_nobody() {
    // Slow heartbeats, because each of them costs the same in simulated silence as in earnest.
    let raft = RaftOptions {
        heartbeat: Duration::from_secs(1),
        election_min: Duration::from_secs(4),
        election_max: Duration::from_secs(6),
        ..RaftOptions::default()
    };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(20), raft);
    cluster.start(3);
    cluster.push(10);
    cluster.idle(Duration::from_secs(choose(600, 3_600)));
    cluster.push(10);
    cluster.jump_clocks(3_600_000);
    cluster.push(10);
    cluster.jump_clocks(-7_200_000);
    cluster.push(10);
    cluster.pop_all();
}

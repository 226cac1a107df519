//! Silence and wrong clocks, in simulated time: neither makes a cluster refuse the next push.

use std::time::Duration;

use harness::simulation::{Cluster, seed};

#[test]
fn an_hour_of_silence_and_clocks_that_jump_an_hour_refuse_nobody() {
    let mut cluster = Cluster::new(seed(), Duration::from_millis(20));
    cluster.start(3);
    cluster.push(10);
    cluster.idle(Duration::from_secs(3_600));
    cluster.push(10);
    cluster.jump_clocks(3_600_000);
    cluster.push(10);
    cluster.jump_clocks(-7_200_000);
    cluster.push(10);
    cluster.pop_all();
    assert!(cluster.covered().terms >= 1);
}

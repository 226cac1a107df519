//! Connections that die without a word, in simulated time: what was sent is lost, nothing is reset, nothing is sent again.

use std::time::Duration;

use harness::simulation::{Cluster, seed};
use queue_broker::raft::RaftOptions;

#[test]
fn two_nodes_whose_connections_died_in_silence_elect_a_leader_when_they_can_talk_again() {
    let mut cluster = Cluster::new(seed(), Duration::from_millis(5), RaftOptions::default());
    cluster.start(3);
    cluster.push(10);
    // Every member is caught up and a voter.
    cluster.idle(Duration::from_secs(10));
    cluster.cut_off("n1");
    cluster.cut_off("n2");
    cluster.idle(Duration::from_secs(5));
    cluster.power_off("n1");
    cluster.reconnect("n1");
    cluster.reconnect("n2");
    cluster.push(10);
    cluster.pop_all();
}

//! Snapshots that travel, in simulated time: broken off they go on, and equal logs give equal bytes on every node,
//! however it came by its state.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::history::Replicas;
use harness::simulation::{Cluster, seed};
use queue_broker::raft::RaftOptions;

/// What the nodes log.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics with it")).into_owned()
    }
}

#[test]
fn a_snapshot_that_is_broken_off_goes_on_and_all_nodes_have_the_same_bytes() {
    let said = Said::default();
    let writer = said.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let replicas = Replicas::default();
    let raft = RaftOptions {
        snapshot_entries: 30,
        keep_bytes: 0,
        witness: replicas.witness("one of three", || u64::MAX),
        ..RaftOptions::default()
    };
    let mut cluster = Cluster::new(seed(), Duration::from_millis(1), raft);
    cluster.start(3);
    cluster.push(8);
    cluster.idle(Duration::from_secs(10));
    cluster.power_off("n3");
    // What is being sent is not purged: the leader must have given the node up before its next snapshot.
    cluster.push(300);
    cluster.idle(Duration::from_secs(10));
    cluster.push(300);
    cluster.idle(Duration::from_secs(2));
    let taken = replicas.tally().taken;
    cluster.power_on("n3");
    cluster.wait_for_file("n3", ".import.tmp");
    cluster.idle(Duration::from_millis(8));
    cluster.cut_off("n3");
    // The sender gives up after 30 s of silence.
    cluster.idle(Duration::from_secs(35));
    assert_eq!(replicas.tally().taken, taken, "it was installed before it was broken off");
    cluster.reconnect("n3");
    cluster.idle(Duration::from_secs(20));
    assert!(replicas.tally().taken > taken, "no snapshot was installed: {}", said.text());
    assert!(said.text().contains("a snapshot goes on where it was broken off"), "{}", said.text());

    // It counts again, and a start from the installed snapshot gives the same state once more.
    cluster.power_off("n2");
    cluster.push(40);
    cluster.power_on("n2");
    cluster.power_off("n3");
    cluster.push(40);
    cluster.power_on("n3");
    cluster.pop_all();
    let tally = replicas.tally();
    assert!(tally.compared > 20 && tally.checked > 20, "{tally:?}");
    assert_eq!(replicas.violations(), Vec::<String>::new());
}

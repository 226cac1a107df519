//! `kill -9` of all nodes under load: what was acknowledged is there after a restart, once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use harness::bodies::{drain, push, stored};
use harness::cluster::Cluster;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::client::ClientError;

const PRODUCERS: usize = 8;
/// Acknowledged messages after which all nodes are killed.
const ACKNOWLEDGED: usize = 400;
const BATCH: usize = 5;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    bodies: Mutex<Vec<String>>,
}

/// Pushes until it is told to stop, and notes what was acknowledged.
async fn produce(client: queue_protocol::client::Client, load: Arc<Load>, name: String) {
    for number in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        let bodies: Vec<String> = (0..BATCH).map(|part| format!("{name} {number} {part}")).collect();
        match push(&client, "jobs", &bodies).await {
            Ok(answered) => {
                stored(&answered, BATCH);
                load.bodies.lock().expect("nobody panics with it").extend(bodies);
                load.acknowledged.fetch_add(BATCH, Ordering::Relaxed);
            }
            Err(ClientError::Unavailable { .. } | ClientError::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_survives_kill_9_of_all_nodes() {
    let mut cluster = Cluster::start().await;
    let mut acknowledged = BTreeSet::new();
    let mut found = Vec::new();
    for round in 0..choose(3, 20) {
        let load = Arc::new(Load::default());
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let name = format!("round {round} producer {number}");
                tokio::spawn(produce(cluster.client(), Arc::clone(&load), name))
            })
            .collect();
        until("enough is acknowledged", LIMIT, async || {
            let count = load.acknowledged.load(Ordering::Relaxed);
            if count >= ACKNOWLEDGED { Ok(()) } else { Err(format!("{count} so far")) }
        })
        .await;
        cluster.kill_all();
        // What is under way is finished by its session after the restart, or fails.
        load.stop.store(true, Ordering::Relaxed);
        cluster.restart_all().await;
        for producer in producers {
            producer.await.expect("no producer panics");
        }
        acknowledged.extend(load.bodies.lock().expect("nobody panics with it").drain(..));
        found.extend(drain(&cluster.client(), "jobs").await);
    }
    let distinct: BTreeSet<String> = harness::bodies::sorted(&found).into_iter().collect();
    assert_eq!(distinct.len(), found.len(), "nothing comes twice");
    let lost: Vec<&String> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
}

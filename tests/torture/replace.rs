//! A node that holds much is lost for good, and replaced with one command while the others work.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::bodies::{drain, push, stored};
use harness::cluster::Cluster;
use harness::ledger::note_result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::Load;
use crate::random::Random;
use crate::say;

const QUEUE: &str = "kept";
const BODY_SIZE: usize = 1_024;
/// Bodies of a push.
const BATCH: u64 = 1_000;
/// Clients that fill the queue, and that empty it.
const CLIENTS: u64 = 4;

fn body(number: u64) -> Bytes {
    let name = format!("kept {number} ");
    name.bytes().cycle().take(BODY_SIZE).collect()
}

/// Message `number` as it was pushed, if it is one.
fn number_of(kept: &Bytes) -> Option<u64> {
    let text = std::str::from_utf8(kept).ok()?;
    let number = text.split(' ').nth(1)?.parse().ok()?;
    (body(number) == kept).then_some(number)
}

async fn fill(cluster: &Cluster, count: u64) {
    let mut clients = JoinSet::new();
    for lane in 0..CLIENTS {
        let client = cluster.client();
        clients.spawn(async move {
            let mut first = lane * BATCH;
            while first < count {
                let bodies: Vec<Bytes> = (first..count.min(first + BATCH)).map(body).collect();
                let answered = push(&client, QUEUE, &bodies).await;
                stored(&answered.unwrap_or_else(|error| panic!("push: {error}")), bodies.len());
                first += CLIENTS * BATCH;
            }
        });
    }
    clients.join_all().await;
}

/// Takes everything out, and checks that it is what was put in.
async fn empty(cluster: &Cluster, count: u64) {
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, found) = (cluster.client(), Arc::clone(&found));
        clients.spawn(async move {
            for kept in drain(&client, QUEUE).await {
                let number = number_of(&kept).unwrap_or_else(|| panic!("nobody pushed {kept:?}"));
                assert!(found.lock().expect("nobody panics with it").insert(number), "{number} came twice");
            }
        });
    }
    clients.join_all().await;
    let found = found.lock().expect("nobody panics with it");
    let lost: Vec<u64> = (0..count).filter(|number| !found.contains(number)).take(10).collect();
    assert!(
        lost.is_empty() && found.len() as u64 == count,
        "{} of {count} are there; lost {lost:?}",
        found.len()
    );
}

/// Replaces a node that holds `mib` MiB of live bodies.
pub(crate) async fn replace(mib: u64) -> ExitCode {
    let count = mib * (1 << 20) / BODY_SIZE as u64;
    let mut cluster = Cluster::start_with(3, &[("QUEUED_STORAGE_SEGMENT_SIZE", "16MiB")]).await;
    fill(&cluster, count).await;
    say(&format!("{count} messages of {BODY_SIZE} bytes are there"));
    let load = Arc::new(Load::default());
    let workers = load.spawn(&cluster, 0, &mut Random::new(mib));
    cluster.transfer(0).await;
    cluster.kill(2);

    let began = Instant::now();
    let (new, said) = cluster.take_in(&["cluster", "replace", "n3", "--yes"]).await;
    let took = began.elapsed();
    say(&format!("replaced in {:.1} s: {}", took.as_secs_f64(), said.trim()));

    load.stop();
    for worker in workers {
        worker.await.expect("no worker panics");
    }
    // From now on nothing is there that the new node does not have.
    cluster.transfer(new).await;
    cluster.kill(1);
    empty(&cluster, count).await;
    let meanwhile = load.settle_all(&cluster.client()).await;
    say(&format!("nothing lost, nor of {meanwhile} that were acknowledged meanwhile"));
    // The figure is about a node that holds a gibibyte; a smaller one tells nothing of it.
    if mib >= 1_024 {
        let setting = format!("{mib} MiB of live bodies under load");
        note_result("replace", &setting, 1, &format!("{:.1} s", took.as_secs_f64()));
    }
    ExitCode::SUCCESS
}

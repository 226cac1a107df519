//! Reads are taken in turn: who asks without end does not hold up who asks once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bodies::queue;
use harness::cluster::Cluster;
use harness::raw::random_session;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::client::NewMessage;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{Consistency, CreateQueue, Queues, Request};
use queue_protocol::wire::requests::ask;

use super::pipeline::Pipeline;
use tokio::time::Instant;

const FLOODERS: usize = 4;
/// Reads that each of them has open all the time.
const OPEN: usize = 500;
const QUEUES: usize = 200;
const ASKED: usize = 9;

/// Answers that those who flood get between question and answer of one who asks once, in the middle of several tries.
async fn overtaken_by(mutant: Option<&str>) -> usize {
    let env: Vec<(&str, &str)> = mutant.map(|name| ("QUEUED_MUTANT", name)).into_iter().collect();
    let cluster = Cluster::start_with(1, &env).await;
    let client = cluster.client();
    for n in 0..QUEUES {
        let create = CreateQueue {
            queue: queue(&format!("queue-{n}")),
            settings: QueueSettings::default(),
            if_not_exists: false,
        };
        client.ask(ask::CreateQueue(Box::new(create))).await.expect("it is new");
    }
    let counts: Vec<Arc<AtomicUsize>> = (0..FLOODERS).map(|_| Arc::default()).collect();
    let floods: Vec<_> = counts
        .iter()
        .map(|count| tokio::spawn(flood(cluster.address(0).to_owned(), every_queue(), Arc::clone(count))))
        .collect();
    until("all of them are answered", LIMIT, async || {
        let idle = counts.iter().filter(|count| count.load(Ordering::Relaxed) == 0).count();
        if idle == 0 { Ok(()) } else { Err(format!("{idle} are not")) }
    })
    .await;
    let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>();
    let mut good = Pipeline::open(cluster.address(0), random_session()).await;
    let mut between = Vec::new();
    for _ in 0..ASKED {
        let before = sum();
        let id = good.ask(None, Request::Stats, &[]);
        good.answered(id).await.expect("it is answered");
        between.push(sum() - before);
    }
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    between.sort_unstable();
    between[ASKED / 2]
}

fn every_queue() -> Request {
    Request::Queues(Queues { only: None, after: None, consistency: Consistency::Linearizable })
}

/// Has many reads open, and asks anew for each answer.
async fn flood(address: String, read: Request, count: Arc<AtomicUsize>) {
    let mut pipeline = Pipeline::open(&address, random_session()).await;
    for _ in 0..OPEN {
        pipeline.ask(None, read.clone(), &[]);
    }
    loop {
        pipeline.send().await;
        pipeline.next().await;
        count.fetch_add(1, Ordering::Relaxed);
        pipeline.ask(None, read.clone(), &[]);
    }
}

/// Milliseconds of the round trip of a push, in the middle of many, and pushes a second with 32 in flight.
async fn pace(cluster: &Cluster) -> (f64, f64) {
    let client = cluster.client();
    let one = || client.push(queue("jobs"), true, vec![NewMessage::of_body(b"x")]);
    let mut trips = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < choose(Duration::from_secs(1), Duration::from_secs(10)) {
        let sent = Instant::now();
        one().await.expect("it is stored");
        trips.push(sent.elapsed());
    }
    trips.sort_unstable();
    let begin = Instant::now();
    let mut pushed = 0;
    while begin.elapsed() < choose(Duration::from_secs(1), Duration::from_secs(10)) {
        let mut pushes = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let client = client.clone();
            pushes.spawn(async move {
                client.push(queue("jobs"), true, vec![NewMessage::of_body(b"x")]).await.map(drop)
            });
        }
        for done in pushes.join_all().await {
            done.expect("it is stored");
            pushed += 1;
        }
    }
    (trips[trips.len() / 2].as_secs_f64() * 1e3, f64::from(pushed) / begin.elapsed().as_secs_f64())
}

/// Not the figure itself, which needs a quiet machine and a build with optimizations: a bound that nothing in order meets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure is for people")]
async fn pushes_go_on_beside_sixteen_connections_that_pipeline_stats() {
    let cluster = Cluster::start().await;
    let (leader, _) = cluster.leader().await;
    let (trip, rate) = pace(&cluster).await;
    let count = Arc::<AtomicUsize>::default();
    let address = cluster.address(leader).to_owned();
    let floods: Vec<_> =
        (0..16).map(|_| tokio::spawn(flood(address.clone(), Request::Stats, Arc::clone(&count)))).collect();
    let begin = Instant::now();
    let (flooded_trip, flooded_rate) = pace(&cluster).await;
    let reads = count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    println!(
        "round trip {trip:.1} ms alone, {flooded_trip:.1} ms beside {reads:.0} reads/s; \
         pushes {rate:.0}/s alone, {flooded_rate:.0}/s beside them"
    );
    assert!(flooded_trip <= 10.0 * trip + 100.0, "{trip:.1} ms became {flooded_trip:.1} ms");
}

/// A part of what is open that who is served in turn never waits for, and who is served last always does.
const MANY: usize = FLOODERS * OPEN / 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_asks_once_does_not_wait_for_all_that_others_have_asked() {
    let overtaken = overtaken_by(None).await;
    assert!(overtaken < MANY, "{overtaken} reads of others were answered first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_bug_that_takes_reads_as_they_come_is_seen() {
    let overtaken = overtaken_by(Some("reads-not-in-turn")).await;
    assert!(overtaken >= MANY, "only {overtaken} reads of others were answered first");
}

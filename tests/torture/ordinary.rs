//! Everything at once that an ordinary day has: three real nodes, thousands of clients that are idle, silent, short-lived,
//! hostile or dying, and a leader that is killed twice.
//!
//! | what | how many |
//! |---|---|
//! | idle clients that said hello, at each node | 700 |
//! | silent connections that never do, at each node, made anew as they end | 100 |
//! | clients that push once, over a connection each, half of which close their session | 8 at a time |
//! | 7 MiB of an unfinished frame, at the leader | 40 |
//! | 60 MiB of pieces of unfinished requests, at the leader | 6 |
//! | clients that pipeline `stats` | 4 |
//! | clients with 1,100 leases that wait | 2 |
//! | clients that leave 200 leases behind that wait, without a word | 1 at a time |
//!
//! Six good clients push, lease and ack meanwhile, as in every other run ([`crate::history`]). A run fails, and with it the
//! program, if: a node ends by itself · a node has more than 1 GiB resident, at any look · a good client's 99th percentile
//! is above a second · the account of the good clients is wrong: something acknowledged is lost, or comes twice.
//!
//! What counts for the percentile: every request of a good client that was asked outside of a failover. A failover begins
//! when the leader is killed, and ends 5 s after another node leads. Outside of one at most one request in a hundred may
//! have no answer.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bodies::lease;
use harness::cluster::Cluster;
use harness::process::resident;
use harness::stranger::{self, Stranger, push_once, raise_descriptors};
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::request::Request;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::history::{Load, QUEUE};
use crate::random::Random;
use crate::say;

const NODES: usize = 3;
/// Between two rounds of a good client.
const PAUSE: Duration = Duration::from_millis(50);
const IDLE: usize = 700;
const SILENT: usize = 100;
const SHORT: usize = 8;
const UNFINISHED: usize = 40;
const PIECES: usize = 6;
const FLOODS: usize = 4;
const PARKED: usize = 2;
const RESIDENT_MAX: u64 = 1 << 30;
const P99_MAX: Duration = Duration::from_secs(1);
/// After another node leads: clients look for it, and what was in flight is asked again.
const SETTLES: Duration = Duration::from_secs(5);
/// Of a hundred requests so many may fail outside of a failover.
const FAILED_PERCENT_MAX: usize = 1;
const LEASE_QUEUE: &str = "empty";

/// What hostile clients have of the run: where the leader is, and whether it is over.
struct Day {
    addresses: Vec<String>,
    leader: AtomicU64,
    over: AtomicBool,
    short: AtomicU64,
    refused: AtomicU64,
}

impl Day {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn leader(&self) -> &str {
        &self.addresses[usize::try_from(self.leader.load(Ordering::Relaxed)).expect("three")]
    }
}

/// Says hello and then nothing, for as long as the node lets it.
async fn idle(day: Arc<Day>, n: usize) {
    while !day.over() {
        if let Ok(mut stranger) = Stranger::greet(&day.addresses[n]).await {
            while stranger.next().await.is_some() {}
        } else {
            day.refused.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Says nothing at all.
async fn silent(day: Arc<Day>, n: usize) {
    while !day.over() {
        if let Ok(stream) = TcpStream::connect(&day.addresses[n]).await {
            let _ = timeout(Duration::from_secs(20), stream.readable()).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn short(day: Arc<Day>, number: usize) {
    while !day.over() {
        let pushed = push_once(day.leader(), "short", b"once", number.is_multiple_of(2)).await;
        match pushed {
            Ok(()) => {
                day.short.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                day.refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sends `bytes`, and holds the connection until the node ends it.
async fn besiege(day: Arc<Day>, bytes: Arc<Vec<u8>>) {
    while !day.over() {
        if let Ok(mut stranger) = Stranger::greet(day.leader()).await {
            stranger.send(&bytes, Duration::from_secs(60)).await;
            while let Ok(Some(_)) = timeout(Duration::from_secs(90), stranger.next()).await {}
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Sends many frames at once, and reads what is answered, as fast as it comes.
async fn flood(day: Arc<Day>, frames: fn(&Stranger) -> Vec<OutFrame>, pause: Duration) {
    while !day.over() {
        if let Ok(mut stranger) = Stranger::greet(day.leader()).await {
            let frames = frames(&stranger);
            let bytes = stranger::bytes(&frames).await;
            while !day.over() && stranger.send(&bytes, Duration::from_secs(60)).await {
                for _ in &frames {
                    match timeout(Duration::from_secs(60), stranger.next()).await {
                        Ok(Some(_)) => {}
                        _ => break,
                    }
                }
                sleep(pause).await;
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Many leases that wait.
fn leases(stranger: &Stranger, count: u64) -> Vec<OutFrame> {
    let lease = |number| {
        let lease = Request::Lease(lease(LEASE_QUEUE, 1, None, 60_000));
        stranger::request(number, Some(stranger.stamp(number, 1)), lease, Vec::new())
    };
    (1..=count).map(lease).collect()
}

/// Many reads.
fn reads(_: &Stranger) -> Vec<OutFrame> {
    (1..=500).map(|id| stranger::request(id, None, Request::Stats, Vec::new())).collect()
}

/// Lets leases wait, and is gone without a word.
async fn die(day: Arc<Day>) {
    while !day.over() {
        if let Ok(mut stranger) = Stranger::greet(day.leader()).await {
            let bytes = stranger::bytes(&leases(&stranger, 200)).await;
            stranger.send(&bytes, Duration::from_secs(5)).await;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn hostile(day: &Arc<Day>) -> JoinSet<()> {
    let mut loads = JoinSet::new();
    for n in 0..NODES {
        (0..IDLE).for_each(|_| drop(loads.spawn(idle(Arc::clone(day), n))));
        (0..SILENT).for_each(|_| drop(loads.spawn(silent(Arc::clone(day), n))));
    }
    (0..SHORT).for_each(|number| drop(loads.spawn(short(Arc::clone(day), number))));
    let (unfinished, pieces) = (Arc::new(stranger::unfinished().await), Arc::new(stranger::pieces().await));
    (0..UNFINISHED).for_each(|_| drop(loads.spawn(besiege(Arc::clone(day), Arc::clone(&unfinished)))));
    (0..PIECES).for_each(|_| drop(loads.spawn(besiege(Arc::clone(day), Arc::clone(&pieces)))));
    for _ in 0..FLOODS {
        loads.spawn(flood(Arc::clone(day), reads, Duration::ZERO));
    }
    for _ in 0..PARKED {
        loads.spawn(flood(Arc::clone(day), |stranger| leases(stranger, 1_100), Duration::from_secs(1)));
    }
    loads.spawn(die(Arc::clone(day)));
    loads
}

/// Looks at the memory of the nodes until the day is over; the most that each had.
async fn weigh(day: Arc<Day>, pids: Arc<Mutex<Vec<Option<u32>>>>) -> Vec<u64> {
    let mut most = vec![0; NODES];
    while !day.over() {
        let now = pids.lock().expect("nobody panics with it").clone();
        for (n, pid) in now.into_iter().enumerate() {
            let Some(held) = pid.and_then(resident) else { continue };
            most[n] = most[n].max(held);
            assert!(held <= RESIDENT_MAX, "n{} has {} MiB", n + 1, held >> 20);
        }
        sleep(Duration::from_millis(100)).await;
    }
    most
}

/// So many minutes of it.
pub(crate) async fn ordinary(minutes: u64) -> ExitCode {
    raise_descriptors();
    let mut cluster = Cluster::start_with(NODES, &[]).await;
    cluster.ctl(&["queue", "create", LEASE_QUEUE]).await.expect(0);
    // A quarter of what is leased is kept until the lease ends, again and again; none of it is to be dead for that.
    cluster.ctl(&["queue", "create", QUEUE, "--max-failures", "1000000"]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let day = Arc::new(Day {
        addresses: (0..NODES).map(|n| cluster.address(n).to_owned()).collect(),
        leader: (leader as u64).into(),
        over: false.into(),
        short: 0.into(),
        refused: 0.into(),
    });
    let pids = Arc::new(Mutex::new((0..NODES).map(|n| Some(cluster.pid(n))).collect::<Vec<_>>()));
    let load = Arc::new(Load::with_pause(PAUSE));
    let workers = load.spawn(&cluster, 1, &mut Random::new(minutes));
    let weighing = tokio::spawn(weigh(Arc::clone(&day), Arc::clone(&pids)));
    let mut loads = hostile(&day).await;
    let part = Duration::from_secs(minutes * 60) / 3;
    let mut failovers = Vec::new();
    for _ in 0..2 {
        live(&mut cluster, &weighing, part).await;
        let (leader, status) = cluster.leader().await;
        pids.lock().expect("nobody panics with it")[leader] = None;
        let began = Instant::now();
        cluster.kill(leader);
        let (next, _) = cluster.leader_above(status.term).await;
        failovers.push((began, Instant::now() + SETTLES));
        day.leader.store(next as u64, Ordering::Relaxed);
        cluster.restart(leader).await;
        pids.lock().expect("nobody panics with it")[leader] = Some(cluster.pid(leader));
    }
    live(&mut cluster, &weighing, part).await;
    load.stop();
    for worker in workers {
        worker.await.expect("no good client panics");
    }
    day.over.store(true, Ordering::Relaxed);
    let most = weighing.await.expect("no node has more than it may");
    loads.shutdown().await;
    report(&day, &most, &failovers);
    check_times(&load, &failovers);
    cluster.ctl(&["queue", "purge", "short", "--yes"]).await.expect(0);
    let acknowledged = load.settle_all(&cluster.client()).await;
    say(&format!("{acknowledged} messages of good clients were acknowledged, none is lost"));
    ExitCode::SUCCESS
}

/// Lets time pass in which no node may end.
async fn live(cluster: &mut Cluster, weighing: &JoinHandle<Vec<u64>>, during: Duration) {
    let until = Instant::now() + during;
    while Instant::now() < until {
        for n in 0..NODES {
            if let Some(status) = cluster.has_ended(n) {
                panic!("{} ended with {status}:\n{}", cluster.name(n), cluster.log_of(n));
            }
        }
        assert!(!weighing.is_finished(), "a node has more memory than it may");
        sleep(Duration::from_millis(500)).await;
    }
}

fn report(day: &Day, most: &[u64], failovers: &[(Instant, Instant)]) {
    let mib: Vec<u64> = most.iter().map(|held| held >> 20).collect();
    let (short, refused) = (day.short.load(Ordering::Relaxed), day.refused.load(Ordering::Relaxed));
    let took: Vec<Duration> = failovers.iter().map(|(began, over)| *over - *began - SETTLES).collect();
    say(&format!("resident at most {mib:?} MiB; another node led after {took:.1?}"));
    say(&format!("{short} clients pushed once; {refused} of those and of the idle ones were refused"));
}

fn check_times(load: &Load, failovers: &[(Instant, Instant)]) {
    let mut times = Vec::new();
    let mut failed = 0;
    for asked in load.asked() {
        if failovers.iter().any(|(began, over)| asked.at + asked.took >= *began && asked.at <= *over) {
            continue;
        }
        if asked.answered { times.push(asked.took) } else { failed += 1 }
    }
    times.sort_unstable();
    assert!(!times.is_empty(), "good clients were answered");
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000];
    say(&format!(
        "{} requests of good clients outside of failovers: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, longest {:.1?}; {failed} without an answer",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1_000),
    ));
    assert!(at(990) <= P99_MAX, "the 99th percentile is {:?}", at(990));
    let count = times.len() + failed;
    assert!(failed * 100 <= count * FAILED_PERCENT_MAX, "{failed} of {count} had no answer");
}

//! How long nothing is accepted when the leader goes: killed, stopped in order, paused, cut off from everybody, or only
//! from what the others say. Prints the distribution and fails only for what was lost: speed is for people to read.
//!
//! `FAILOVERS=100 cargo test -p tests --test failover -- --nocapture` prints the figures for a hundred of each;
//! `FAILOVER_LOSS=killed` is about one of them alone, and `FAILOVER_LEDGER=1` adds the figures to `tests/ledger.csv`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bodies::{drain, push, sorted};
use harness::cluster::Cluster;
use harness::ledger::note_result;
use harness::net::{self, Cut, End, Net};
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::Instant;

const QUEUE: &str = "q";
/// Nodes.
const COUNT: usize = 3;
/// Each pushes one message after the other.
const PUSHERS: u64 = 4;
/// Pushes accepted between two failovers, so that each meets a cluster at work.
const ACCEPTED_BETWEEN: usize = 200;

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// `kill -9`
    Killed,
    /// SIGTERM: it hands leadership over first.
    Stopped,
    /// SIGSTOP: its connections stay open and say nothing.
    Paused,
    /// Every packet from it and to it is dropped, that of clients too.
    CutOff,
    /// It is heard, and hears none of the other nodes.
    Deafened,
}

impl Loss {
    /// As the ledger and `FAILOVER_LOSS` name it.
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::CutOff => "cut",
            Self::Deafened => "deafened",
        }
    }
}

/// What the pushers know.
#[derive(Default)]
struct Accepted {
    bodies: Vec<String>,
    at: Vec<Instant>,
}

async fn keep_pushing(client: Client, lane: u64, accepted: Arc<Mutex<Accepted>>) {
    for number in 0.. {
        let body = format!("{lane}.{number}");
        push(&client, QUEUE, &[&body]).await.unwrap_or_else(|error| panic!("push {body}: {error}"));
        let mut accepted = accepted.lock().unwrap();
        accepted.bodies.push(body);
        accepted.at.push(Instant::now());
    }
}

fn count(accepted: &Mutex<Accepted>) -> usize {
    accepted.lock().unwrap().at.len()
}

async fn wait_for(accepted: &Mutex<Accepted>, more: usize) {
    let goal = count(accepted) + more;
    until("pushes are accepted", LIMIT, async || {
        let now = count(accepted);
        if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}")) }
    })
    .await;
}

/// The longest time without an accepted push since `from` were.
fn longest_gap(accepted: &Mutex<Accepted>, from: usize) -> Duration {
    let accepted = accepted.lock().unwrap();
    let gaps = accepted.at[from - 1..].windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

async fn lose_the_leader(cluster: &mut Cluster, net: Option<&Net>, loss: Loss) {
    let (leader, before) = cluster.leader().await;
    match loss {
        Loss::Killed => cluster.kill(leader),
        Loss::Stopped => cluster.stop(leader).await,
        Loss::Paused => cluster.pause(leader),
        Loss::Deafened => {
            let others = (0..cluster.count()).filter(|n| *n != leader);
            let cuts = others.map(|n| Cut { from: End::Node(n), to: End::Node(leader), percent: 100 });
            net.expect("there are networks here").cut(&cuts.collect::<Vec<_>>());
        }
        Loss::CutOff => {
            let others = (0..cluster.count()).filter(|n| *n != leader).map(End::Node).chain([End::Clients]);
            let cuts: Vec<Cut> = others.flat_map(|other| Cut::between(End::Node(leader), other)).collect();
            net.expect("there are networks here").cut(&cuts);
        }
    }
    match loss {
        Loss::Killed | Loss::Stopped => {
            cluster.leader_above(before.term).await;
            cluster.restart(leader).await;
        }
        Loss::Paused => {
            another_leads(cluster, leader, before.term).await;
            cluster.resume(leader);
        }
        Loss::CutOff | Loss::Deafened => {
            another_leads(cluster, leader, before.term).await;
            net.expect("there are networks here").cut(&[]);
        }
    }
    cluster.all_vote().await;
}

/// Asks only the nodes that answer.
async fn another_leads(cluster: &Cluster, lost: usize, term: u64) {
    until("another node leads", LIMIT, async || {
        for n in (0..cluster.count()).filter(|n| *n != lost) {
            let status = cluster.status(n).await;
            if status.is_ok_and(|status| status.leader.is_some_and(|new| new.term > term)) {
                return Ok(());
            }
        }
        Err("nobody does")
    })
    .await;
}

#[expect(clippy::print_stdout, reason = "the distribution is what this is for")]
fn print(loss: Loss, mut gaps: Vec<Duration>) {
    gaps.sort_unstable();
    let at = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100).max(1) - 1].as_millis();
    let (p50, p90, p99, max) = (at(50), at(90), at(99), at(100));
    println!(
        "leader {loss:?}: {} times; without an accepted push p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms",
        gaps.len()
    );
    if std::env::var_os("FAILOVER_LEDGER").is_some() {
        let count = gaps.len() as u64;
        let setting = format!("3 nodes; p50 {p50} ms");
        note_result(&format!("failover-{}", loss.name()), &setting, count, &format!("{p99} ms"));
    }
}

#[test]
fn nothing_accepted_is_lost_however_the_leader_goes() {
    // Starts this program again where networks can be cut.
    let net = net::enter().map(|()| Net::new(COUNT));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("there are threads").block_on(lose_leaders(net.as_ref().map_err(String::as_str)));
}

#[expect(clippy::print_stdout, reason = "what is not tried is to be seen")]
async fn lose_leaders(net: Result<&Net, &str>) {
    let times = std::env::var("FAILOVERS").ok().and_then(|times| times.parse().ok()).unwrap_or(2);
    let mut losses = vec![Loss::Killed, Loss::Stopped, Loss::Paused];
    let mut cluster = match net {
        Ok(net) => {
            losses.extend([Loss::CutOff, Loss::Deafened]);
            let dir = tempfile::tempdir().expect("there is a temporary directory");
            let places = (0..COUNT).map(|n| net.place(n, dir.path().join(format!("n{}", n + 1)))).collect();
            Cluster::start_in(dir, places, &[("QUEUED_INSECURE", "true")]).await
        }
        Err(missing) => {
            println!("leader CutOff and Deafened: skipped, {missing}");
            Cluster::start_with(COUNT, &[]).await
        }
    };
    if let Ok(only) = std::env::var("FAILOVER_LOSS") {
        losses.retain(|loss| loss.name() == only);
        assert!(!losses.is_empty(), "FAILOVER_LOSS names none that can be tried here");
    }
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let accepted = Arc::new(Mutex::new(Accepted::default()));
    let mut pushers = JoinSet::new();
    for lane in 0..PUSHERS {
        pushers.spawn(keep_pushing(cluster.client(), lane, Arc::clone(&accepted)));
    }
    for loss in losses {
        let mut gaps = Vec::new();
        for _ in 0..times {
            wait_for(&accepted, ACCEPTED_BETWEEN).await;
            let from = count(&accepted);
            lose_the_leader(&mut cluster, net.ok(), loss).await;
            wait_for(&accepted, ACCEPTED_BETWEEN).await;
            gaps.push(longest_gap(&accepted, from));
        }
        print(loss, gaps);
    }
    pushers.shutdown().await;
    let found = sorted(&drain(&cluster.client(), QUEUE).await);
    let expected = sorted(&accepted.lock().unwrap().bodies);
    // A push that was stopped before its answer may be there too, one a lane.
    let extra: Vec<_> = found.iter().filter(|body| expected.binary_search(body).is_err()).collect();
    assert!(extra.len() <= usize::try_from(PUSHERS).expect("4"), "nobody pushed {extra:?}");
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "a push was stored twice");
    let lost: Vec<_> = expected.iter().filter(|body| found.binary_search(body).is_err()).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
}

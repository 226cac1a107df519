//! How long nothing is accepted when the leader goes: killed, stopped in order, or silent. Prints the distribution and
//! fails only for what was lost: speed is for people to read.
//!
//! `FAILOVERS=100 cargo test -p tests --test failover -- --nocapture` prints the figures for a hundred of each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bodies::{drain, push, sorted};
use harness::cluster::Cluster;
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

const QUEUE: &str = "q";
/// Each pushes one message after the other.
const PUSHERS: u64 = 4;
/// Pushes accepted between two failovers, so that each meets a cluster at work.
const ACCEPTED_BETWEEN: usize = 200;

/// How a leader goes.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// `kill -9`
    Killed,
    /// SIGTERM: it hands leadership over first.
    Stopped,
    /// SIGSTOP: its connections stay open and say nothing, as behind a network that drops everything.
    Silent,
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

async fn lose_the_leader(cluster: &mut Cluster, loss: Loss) {
    let (leader, before) = cluster.leader().await;
    match loss {
        Loss::Killed => cluster.kill(leader),
        Loss::Stopped => cluster.stop(leader).await,
        Loss::Silent => cluster.pause(leader),
    }
    if matches!(loss, Loss::Silent) {
        until("another node leads", LIMIT, async || {
            for n in (0..cluster.count()).filter(|n| *n != leader) {
                if cluster
                    .status(n)
                    .await
                    .is_ok_and(|status| status.leader.is_some_and(|new| new.term > before.term))
                {
                    return Ok(());
                }
            }
            Err("nobody does")
        })
        .await;
        cluster.resume(leader);
    } else {
        cluster.leader_above(before.term).await;
        cluster.restart(leader).await;
    }
    cluster.all_vote().await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_however_the_leader_goes() {
    let times = std::env::var("FAILOVERS").ok().and_then(|times| times.parse().ok()).unwrap_or(2);
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let accepted = Arc::new(Mutex::new(Accepted::default()));
    let mut pushers = JoinSet::new();
    for lane in 0..PUSHERS {
        pushers.spawn(keep_pushing(cluster.client(), lane, Arc::clone(&accepted)));
    }
    for loss in [Loss::Killed, Loss::Stopped, Loss::Silent] {
        let mut gaps = Vec::new();
        for _ in 0..times {
            wait_for(&accepted, ACCEPTED_BETWEEN).await;
            let from = count(&accepted);
            lose_the_leader(&mut cluster, loss).await;
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

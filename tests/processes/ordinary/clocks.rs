//! A clock that is wrong for a while, by a minute, an hour or a month: what was to take two seconds takes two seconds. Nodes
//! run under a small library that moves their time of day, made from `clocks.c` by the C compiler of the machine.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::cluster::{Cluster, Place};
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use tempfile::TempDir;
use tokio::time::{Instant, sleep_until};

const DAY_MS: i64 = 86_400_000;
/// A delay ends within this of its time.
const LATE_MAX: Duration = Duration::from_secs(2);

/// The file that says how far the clock of node `n` is off.
fn off_file(cluster: &Cluster, n: usize) -> PathBuf {
    cluster.dir().join(format!("off{}", n + 1))
}

fn set_clock(cluster: &Cluster, n: usize, off_ms: i64) {
    let (file, next) = (off_file(cluster, n), cluster.dir().join("next"));
    std::fs::write(&next, off_ms.to_string()).expect("it is written");
    std::fs::rename(next, file).expect("in one step");
}

/// Nodes whose clocks can be set.
async fn cluster(count: usize, env: &[(&str, &str)]) -> Cluster {
    let dir = TempDir::new().expect("a directory");
    let library = dir.path().join("clocks.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/processes/ordinary/clocks.c");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(made.expect("there is a C compiler").success(), "clocks.c compiles");
    let place = |number: usize| {
        let off = dir.path().join(format!("off{number}"));
        std::fs::write(&off, "0").expect("it is written");
        let preload = format!("LD_PRELOAD={}", library.display());
        let under = vec!["env".to_owned(), preload, format!("CLOCK_OFF_MS={}", off.display())];
        Place { under, ..Place::local(dir.path().join(format!("n{number}"))) }
    };
    let places = (1..=count).map(place).collect();
    Cluster::start_in(dir, places, env).await
}

/// Pushes a message that is delayed, gives when.
async fn push(cluster: &Cluster, body: &str, delay: &str) -> Instant {
    let asked = Instant::now();
    cluster.ctl(&["push", "jobs", body, "--delay", delay, "--create"]).await.expect(0);
    asked
}

/// Waits until a message can be had, and checks that it was neither early nor late.
async fn comes(cluster: &Cluster, body: &str, asked: Instant, delay: Duration) -> Result<(), String> {
    let popped = cluster.ctl(&["pop", "jobs", "--wait", "30s"]).await;
    let took = asked.elapsed();
    if popped.code != 0 || !popped.stdout.contains(body) {
        return Err(format!("{body} did not come within {took:?}: {popped}"));
    }
    // Under a second early is what a command takes to begin: it was asked before the push.
    if took >= delay && took <= delay + LATE_MAX {
        Ok(())
    } else {
        Err(format!("{body}, delayed for {delay:?}, came after {took:?}"))
    }
}

/// Whether what is pushed before, while and after a node's clock is off comes in time.
async fn delays_are_right(cluster: &Cluster, wrong: usize, off_ms: i64) -> Result<(), String> {
    let first = push(cluster, "first", "3s").await;
    set_clock(cluster, wrong, off_ms);
    let during = push(cluster, "during", "6s").await;
    let until = Instant::now() + Duration::from_secs(2);
    sleep_until(until).await;
    set_clock(cluster, wrong, 0);
    let after = push(cluster, "after", "8s").await;
    comes(cluster, "first", first, Duration::from_secs(3)).await?;
    comes(cluster, "during", during, Duration::from_secs(6)).await?;
    comes(cluster, "after", after, Duration::from_secs(8)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_ahead_for_two_seconds_freezes_nothing_on_a_lone_node() {
    let cluster = cluster(1, &[]).await;
    delays_are_right(&cluster, 0, 30 * DAY_MS).await.expect("delays end in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_back_freezes_nothing_and_the_node_says_that_its_clock_is_not_believed() {
    let mut cluster = cluster(1, &[]).await;
    let first = push(&cluster, "first", "3s").await;
    // Half a second more than an hour: what a node measures is a few milliseconds off.
    set_clock(&cluster, 0, -3_600_500);
    until("the status says so", LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "status"]).await.expect(0);
        if ran.stdout.contains("n1: its clock is 1h behind the cluster's time and is not believed") {
            Ok(())
        } else {
            Err(ran.stdout)
        }
    })
    .await;
    let explained = cluster.ctl(&["explain", "jobs"]).await;
    assert!(explained.stdout.contains("its clock is 1h behind"), "{explained}");
    comes(&cluster, "first", first, Duration::from_secs(3)).await.expect("the delay ends in time");
    // A restart changes nothing of it.
    let second = push(&cluster, "second", "5s").await;
    cluster.kill(0);
    cluster.restart(0).await;
    comes(&cluster, "second", second, Duration::from_secs(5)).await.expect("the delay ends in time");
    set_clock(&cluster, 0, 0);
    until("the clock is believed", LIMIT, async || {
        let off_ms = cluster.status(0).await?.clock_off_ms;
        if off_ms.abs() < 1_000 { Ok(()) } else { Err(format!("{off_ms} ms off")) }
    })
    .await;
    let log = cluster.log_of(0);
    assert!(log.contains("this node's clock is not believed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_a_minute_ahead_of_the_others_shortens_and_stretches_no_delay() {
    let cluster = cluster(3, &[]).await;
    let (leader, _) = cluster.leader().await;
    let jumps: &[i64] = choose(&[60_000], &[60_000, 480_000, 30 * DAY_MS, -3_600_000]);
    for off_ms in jumps {
        delays_are_right(&cluster, leader, *off_ms).await.expect("delays end in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_time_from_the_time_of_day_is_noticed() {
    let cluster = cluster(1, &[(VARIABLE, Mutant::ElapsedByWall.name())]).await;
    let why = delays_are_right(&cluster, 0, 30 * DAY_MS).await.expect_err("a delay is wrong");
    assert!(why.starts_with("first"), "{why}");
}

//! The leader dies while a shell pushes lines: every line is there, once.

use std::time::Duration;

use harness::bodies::{drain, sorted};
use harness::cluster::Cluster;
use harness::program::Running;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::wire::requests::ask;
use tokio::time::{MissedTickBehavior, interval};

const PER_SECOND: usize = 2_000;
const PER_TICK: usize = 20;

/// Messages pushed, as the leader counts them.
async fn pushed(client: &queue_protocol::client::Client) -> Result<u64, String> {
    client
        .ask(ask::Stats)
        .await
        .map(|answered| answered.answer.pushed_total)
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_pushed_while_the_leader_is_killed_are_all_there_once() {
    let lines = choose(4_000, 10_000);
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let (leader, before) = cluster.leader().await;

    let mut pushing = Running::start(cluster.queuectl().args(["-v", "push", "lines", "--create"]));
    let tick = Duration::from_secs(1) * u32::try_from(PER_TICK).expect("20") / 2_000;
    assert_eq!(tick * u32::try_from(PER_SECOND / PER_TICK).expect("100"), Duration::from_secs(1));
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut expected = Vec::with_capacity(lines);
    let mut answered_before = 0;
    for first in (0..lines).step_by(PER_TICK) {
        ticks.tick().await;
        let some: Vec<String> = (first..first + PER_TICK).map(|line| format!("line {line}")).collect();
        pushing.write(format!("{}\n", some.join("\n")).as_bytes());
        expected.extend(some);
        if answered_before == 0 && first >= lines / 3 {
            answered_before = pushed(&client).await.expect("the leader counts");
            cluster.kill(leader);
        }
    }
    let ran = pushing.end().await.expect(0);
    assert!(ran.stdout.contains(&format!("pushed {} to lines", with_commas(lines))), "{ran}");

    let (_, after) = cluster.leader_above(before.term).await;
    let answered_after = until("the new leader counts", LIMIT, async || pushed(&client).await).await;
    assert!(0 < answered_before && answered_before < answered_after, "{answered_before} {answered_after}");
    assert_eq!(answered_after, lines as u64);
    assert!(after.term > before.term, "answers came in two terms");

    let found = drain(&client, "lines").await;
    assert_eq!(sorted(&found), sorted(&expected));
}

fn with_commas(count: usize) -> String {
    format!("{},{:03}", count / 1_000, count % 1_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_leader_dies_before_it_answers_is_stored_once_or_said_to_be_unknown() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let (leader, before) = cluster.leader().await;
    // With both followers paused the leader takes the push and cannot answer it.
    let followers: Vec<usize> = (0..cluster.count()).filter(|n| *n != leader).collect();
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    followers.iter().for_each(|n| cluster.pause(*n));
    let last = cluster.status(leader).await.expect("the leader answers").last_index;

    let servers = [cluster.address(leader), cluster.address(followers[0]), cluster.address(followers[1])];
    let patient =
        Running::start(cluster.queuectl().args(["-s", &servers.join(","), "push", "jobs", "patient"]));
    let mut hasty = cluster.queuectl();
    hasty.args(["-s", servers[0], "--timeout", "3s", "push", "jobs", "hasty"]);
    let hasty = Running::start(&mut hasty);
    until("both pushes are in the leader's log", LIMIT, async || {
        let status = cluster.status(leader).await?;
        let client_entries = status.last_index.saturating_sub(last);
        if client_entries >= 1 { Ok(()) } else { Err("nothing new".to_owned()) }
    })
    .await;
    cluster.kill(leader);
    followers.iter().for_each(|n| cluster.resume(*n));

    patient.end().await.expect(0);
    let hasty = hasty.end().await;
    assert!([69, 75, 79].contains(&hasty.code), "its only server is gone: {hasty}");
    cluster.leader_above(before.term).await;
    let found = sorted(&drain(&client, "jobs").await);
    let hasty_count = found.iter().filter(|body| *body == "hasty").count();
    assert_eq!(found.iter().filter(|body| *body == "patient").count(), 1, "{found:?}");
    assert!(hasty_count <= usize::from(hasty.code == 79), "{found:?}, and {hasty}");
}

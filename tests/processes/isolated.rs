//! A leader that is alone answers no read that must be fresh, says `empty` to nobody and acknowledges nothing. What it
//! still shows, it shows with its age.

use std::time::Duration;

use harness::bodies::{drain, sorted};
use harness::cluster::Cluster;
use harness::program::{Ran, run};
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};

/// Asks this node alone, and not for long.
async fn ask(cluster: &Cluster, n: usize, words: &[&str]) -> Ran {
    let mut queuectl = cluster.queuectl();
    queuectl.args(["--servers", cluster.address(n), "--timeout", "2s"]).args(words);
    run(&mut queuectl, b"").await
}

/// Neither done nor "no": unavailable, or not known.
fn answered_nothing(ran: &Ran) {
    assert!([69, 75, 79].contains(&ran.code), "{ran}");
}

/// How old the state of a node is, as it says; `None` before it has heard of a leader.
async fn age_of(cluster: &Cluster, n: usize) -> Option<Duration> {
    let shown = ask(cluster, n, &["--json", "queue", "info", "jobs", "--stale"]).await.expect(0);
    let document: serde_json::Value = serde_json::from_str(&shown.stdout).expect("a document");
    assert_eq!(document["ready"], 1, "{shown}");
    document["age_ms"].as_u64().map(Duration::from_millis)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_alone_answers_no_fresh_read_says_empty_to_nobody_and_acknowledges_nothing() {
    let cluster = Cluster::start().await;
    for queue in ["jobs", "nothing"] {
        cluster.ctl(&["queue", "create", queue]).await.expect(0);
    }
    cluster.ctl(&["push", "jobs", "kept"]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let followers: Vec<usize> = (0..cluster.count()).filter(|n| *n != leader).collect();
    // A follower is never far behind, and says how far.
    until("a follower knows its age", LIMIT, async || {
        let age = age_of(&cluster, followers[0]).await;
        if age.is_some_and(|age| age < Duration::from_secs(3)) { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;

    followers.iter().for_each(|n| cluster.pause(*n));
    let mut unknown = 0;
    // At once, while it still believes in itself, and when it does not any more.
    for body in ["early", "late"] {
        let push = ["push", "jobs", body];
        let (push, info, pop, lease) = tokio::join!(
            ask(&cluster, leader, &push),
            ask(&cluster, leader, &["queue", "info", "jobs"]),
            ask(&cluster, leader, &["pop", "nothing"]),
            ask(&cluster, leader, &["lease", "nothing", "--wait", "1s"]),
        );
        [&push, &info, &pop, &lease].into_iter().for_each(answered_nothing);
        unknown += usize::from(push.code == 79);
    }
    let age = age_of(&cluster, leader).await;
    assert!(age >= Some(Duration::from_secs(3)), "it has been alone for longer than {age:?}");
    let shown = ask(&cluster, leader, &["peek", "jobs", "--stale"]).await.expect(0);
    assert!(shown.stdout == "kept\n" && shown.stderr.contains("as it was at most"), "{shown}");

    followers.iter().for_each(|n| cluster.resume(*n));
    cluster.leader().await;
    let found = sorted(&drain(&cluster.client(), "jobs").await);
    assert!(found.contains(&"kept".to_owned()) && found.len() <= 1 + unknown, "{found:?}, {unknown} unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_says_empty_while_it_is_alone_is_noticed() {
    let cluster = Cluster::start_with(3, &[(VARIABLE, Mutant::EmptyWithoutQuorum.name())]).await;
    cluster.ctl(&["queue", "create", "nothing"]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let followers = (0..cluster.count()).filter(|n| *n != leader);
    followers.for_each(|n| cluster.pause(n));
    ask(&cluster, leader, &["lease", "nothing", "--wait", "1s"]).await.expect(1);
}

//! What is said of the health of a cluster is what a push meets: a voter that the others refuse does not count, nor one
//! that is behind; without a majority nothing works, and what refuses pushes is named.

use std::time::Duration;

use harness::bodies::push;
use harness::cluster::Cluster;
use harness::program::{Ran, queued, run};
use harness::{LIMIT, free_port, trace, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use serde_json::Value;
use tokio::time::Instant;

use crate::slow_disk::Slow;
use crate::stores::{caught_up, copy, push_some, put_back};

const QUEUE: &str = "q";

async fn healthcheck(cluster: &Cluster, n: usize, words: &[&str]) -> Ran {
    let mut healthcheck = queued();
    healthcheck.args(["healthcheck", "--address", cluster.address(n), "--timeout", "10s"]).args(words);
    run(&mut healthcheck, b"").await
}

async fn status(cluster: &Cluster) -> Value {
    cluster.ctl(&["cluster", "status", "--json"]).await.json()
}

/// Until a command ends with `code`.
async fn ends_with(cluster: &Cluster, words: &[&str], code: i32) -> Ran {
    until(&format!("{words:?} ends with {code}"), LIMIT, async || {
        let ran = cluster.ctl(words).await;
        if ran.code == code { Ok(ran) } else { Err(ran.to_string()) }
    })
    .await
}

/// An operator restores last night's copy of n2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_the_others_refuse_does_not_count() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    cluster.transfer(0).await;
    push_some(&cluster).await;
    caught_up(&cluster, 1).await;
    cluster.stop(1).await;
    let image = cluster.dir().join("image");
    copy(cluster.data_dir(1), &image);
    cluster.restart(1).await;
    push_some(&cluster).await;
    caught_up(&cluster, 1).await;
    ends_with(&cluster, &["cluster", "wait", "--for", "voters=3", "--timeout", "2s"], 0).await;
    ends_with(&cluster, &["cluster", "safe-to-stop", "n3"], 0).await;
    for n in 0..3 {
        healthcheck(&cluster, n, &["--ready"]).await.expect(0);
    }
    cluster.kill(1);
    put_back(&image, cluster.data_dir(1));
    cluster.start_node(1);

    let why = "n2 does not count: it is refused: its log ends at entry";
    let shown = until("n2 is shown as refused", LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "status"]).await;
        if ran.stdout.contains(why) { Ok(ran) } else { Err(ran.to_string()) }
    })
    .await;
    assert!(shown.stdout.contains("n2    REFUSED "), "{shown}");
    assert!(shown.stdout.contains("quorum 2 of 3: works, but one more loss stops writes\n"), "{shown}");
    shown.expect(0);
    let document = status(&cluster).await;
    let n2 = &document["nodes"][1];
    assert_eq!(
        (&n2["counts"], n2["why"].as_str().is_some_and(|said| said.starts_with(why))),
        (&false.into(), true)
    );
    let stop = cluster.ctl(&["cluster", "safe-to-stop", "n3"]).await.expect(1);
    assert!(stop.stdout.starts_with("no: ") && stop.stdout.contains(why), "{stop}");
    let stop = cluster.ctl(&["cluster", "safe-to-stop", "n2"]).await.expect(0);
    assert_eq!(stop.stdout, "yes: stopping n2 leaves 2 of 3\n", "it does not count anyway");
    cluster.ctl(&["cluster", "wait", "--for", "voters=2"]).await.expect(0);
    cluster.ctl(&["cluster", "wait", "--for", "voters=3", "--timeout", "1s"]).await.expect(75).says(why);
    healthcheck(&cluster, 1, &["--ready"]).await.expect(1);
    let warned = cluster.ctl(&["check", "cluster", "--format", "nagios"]).await.expect(1);
    assert!(warned.stdout.starts_with("CLUSTER WARNING - ") && warned.stdout.contains(why), "{warned}");
    cluster.ctl(&["check", "node", "n2"]).await.expect(1);

    // The other voter goes: n1 and n2 answer, and are no majority.
    cluster.transfer(0).await;
    cluster.kill(2);
    let shown = ends_with(&cluster, &["cluster", "status"], 1).await;
    assert!(shown.stdout.contains("no quorum as seen from n1"), "{shown}");
    cluster.ctl(&["cluster", "wait", "--timeout", "2s"]).await.expect(75).says("not ready: no quorum");
    let pushed = cluster.ctl(&["push", QUEUE, "x", "--timeout", "2s"]).await;
    assert!([75, 79].contains(&pushed.code), "{pushed}");
    assert_eq!(status(&cluster).await["leader"], Value::Null);
    cluster.ctl(&["cluster", "safe-to-stop", "n3"]).await.expect(1);
    cluster.ctl(&["check", "cluster"]).await.expect(1);
    let critical = cluster.ctl(&["check", "cluster", "--format", "nagios"]).await.expect(2);
    assert!(critical.stdout.starts_with("CLUSTER CRITICAL - no quorum as seen from"), "{critical}");
    cluster.ctl(&["check", "queue", QUEUE, "--timeout", "2s"]).await.expect(1);
    healthcheck(&cluster, 0, &[]).await.expect(0);
    healthcheck(&cluster, 0, &["--ready"]).await.expect(1).says("no majority of the voters follows it");
    let nobody = format!("127.0.0.1:{}", free_port());
    cluster.ctl(&["--servers", &nobody, "check", "cluster"]).await.expect(69);
    cluster.ctl(&["--servers", &nobody, "check", "cluster", "--format", "nagios"]).await.expect(2);
}

/// Two of three are killed; once a push fails: what `cluster status` ends with.
async fn status_without_a_quorum(bug: Option<Mutant>) -> i32 {
    let env: Vec<_> = bug.iter().map(|bug| (VARIABLE, bug.name())).collect();
    let mut cluster = Cluster::start_with(3, &env).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    for n in (0..3).filter(|n| *n != leader) {
        cluster.kill(n);
    }
    until("a push fails", LIMIT, async || {
        let ran = cluster.ctl(&["push", QUEUE, "x", "--timeout", "2s"]).await;
        if ran.code == 0 { Err(ran.to_string()) } else { Ok(()) }
    })
    .await;
    cluster.ctl(&["cluster", "status"]).await.code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_follows_is_not_well_and_a_lie_about_it_is_noticed() {
    assert_eq!(status_without_a_quorum(None).await, 1);
    assert_eq!(status_without_a_quorum(Some(Mutant::QuorumTakenForGranted)).await, 0, "the bug shows");
}

/// What each sync of the follower takes that is behind.
const DELAY: Duration = Duration::from_secs(12);
/// In this time it is told, if it is.
const TOLD_WITHIN: Duration = Duration::from_secs(12);

/// A follower writes very slowly: whether `safe-to-stop` of the other one tells that it is behind.
async fn lag_is_told(bug: Option<Mutant>) -> bool {
    let env: Vec<_> = bug.iter().map(|bug| (VARIABLE, bug.name())).collect();
    let cluster = Cluster::start_with(3, &env).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let (slow, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let _slow = Slow::begin(&cluster, slow, DELAY);
    let client = cluster.client();
    let pushing = tokio::spawn(async move {
        for number in 0.. {
            push(&client, QUEUE, &[format!("message {number}")]).await.expect("there is a quorum");
        }
    });
    let since = Instant::now();
    let told = until("it is told, or was not for long", 2 * LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "safe-to-stop", cluster.name(other)]).await;
        match ran.code {
            1 if ran.stdout.contains("entries behind") => Ok(true),
            0 if since.elapsed() > TOLD_WITHIN => Ok(false),
            _ => Err(ran.to_string()),
        }
    })
    .await;
    pushing.abort();
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what is not tried is to be seen")]
async fn a_voter_that_is_behind_is_no_spare_and_a_lie_about_it_is_noticed() {
    if let Some(missing) = trace::missing() {
        println!("skipped: {missing}");
        return;
    }
    assert!(lag_is_told(None).await);
    assert!(!lag_is_told(Some(Mutant::LagIgnored)).await, "the bug shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refuses_pushes_is_named_and_leaves_a_node_ready() {
    let cluster = Cluster::start_with(1, &[("QUEUED_STORAGE_DISK_RESERVE", "900000GiB")]).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let shown = cluster.ctl(&["cluster", "status"]).await.expect(1);
    assert!(
        shown.stdout.contains("quorum 1 of 1: pushes are refused, all else works, without any spare\n"),
        "{shown}"
    );
    assert!(shown.stdout.contains("n1 refuses pushes: its disk has "), "{shown}");
    let document = status(&cluster).await;
    assert_eq!(
        (&document["writable"], &document["refusals"][0]["code"]),
        (&false.into(), &"disk_reserve".into())
    );
    cluster.ctl(&["cluster", "wait", "--for", "leader"]).await.expect(0);
    cluster
        .ctl(&["cluster", "wait", "--for", "writable", "--timeout", "1s"])
        .await
        .expect(75)
        .says("n1 refuses pushes");
    cluster.ctl(&["check", "cluster"]).await.expect(1);
    cluster.ctl(&["push", QUEUE, "x", "--timeout", "1s"]).await.expect(75).says("disk_reserve");
    healthcheck(&cluster, 0, &["--ready"]).await.expect(0);
    let explained = cluster.ctl(&["explain", QUEUE]).await.expect(1);
    assert!(explained.stdout.contains("pushes are refused: n1 refuses pushes: its disk has "), "{explained}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_full_paused_or_blocked_says_so() {
    let cluster = Cluster::start_with(1, &[]).await;
    let ctl = async |line: &str| cluster.ctl(&line.split(' ').collect::<Vec<_>>()).await;
    ctl("queue create jobs --max-messages 1").await.expect(0);
    ctl("queue create steps --ordered on --on-poison block --max-failures 1").await.expect(0);
    let state = async |queue: &str| {
        let info = ctl(&format!("queue info {queue} --json")).await.expect(0).json();
        info["state"].as_str().expect("a state").to_owned()
    };
    assert_eq!((state("jobs").await, state("steps").await), ("ok".into(), "ok".into()));
    ctl("push jobs one").await.expect(0);
    assert_eq!(state("jobs").await, "full");
    ctl("queue pause jobs --pushes").await.expect(0);
    assert_eq!(state("jobs").await, "pushes paused, full");
    let explained = ctl("explain jobs").await.expect(0);
    for why in [
        "pushes are refused: pushes to jobs are paused\n",
        "pushes are refused: queue jobs holds as much as it may\n",
    ] {
        assert!(explained.stdout.contains(why), "{explained}");
    }
    let shown = ctl("cluster status").await.expect(0);
    assert!(shown.stdout.contains("pushes to 1 queue are paused\n"), "{shown}");
    ctl("check queue jobs").await.expect(1);
    ctl("queue set jobs max-messages=none").await.expect(0);
    assert_eq!(state("jobs").await, "pushes paused");
    let warned = ctl("check queue jobs --format nagios").await.expect(1);
    assert!(warned.stdout.starts_with("QUEUE WARNING - pushes to jobs are paused | ready=1 "), "{warned}");

    for body in ["first", "second"] {
        ctl(&format!("push steps {body} --group a")).await.expect(0);
    }
    let leased = ctl("lease steps").await.expect(0);
    let receipt = leased.stderr.split_once("receipt ").expect("a receipt").1.split_whitespace().next();
    let receipt = receipt.expect("a receipt").to_owned();
    assert_eq!(state("steps").await, "ok", "a group that is worked on is not blocked");
    ctl(&format!("nack {receipt} --reject")).await.expect(0);
    assert_eq!(state("steps").await, "blocked");
    let listed = ctl("queue ls").await.expect(0);
    assert!(
        listed.stdout.lines().any(|line| line.starts_with("steps ") && line.ends_with(" blocked")),
        "{listed}"
    );
    ctl("check queue steps").await.expect(1);
}

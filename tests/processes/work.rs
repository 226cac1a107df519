//! `queuectl work`: the exit code of a handler decides, nothing is lost when the leader dies or the worker is stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::bodies::{drain, push, stored};
use harness::cluster::Cluster;
use harness::program::{Ran, Running};
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::wire::requests::ask;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A handler of these lines in the directory of the cluster.
fn handler(cluster: &Cluster, lines: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = cluster.dir().join("handler.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("the directory is ours");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("a temporary directory is text").to_owned()
}

/// What handlers appended to a file.
fn lines_of(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn terminate(running: &Running) {
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::TERM).expect("it runs");
}

/// Events by kind.
fn events(ran: &Ran) -> BTreeMap<String, Vec<Value>> {
    let mut events: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in ran.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in\n{ran}"));
        assert_eq!(event["schema"], "work/v1");
        events.entry(event["event"].as_str().expect("each has one").to_owned()).or_default().push(event);
    }
    events
}

async fn counts(cluster: &Cluster, queue: &str) -> [u64; 4] {
    let info = cluster.ctl(&["queue", "info", queue, "--json"]).await.expect(0).json();
    ["ready", "leased", "delayed", "dead"].map(|state| info[state].as_u64().expect("a count"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_of_the_handler_decides() {
    let cluster = Cluster::start().await;
    let create = ["queue", "create", "jobs", "--max-failures", "2", "--backoff", "1h"];
    cluster.ctl(&create).await.expect(0);
    let bodies = ["0", "65", "75", "7", "kill", "slow", "env"];
    stored(&push(&cluster.client(), "jobs", &bodies).await.expect("they are stored"), bodies.len());
    cluster.ctl(&["push", "jobs", "env", "-H", "content-type=text", "--priority", "9"]).await.expect(0);
    let script = handler(
        &cluster,
        r#"read code
        case $code in
            kill) kill -9 $$ ;;
            slow) trap '' TERM; while :; do sleep 0.05; done ;;
            env) test "$QUEUE_NAME/$QUEUE_MESSAGE_ID/$QUEUE_LEASE_TOKEN" = "$QUEUE_RECEIPT" || exit 1
                 test "$QUEUE_ATTEMPT $QUEUE_MAX_FAILURES" = "1 2" || exit 2
                 test "$(cat "$1")" = env || exit 3
                 echo "header ${QUEUE_HEADER_CONTENT_TYPE:-none}"; exit 0 ;;
            *) echo "line before" >&2; echo "ended with $code" >&2; exit $code ;;
        esac"#,
    );
    let words =
        ["work", "jobs", "--drain", "--timeout", "2s", "--grace", "200ms", "-P", "3", "--", &script, "{}"];
    let ran = cluster.ctl(&words).await.expect(1);
    assert!(ran.stdout.contains("header text\n") && ran.stdout.contains("header none\n"), "{ran}");
    let ran = ran.says("exit 65: \"ended with 65\"").says("retry   exit 75, attempt 1, again in 5m");
    let ran = ran.says("failed  exit 7, attempt 1").says("failed  killed by signal 9");
    let ran = ran.says("failed  timed out after 2s").says(": 3 ok, 4 retried, 1 dead, 0 given back");
    ran.says("4 messages left: 4 delayed, next due in ");
    // Nothing counts for the one that comes again without blame; the others wait out their back-off.
    assert_eq!(counts(&cluster, "jobs").await, [0, 0, 4, 1]);
    let dead = cluster.ctl(&["dead", "ls", "jobs", "--json"]).await.expect(0).json();
    assert_eq!((&dead["reason"], &dead["last_error"]), (&"rejected".into(), &"ended with 65".into()));
    let delayed = cluster.ctl(&["peek", "jobs", "-n", "9", "--state", "delayed", "--json"]).await.expect(0);
    let failures: BTreeMap<String, u64> = delayed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a document"))
        .map(|seen| {
            (seen["body"].as_str().expect("text").to_owned(), seen["failures"].as_u64().expect("a count"))
        })
        .collect();
    let expected = [("7", 1), ("75", 0), ("kill", 1), ("slow", 1)];
    assert_eq!(failures, expected.map(|(body, failures)| (body.to_owned(), failures)).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_back_offs_if_it_is_told_to_and_for_leases_of_others_in_any_case() {
    let cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", "jobs", "--backoff", "300ms", "--lease", "2s"]).await.expect(0);
    stored(&push(&cluster.client(), "jobs", &["a", "b"]).await.expect("they are stored"), 2);
    // Another consumer holds one and never settles it; the other fails once.
    cluster.ctl(&["lease", "jobs"]).await.expect(0);
    let script = handler(&cluster, r#"test "$QUEUE_ATTEMPT" = 2"#);
    let ran = cluster.ctl(&["work", "jobs", "--drain=all", "--", &script]).await.expect(0);
    ran.says(": 2 ok, 1 retried");
    assert_eq!(counts(&cluster, "jobs").await, [0, 0, 0, 0]);

    cluster.ctl(&["push", "jobs", "later", "--delay", "1h"]).await.expect(0);
    let words = ["work", "jobs", "--drain=all", "--drain-timeout", "300ms", "--", &script];
    cluster.ctl(&words).await.expect(1).says("1 message left: 1 delayed, next due in ");
    let document = cluster.ctl(&[&["--json"], &words[..]].concat()).await.expect(1);
    assert!(document.stdout.contains(r#""event":"left","ready":0,"leased":0,"delayed":1"#), "{document}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_cannot_be_run_leases_nothing_and_never_loops() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    stored(&push(&client, "jobs", &["a", "b"]).await.expect("they are stored"), 2);
    let missing = cluster.ctl(&["work", "jobs", "--drain", "--", "./resiz.sh"]).await;
    missing.expect(2).says("error[handler_not_found]: ./resiz.sh: no such file. No message was leased.");
    cluster.ctl(&["work", "jbos", "--", "true"]).await.expect(66).says("error[queue_not_found]");
    let twice = ["work", "jobs", "--ack-on", "0,75", "--", "true"];
    cluster.ctl(&twice).await.expect(2).says("75 is in --ack-on and in --retry-on");
    let stats = client.ask(ask::Stats).await.expect("there is a leader").answer;
    assert_eq!(stats.leased_total, 0);
    // It is there, but says of itself that it cannot be run: one lease, given back, and no second one.
    let script = handler(&cluster, "exit 127");
    let ran = cluster.ctl(&["work", "jobs", "--", &script]).await.expect(2);
    ran.says("error[handler_not_found]: the handler exit 127").says("1 given back");
    assert_eq!(client.ask(ask::Stats).await.expect("there is a leader").answer.leased_total, 1);
    let mut found = drain(&client, "jobs").await;
    found.sort();
    assert_eq!(found, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_takes_one_and_says_if_there_is_none() {
    let cluster = Cluster::start().await;
    stored(&push(&cluster.client(), "jobs", &["a", "b"]).await.expect("they are stored"), 2);
    let once = ["work", "jobs", "--once", "--quiet", "--shell", "tr a-z A-Z; echo"];
    assert_eq!(cluster.ctl(&once).await.expect(0).stdout, "A\n");
    assert_eq!(counts(&cluster, "jobs").await, [1, 0, 0, 0]);
    assert_eq!(cluster.ctl(&once).await.expect(0).stdout, "B\n");
    assert_eq!(cluster.ctl(&once).await.expect(1).stdout, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_keeps_its_leases_when_the_leader_is_killed() {
    let count = choose(60, 400);
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let bodies: Vec<String> = (0..count).map(|number| format!("{number:04}")).collect();
    stored(&push(&client, "jobs", &bodies).await.expect("they are stored"), count);
    let (leader, before) = cluster.leader().await;
    let done = cluster.dir().join("done");
    // Each appends its line in one write, and takes long enough for the leader to die among them.
    let script = handler(&cluster, &format!("read body; echo $body >> {}; sleep 0.1", done.display()));
    let mut command = cluster.queuectl();
    command.args(["--json", "work", "jobs", "--drain", "-P", "4", "--lease", "3s", "--", &script]);
    let working = Running::start(&mut command);
    until("some are done", LIMIT, async || {
        let lines = lines_of(&done).len();
        if lines >= count / 4 { Ok(()) } else { Err(format!("{lines} are")) }
    })
    .await;
    cluster.kill(leader);
    let ran = working.end().await.expect(0);
    cluster.leader_above(before.term).await;
    let mut lines = lines_of(&done);
    lines.sort();
    assert_eq!(lines, bodies, "each was handled once: no lease ended\n{ran}");
    let events = events(&ran);
    assert_eq!(events["done"][0]["ok"], count, "{ran}");
    assert_eq!(events["leader"].len(), 1, "{ran}");
    assert_eq!(counts(&cluster, "jobs").await, [0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_end_finishes_and_gives_the_rest_back() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    stored(&push(&client, "jobs", &["1", "2", "3", "4"]).await.expect("they are stored"), 4);
    let (begun, gate) = (cluster.dir().join("begun"), cluster.dir().join("gate"));
    let script = handler(
        &cluster,
        &format!(
            "read body; echo $body >> {}; while ! test -e {}; do sleep 0.02; done",
            begun.display(),
            gate.display()
        ),
    );
    let start = || {
        let mut command = cluster.queuectl();
        command.args(["work", "jobs", "-P", "2", "--batch", "4", "--lease", "2s", "--", &script]);
        Running::start(&mut command)
    };
    let two_run = async |sum: usize| {
        until("two handlers run", LIMIT, async || {
            let lines = lines_of(&begun).len();
            if lines == sum { Ok(()) } else { Err(format!("{lines} have begun")) }
        })
        .await;
    };
    // The second signal gives back what runs: no failure is counted, and all are there at once.
    let twice = start();
    two_run(2).await;
    terminate(&twice);
    until("those that wait are given back", LIMIT, async || match counts(&cluster, "jobs").await {
        [2, 2, 0, 0] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    terminate(&twice);
    twice.end().await.expect(0).says("stopping: 2 running").says("0 ok, 0 retried, 0 dead, 4 given back");
    assert_eq!(counts(&cluster, "jobs").await, [4, 0, 0, 0]);

    // The first alone waits for them.
    let once = start();
    two_run(4).await;
    terminate(&once);
    std::fs::write(&gate, "").expect("the directory is ours");
    once.end().await.expect(0).says("2 ok, 0 retried, 0 dead, 2 given back");
    let mut left = drain(&client, "jobs").await;
    left.sort();
    assert_eq!(left, ["3", "4"], "those that were pushed first were taken first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_goes_on_where_the_attempt_before_it_stopped() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["queue", "create", "jobs", "--backoff", "none"]).await.expect(0);
    stored(&push(&cluster.client(), "jobs", &["long"]).await.expect("it is stored"), 1);
    let leased = cluster.ctl(&["lease", "jobs", "--json"]).await.expect(0).json();
    let receipt = leased["receipt"].as_str().expect("a lease has one");
    assert_eq!(leased["checkpoint"], Value::Null);
    cluster.ctl(&["extend", receipt, "--checkpoint", "row 31"]).await.expect(0);
    cluster.ctl(&["extend", "--checkpoint", "row 32"]).await.expect(2);
    cluster.ctl(&["nack", receipt, "--reason", "stopped"]).await.expect(0);
    cluster.ctl(&["extend", receipt, "--checkpoint", "row 33"]).await.expect(66);
    let script = handler(&cluster, r#"echo "from ${QUEUE_CHECKPOINT:-the beginning}""#);
    let ran = cluster.ctl(&["work", "jobs", "--drain", "--", &script]).await.expect(0);
    assert!(ran.stdout.contains("from row 31\n"), "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_of_a_push_goes_to_the_handler_and_that_of_the_worker_does_not() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cluster = Cluster::start_with(1, &[]).await;
    let file = cluster.dir().join("traces");
    let handler = handler(
        &cluster,
        &format!("echo \"${{TRACEPARENT:-none}} ${{TRACESTATE:-none}}\" >> {}", file.display()),
    );
    let mut push = cluster.queuectl();
    push.args(["push", "jobs", "traced", "--create"]).env("TRACEPARENT", PARENT).env("TRACESTATE", "a=b");
    harness::program::run(&mut push, b"").await.expect(0);
    cluster.ctl(&["push", "jobs", "plain"]).await.expect(0);
    let mut work = cluster.queuectl();
    work.args(["work", "jobs", "--drain", "--", &handler]).env("TRACEPARENT", PARENT.replace('4', "5"));
    harness::program::run(&mut work, b"").await.expect(0);
    assert_eq!(lines_of(&file), [format!("{PARENT} a=b"), "none none".to_owned()]);
}

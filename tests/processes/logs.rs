//! What a node logs: an incident is told by one node alone, signals end nothing, and the file can be rotated.

use std::path::{Path, PathBuf};

use harness::cluster::Cluster;
use harness::{LIMIT, program, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use rustix::process::{Pid, Signal, kill_process};

fn signal(cluster: &Cluster, n: usize, signal: Signal) {
    let pid = i32::try_from(cluster.pid(n)).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, signal).expect("it runs");
}

async fn says(what: &str, log: impl Fn() -> String, words: &[&str]) {
    until(what, LIMIT, async || {
        let log = log();
        if words.iter().all(|word| log.contains(word)) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// The lines of node `n` that tell of a change, each with term and index.
fn changes(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains(" term=") && line.contains(" index="));
    lines.map(str::to_owned).collect()
}

/// A leader that is killed, as its follower tells it; `mutant` is in the follower.
async fn told_by_a_follower(mutant: Option<Mutant>) -> Vec<String> {
    let mut cluster = Cluster::start().await;
    cluster.transfer(0).await;
    let env = mutant.map(|mutant| format!("{VARIABLE}={}", mutant.name()));
    cluster.run_under(1, ["env".to_owned()].into_iter().chain(env).collect());
    cluster.stop(1).await;
    cluster.restart(1).await;
    cluster.all_vote().await;
    // Since it was started again.
    let log =
        |cluster: &Cluster| cluster.log_of(1).rsplit("opened 2 times").next().unwrap_or_default().to_owned();
    says("it follows", || log(&cluster), &["n1 leads"]).await;

    // Two are gone: there is no quorum, then there is one again.
    cluster.kill(2);
    cluster.kill(0);
    says("it is alone", || log(&cluster), &["no leader is known"]).await;
    cluster.restart(0).await;
    cluster.restart(2).await;
    cluster.transfer(1).await;
    says("it leads", || log(&cluster), &["this node is leader", "n2 leads"]).await;
    cluster.transfer(2).await;
    says("it hands over", || log(&cluster), &["leadership is handed over", "n3 leads"]).await;
    cluster.ctl(&["cluster", "remove", "n1", "--yes"]).await.expect(0);
    says("members change", || log(&cluster), &["the members are n2 at"]).await;
    changes(&log(&cluster))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_told_by_one_node_with_terms_and_indexes() {
    let lines = told_by_a_follower(None).await;
    for words in [
        "the members are n1 at",
        "n1 leads",
        "a quorum answers",
        "no quorum answers",
        "no leader is known",
        "this node is leader",
        "leadership is handed over",
        "n3 leads",
        "the members are n2 at",
    ] {
        assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is not in {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_is_lost_without_a_line_is_noticed() {
    let lines = told_by_a_follower(Some(Mutant::QuorumNotTold)).await;
    assert!(!lines.iter().any(|line| line.contains("quorum answers")), "{lines:#?}");
}

/// One node that logs into a file, which is moved away before SIGHUP; what is in the old and in the new one then.
async fn rotated(mutant: Option<Mutant>) -> (Cluster, PathBuf) {
    let dir = tempfile::tempdir().expect("there is a temporary directory").keep();
    let (file, old) = (dir.join("queued.log"), dir.join("queued.log.1"));
    let (path, config) = (file.to_str().expect("it is text"), dir.join("queued.toml"));
    std::fs::write(&config, "[log]\nlevel = \"warn\"\n").expect("it is ours");
    let mut env = vec![("QUEUED_LOG_FILE", path), ("QUEUED_CONFIG", config.to_str().expect("it is text"))];
    env.extend(mutant.map(|mutant| (VARIABLE, mutant.name())));
    let cluster = Cluster::start_with(1, &env).await;
    assert!(!read(&file).contains("a quorum answers"), "that is no warning");
    std::fs::rename(&file, &old).expect("it is there");
    std::fs::write(&config, "[log]\nlevel = \"info\"\n").expect("it is ours");
    signal(&cluster, 0, Signal::HUP);
    until("SIGHUP is heard", LIMIT, async || {
        let all = read(&file) + &read(&old);
        if all.contains("log.level is info") { Ok(()) } else { Err(all) }
    })
    .await;
    (cluster, file)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reload_the_log_and_tell_the_state_and_end_no_node() {
    let (mut cluster, file) = rotated(None).await;
    signal(&cluster, 0, Signal::USR1);
    says("it tells its state", || read(&file), &["log.level is info", "state: n1 is Leader in term"]).await;
    cluster.ctl(&["push", "--create", "q", "x"]).await.expect(0);

    // What cannot be read changes nothing and ends nothing.
    let config = file.with_file_name("queued.toml");
    std::fs::write(&config, "[log]\nlevel = \"trace\"\n").expect("it is ours");
    signal(&cluster, 0, Signal::HUP);
    says("it says why", || read(&file), &["SIGHUP: nothing was changed", "debug says most"]).await;
    std::fs::write(&config, "[log]\nlevel = \"debug\"\n").expect("it is ours");
    signal(&cluster, 0, Signal::HUP);
    says("it says more", || read(&file), &["log.level is debug", "DEBUG"]).await;
    cluster.ctl(&["pop", "q"]).await.expect(0);
    cluster.stop(0).await;
    assert!(read(&file).contains("stopped"));
    std::fs::remove_dir_all(file.parent().expect("a directory")).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_file_that_is_not_opened_anew_is_noticed() {
    let (_cluster, file) = rotated(Some(Mutant::LogFileNotReopened)).await;
    assert!(!file.exists());
    std::fs::remove_dir_all(file.parent().expect("a directory")).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_is_refused() {
    let ran = program::run(program::queued().args(["config", "check", "--log-level", "trace"]), b"").await;
    assert_eq!(ran.code, 2, "{ran}");
    ran.says("debug says most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_level_counts_for_a_while_and_stands_in_the_status_of_the_cluster() {
    let cluster = Cluster::start_with(1, &[("QUEUED_LOG_FORMAT", "json")]).await;
    let refused = async || {
        cluster.ctl(&["push", "nowhere", "x"]).await.expect(66);
        let log = cluster.log_of(0);
        let lines = log.lines().filter(|line| line.contains("a request was refused")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert!(refused().await.is_empty(), "that is told at debug alone");
    cluster.ctl(&["cluster", "log", "n1", "trace"]).await.expect(2).says("trace");
    cluster.ctl(&["cluster", "log", "n1", "debug", "--for", "2d"]).await.expect(2).says("1d");
    cluster.ctl(&["cluster", "log", "n9", "debug"]).await.expect(66);
    let chosen =
        cluster.ctl(&["cluster", "log", "n1", "debug", "--for", "8s", "--json"]).await.expect(0).json();
    assert_eq!((&chosen["level"], &chosen["settings"]), (&"debug".into(), &"info".into()));
    let status = cluster.ctl(&["cluster", "status"]).await.expect(0);
    assert!(status.stdout.contains("n1 logs debug for another"), "{status}");
    let lines = refused().await;
    let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("it is JSON");
    for (field, value) in
        [("level", "DEBUG"), ("request", "Push"), ("queue", "nowhere"), ("code", "queue_not_found")]
    {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("queuectl")), "{line}");
    until("it goes back", LIMIT, async || {
        let status = cluster.ctl(&["cluster", "status", "--json"]).await.expect(0).json();
        let log = &status["nodes"][0]["log"];
        if log["level"] == "info" && log["left_ms"].is_null() { Ok(()) } else { Err(log.to_string()) }
    })
    .await;
    let before = refused().await.len();
    assert_eq!(refused().await.len(), before);
    cluster.ctl(&["cluster", "log", "n1", "off"]).await.expect(0);
    let back = cluster.ctl(&["cluster", "log", "n1", "settings"]).await.expect(0);
    assert!(back.stdout.contains("n1 logs info"), "{back}");
}

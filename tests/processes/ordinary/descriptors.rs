//! File descriptors: clients never get those that the log, the snapshots and the peers need, and a node that has none
//! left waits for one.

use std::time::Duration;

use harness::bodies::{push, stored};
use harness::cluster::{Cluster, Place};
use harness::program::run;
use harness::raw::{connect, random_session};
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::client::{Client, ClientConfig, Connection, TcpDial};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::handshake::HandshakeError;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const BODY_SIZE: usize = 8 << 10;
/// Bodies of one push: more than half a segment.
const BATCH: usize = 20;

/// Small segments and many snapshots.
const SETTINGS: [(&str, &str); 3] = [
    ("QUEUED_STORAGE_SEGMENT_SIZE", "256KiB"),
    ("QUEUED_RAFT_SNAPSHOT_EVERY", "10"),
    ("QUEUED_RAFT_KEEP_BYTES", "0B"),
];

/// Bodies of `count` messages.
fn bodies(count: usize) -> Vec<Vec<u8>> {
    vec![vec![b'd'; BODY_SIZE]; count]
}

/// Words that start a program with this limit, soft and hard.
fn limited(limit: u32) -> Vec<String> {
    ["sh", "-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"].map(str::to_owned).into()
}

/// A cluster whose nodes have `limit` descriptors each, perhaps with a planted bug.
async fn cluster_with(count: usize, limit: u32, mutant: Option<&str>) -> Cluster {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let place = |number| {
        let data = dir.path().join(format!("n{number}"));
        Place { under: limited(limit), ..Place::local(data) }
    };
    let places = (1..=count).map(place).collect();
    let env: Vec<_> = SETTINGS.into_iter().chain(mutant.map(|mutant| ("QUEUED_MUTANT", mutant))).collect();
    Cluster::start_in(dir, places, &env).await
}

/// A client that does not wait for long.
fn impatient(cluster: &Cluster) -> Client {
    let servers = (0..cluster.count()).map(|n| cluster.address(n).to_owned()).collect();
    let timeout = Duration::from_secs(5);
    let config = ClientConfig { servers, timeout, follow: true, seed: random_session().0 };
    Client::new(config, std::sync::Arc::new(TcpDial::default()))
}

/// Connects idle clients to a node until it takes no more, `max` at most.
async fn fill(address: &str, max: usize) -> Vec<Connection> {
    let mut idle = Vec::new();
    while idle.len() < max {
        match tokio::time::timeout(Duration::from_secs(5), connect(address, random_session())).await {
            Ok(Ok(connection)) => idle.push(connection),
            Ok(Err(HandshakeError::Refused(error))) if error.code == ErrorCode::Overloaded => break,
            // A node that has not one descriptor left says nothing at all.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    idle
}

/// Idle clients on every node, as many as it takes; meanwhile the log goes on.
async fn idle_clients_fill_every_node(limit: u32, mutant: Option<&str>) -> Result<Cluster, String> {
    let cluster = cluster_with(3, limit, mutant).await;
    let good = impatient(&cluster);
    stored(&push(&good, "q", &bodies(1)).await.expect("nobody else is there"), 1);
    let mut idle = Vec::new();
    for n in 0..cluster.count() {
        idle.push(fill(cluster.address(n), 2 * limit as usize).await);
    }
    for n in 0..cluster.count() {
        let ran = run(&mut cluster.queued("healthcheck", n), b"").await;
        if ran.code != 0 {
            return Err(format!("{}: {ran}", cluster.name(n)));
        }
    }
    for _ in 0..choose(30, 300) {
        push(&good, "q", &bodies(BATCH)).await.map_err(|error| error.to_string())?;
    }
    for n in 0..cluster.count() {
        let log = cluster.log_of(n);
        if log.contains("Too many open files") {
            return Err(log);
        }
    }
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_leave_the_log_and_the_peers_their_descriptors() {
    let mut cluster = idle_clients_fill_every_node(256, None).await.unwrap_or_else(|why| panic!("{why}"));
    for n in 0..cluster.count() {
        let log = cluster.log_of(n);
        assert!(log.contains("112 clients can be connected at a time, not 10000"), "{log}");
    }
    until("the idle ones are gone and clients get in", LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "status"]).await;
        let warned = ran.stdout.matches("takes 112 clients, not 10000").count();
        if ran.code == 0 && warned == 3 { Ok(()) } else { Err(ran) }
    })
    .await;
    let snapshots = cluster.leader().await.1.snapshot_index;
    assert!(snapshots > 0, "a snapshot was taken meanwhile");
    for n in 0..cluster.count() {
        cluster.stop(n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_may_take_all_descriptors_are_noticed() {
    let held = idle_clients_fill_every_node(256, Some("clients-take-all-descriptors")).await;
    assert!(held.is_err(), "with the planted bug all went well");
}

/// Descriptors of a node that runs alone.
const ALONE: u32 = 1_024;

/// Sets the soft limit of a running node that has [`ALONE`] as its hard one.
fn set_limit(pid: u32, limit: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let limits = Rlimit { current: Some(limit.into()), maximum: Some(ALONE.into()) };
    prlimit(pid, Resource::Nofile, limits).expect("the process is ours");
}

/// Takes all descriptors of a running node away, and gives them back. Gives what pushes were refused with meanwhile.
async fn out_of_descriptors(mutant: Option<&str>) -> Result<String, String> {
    let mut cluster = cluster_with(1, ALONE, mutant).await;
    let good = impatient(&cluster);
    stored(&push(&good, "q", &bodies(1)).await.expect("nobody else is there"), 1);
    set_limit(cluster.pid(0), 8);
    // The push for which the next segment cannot be opened waits with the log; those after it are refused.
    let mut refused = "nothing was refused".to_owned();
    let mut errors = 0;
    while errors < 4 && !refused.contains("out of file descriptors") {
        if let Err(error) = push(&good, "q", &bodies(BATCH)).await {
            refused = error.to_string();
            errors += 1;
        }
        if let Some(status) = cluster.has_ended(0) {
            return Err(format!("the node ended with {status}"));
        }
    }
    if !refused.contains("out of file descriptors") {
        return Err(refused);
    }
    set_limit(cluster.pid(0), ALONE);
    until("pushes go on", LIMIT, async || push(&good, "q", &bodies(BATCH)).await.map(drop)).await;
    if let Some(status) = cluster.has_ended(0) {
        return Err(format!("the node ended with {status}"));
    }
    cluster.stop(0).await;
    Ok(refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_descriptors_waits_for_some_and_does_not_blame_the_disk() {
    let refused = out_of_descriptors(None).await.unwrap_or_else(|why| panic!("{why}"));
    assert!(!refused.contains("disk"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lack_of_descriptors_told_as_a_full_disk_is_noticed() {
    let held = out_of_descriptors(Some("descriptors-told-as-disk")).await;
    let why = held.expect_err("with the planted bug all went well");
    assert!(why.contains("disk") || why.contains("ended"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dev_starts_has_the_soft_limit_that_dev_was_started_with() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let under = ["sh", "-c", "ulimit -Sn 200; exec \"$@\"", "sh"].map(str::to_owned);
    let mut dev = harness::program::queued_under(&under);
    dev.current_dir(dir.path()).args([
        "dev",
        "--nodes",
        "1",
        "--any-port",
        "-q",
        "--",
        "sh",
        "-c",
        "ulimit -n",
    ]);
    let ran = run(&mut dev, b"").await.expect(0);
    assert_eq!(ran.stdout.trim(), "200");
}

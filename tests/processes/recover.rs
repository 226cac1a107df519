//! The majority is lost for good: a survivor becomes a cluster of its own, as the README types it, and gives nothing that
//! the lost nodes gave.

use std::path::Path;

use harness::cluster::Cluster;
use harness::machines::{Machines, readme_commands};
use harness::process::{Daemon, show_log};
use harness::program::{Ran, run};
use harness::raw::{self, random_session};
use harness::{LIMIT, program, until};
use queue_broker::clock::{Clock, SystemClock};
use queue_broker::mutants::{Mutant, VARIABLE};
use queue_protocol::error::ErrorCode;
use queue_protocol::names::SessionId;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{CreateQueue, Request, Stamp};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Role, StatusView};

const NAMES: [&str; 3] = ["a", "b", "c"];
const SETTINGS: &str =
    "export QUEUED_STORAGE_SEGMENT_SIZE=1MiB QUEUED_LOG_FORMAT=text QUEUED_SHUTDOWN_GRACE=1s";

/// `queued store …` on a data directory.
async fn store(dir: &Path, words: &[&str]) -> Ran {
    let (command, flags) = words.split_first().expect("a command");
    run(program::queued().args(["store", command]).arg(dir).args(flags), b"").await
}

const RECOVER: [&str; 3] = ["recover", "--as-single-node", "--i-accept-data-loss"];

fn unix_s() -> u64 {
    SystemClock.wall_ms() / 1_000
}

/// The token of the first message of queue `q`, leased from node `n` alone.
async fn lease(cluster: &Cluster, n: usize) -> u64 {
    let mut queuectl = cluster.queuectl();
    queuectl.args(["--servers", cluster.address(n), "lease", "q", "--for", "1s", "--wait", "20s", "--json"]);
    let leased = run(&mut queuectl, b"").await.expect(0);
    let document: serde_json::Value =
        serde_json::from_str(leased.stdout.lines().next().unwrap_or_default()).expect("a document");
    let receipt = document["receipt"].as_str().unwrap_or_default();
    let token = receipt.rsplit('/').next().and_then(|token| token.parse().ok());
    token.unwrap_or_else(|| panic!("{document}"))
}

/// A request that is executed once under its stamp.
fn create(name: &str) -> Request {
    let queue = harness::bodies::queue(name);
    Request::CreateQueue(Box::new(CreateQueue {
        queue,
        settings: QueueSettings::default(),
        if_not_exists: false,
    }))
}

/// Three nodes, of which the third has missed what the others did last.
struct Lost {
    cluster: Cluster,
    /// The last token that was given.
    token: u64,
    /// A session of the cluster that executed [`create`] with number 1 and this stamp.
    session: SessionId,
    stamp: Stamp,
}

async fn lost_majority() -> Lost {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", "q"]).await.expect(0);
    cluster.ctl(&["push", "q", "kept"]).await.expect(0);
    cluster.transfer(0).await;
    cluster.ctl(&["cluster", "wait", "--for", "applied"]).await.expect(0);
    cluster.kill(2);
    let mut token = 0;
    for _ in 0..4 {
        cluster.ctl(&["push", "q", "lost"]).await.expect(0);
        token = lease(&cluster, 0).await;
    }
    let session = random_session();
    let connection = raw::connect(cluster.address(0), session).await.expect("it leads");
    let stamp = raw::stamp(&connection, 1, 1);
    raw::call(&connection, Some(stamp), create("old")).await.expect("it is made");
    Lost { cluster, token, session, stamp }
}

/// What the survivor says to a client that knows nothing of the lost cluster.
async fn status_anew(cluster: &Cluster) -> Result<StatusView, String> {
    let answered = cluster.client().ask_node(cluster.address(2), ask::Status).await;
    answered.map(|answered| *answered.answer).map_err(|error| error.to_string())
}

/// Starts the recovered node and waits until it leads.
async fn serve_recovered(cluster: &mut Cluster) {
    cluster.start_node(2);
    until("the survivor leads", LIMIT, async || {
        if let Some(status) = cluster.has_ended(2) {
            panic!("it ended with {status}");
        }
        let status = status_anew(cluster).await?;
        if status.role == Role::Leader { Ok(()) } else { Err(format!("{:?}", status.role)) }
    })
    .await;
}

/// What a survivor goes on to do, recovered with this planted bug: the tokens of the lost cluster and of the new one, and
/// how it answers a request that the lost one has executed.
async fn goes_on(mutant: Option<Mutant>) -> (u64, u64, Result<(), ErrorCode>) {
    let Lost { mut cluster, token: lost, session, stamp } = lost_majority().await;
    // Somebody still runs.
    let refused = store(cluster.data_dir(2), &RECOVER).await.expect(66);
    refused.says("still_running").says("Nothing was changed");
    cluster.kill(0);
    cluster.kill(1);
    store(cluster.data_dir(2), &["recover", "--as-single-node"]).await.expect(2);
    let shown = store(cluster.data_dir(2), &["verify", "--last"]).await.expect(0);
    assert!(shown.stdout.starts_with("n3  cluster ") && shown.stdout.contains("last term "), "{shown}");

    let mut recover = program::queued();
    recover.args(["store", "recover"]).arg(cluster.data_dir(2)).args(&RECOVER[1..]);
    recover.envs(mutant.map(|mutant| (VARIABLE, mutant.name())));
    let recovered = run(&mut recover, b"").await.expect(0);
    assert!(recovered.stdout.contains("number 4, the only one of the new cluster"), "{recovered}");
    assert!(recovered.stdout.contains(&format!("n1 at {}", cluster.address(0))), "{recovered}");

    serve_recovered(&mut cluster).await;
    let token = lease(&cluster, 2).await;
    let connection = raw::connect(cluster.address(2), session).await.expect("it leads");
    let answer = raw::call(&connection, Some(stamp), create("old")).await;
    let answer = match answer.expect("it answers").0.result {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code),
    };
    // What is left of the old cluster finds nobody.
    cluster.start_node(0);
    assert_eq!(status_anew(&cluster).await.expect("it serves").members.len(), 1);
    (lost, token, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_and_gives_no_token_twice_and_executes_nothing_of_the_lost_cluster() {
    let before_s = unix_s();
    let (lost, token, answer) = goes_on(None).await;
    assert!(token > lost && token >= before_s << 21 && token < 1 << 53, "{lost}, then {token}");
    assert_eq!(answer, Err(ErrorCode::SessionExpired));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_gives_tokens_again_or_executes_again_is_noticed() {
    let (lost, token, _) = goes_on(Some(Mutant::RecoveredTokensAgain)).await;
    assert!(token <= lost, "{lost}, then {token}");
    let (.., answer) = goes_on(Some(Mutant::RecoveredSessionsOpen)).await;
    assert_ne!(answer, Err(ErrorCode::SessionExpired));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_directory_and_a_recovery_that_was_cut_short_are_refused() {
    let Lost { mut cluster, .. } = lost_majority().await;
    cluster.kill(0);
    cluster.kill(1);
    let dir = cluster.data_dir(2).to_owned();

    // A byte in the middle of the log.
    let segment =
        std::fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    let at = whole.iter().skip(4_096).position(|byte| *byte != 0).expect("it holds records");
    flipped[4_096 + at] ^= 1;
    std::fs::write(&segment, &flipped).unwrap();
    store(&dir, &RECOVER).await.expect(65).says("Nothing was changed");
    std::fs::write(&segment, &whole).unwrap();

    // Recovered until it has written its mark, and cut short then.
    std::fs::write(dir.join("RECOVERING"), b"").unwrap();
    cluster.start_node(2);
    assert_eq!(cluster.ended(2).await.code(), Some(66));
    assert!(cluster.log_of(2).contains("repeat queued store recover"), "{}", cluster.log_of(2));
    store(&dir, &RECOVER).await.expect(0);
    serve_recovered(&mut cluster).await;
    lease(&cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lost_majority_of_the_readme() {
    let commands = readme_commands("### A majority is lost for good");
    let [verify, recover, serve, wipe, start] =
        <[String; 5]>::try_from(commands).expect("the README has these five");
    let [secret, first, _] =
        <[String; 3]>::try_from(readme_commands("### Start a cluster")).expect("the README has these three");
    let machines = Machines::new(&NAMES);
    machines.run("a", &secret).await.expect(0);
    NAMES[1..].iter().for_each(|name| machines.copy("queued.secret", "a", name));
    let run = |name: &str, line: &str| {
        let mut command = machines.command(name, &format!("{SETTINGS}; exec {line}"));
        Daemon::start(&mut command, &machines.log(name))
    };
    let _logs = shown_on_failure(&machines);
    let mut running: Vec<Daemon> = NAMES.iter().map(|name| run(name, &first)).collect();
    let ctl = "queuectl --timeout 30s --servers a:7410,b:7410,c:7410";
    machines.run("b", &format!("{ctl} cluster wait --for members=3 --timeout 60s")).await.expect(0);
    until("all vote", LIMIT, async || {
        let status = machines.run("b", &format!("{ctl} cluster members --json")).await;
        let all = status.code == 0
            && status.json()["members"].as_array().is_some_and(|members| {
                members.len() == 3 && members.iter().all(|member| member["voter"] == true)
            });
        if all { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    machines.run("b", &format!("{ctl} push --create q kept")).await.expect(0);
    machines.run("b", &format!("{ctl} cluster wait --for applied")).await.expect(0);
    running.drain(..).for_each(Daemon::kill);

    let shown = machines.run("c", &verify).await.expect(0);
    assert!(shown.stdout.contains("last term"), "{shown}");
    let recovered = machines.run("c", &recover).await.expect(0);
    assert!(recovered.stdout.contains("the only one of the new cluster"), "{recovered}");
    running.push(run("c", &serve));
    for name in ["a", "b"] {
        std::fs::copy(machines.dir("c").join("data/SECRET"), machines.dir(name).join("queued.secret"))
            .unwrap();
        machines.run(name, &wipe).await.expect(0);
        running.push(run(name, &start));
    }
    machines.run("b", &format!("{ctl} cluster wait --for members=3 --timeout 60s")).await.expect(0);
    let popped = machines.run("a", &format!("{ctl} pop q")).await.expect(0);
    assert_eq!(popped.stdout, "kept\n");
}

/// Shows the logs of the machines if the test fails.
fn shown_on_failure(machines: &Machines) -> impl Drop + '_ {
    struct Shown<'a>(&'a Machines);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                NAMES.iter().for_each(|name| show_log(name, &self.0.log(name)));
            }
        }
    }
    Shown(machines)
}

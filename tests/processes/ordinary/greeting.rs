//! Connections that never say hello: they keep nobody out, clients and peers alike, and they do not fill the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::bodies::{push, stored};
use harness::cluster::Cluster;
use harness::program::run;
use harness::raw::{connect, random_session};
use harness::settings::choose;
use harness::{LIMIT, until};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How often one that was closed comes again.
const AGAIN: Duration = Duration::from_millis(300);
/// Bytes that the log of a node may grow by, however many connections come.
const LOG_GROWTH_MAX: usize = 100 << 10;
/// Connections in all after which the log is looked at: a line for each would be more than that.
const COME_MIN: usize = 2_000;

/// Connections to one node that say nothing. They come again when they are closed, until this is dropped.
struct Silent {
    come: Arc<AtomicUsize>,
    _all: JoinSet<()>,
}

impl Silent {
    fn start(address: &str, count: usize) -> Self {
        let come = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for _ in 0..count {
            let (address, come) = (address.to_owned(), Arc::clone(&come));
            all.spawn(async move {
                let mut again = interval(AGAIN);
                again.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    again.tick().await;
                    let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                    come.fetch_add(1, Ordering::Relaxed);
                    let _closed = stream.read(&mut [0]).await;
                }
            });
        }
        Self { come, _all: all }
    }

    async fn have_come(&self, count: usize) {
        until("so many have come", LIMIT, async || {
            let come = self.come.load(Ordering::Relaxed);
            if come >= count { Ok(()) } else { Err(format!("{come} of {count}")) }
        })
        .await;
    }
}

/// One node among `count` silent connections, perhaps with a planted bug.
async fn node_among(count: usize, mutant: Option<&str>) -> Result<(), String> {
    let env: Vec<_> = mutant.map(|mutant| ("QUEUED_MUTANT", mutant)).into_iter().collect();
    let cluster = Cluster::start_with(1, &env).await;
    let before = cluster.log_of(0).len();
    let silent = Silent::start(cluster.address(0), count);
    silent.have_come(count).await;
    for _ in 0..20 {
        let connecting = connect(cluster.address(0), random_session());
        let connected = tokio::time::timeout(Duration::from_secs(5), connecting).await;
        connected.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
    }
    silent.have_come(COME_MIN).await;
    let log = cluster.log_of(0);
    if log.len() - before > LOG_GROWTH_MAX {
        return Err(format!("the log grew by {} bytes", log.len() - before));
    }
    if !log[before..].contains("127.0.0.1") {
        return Err("the log does not say where they come from".to_owned());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_no_client_out_and_do_not_fill_the_log() {
    node_among(choose(300, 1_000), None).await.unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_that_keep_their_places_are_noticed() {
    let held = node_among(300, Some("silent-greeting-stays")).await;
    assert!(held.is_err(), "with the planted bug all went well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_for_each_connection_is_noticed() {
    let held = node_among(300, Some("line-for-each-connection")).await;
    assert!(held.is_err_and(|why| why.contains("the log grew")), "with the planted bug all went well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_get_in_among_silent_connections() {
    let count = choose(300, 1_000);
    let mut cluster = Cluster::start().await;
    let all: Vec<Silent> = (0..cluster.count()).map(|n| Silent::start(cluster.address(n), count)).collect();
    for silent in &all {
        silent.have_come(count).await;
    }
    let (leader, _) = cluster.leader().await;
    let follower = (leader + 1) % cluster.count();
    cluster.kill(follower);
    stored(&push(&cluster.client(), "q", &["one"]).await.expect("two of three are there"), 1);
    cluster.restart(follower).await;
    cluster.all_vote().await;
    until("it has caught up", LIMIT, async || {
        let (_, leading) = cluster.leader().await;
        let status = cluster.status(follower).await?;
        if status.applied_index >= leading.commit_index { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    for n in 0..cluster.count() {
        run(&mut cluster.queued("healthcheck", n), b"").await.expect(0);
    }
}

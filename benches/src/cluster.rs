//! Three nodes in this process, each on a thread of its own with its own disk directory, over loopback TCP.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use queue_broker::log::LogOptions;
use queue_broker::node::{self, NodeOptions, Way, secret};
use queue_broker::raft::{self, RaftOptions};
use queue_broker::server::{QueueOptions, ServerOptions};
use queue_protocol::client::Client;
use queue_protocol::wire::hello::Secret;
use queue_protocol::wire::requests::ask;
use tokio::sync::oneshot;

use crate::machine::outside;

const NODES: u64 = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster that runs until it is dropped. Nothing is handed over or drained then.
pub struct Cluster {
    addresses: Vec<String>,
    nodes: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Makes a cluster under `place` and waits until all nodes vote; within a runtime.
    ///
    /// # Errors
    /// A node does not start or the cluster is not ready within 30 s.
    pub async fn start(place: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(place)?;
        // Held together, so that they differ.
        let ports: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses = ports.iter().map(|port| Ok(port.local_addr()?.to_string()));
        let addresses: Vec<String> = addresses.collect::<anyhow::Result<_>>()?;
        drop(ports);
        let mut cluster = Self { addresses, nodes: Vec::new(), _dir: dir };
        let mut first = None;
        for number in 1..=NODES {
            let data_dir = cluster._dir.path().join(format!("n{number}"));
            let (address, join) = (cluster.addresses[cluster.nodes.len()].clone(), first.clone());
            let (up, started) = oneshot::channel();
            let (stop, stopped) = oneshot::channel();
            let run = run(number, options(data_dir.clone(), address.clone()), join, up, stopped);
            let thread = std::thread::Builder::new()
                .name(format!("n{number}"))
                .spawn(move || on_this_thread(number, run))?;
            cluster.nodes.push((stop, thread));
            let secret = started.await.with_context(|| format!("n{number} did not start"))?;
            first.get_or_insert((address, secret));
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// A client of this cluster, with a session of its own; within a runtime.
    pub fn client(&self) -> Client {
        crate::client(&self.addresses, Duration::from_secs(20))
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = self.client();
        let until = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            if let Ok(status) = client.ask_node(&self.addresses[0], ask::Status).await
                && status.answer.leader.is_some()
                && status.answer.members.iter().filter(|member| member.voter).count() == self.addresses.len()
            {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                bail!("no cluster of {NODES} voters within {READY_TIMEOUT:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (stops, threads): (Vec<_>, Vec<_>) = self.nodes.drain(..).unzip();
        drop(stops);
        for thread in threads {
            // A node that ended early has said why.
            let _ = thread.join();
        }
    }
}

fn options(data_dir: PathBuf, listen: String) -> NodeOptions {
    NodeOptions {
        data_dir,
        listen,
        advertise: None,
        name: None,
        raft: RaftOptions::default(),
        server: ServerOptions {
            queues: QueueOptions { auto_create: true, ..QueueOptions::default() },
            ..ServerOptions::default()
        },
        log: LogOptions::new(0),
        grace: Duration::from_secs(1),
        descriptors: None,
    }
}

fn on_this_thread(seed: u64, run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has descriptors left").block_on(raft::seeded(seed, run));
}

/// Formats and runs one node until `stopped`, telling the cluster's secret when it is up.
async fn run(
    number: u64,
    options: NodeOptions,
    join: Option<(String, Secret)>,
    up: oneshot::Sender<Secret>,
    stopped: oneshot::Receiver<()>,
) {
    let outside = outside(tokio::runtime::Handle::current());
    let formatted = match join {
        None => node::init(&outside, &options).await,
        Some((at, secret)) => node::join(&outside, &options, Way::through(at), secret).await,
    };
    formatted.unwrap_or_else(|error| panic!("n{number} was not formatted: {error}"));
    let secret = secret::read(&*outside.disk, &options.data_dir).expect("a formatted node has the secret");
    let node = node::start(outside, options).await;
    let node = node.unwrap_or_else(|error| panic!("n{number} did not start: {error}"));
    if up.send(secret).is_ok() {
        // The sender is dropped, nothing is sent.
        let _ = stopped.await;
    }
    node.stop().await;
}

//! A cluster of simulated nodes and one client, driven step by step from outside of simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use queue_broker::fs::Disk;
use queue_broker::fs::sim::{Latency, SimDisk, SimOptions, Unit};
use queue_broker::log::LogOptions;
use queue_broker::node::{self, NodeOptions, secret};
use queue_broker::raft::{RaftOptions, seeded};
use queue_broker::server::{QueueOptions, ServerOptions};
use queue_protocol::bounded::Bounded;
use queue_protocol::client::{Client, ClientConfig};
use queue_protocol::content::{self, ContentSpec};
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::request::{Due, Lease, Push, PushMessage, Request};
use queue_protocol::response::Answer;

use crate::outside::{SimNet, outside};

const PORT: u16 = 7410;
/// Simulated time in which a task of the client must be done.
const PATIENCE: Duration = Duration::from_secs(300);

/// `SIMULATION_SEED`, or the seed that every build runs.
pub(crate) fn seed() -> u64 {
    std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

/// What a run has met, so that no run is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    /// Terms in which something was answered.
    pub(crate) terms: usize,
    /// Files that a crash changed: something in them was written and not synced.
    pub(crate) torn_files: usize,
}

/// What client and driver share.
#[derive(Default)]
struct Shared {
    todo: Mutex<Option<Todo>>,
    done: AtomicBool,
    acknowledged: Mutex<BTreeSet<u64>>,
    popped: Mutex<Vec<u64>>,
    leader: Mutex<Option<String>>,
    terms: Mutex<BTreeSet<u64>>,
    failures: Mutex<Vec<String>>,
}

#[derive(Clone, Copy)]
enum Todo {
    Push { first: u64, count: u64 },
    PopAll,
}

struct Host {
    disk: SimDisk,
    offset_ms: Arc<AtomicI64>,
}

pub(crate) struct Cluster {
    sim: turmoil::Sim<'static>,
    seed: u64,
    hosts: BTreeMap<String, Host>,
    shared: Arc<Shared>,
    next: u64,
    torn_files: usize,
}

fn options(name: &str) -> NodeOptions {
    NodeOptions {
        data_dir: PathBuf::from("data"),
        listen: format!("0.0.0.0:{PORT}"),
        advertise: Some(format!("{name}:{PORT}")),
        name: None,
        raft: RaftOptions { snapshot_entries: 100, keep_entries: 20, ..RaftOptions::default() },
        server: ServerOptions {
            queues: QueueOptions { auto_create: true, ..QueueOptions::default() },
            ..ServerOptions::default()
        },
        log: LogOptions { segment_size: 64 << 10, ..LogOptions::new(0) },
        grace: Duration::from_secs(1),
    }
}

/// One boot of one node: formats and joins if it has to, then serves for ever.
async fn live(
    name: String,
    disk: SimDisk,
    first: SimDisk,
    offset_ms: Arc<AtomicI64>,
    boot: u64,
) -> turmoil::Result {
    let ended = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&ended);
    let end = Arc::new(move |fatal: queue_broker::outside::Fatal| {
        *tell.lock().unwrap() = Some(fatal.what);
    });
    let outside = outside(disk.boot(), offset_ms, boot, end);
    let options = options(&name);
    let formatted = outside.disk.exists(Path::new("data/IDENTITY"))?;
    if !formatted {
        if name == "n1" {
            node::init(&outside, &options).await?;
        } else {
            while !first.exists(Path::new("data/IDENTITY"))? {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let secret = secret::read(&first, Path::new("data"))?;
            node::join(&outside, &options, &format!("n1:{PORT}"), secret).await?;
        }
    }
    let _node = node::start(outside, options).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(what) = ended.lock().unwrap().take() {
            return Err(what.into());
        }
    }
}

impl Cluster {
    /// A finer tick costs more for each simulated second.
    pub(crate) fn new(seed: u64, tick: Duration) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .tick_duration(tick)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(Duration::from_millis(4))
            .tcp_capacity(4_096)
            .simulation_duration(Duration::from_secs(20_000));
        Self {
            sim: builder.build(),
            seed,
            hosts: BTreeMap::new(),
            shared: Arc::default(),
            next: 0,
            torn_files: 0,
        }
    }

    /// Formats and starts `count` nodes, and the client.
    pub(crate) fn start(&mut self, count: u64) {
        let boots = Arc::new(AtomicU64::new(self.seed << 16));
        for number in 1..=count {
            let latency = Latency {
                min: Duration::from_micros(100),
                max: Duration::from_millis(8),
                ..Latency::default()
            };
            let seed = self.seed.wrapping_mul(31).wrapping_add(number);
            let disk = SimDisk::new(SimOptions { seed, unit: Unit::Page, latency, ..SimOptions::default() });
            self.hosts.insert(format!("n{number}"), Host { disk, offset_ms: Arc::default() });
        }
        let first = self.hosts["n1"].disk.clone();
        for (name, host) in &self.hosts {
            let (name, disk, first) = (name.clone(), host.disk.clone(), first.clone());
            let (offset_ms, boots) = (Arc::clone(&host.offset_ms), Arc::clone(&boots));
            self.sim.host(name.clone(), move || {
                let boot = boots.fetch_add(1 << 8, Ordering::Relaxed);
                seeded(boot, live(name.clone(), disk.clone(), first.clone(), Arc::clone(&offset_ms), boot))
            });
        }
        let servers = self.hosts.keys().map(|name| format!("{name}:{PORT}")).collect();
        let shared = Arc::clone(&self.shared);
        let session = SessionId(u128::from(self.seed) + 1);
        self.sim.client("client", async move {
            let config = ClientConfig { servers, timeout: Duration::from_secs(60), follow: true, session };
            let client = Client::new(config, Arc::new(SimNet));
            loop {
                let todo = shared.todo.lock().unwrap().take();
                match todo {
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                    Some(Todo::Push { first, count }) => push(&client, &shared, first, count).await,
                    Some(Todo::PopAll) => pop_all(&client, &shared).await,
                }
                if todo.is_some() {
                    shared.done.store(true, Ordering::Relaxed);
                }
            }
        });
    }

    fn step(&mut self) {
        self.sim.step().unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
    }

    fn run(&mut self, todo: Todo) {
        self.shared.done.store(false, Ordering::Relaxed);
        *self.shared.todo.lock().unwrap() = Some(todo);
        let until = self.sim.elapsed() + PATIENCE;
        while !self.shared.done.load(Ordering::Relaxed) {
            assert!(self.sim.elapsed() < until, "seed {}: the client did not get done", self.seed);
            self.step();
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        assert!(failures.is_empty(), "seed {}: {failures:?}", self.seed);
    }

    /// The client pushes so many messages and waits for every answer.
    pub(crate) fn push(&mut self, count: u64) {
        let first = self.next;
        self.next += count;
        self.run(Todo::Push { first, count });
    }

    /// Cuts the power of the node that answered last, and gives its name.
    pub(crate) fn crash_leader(&mut self) -> String {
        let leader = self.shared.leader.lock().unwrap().clone().expect("somebody answered the pushes");
        self.sim.crash(leader.as_str());
        let host = &self.hosts[&leader];
        let contents =
            || host.disk.files().into_iter().map(|path| host.disk.bytes(&path).ok()).collect::<Vec<_>>();
        let before = contents();
        host.disk.crash(self.seed);
        self.torn_files += before.iter().zip(contents()).filter(|(before, after)| **before != *after).count();
        leader
    }

    /// Starts a node again, on what its disk still has.
    pub(crate) fn bounce(&mut self, name: &str) {
        self.sim.bounce(name);
    }

    /// Nobody asks for anything.
    pub(crate) fn idle(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Moves the clocks of all nodes.
    pub(crate) fn jump_clocks(&mut self, by_ms: i64) {
        for host in self.hosts.values() {
            host.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// Takes everything out and compares: every acknowledged message, once.
    pub(crate) fn pop_all(&mut self) {
        self.run(Todo::PopAll);
        let acknowledged = self.shared.acknowledged.lock().unwrap();
        let mut popped = self.shared.popped.lock().unwrap().clone();
        popped.sort_unstable();
        let expected: Vec<u64> = acknowledged.iter().copied().collect();
        assert_eq!(popped, expected, "seed {}: not every acknowledged message came out once", self.seed);
    }

    pub(crate) fn covered(&self) -> Covered {
        Covered { terms: self.shared.terms.lock().unwrap().len(), torn_files: self.torn_files }
    }
}

fn queue() -> QueueName {
    "q".parse().expect("a valid name")
}

async fn push(client: &Client, shared: &Shared, first: u64, count: u64) {
    for number in first..first + count {
        let content =
            content::encode(&Bounded::default(), number.to_string().as_bytes()).expect("no headers");
        let message = PushMessage { content: ContentSpec::of(&content), priority: 4, due: Due::Now };
        let messages = Bounded::new(vec![message]).expect("one");
        let request = Request::Push(Push { queue: queue(), create: true, messages });
        match client.call(request, vec![content]).await {
            Ok(answered) => {
                shared.acknowledged.lock().unwrap().insert(number);
                if let Some(leader) = answered.leader {
                    *shared.leader.lock().unwrap() = Some(leader.name.to_string());
                    shared.terms.lock().unwrap().insert(leader.term);
                }
            }
            Err(error) => shared.failures.lock().unwrap().push(format!("push {number}: {error}")),
        }
    }
}

async fn pop_all(client: &Client, shared: &Shared) {
    loop {
        let queues = Bounded::new(vec![queue()]).expect("one");
        let lease = Lease { queues, max_messages: 10, max_bytes: 1 << 20, lease_ms: None, wait_ms: 0 };
        match client.call(Request::Pop(lease), Vec::new()).await {
            Ok(answered) if matches!(&answered.answer, Answer::Delivered(d) if d.is_empty()) => return,
            Ok(answered) => shared.popped.lock().unwrap().extend(answered.contents.iter().map(number_of)),
            Err(error) => return shared.failures.lock().unwrap().push(format!("pop: {error}")),
        }
    }
}

fn number_of(content: &Bytes) -> u64 {
    let (_, body) = content::decode(content).expect("what was pushed");
    std::str::from_utf8(&body).expect("digits").parse().expect("digits")
}

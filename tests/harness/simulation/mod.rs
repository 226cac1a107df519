//! A cluster of simulated nodes and one client, driven step by step from outside of simulated time.

mod client;
mod outside;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue_broker::fs::Disk;
use queue_broker::fs::sim::{Bias, Latency, SimDisk, SimOptions, Unit};
use queue_broker::log::LogOptions;
use queue_broker::node::{self, NodeOptions, Way, secret};
use queue_broker::raft::{RaftOptions, seeded};
use queue_broker::server::{QueueOptions, ServerOptions};
use queue_protocol::client::{Client, ClientConfig};

use self::client::{fill, lease_twice, pop_all, push, push_to_lease};
pub use self::outside::{BEGIN_MS, Book, Hands, Named, SimNet, outside};
pub use self::wires::Wires;

const PORT: u16 = 7410;
/// Simulated time in which a task of the client must be done.
const PATIENCE: Duration = Duration::from_secs(300);

/// `SIMULATION_SEED`, or the seed that every build runs. `SIMULATION_LOG=1` prints what the nodes log.
pub fn seed() -> u64 {
    std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

/// What client and driver share.
#[derive(Default)]
struct Shared {
    todo: Mutex<Option<Todo>>,
    done: AtomicBool,
    acknowledged: Mutex<BTreeSet<u64>>,
    popped: Mutex<Vec<u64>>,
    failures: Mutex<Vec<String>>,
    lasted: Mutex<Option<Lasted>>,
    /// Bytes that bodies are filled up to.
    body_size: AtomicUsize,
    /// The next number to be pushed by [`Todo::Fill`].
    next: AtomicU64,
}

#[derive(Clone, Copy)]
enum Todo {
    Push { first: u64, count: u64 },
    Fill,
    PopAll,
    PushToLease,
    Lease { length: Duration },
}

/// How long a lease lasted that nobody settled, until the message came again.
#[derive(Clone, Copy, Debug)]
pub struct Lasted {
    /// From when it was asked for.
    pub since_sent: Duration,
    /// From when it came.
    pub since_received: Duration,
}

struct Host {
    disk: SimDisk,
    hands: Arc<Hands>,
}

/// Nodes that run under the simulator, and what their client was told.
pub struct Cluster {
    sim: turmoil::Sim<'static>,
    seed: u64,
    hosts: BTreeMap<String, Host>,
    shared: Arc<Shared>,
    next: u64,
    raft: RaftOptions,
}

fn options(name: &str, raft: RaftOptions) -> NodeOptions {
    NodeOptions {
        data_dir: PathBuf::from("data"),
        listen: format!("0.0.0.0:{PORT}"),
        advertise: Some(format!("{name}:{PORT}")),
        name: Some(name.to_owned()),
        raft,
        server: ServerOptions {
            queues: QueueOptions { auto_create: true, ..QueueOptions::default() },
            ..ServerOptions::default()
        },
        log: LogOptions { segment_size: 64 << 10, ..LogOptions::new(0) },
        grace: Duration::from_secs(1),
        descriptors: None,
    }
}

/// One boot of one node: formats and joins if it has to, then serves for ever.
async fn live(
    name: String,
    disk: SimDisk,
    first: SimDisk,
    hands: Arc<Hands>,
    formatted: Arc<AtomicBool>,
    raft: RaftOptions,
    boot: u64,
) -> turmoil::Result {
    let ended = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&ended);
    let end = Arc::new(move |fatal: queue_broker::outside::Fatal| {
        *tell.lock().unwrap() = Some(fatal.what);
    });
    let outside = outside(disk.boot(), SimNet::default(), hands, boot, end);
    let options = options(&name, raft);
    if !formatted.load(Ordering::Relaxed) {
        if name == "n1" {
            node::init(&outside, &options).await?;
        } else {
            while !first.exists(Path::new("data/IDENTITY"))? || !first.exists(Path::new("data/SECRET"))? {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let secret = secret::read(&first, Path::new("data"))?;
            node::join(&outside, &options, Way::through(format!("n1:{PORT}")), secret).await?;
        }
    }
    // From here on a crash must not take the identity away: nothing formats a second time.
    formatted.store(true, Ordering::Relaxed);
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
    pub fn new(seed: u64, tick: Duration, raft: RaftOptions) -> Self {
        if std::env::var_os("SIMULATION_LOG").is_some() {
            let level = tracing_subscriber::filter::LevelFilter::DEBUG;
            tracing_subscriber::fmt()
                .with_max_level(level)
                .without_time()
                .with_writer(std::io::stderr)
                .init();
        }
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .tick_duration(tick)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(Duration::from_millis(4))
            .tcp_capacity(4_096)
            .simulation_duration(Duration::from_secs(20_000));
        Self { sim: builder.build(), seed, hosts: BTreeMap::new(), shared: Arc::default(), next: 0, raft }
    }

    /// Formats and starts `count` nodes, and the client.
    pub fn start(&mut self, count: u64) {
        let boots = Arc::new(AtomicU64::new(self.seed << 16));
        for number in 1..=count {
            let latency = Latency {
                min: Duration::from_millis(2),
                max: Duration::from_millis(25),
                ..Latency::default()
            };
            let seed = self.seed.wrapping_mul(31).wrapping_add(number);
            let disk = SimDisk::new(SimOptions { seed, unit: Unit::Page, latency, ..SimOptions::default() });
            self.hosts.insert(format!("n{number}"), Host { disk, hands: Hands::new(number) });
        }
        let first = self.hosts["n1"].disk.clone();
        for (name, host) in &self.hosts {
            let (name, disk, first) = (name.clone(), host.disk.clone(), first.clone());
            let (hands, boots) = (Arc::clone(&host.hands), Arc::clone(&boots));
            let formatted = Arc::new(AtomicBool::new(false));
            let raft = self.raft.clone();
            self.sim.host(name.clone(), move || {
                let boot = boots.fetch_add(1 << 8, Ordering::Relaxed);
                let (disk, first) = (disk.clone(), first.clone());
                let (hands, formatted) = (Arc::clone(&hands), Arc::clone(&formatted));
                let life = live(name.clone(), disk, first, hands, formatted, raft.clone(), boot);
                seeded(boot, life)
            });
        }
        let servers = self.hosts.keys().map(|name| format!("{name}:{PORT}")).collect();
        let shared = Arc::clone(&self.shared);
        let seed = u128::from(self.seed) + 1;
        self.sim.client("client", async move {
            let config = ClientConfig { servers, timeout: Duration::from_secs(60), follow: true, seed };
            let client = Client::new(config, Arc::new(SimNet::default()));
            loop {
                let todo = shared.todo.lock().unwrap().take();
                match todo {
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                    Some(Todo::Push { first, count }) => push(&client, &shared, first, count).await,
                    Some(Todo::Fill) => fill(&client, &shared).await,
                    Some(Todo::PopAll) => pop_all(&client, &shared).await,
                    Some(Todo::PushToLease) => push_to_lease(&client, &shared).await,
                    Some(Todo::Lease { length }) => lease_twice(&client, &shared, length).await,
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

    fn begin(&mut self, todo: Todo) {
        self.shared.done.store(false, Ordering::Relaxed);
        *self.shared.todo.lock().unwrap() = Some(todo);
    }

    fn step_until(&mut self, what: &str, done: impl Fn(&Shared) -> bool) {
        let until = self.sim.elapsed() + PATIENCE;
        while !done(&self.shared) {
            assert!(self.sim.elapsed() < until, "seed {}: {what} took too long", self.seed);
            self.step();
        }
    }

    fn finish(&mut self) {
        self.step_until("the client's work", |shared| shared.done.load(Ordering::Relaxed));
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        assert!(failures.is_empty(), "seed {}: {failures:?}", self.seed);
    }

    fn begin_push(&mut self, count: u64) {
        let first = self.next;
        self.next += count;
        self.begin(Todo::Push { first, count });
    }

    /// The client pushes so many messages and waits for every answer.
    pub fn push(&mut self, count: u64) {
        self.begin_push(count);
        self.finish();
    }

    /// Cuts the power of node `name`: what it had not synced is lost, nearly all of it.
    pub fn power_off(&mut self, name: &str) {
        self.sim.crash(name);
        self.hosts[name].disk.crash_with(self.seed, Bias::AlmostNone);
        self.hosts[name].hands.reboot(self.sim.elapsed());
    }

    /// Starts node `name` again.
    pub fn power_on(&mut self, name: &str) {
        self.sim.bounce(name);
    }

    /// Nothing passes between node `name` and the others.
    pub fn cut_off(&self, name: &str) {
        for other in self.hosts.keys().filter(|other| *other != name) {
            self.sim.partition(name, other.as_str());
        }
    }

    /// Undoes [`Cluster::cut_off`].
    pub fn reconnect(&self, name: &str) {
        for other in self.hosts.keys().filter(|other| *other != name) {
            self.sim.repair(name, other.as_str());
        }
    }

    /// Waits until a file whose path ends so is on the disk of node `name`.
    pub fn wait_for_file(&mut self, name: &str, end: &str) {
        let disk = self.hosts[name].disk.clone();
        let there = |path: &PathBuf| path.to_string_lossy().ends_with(end);
        self.step_until("the file", |_| disk.files().iter().any(there));
    }

    /// Nobody asks for anything.
    pub fn idle(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Moves the clocks of all nodes.
    pub fn jump_clocks(&mut self, by_ms: i64) {
        for host in self.hosts.values() {
            host.hands.set(host.hands.offset_ms() + by_ms);
        }
    }

    /// Leaves the disk of node `name` no byte more than it uses, until what is returned is given to [`Cluster::widen`].
    pub fn fill_disk(&mut self, name: &str) -> u64 {
        let disk = &self.hosts[name].disk;
        let space = disk.space(Path::new("data")).expect("no fault is planned");
        disk.set_capacity(space.total - space.free);
        space.total
    }

    /// Gives the disk of node `name` so many bytes.
    pub fn widen(&mut self, name: &str, capacity: u64) {
        self.hosts[name].disk.set_capacity(capacity);
    }

    /// Bytes that are free on the disk of node `name`.
    pub fn free(&self, name: &str) -> u64 {
        self.hosts[name].disk.space(Path::new("data")).expect("no fault is planned").free
    }

    /// Leaves the disk of node `name` this many free bytes.
    pub fn leave(&mut self, name: &str, free: u64) {
        let disk = &self.hosts[name].disk;
        let space = disk.space(Path::new("data")).expect("no fault is planned");
        disk.set_capacity(space.total - space.free + free);
    }

    /// Bodies have this many bytes from now on.
    pub fn set_body_size(&mut self, size: usize) {
        self.shared.body_size.store(size, Ordering::Relaxed);
    }

    /// Pushes until all pushes are refused for the disk. Gives how many were stored, and the fewest free bytes that each
    /// node had meanwhile.
    pub fn fill(&mut self) -> (usize, BTreeMap<String, u64>) {
        let before = self.shared.acknowledged.lock().unwrap().len();
        let mut least: BTreeMap<String, u64> =
            self.hosts.keys().map(|name| (name.clone(), u64::MAX)).collect();
        self.shared.next.store(self.next, Ordering::Relaxed);
        self.begin(Todo::Fill);
        let until = self.sim.elapsed() + PATIENCE;
        while !self.shared.done.load(Ordering::Relaxed) {
            assert!(self.sim.elapsed() < until, "seed {}: the disk does not get full", self.seed);
            self.step();
            for (name, least) in &mut least {
                *least = self.free(name).min(*least);
            }
        }
        self.finish();
        self.next = self.shared.next.load(Ordering::Relaxed);
        (self.shared.acknowledged.lock().unwrap().len() - before, least)
    }

    /// Begins to push, and gives how many of them were stored when `time` has passed: they wait for
    /// [`Cluster::wait_for_pushes`].
    pub fn push_for(&mut self, count: u64, time: Duration) -> usize {
        let before = self.shared.acknowledged.lock().unwrap().len();
        self.begin_push(count);
        self.idle(time);
        self.shared.acknowledged.lock().unwrap().len() - before
    }

    /// Waits until what [`Cluster::push_for`] began is stored.
    pub fn wait_for_pushes(&mut self) {
        self.finish();
    }

    /// Puts a message where [`Cluster::begin_lease`] finds it.
    pub fn push_to_lease(&mut self) {
        self.begin(Todo::PushToLease);
        self.finish();
    }

    /// Asks for a lease of that message, and lets it end.
    pub fn begin_lease(&mut self, length: Duration) {
        self.begin(Todo::Lease { length });
    }

    /// Waits until the message of [`Cluster::begin_lease`] has come twice.
    pub fn wait_for_lease(&mut self) -> Lasted {
        self.finish();
        self.shared.lasted.lock().unwrap().take().expect("the client is done")
    }

    /// Takes everything out and compares: every acknowledged message, once.
    pub fn pop_all(&mut self) {
        self.begin(Todo::PopAll);
        self.finish();
        let acknowledged = self.shared.acknowledged.lock().unwrap();
        let mut popped = self.shared.popped.lock().unwrap().clone();
        popped.sort_unstable();
        let expected: Vec<u64> = acknowledged.iter().copied().collect();
        assert_eq!(popped, expected, "seed {}: not every acknowledged message came out once", self.seed);
    }
}

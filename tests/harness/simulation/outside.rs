//! What the simulator puts outside of a node: its network, a clock that can be wrong, tasks instead of threads.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue_broker::clock::Clock;
use queue_broker::fs::rng::Rng;
use queue_broker::outside::{Accepting, Binding, Fatal, Job, Listener, Net, Outside, Tasks};
use queue_protocol::client::{Dial, Dialing, TcpDial};

use super::wires::Wires;

/// What answers to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// This machine.
    Machine(String),
    /// One that has no port for us.
    Refusal,
    /// Nobody.
    Silence,
}

/// Names of machines that are not their own: places where nodes are for a while. Clones are the same.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<BTreeMap<String, Named>>>);

impl Book {
    /// From now on `name` leads there.
    ///
    /// # Panics
    /// If a thread panicked with the book.
    pub fn set(&self, name: &str, named: Named) {
        self.0.lock().expect("nobody panics with it").insert(name.to_owned(), named);
    }

    fn find(&self, address: &str) -> Option<(Named, String)> {
        let (name, port) = address.rsplit_once(':')?;
        let named = self.0.lock().expect("nobody panics with it").get(name)?.clone();
        Some((named, port.to_owned()))
    }
}

/// Simulated TCP.
#[derive(Clone, Default)]
pub struct SimNet {
    /// Its sockets.
    pub wires: Wires,
    /// What its names mean.
    pub book: Book,
}

impl Dial for SimNet {
    fn dial(&self, address: &str) -> Dialing {
        let (address, wires) = (address.to_owned(), self.wires.clone());
        let found = self.book.find(&address);
        Box::pin(async move {
            let address = match found {
                None => address,
                Some((Named::Machine(name), port)) => format!("{name}:{port}"),
                Some((Named::Refusal, _)) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Some((Named::Silence, _)) => {
                    tokio::time::sleep(TcpDial::default().timeout).await;
                    return Err(io::ErrorKind::TimedOut.into());
                }
            };
            let connecting = turmoil::net::TcpStream::connect(address);
            let connected = tokio::time::timeout(TcpDial::default().timeout, connecting).await;
            wires.wire(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
        })
    }
}

impl Net for SimNet {
    fn listen(&self, address: &str) -> Binding {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let wires = self.wires.clone();
        Box::pin(async move {
            let port = port.ok_or_else(|| io::Error::other("no port"))?;
            let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
            Ok(Box::new(SimPort { listener, wires }) as Box<dyn Listener>)
        })
    }
}

struct SimPort {
    listener: turmoil::net::TcpListener,
    wires: Wires,
}

impl Listener for SimPort {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            Ok((self.wires.wire(stream)?, from))
        })
    }
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The clocks of one machine. Those outlive its processes.
pub struct Hands {
    machine: u64,
    offset_ms: AtomicI64,
    booted_ms: AtomicU64,
    boots: AtomicU64,
}

/// Unix milliseconds when the simulation begins.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

fn passed_ms() -> u64 {
    let passed = turmoil::sim_elapsed().unwrap_or_default().as_millis();
    u64::try_from(passed).expect("a simulation is shorter")
}

impl Hands {
    /// The right ones of a machine that begins with the simulation; no other has its number.
    pub fn new(machine: u64) -> Arc<Self> {
        let (offset_ms, booted_ms, boots) = (AtomicI64::new(0), AtomicU64::new(0), AtomicU64::new(1));
        Arc::new(Self { machine, offset_ms, booted_ms, boots })
    }

    /// How far its time of day is ahead of the right one.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Sets its time of day so far ahead of the right one.
    pub fn set(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Its power was off, at this simulated time.
    pub fn reboot(&self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).expect("a simulation is shorter");
        self.booted_ms.store(now_ms, Ordering::Relaxed);
        self.boots.fetch_add(1, Ordering::Relaxed);
    }
}

/// What shows them to a node.
struct SimClock(Arc<Hands>);

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        (BEGIN_MS + passed_ms()).saturating_add_signed(self.0.offset_ms())
    }

    fn boot_ms(&self) -> u64 {
        passed_ms().saturating_sub(self.0.booted_ms.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> Option<u128> {
        Some(u128::from(self.0.machine) << 64 | u128::from(self.0.boots.load(Ordering::Relaxed)))
    }
}

struct SimTasks;

impl Tasks for SimTasks {
    fn blocking(&self, _name: &'static str, job: Job) {
        tokio::spawn(job);
    }
    fn serving(&self, job: Job) {
        tokio::spawn(job);
    }
}

/// The outside of one boot of one node.
pub fn outside(
    disk: Arc<dyn queue_broker::fs::Disk>,
    net: SimNet,
    hands: Arc<Hands>,
    seed: u64,
    end: Arc<dyn Fn(Fatal) + Send + Sync>,
) -> Outside {
    let counter = AtomicU64::new(seed);
    Outside {
        disk,
        net: Arc::new(net),
        clock: Arc::new(SimClock(hands)),
        tasks: Arc::new(SimTasks),
        random: Arc::new(move |buffer| {
            let mut rng = Rng::new(counter.fetch_add(1, Ordering::Relaxed));
            for bytes in buffer.chunks_mut(8) {
                bytes.copy_from_slice(&rng.next_u64().to_le_bytes()[..bytes.len()]);
            }
        }),
        end,
    }
}

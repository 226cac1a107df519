//! All that is outside this program, handed in: disk, network, time of day, tasks, randomness and the way out.
//! Production fills it in `main`; the simulator fills it with things it can break.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::{Dial, Dialing, Stream};
use rustix::net::sockopt;

use crate::clock::Clock;
use crate::fs::Disk;
use crate::tls::Tls;

/// A future that gives nothing, to be driven by someone.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What accepting gives: the stream and where it comes from.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<(Box<dyn Stream>, SocketAddr)>> + Send + 'a>>;

/// A bound port.
pub trait Listener: Send + Sync {
    /// The next connection.
    fn accept(&self) -> Accepting<'_>;
    /// Where it listens, with the port that was chosen if none was named.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// What binding gives.
pub type Binding = Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send>>;

/// What looking a name up gives.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The network.
pub trait Net: Dial {
    /// The addresses of the machine in `host:port`; a network without names knows those that are written as numbers.
    fn resolve(&self, address: &str) -> Resolving {
        let ip = address.parse::<SocketAddr>().map(|address| vec![address.ip()]);
        Box::pin(async move { ip.map_err(io::Error::other) })
    }
    /// Listens on `host:port`.
    fn listen(&self, address: &str) -> Binding;
    /// How this network's connections are secured.
    fn tls(&self) -> Arc<Tls> {
        Tls::off()
    }
    /// Dials a node that has spoken TLS before: in the clear only if this node speaks none itself.
    fn dial_as_before(&self, address: &str) -> Dialing {
        self.dial(address)
    }
    /// The dial of a client inside of the node, which proves nothing and so must check whom it reaches; `None` if it is the
    /// same as that of peers.
    fn client(&self) -> Option<Arc<dyn Dial>> {
        None
    }
}

/// Where work runs.
pub trait Tasks: Send + Sync + 'static {
    /// Drives a future that blocks (the log's writer, a snapshot being written): a thread of its own in
    /// production, a task in simulation.
    fn blocking(&self, name: &'static str, job: Job);
    /// Drives a future that serves clients, apart from Raft's own runtime.
    fn serving(&self, job: Job);
}

/// How a process of this program ends. The numbers are those of sysexits(3) where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ExitStatus {
    /// All was done.
    Done = 0,
    /// The answer is no: not ready, or not reached.
    Negative = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// What was durable is not what was written.
    Corrupt = 65,
    /// The data directory, the identity or the secret is not the one that is needed, or is in use.
    Directory = 66,
    /// A port is in use, or nobody is reachable.
    Unavailable = 69,
    /// A bug.
    Bug = 70,
    /// What is to be made is there already.
    Exists = 73,
    /// The disk or another device failed.
    Disk = 74,
    /// Not now: a later try may succeed.
    Later = 75,
    /// Another build is needed: a format or a feature level that this one does not know.
    OtherBuild = 76,
    /// Not permitted, as with a wrong secret.
    NotPermitted = 77,
    /// A setting is wrong.
    Config = 78,
    /// A command that is to be run cannot be run, as a shell says it.
    NotRun = 126,
    /// A command that is to be run is not there, as a shell says it.
    NotFound = 127,
}

impl ExitStatus {
    const ALL: [Self; 15] = [
        Self::Done,
        Self::Negative,
        Self::Usage,
        Self::Corrupt,
        Self::Directory,
        Self::Unavailable,
        Self::Bug,
        Self::Exists,
        Self::Disk,
        Self::Later,
        Self::OtherBuild,
        Self::NotPermitted,
        Self::Config,
        Self::NotRun,
        Self::NotFound,
    ];

    /// The one of that number.
    pub(crate) fn of(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// What the process ends with.
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// Its number.
impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.code().fmt(f)
    }
}

/// Why a node ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What the process ends with.
    pub status: ExitStatus,
    /// What happened, what it means for the data, what to do.
    pub what: String,
}

/// Whether other nodes have what this one holds, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// Other members have it.
    Have,
    /// This is the only member.
    None,
    /// What says so cannot be read.
    Unknown,
}

impl Others {
    /// Of a cluster with this many members.
    pub(crate) fn of(members: usize) -> Self {
        match members {
            0 => Self::Unknown,
            1 => Self::None,
            _ => Self::Have,
        }
    }
}

/// What it means for the data that this node's are damaged, and what to do.
impl std::fmt::Display for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Have => "The other nodes have the data: a new node takes this one's place (queuectl cluster replace)",
            Self::None => {
                "No other node has the data: this is a cluster of one. Copy the directory before anything else; what is \
                 damaged comes back only from a copy made before"
            }
            Self::Unknown => {
                "If its cluster has other nodes, they have the data, and a new node takes this one's place (queuectl cluster \
                 replace); if it has none, nobody else has it: then copy the directory before anything else"
            }
        })
    }
}

impl Fatal {
    /// Something on this node's disk is not what was written.
    pub(crate) fn damaged(what: impl std::fmt::Display, others: Others) -> Self {
        let what = format!("{what}. Nothing was served from it. {others}");
        Self { status: ExitStatus::Corrupt, what }
    }
}

/// A source of random bytes: fills the buffer.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Everything from outside. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The network.
    pub net: Arc<dyn Net>,
    /// The time of day, and the time since boot.
    pub clock: Arc<dyn Clock>,
    /// Where work runs.
    pub tasks: Arc<dyn Tasks>,
    /// Fills a buffer with random bytes.
    pub random: Random,
    /// Ends the process, or the simulated host; nothing may be answered after it was called.
    pub end: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Outside {
    /// So many random bytes.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }
}

/// A connection on which nothing came for so long is asked whether it is there.
const ALIVE_IDLE: Duration = Duration::from_secs(30);
/// Between two questions.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// Questions without an answer after which it is gone.
const ALIVE_COUNT: u32 = 3;

/// TCP, as the system has it.
pub struct Tcp {
    /// How to connect.
    pub dial: queue_protocol::client::TcpDial,
}

impl Dial for Tcp {
    fn dial(&self, address: &str) -> queue_protocol::client::Dialing {
        self.dial.dial(address)
    }
}

impl Net for Tcp {
    fn resolve(&self, address: &str) -> Resolving {
        let address = address.to_owned();
        Box::pin(
            async move { Ok(tokio::net::lookup_host(address).await?.map(|address| address.ip()).collect()) },
        )
    }
    fn listen(&self, address: &str) -> Binding {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(&address).await?;
            Ok(Box::new(TcpPort(listener)) as Box<dyn Listener>)
        })
    }
}

/// The system asks a silent peer whether it is there: one whose machine is gone does not hold its connection for ever. Who
/// dials asks by itself: a client pings while it waits for an answer, a node its peers every second.
fn keep_alive(stream: &tokio::net::TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, ALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(stream, ALIVE_COUNT)?)
}

struct TcpPort(tokio::net::TcpListener);

impl Listener for TcpPort {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            // One that is broken already says so when it is read.
            let _ = stream.set_nodelay(true).and_then(|()| keep_alive(&stream));
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }
    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Threads for blocking work, and the runtime that serves clients.
pub struct Threads {
    /// Runs everything that talks to clients.
    pub serving: tokio::runtime::Handle,
}

impl Tasks for Threads {
    fn blocking(&self, name: &'static str, job: Job) {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime without I/O needs nothing that can fail").block_on(job);
            })
            .expect("a process that cannot start a thread cannot go on");
    }
    fn serving(&self, job: Job) {
        self.serving.spawn(job);
    }
}

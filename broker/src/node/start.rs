//! From a formatted data directory to a node that serves, and back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::peer::LogId;

use super::descriptors::Division;
use super::identity::Identity;
use super::vault::{self, DirVault};
use super::{LOCK_FILE, LOG_DIR, NodeError, NodeOptions, SNAPSHOTS_DIR};
use crate::log::{Keeper, Log, LogError, LogOptions, Recovered, Writer};
use crate::outside::{ExitStatus, Fatal, Listener, Others, Outside};
use crate::raft::{Consensus, Credentials, Kept, LoadError, Me, Ring, Spoken, StartError, others_of};
use crate::server::Server;
use crate::snapshots::Snapshots;

/// A stopping leader waits so long for another one; that one may be stopping too.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// A node that runs, until [`Node::stop`].
pub struct Node {
    identity: Identity,
    address: SocketAddr,
    recovered: Recovered,
    snapshot: Option<LogId>,
    consensus: Arc<Consensus>,
    server: Arc<Server>,
    log: Log,
    grace: Duration,
    /// Connections of clients at a time: how many there may be, and how many were asked for.
    clients: (usize, usize),
    _lock: Box<dyn Send + Sync>,
}

/// Takes the data directory's lock for as long as the guard lives.
pub(super) fn lock(outside: &Outside, dir: &Path) -> Result<Box<dyn Send + Sync>, NodeError> {
    outside.disk.lock(&dir.join(LOCK_FILE)).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::WouldBlock {
            NodeError::locked(dir)
        } else {
            error.into()
        }
    })
}

/// Tells the records of this store from those of any other.
pub(crate) fn log_seed(store: StoreId) -> u64 {
    let bytes = store.0.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes"));
    half(low) ^ half(high)
}

pub(super) async fn bind(outside: &Outside, address: &str) -> Result<Box<dyn Listener>, NodeError> {
    outside.net.listen(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            NodeError::new(ExitStatus::Unavailable, "port_in_use", format!("{address} is in use")).hint(
                "--listen-address names another port; queued healthcheck tells whether a node answers there",
            )
        } else {
            NodeError::new(ExitStatus::Unavailable, "listen", format!("cannot listen on {address}: {error}"))
        }
    })
}

/// The address others are told: as configured, or where this node listens if that is a place others can name.
pub(super) fn advertised(options: &NodeOptions, listener: &dyn Listener) -> Result<String, NodeError> {
    if let Some(address) = &options.advertise {
        return Ok(address.clone());
    }
    let bound =
        listener.address().map_err(|error| NodeError::new(ExitStatus::Disk, "listen", error.to_string()))?;
    if bound.ip().is_unspecified() {
        return Err(NodeError::new(
            ExitStatus::Config,
            "config",
            "listening on every address, others must be told which to use",
        )
        .hint("set --advertise-address HOST:PORT"));
    }
    let host = options.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let named = !host.is_empty() && host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
    Ok(if named { format!("{host}:{}", bound.port()) } else { bound.to_string() })
}

/// Starts a formatted node: lock, identity, recovery, port, Raft. It listens when this returns.
///
/// # Errors
/// [`NodeError`]; the data is as it was.
pub async fn start(outside: Outside, options: NodeOptions) -> Result<Node, NodeError> {
    let dir = &options.data_dir;
    if !outside.disk.exists(dir)? {
        return Err(super::IdentityError::Missing { dir: dir.clone() }.into());
    }
    let lock = lock(&outside, dir)?;
    let identity = may_start(&outside, &options).await?;
    let kept = vault::open(&*outside.disk, dir, &identity).await?;
    let snapshots = Snapshots::open(Arc::clone(&outside.disk), &dir.join(SNAPSHOTS_DIR)).await;
    let (snapshots, _) = snapshots?;
    let newest = snapshots.newest();
    let snapshot = newest.as_ref().map(|file| file.last);
    let others = newest.map_or(Others::Unknown, |file| others_of(&file.meta));
    let division = Division::of(options.descriptors, options.server.connections_max);
    let (log, writer, keeper, recovered) =
        open_log(&outside, &options, &identity, snapshot, &division, others).await?;
    // Not before: peers that connect to a port nobody accepts on wait out the deadline of their hello.
    let listener: Arc<dyn Listener> = bind(&outside, &options.listen).await?.into();
    let address = advertised(&options, &*listener)?;
    let bound =
        listener.address().map_err(|error| NodeError::new(ExitStatus::Disk, "listen", error.to_string()))?;
    // Who else has the data is known once there is a consensus.
    let known = Known::default();
    run_log(&outside, writer, keeper, &known, others);
    let me = me(&outside, &options, &identity, kept, recovered.epoch, address);
    let consensus =
        Consensus::start(outside.clone(), me, log.clone(), snapshots, options.raft.clone()).await?;
    let _once = known.set(Arc::downgrade(&consensus));
    if identity.node == NodeId(1) {
        consensus.bootstrap().await?;
    }
    crate::raft::spawn(end_when_removed(
        Arc::clone(&consensus),
        outside,
        identity.name.to_string(),
        dir.clone(),
    ));
    let clients = (division.places.clients, options.server.connections_max);
    let server = Server::new(Arc::clone(&consensus), options.server, division.places);
    crate::raft::spawn(Arc::clone(&server).run(listener));
    Ok(Node {
        identity,
        address: bound,
        recovered,
        snapshot,
        consensus,
        server,
        log,
        grace: options.grace,
        clients,
        _lock: lock,
    })
}

/// The log, recovered, and held against the newest snapshot.
async fn open_log(
    outside: &Outside,
    options: &NodeOptions,
    identity: &Identity,
    snapshot: Option<LogId>,
    division: &Division,
    others: Others,
) -> Result<(Log, Writer, Keeper, Recovered), NodeError> {
    let dir = &options.data_dir;
    let log_dir = dir.join(LOG_DIR);
    let log_options = LogOptions {
        seed: log_seed(identity.store),
        snapshot_upto: snapshot.map(|last| last.index),
        open_files_max: division.open_files_max,
        ..options.log.clone()
    };
    let opening = Log::open(Arc::clone(&outside.disk), &log_dir, log_options);
    let opened = opening.await.map_err(|error| NodeError::of_log(error, others));
    let opened = opened?;
    if let Some(what) = super::check::uncovered(opened.0.state().purged, snapshot) {
        let what = format!("{}: {what}", dir.join(SNAPSHOTS_DIR).display());
        return Err(NodeError::corrupt(what, others));
    }
    Ok(opened)
}

/// Who the node is, to others and to itself.
fn me(
    outside: &Outside,
    options: &NodeOptions,
    identity: &Identity,
    kept: Kept,
    epoch: u32,
    address: String,
) -> Me {
    let dir = &options.data_dir;
    let credentials = Credentials {
        cluster: identity.cluster,
        node: identity.node,
        store: identity.store,
        ring: Ring::member(kept),
        epoch,
        boot: u64::from_le_bytes(outside.random_bytes()),
        spoken: Spoken::new(options.raft.levels),
    };
    let vault = Arc::new(DirVault { disk: Arc::clone(&outside.disk), dir: dir.clone() });
    Me { credentials, name: identity.name.to_string(), address, data_dir: dir.clone(), vault }
}

/// The consensus, once there is one.
type Known = Arc<OnceLock<Weak<Consensus>>>;

/// Runs the writer and the keeper of the log, each of which ends the node when it fails. `others` have the data as far as
/// is known before there is a consensus.
fn run_log(outside: &Outside, writer: Writer, keeper: Keeper, known: &Known, others: Others) {
    let fail = || {
        let (end, known) = (Arc::clone(&outside.end), Arc::clone(known));
        move |error: &LogError| {
            let consensus = known.get().and_then(Weak::upgrade);
            end(fatal(error, consensus.map_or(others, |consensus| consensus.others())));
        }
    };
    let (writer_failed, keeper_failed) = (fail(), fail());
    outside.tasks.blocking(
        "log",
        Box::pin(async move {
            if let Err(error) = writer.run().await {
                writer_failed(&error);
            }
        }),
    );
    outside.tasks.blocking(
        "log-keeper",
        Box::pin(async move {
            if let Err(error) = keeper.run().await {
                keeper_failed(&error);
            }
        }),
    );
}

/// Who the node of `dir` is, if it may start.
async fn may_start(outside: &Outside, options: &NodeOptions) -> Result<Identity, NodeError> {
    let dir = &options.data_dir;
    let identity = Identity::open(&*outside.disk, dir).await?.identity;
    if !identity.is_joined() {
        let what = format!(
            "the node of {} has not joined a cluster yet, or its format was interrupted",
            dir.display()
        );
        return Err(NodeError::new(ExitStatus::Directory, "not_joined", what)
            .hint("repeat the queued join or queued init that was begun"));
    }
    if identity.removed {
        return Err(removed(&identity.name, dir));
    }
    super::recover::refuse_unfinished(&*outside.disk, dir)?;
    identity.expect(dir, None, options.name.as_deref())?;
    if let Some(warning) = super::privacy::warning(&*outside.disk, dir)? {
        tracing::warn!("{warning}");
    }
    Ok(identity)
}

pub(super) fn removed(name: &str, dir: &Path) -> NodeError {
    let what = format!(
        "{name} was removed from its cluster and does not come back: its number is never given again. What it held is on \
         the members"
    );
    let hint = format!("move {} away, and queued join as a new node", dir.display());
    NodeError::new(ExitStatus::Directory, "node_removed", what).hint(hint)
}

/// A member no more, this node must not start again either.
async fn end_when_removed(consensus: Arc<Consensus>, outside: Outside, name: String, dir: PathBuf) {
    consensus.removed().await;
    let error = match Identity::mark_removed(&*outside.disk, &dir).await {
        Ok(()) => removed(&name, &dir),
        Err(error) => error.into(),
    };
    (outside.end)(Fatal { status: error.status, what: error.what });
}

/// Why a node ends whose log cannot go on.
fn fatal(error: &LogError, others: Others) -> Fatal {
    if !matches!(error, LogError::Disk(_) | LogError::Closed) {
        return Fatal::damaged(error, others);
    }
    let what = format!(
        "{error}. The node stops at once: what it acknowledged is on a majority of the disks, what it did not may or \
         may not be stored"
    );
    Fatal { status: ExitStatus::Disk, what }
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(_) => Self::new(ExitStatus::Config, "config", error.to_string()),
            StartError::Level(_) | StartError::Load(LoadError::Level(_)) => {
                Self::new(ExitStatus::OtherBuild, "level_unknown", error.to_string())
                    .hint("start a queued that speaks it; queuectl cluster status shows what the others run")
            }
            StartError::Load(_) | StartError::Damaged(_) => Self::corrupt(error, Others::Unknown),
            StartError::Raft(_) => Self::new(ExitStatus::Bug, "raft", error.to_string()),
        }
    }
}

impl Node {
    /// Who the node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The address and port that it listens on.
    pub fn listens_at(&self) -> SocketAddr {
        self.address
    }

    /// What is served over HTTP.
    #[cfg(feature = "http")]
    pub(crate) fn site(&self) -> crate::http::Site {
        crate::http::Site {
            consensus: Arc::clone(&self.consensus),
            server: Arc::clone(&self.server),
            at: self.address,
        }
    }

    /// That it takes fewer clients than its settings ask for, and why, if it does.
    pub fn few_clients(&self) -> Option<String> {
        let (max, asked) = self.clients;
        (max < asked).then(|| {
            format!(
                "{max} clients can be connected at a time, not {asked} as limits.connections says: there are too few file \
                 descriptors. Raise the hard limit of this process (ulimit -Hn, LimitNOFILE)"
            )
        })
    }

    /// One line: what this node is and how far it has come.
    pub fn state_line(&self) -> String {
        let status = self.consensus.status();
        let leader = status.leader.as_ref().map_or("nobody", |leader| &leader.name);
        let members: Vec<&str> = status.members.iter().map(|member| &*member.name).collect();
        let refused = self.consensus.refuse_push().map(|error| format!("; {}", error.message));
        format!(
            "state: {} is {:?} in term {}, led by {leader}; entries: last {}, committed {}, applied {}, snapshot {}, purged \
             {}; members {}; {} bytes of disk free; up for {} s{}",
            status.name,
            status.role,
            status.term,
            status.last_index,
            status.commit_index,
            status.applied_index,
            status.snapshot_index,
            status.purged_index,
            members.join(" "),
            status.disk_free_bytes,
            status.uptime_ms / 1_000,
            refused.unwrap_or_default(),
        )
    }

    /// What it does, in a few words, once the loop of Raft has turned; `None` when that has ended.
    pub(crate) async fn turn(&self) -> Option<String> {
        self.consensus.turn().await?;
        let status = self.consensus.status();
        let role = format!("{:?} in term {}", status.role, status.term).to_lowercase();
        Some(match queue_protocol::health::ready(&status) {
            Ok(()) => role,
            Err(why) => format!("{role}, not ready: {why}"),
        })
    }

    /// Lines for people: what recovery found.
    pub fn summary(&self) -> Vec<String> {
        let state = self.log.state();
        let last = state.last.map_or(0, |id| id.index);
        let mut lines = vec![format!("log to entry {last}, opened {} times", self.recovered.epoch)];
        if let Some(snapshot) = self.snapshot {
            lines.push(format!("snapshot at entry {}", snapshot.index));
        }
        if self.recovered.torn_bytes > 0 {
            lines.push(format!(
                "cut an unfinished tail of {} bytes that nothing had acknowledged",
                self.recovered.torn_bytes
            ));
        }
        lines
    }

    /// Hands leadership over, takes no more clients, answers what is open (at most `grace` long), stops.
    pub async fn stop(self) {
        if self.consensus.ready().is_some()
            && let Err(error) = self.consensus.transfer(None, TRANSFER_TIMEOUT.min(self.grace / 2)).await
        {
            tracing::info!(%error, "leadership was not handed over");
        }
        self.server.drain(self.grace).await;
        self.consensus.shutdown().await;
        if self.log.flush().await.is_err() {
            tracing::warn!("the log stopped before it was flushed");
        }
    }
}

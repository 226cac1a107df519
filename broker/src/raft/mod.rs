//! The only place that names openraft: it joins the log, the queues and the peers into one replicated machine, and
//! offers the rest of the broker [`Consensus`].
//!
//! What openraft calls is in [`mod@openraft`]; what a machine has one of in [`node`], what one Raft group has in [`group`];
//! what the members agree on about themselves in [`cluster`].

pub(crate) mod cluster;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod openraft;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::openraft::type_config::TypeConfigExt;
use ::openraft::{Config, SnapshotPolicy};
use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::StoreId;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::level::Levels;
use tokio::sync::watch;

pub(crate) use self::cluster::levels::Spoken;
pub(crate) use self::cluster::status::Terms;
pub(crate) use self::group::lead::proposer::{Committed, Proposal, ProposeError};
pub(crate) use self::group::lead::waiters::{Asker, Patience, Waited, Waiters};
pub(crate) use self::group::leadership::{Leadership, Seat, View};
pub(crate) use self::group::lease_clock::LeaseClockAt;
pub(crate) use self::node::admission::{Admission, Gate, Key, Keys};
pub(crate) use self::node::dial::{Credentials, PeerStream, RefusedBy, dial_peer};
pub(crate) use self::node::floors::Floors;
pub(crate) use self::node::peer_server::serve_peer;
pub(crate) use self::node::ring::{Generation, Keeping, Kept, Old, Ring, Vault};
pub use self::node::witness::{Seen, Witness};
pub(crate) use self::openraft::cause::{LoadError, others_of};

use self::cluster::health::{Contacts, LogEnds};
use self::cluster::invitations::Invitations;
use self::cluster::levels::NotSpoken;
use self::cluster::reserve::{Room, Rooms};
use self::group::age::Told;
use self::group::agreement::Agreement;
use self::group::gone::Recent;
use self::group::growth::SnapshotEvery;
use self::group::lead::proposer::{Beside, Proposer};
use self::group::machine::{Machine, MachineStore};
use self::group::rounds::Rounds;
use self::group::times::Times;
use self::node::addresses::Addresses;
use self::node::pulse::Pulse;
use self::node::receive_snapshot::Reception;
use self::node::refusals::Refusals;
use self::openraft::cause::{Cause, Why};
use self::openraft::log_store::LogStore;
use self::openraft::network::Network;
use self::openraft::runtime::Runtime;
use self::openraft::types::TypeConfig;
use crate::log::{Log, LogError, Reading};
use crate::mutants::{self, Mutant};
use crate::outside::Outside;
use crate::queue::State;
use crate::queue::command::{Command, Op};
use crate::queue::reply::{BodyRef, Effects, Outcome, Refusal, Reply};
use crate::snapshots::Snapshots;

pub(crate) type Raft = ::openraft::Raft<TypeConfig, MachineStore>;

/// Longest wait for a read index: a quorum that answers at all answers sooner.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Gives `future` and all it spawns their own repeatable randomness, from `seed`. Everything that comes near Raft runs
/// inside of it.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    Runtime::scope(seed, future)
}

/// Spawns a task that inherits the randomness of this one.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    TypeConfig::spawn(task);
}

/// What Raft may be told: times, when snapshots are made, what the log keeps.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Shortest election timeout, at least four heartbeats.
    pub election_min: Duration,
    /// Longest election timeout; each node draws one between the two.
    pub election_max: Duration,
    /// Entries after which a snapshot is made.
    pub snapshot_entries: u64,
    /// Bytes of entries between snapshots.
    pub snapshot_bytes: u64,
    /// Bytes of the log kept behind a snapshot, for followers that are late; whole files of it, and none under pressure.
    pub keep_bytes: u64,
    /// Who else sees what is applied.
    pub witness: Witness,
    /// Bytes of the disk below which pushes are refused; `None` is a twentieth of it, at most 1 GiB. Two segments and
    /// two snapshots at least.
    pub disk_reserve: Option<u64>,
    /// The feature levels this node speaks.
    pub levels: Levels,
    /// State hashes are compared at indexes that this divides; the same on every node.
    pub hash_every: u64,
}

impl RaftOptions {
    /// How long a heartbeat may be on its way, and openraft's own pause between two: most of an election, for an answer
    /// that comes later than that counts for nothing. [`group::tenure`] sends more often.
    fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat.max(self.election_min * 4 / 5)
    }
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(1_000),
            snapshot_entries: 100_000,
            snapshot_bytes: 256 << 20,
            keep_bytes: 256 << 20,
            witness: Witness::default(),
            disk_reserve: None,
            levels: Levels::OURS,
            hash_every: 4_096,
        }
    }
}

/// Who this node is.
#[derive(Clone)]
pub(crate) struct Me {
    pub(crate) credentials: Credentials,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) data_dir: std::path::PathBuf,
    pub(crate) vault: Arc<dyn Vault>,
}

/// Why Raft did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("raft settings: {0}")]
    Config(#[from] ::openraft::ConfigError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Level(NotSpoken),
    #[error("raft did not start: {0}")]
    Raft(String),
}

impl StartError {
    /// Why openraft did not start, if that is known.
    fn of(cause: &Cause, error: &impl std::fmt::Display) -> Self {
        match cause.get() {
            Some(Why::Damaged(what)) => Self::Damaged(what.clone()),
            Some(Why::Level(error)) => Self::Level(*error),
            None => Self::Raft(error.to_string()),
        }
    }
}

/// The newest snapshot, or an empty state, and the clocks that it goes by.
fn loaded(
    outside: &Outside,
    me: &Me,
    log: &Log,
    snapshots: Snapshots,
    options: &RaftOptions,
    agreement: &Arc<Agreement>,
    cause: &Cause,
) -> Result<(Arc<Machine>, Arc<Times>), LoadError> {
    let machine = Machine::load(
        log.clone(),
        snapshots,
        SnapshotEvery { entries: options.snapshot_entries, bytes: options.snapshot_bytes },
        Arc::clone(&outside.tasks),
        options.witness.clone(),
        me.credentials.spoken.clone(),
        cause.clone(),
    )?;
    let (clock, witness) = (Arc::clone(&outside.clock), options.witness.clone());
    let times = Times::new(me.credentials.node, clock, log.anchor(), witness);
    let machine = machine.compared(Arc::clone(agreement)).timed(Arc::clone(&times));
    Ok((Arc::new(machine), times))
}

/// How openraft is to behave.
fn raft_config(me: &Me, options: &RaftOptions) -> Config {
    Config {
        cluster_name: me.credentials.cluster.to_string(),
        heartbeat_interval: milliseconds(options.heartbeat_timeout()),
        election_timeout_min: milliseconds(options.election_min),
        election_timeout_max: milliseconds(options.election_max),
        max_payload_entries: 1_024,
        max_append_entries: Some(4_096),
        snapshot_policy: SnapshotPolicy::Never,
        // By itself it keeps all: `retention` purges.
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 3_600_000,
        api_channel_size: Some(4_096),
        enable_pre_vote: Some(true),
        // A leader that crashed may have replicated entries that its own disk does not hold: taking its term up again it
        // would give their indices away a second time.
        enable_leader_restore: Some(mutants::on(Mutant::LeaderRestored)),
        ..Config::default()
    }
}

/// The replicated machine as the rest of the broker sees it: what is `pub(crate)` is what the rest may ask.
pub(crate) struct Consensus {
    raft: Raft,
    seat: Arc<Seat>,
    machine: Arc<Machine>,
    proposer: Arc<Proposer>,
    waiters: Arc<Waiters>,
    network: Network,
    addresses: Arc<Addresses>,
    log: Log,
    gate: Gate,
    reception: Arc<Reception>,
    me: Me,
    outside: Outside,
    options: RaftOptions,
    /// Held while a node joins; why the last one was not taken in.
    joining: tokio::sync::Mutex<Option<(StoreId, Error)>>,
    invitations: Invitations,
    /// Held while the secrets of this node change.
    rotating: tokio::sync::Mutex<()>,
    away: Mutex<BTreeSet<u64>>,
    rooms: Arc<Rooms>,
    /// The newest term whose vote is on disk.
    voted: Arc<AtomicU64>,
    refusals: Refusals,
    known: Contacts,
    log_ends: LogEnds,
    rounds: Arc<Rounds>,
    told: Told,
    agreement: Arc<Agreement>,
    times: Arc<Times>,
    room: watch::Sender<Room>,
    /// The leader says that this node is no member any more.
    removed: watch::Sender<bool>,
    /// An election after a leader that is gone is under way.
    succeeding: AtomicBool,
    /// This node hands leadership over and does not want it.
    drained: AtomicBool,
    /// What its loops wake by; began with this node.
    pulse: Pulse,
    applied: tokio::sync::Notify,
}

impl Consensus {
    /// Loads the state, starts Raft and everything that keeps it going.
    pub(crate) async fn start(
        outside: Outside,
        me: Me,
        log: Log,
        snapshots: Snapshots,
        options: RaftOptions,
    ) -> Result<Arc<Self>, StartError> {
        let cause = Cause::default();
        let agreement = Arc::new(Agreement::new(options.hash_every));
        let (machine, times) = loaded(&outside, &me, &log, snapshots, &options, &agreement, &cause)?;
        let config = Arc::new(raft_config(&me, &options).validate()?);
        let gate = Gate { floors: Arc::new(Floors::load(log.clone())), machine: Arc::clone(&machine) };
        let addresses = Addresses::new(Arc::clone(&machine));
        let credentials = me.credentials.clone();
        let network =
            Network::new(outside.clone(), credentials, log.clone(), gate.clone(), Arc::clone(&addresses));
        let (node, pulse) = (me.credentials.node, Pulse::new(options.heartbeat));
        let rooms = Arc::<Rooms>::default();
        let store = LogStore::new(log.clone(), cause.clone(), Arc::clone(&rooms));
        let voted = store.voted();
        let raft = Raft::new(node.0, config, network.clone(), store, MachineStore(Arc::clone(&machine)));
        let raft = raft.await.map_err(|error| StartError::of(&cause, &error))?;
        addresses.begin(raft.clone());
        let consensus = Arc::new_cyclic(|this| Self {
            rounds: Rounds::new(raft.clone()),
            raft,
            seat: Arc::new(Seat::new(node, options.heartbeat, options.election_max, Arc::clone(&times))),
            machine,
            proposer: Arc::new(Proposer::new(log.stages().clone(), me.credentials.spoken.clone())),
            waiters: Waiters::new(this.clone()),
            network,
            addresses,
            log,
            gate,
            reception: Arc::default(),
            me,
            outside,
            options,
            joining: tokio::sync::Mutex::default(),
            invitations: Invitations::default(),
            rotating: tokio::sync::Mutex::default(),
            away: Mutex::default(),
            rooms,
            voted,
            refusals: Refusals::default(),
            known: Contacts::default(),
            log_ends: LogEnds::default(),
            told: Told::default(),
            agreement,
            times,
            room: watch::Sender::new(Room::default()),
            removed: watch::Sender::new(false),
            succeeding: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            pulse,
            applied: tokio::sync::Notify::new(),
        });
        consensus.run_loops(cause);
        Ok(consensus)
    }

    /// Starts everything that keeps it going.
    fn run_loops(self: &Arc<Self>, cause: Cause) {
        let weak = || Arc::downgrade(self);
        let room = weak();
        let beside = Beside {
            waiters: Arc::clone(&self.waiters),
            guard: Box::new(move |size, flying| room.upgrade()?.refuse_entry(size, flying)),
        };
        let hears = weak();
        self.machine.set_on_applied(Box::new(move |effects| {
            if let Some(this) = hears.upgrade() {
                this.hear_effects(&effects);
            }
        }));
        let (raft, seat, machine) = (self.raft.clone(), Arc::clone(&self.seat), Arc::clone(&self.machine));
        TypeConfig::spawn(Arc::clone(&seat).run(raft.clone()));
        TypeConfig::spawn(Arc::clone(&self.proposer).run(raft, seat, machine, beside));
        TypeConfig::spawn(group::lead::ticker::run(weak()));
        TypeConfig::spawn(group::lead::ticker::watch_clocks(weak()));
        TypeConfig::spawn(group::retention::keep(weak()));
        TypeConfig::spawn(cluster::changes::promote(weak()));
        TypeConfig::spawn(cluster::moves::tell(weak()));
        TypeConfig::spawn(cluster::moves::judge(weak()));
        TypeConfig::spawn(group::tenure::beat(weak()));
        TypeConfig::spawn(group::tenure::watch_disk_speed(weak()));
        self.look_at_disk();
        TypeConfig::spawn(node::disk::watch_disk(weak()));
        TypeConfig::spawn(Arc::clone(&self.gate.floors).settle());
        TypeConfig::spawn(cluster::status::ping_peers(weak()));
        TypeConfig::spawn(node::admission::found_cluster(weak()));
        TypeConfig::spawn(node::admission::end_removed(weak()));
        TypeConfig::spawn(cluster::rotation::run(weak()));
        TypeConfig::spawn(node::chronicle::run(weak()));
        let end = Arc::clone(&self.outside.end);
        TypeConfig::spawn(openraft::cause::end_with_raft(self.raft.clone(), cause, end));
    }

    /// An entry was applied: whoever waits for what it made ready is served.
    fn hear_effects(&self, effects: &Effects) {
        self.applied.notify_one();
        if !effects.ready.is_empty() {
            self.waiters.offer(&effects.ready);
        }
    }

    /// Leases that wait at this node.
    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    pub(in crate::raft) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(in crate::raft) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(in crate::raft) fn floors(&self) -> &Arc<Floors> {
        &self.gate.floors
    }

    pub(in crate::raft) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(in crate::raft) fn reception(&self) -> &Arc<Reception> {
        &self.reception
    }

    pub(crate) fn me(&self) -> &Me {
        &self.me
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse
    }

    pub(crate) fn view(&self) -> View {
        self.seat.view()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.seat.watch()
    }

    /// This node leads and has applied everything that was committed before.
    pub(crate) fn ready(&self) -> Option<Leadership> {
        self.seat.ready()
    }

    /// This node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.seat.leadership().is_some()
    }

    /// Proposes a command; its outcome goes to `proposal.done`.
    pub(crate) fn propose(&self, proposal: Proposal) {
        self.proposer.propose(proposal);
    }

    /// Proposes a command of the broker's own; `None` if its outcome is not known.
    pub(crate) async fn ask_state(&self, op: Op) -> Option<Result<Outcome, Refusal>> {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.propose(Proposal {
            arrived: tokio::time::Instant::now(),
            command: Command { session: None, op },
            table: Vec::new(),
            contents: Vec::new(),
            done: Box::new(move |result| {
                let _ = done.send(result);
            }),
        });
        Some(wait.await.ok()?.ok()?.reply.result)
    }

    /// Reads what this node has applied, with the index of the last entry.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State, u64) -> T) -> T {
        self.machine.read(look)
    }

    /// The same with the messages that went lately.
    pub(crate) fn read_with_gone<T>(&self, look: impl FnOnce(&State, u64, &Recent) -> T) -> T {
        self.machine.read_with_gone(look)
    }

    fn no_quorum(&self) -> Error {
        Error::again(ErrorCode::NoLeader, format!("{} has no quorum behind it", self.me.name))
    }

    /// Contents by reference, in the order asked for, verified.
    pub(crate) fn contents(&self, refs: &[BodyRef]) -> Result<Vec<(ContentSpec, Bytes)>, LogError> {
        let mut contents = Vec::with_capacity(refs.len());
        for run in refs.chunk_by(|a, b| a.index == b.index && a.ordinal < b.ordinal) {
            let ordinals: Vec<u32> = run.iter().map(|body| body.ordinal).collect();
            contents.extend(self.log.read_bodies(run[0].index, &ordinals)?);
        }
        Ok(contents)
    }

    /// Keeps what these replies deliver readable. Taken where nothing is applied meanwhile.
    pub(crate) fn reading<'a>(&self, replies: impl IntoIterator<Item = &'a Reply>) -> Option<Arc<Reading>> {
        group::bodies::reading(&self.log, replies)
    }

    /// A peer sent what only a leader sends.
    pub(in crate::raft) fn hear_leader(&self, peer: queue_protocol::names::NodeId) {
        self.seat.hear_leader(peer);
    }

    /// Until this node is no member any more.
    pub(crate) async fn removed(&self) {
        let mut removed = self.removed.subscribe();
        if removed.wait_for(|removed| *removed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops Raft; what is proposed and not decided stays unknown.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
    }
}

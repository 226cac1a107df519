//! The replicated state: queues, sessions, counters and the two clocks, in shared chunks.
//!
//! A clone shares everything and costs a handful of reference counts; what changes afterwards is copied chunk by
//! chunk (`imbl`'s B-trees, 16 entries a leaf), so a snapshot being written does not stop apply.

use imbl::{OrdMap, OrdSet};
use queue_protocol::level::Level;
use queue_protocol::names::{MessageId, QueueName, SessionId};
use queue_protocol::settings::Settings;

use super::auth::Auth;
use super::clients::sessions::Sessions;
use super::command::SessionStamp;
use super::digest::Digest;
use super::due::deadlines::Heads;
use super::due::schedules::Schedules;
use super::nodes::Nodes;
use super::queue::{Counts, Queue};
use super::read::turnover::Turnover;
use super::reply::Reply;

/// A queue inside the state: given in order of creation, never reused.
pub(super) type QueueNumber = u64;

/// Raft's number of the first node that joins; the one that made the cluster has 1.
pub(super) const FIRST_JOINED_NODE: u64 = 2;

/// The state machine.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) level: Level,
    pub(super) wall_ms: u64,
    pub(super) elapsed_ms: u64,
    pub(super) lease_clock_ms: u64,
    pub(super) next_id: u64,
    pub(super) next_token: u64,
    pub(super) next_node: u64,
    pub(super) nodes: Nodes,
    pub(super) auth: Auth,
    pub(super) next_queue: QueueNumber,
    pub(super) names: OrdMap<QueueName, QueueNumber>,
    pub(super) queues: OrdMap<QueueNumber, Queue>,
    /// First deadlines of the queues.
    pub(super) heads: Heads,
    /// Where the leases of each session are; it may be closed.
    pub(super) held: OrdMap<(SessionId, MessageId), QueueNumber>,
    pub(super) sessions: Sessions,
    pub(super) schedules: Schedules,
    /// Queues that a session claims, by session.
    pub(super) claims: OrdSet<(SessionId, QueueNumber)>,
    /// Sums over the queues.
    pub(super) counts: Counts,
    /// Since the cluster was made, removed queues included.
    pub(super) turnover: Turnover,
    /// Of all entries so far.
    pub(super) digest: Digest,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// That of a cluster just made.
    pub fn new() -> Self {
        Self {
            level: Level::FIRST,
            wall_ms: 0,
            elapsed_ms: 0,
            lease_clock_ms: 0,
            next_id: 1,
            next_token: 1,
            next_node: FIRST_JOINED_NODE,
            nodes: Nodes::default(),
            auth: Auth::default(),
            next_queue: 0,
            names: OrdMap::new(),
            queues: OrdMap::new(),
            heads: Heads::default(),
            held: OrdMap::new(),
            sessions: Sessions::default(),
            schedules: Schedules::default(),
            claims: OrdSet::new(),
            counts: Counts::default(),
            turnover: Turnover::default(),
            digest: Digest::default(),
        }
    }

    /// The cluster's feature level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The replicated wall clock, Unix milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// The replicated clock that durations run on, in milliseconds; never goes back.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    /// Bytes of the contents of all messages.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    /// Queues whose pushes are paused.
    pub fn paused_count(&self) -> u64 {
        self.counts.paused
    }

    /// The replicated lease clock, in milliseconds.
    pub fn lease_clock_ms(&self) -> u64 {
        self.lease_clock_ms
    }

    /// Ready messages of a queue that may be handed out; 0 if there is no such queue.
    pub fn available(&self, queue: &QueueName) -> u64 {
        self.queue(queue).map_or(0, Queue::available)
    }

    /// Whether the queue exists.
    pub fn has_queue(&self, queue: &QueueName) -> bool {
        self.names.contains_key(queue)
    }

    /// Settings of a queue.
    pub fn settings(&self, queue: &QueueName) -> Option<&Settings> {
        self.queue(queue).map(|queue| &*queue.settings)
    }

    /// The recorded answer to a session's command, flagged as repeated.
    pub fn recorded(&self, session: SessionId, number: u64) -> Option<Reply> {
        self.sessions.recorded(session, number)
    }

    /// A command under this stamp would be refused for what its session has forgotten, or knows of another request under
    /// its number.
    pub fn is_lost(&self, stamp: &SessionStamp) -> bool {
        self.sessions.lost(stamp).is_some()
    }

    /// Forgets who asked for what, which no state ever does: for a planted bug.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions = Sessions::default();
    }

    pub(super) fn queue(&self, name: &QueueName) -> Option<&Queue> {
        self.queues.get(self.names.get(name)?)
    }

    /// The index under which a session is open.
    pub fn session_index(&self, session: SessionId) -> Option<u64> {
        self.sessions.all().get(&session).map(|session| session.opening.index)
    }

    /// Whether the session was forgotten, and its id is still kept.
    pub(crate) fn has_forgotten(&self, session: SessionId) -> bool {
        self.sessions.forgotten().has(session)
    }

    pub(super) fn has_leases(&self, session: SessionId) -> bool {
        has_leases(&self.held, session)
    }
}

/// Whether a session has any of these leases.
pub(super) fn has_leases(held: &OrdMap<(SessionId, MessageId), QueueNumber>, session: SessionId) -> bool {
    held.get_next(&(session, MessageId(0))).is_some_and(|((holder, _), _)| *holder == session)
}

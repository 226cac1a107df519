//! The replicated state: queues, sessions, counters and the two clocks, in shared chunks.
//!
//! A clone shares everything and costs a handful of reference counts; what changes afterwards is copied chunk by
//! chunk (`imbl`'s B-trees, 16 entries a leaf), so a snapshot being written does not stop apply.

use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::level::Level;

use super::auth::Auth;
use super::catalog::Catalog;
use super::clients::sessions::Sessions;
use super::command::{SessionStamp, Source};
use super::digest::Digest;
use super::due::clocks::Clocks;
use super::due::schedules::Schedules;
use super::journal::Journal;
use super::leased::holders::Holders;
use super::nodes::Nodes;
use super::numbers::Numbers;
use super::queue::Queue;
use super::reply::Reply;

/// The state machine. Its parts are changed through their own functions alone.
#[derive(Clone, Debug)]
pub struct State {
    level: Level,
    clocks: Clocks,
    numbers: Numbers,
    nodes: Nodes,
    auth: Auth,
    catalog: Catalog,
    holders: Holders,
    sessions: Sessions,
    schedules: Schedules,
    journal: Journal,
    /// Of all entries so far.
    digest: Digest,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The empty state of a new cluster.
    pub fn new() -> Self {
        let (numbers, catalog) = (Numbers::default(), Catalog::default());
        Self::going_on(Level::FIRST, Clocks::default(), numbers, catalog, Digest::default())
    }

    /// A state that goes on from these; the rest is read behind them.
    pub(super) fn going_on(
        level: Level,
        clocks: Clocks,
        numbers: Numbers,
        catalog: Catalog,
        digest: Digest,
    ) -> Self {
        Self {
            level,
            clocks,
            numbers,
            nodes: Nodes::default(),
            auth: Auth::default(),
            catalog,
            holders: Holders::default(),
            sessions: Sessions::default(),
            schedules: Schedules::default(),
            journal: Journal::default(),
            digest,
        }
    }

    /// The cluster's feature level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Raises the feature level to one that is known here; it never falls.
    pub(super) fn raise_level(&mut self, level: Level) -> Level {
        self.level = self.level.max(level);
        self.level
    }

    pub(super) fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    pub(super) fn clocks_mut(&mut self) -> &mut Clocks {
        &mut self.clocks
    }

    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    pub(super) fn numbers_mut(&mut self) -> &mut Numbers {
        &mut self.numbers
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) fn nodes_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(super) fn auth_mut(&mut self) -> &mut Auth {
        &mut self.auth
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(super) fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    pub(super) fn holders(&self) -> &Holders {
        &self.holders
    }

    pub(super) fn holders_mut(&mut self) -> &mut Holders {
        &mut self.holders
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    /// The sessions, to be changed by who has leases.
    pub(super) fn sessions_beside_holders(&mut self) -> (&mut Sessions, &Holders) {
        (&mut self.sessions, &self.holders)
    }

    pub(super) fn all_schedules(&self) -> &Schedules {
        &self.schedules
    }

    pub(super) fn schedules_mut(&mut self) -> &mut Schedules {
        &mut self.schedules
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    pub(super) fn digest_so_far(&self) -> Digest {
        self.digest
    }

    pub(super) fn set_digest(&mut self, digest: Digest) {
        self.digest = digest;
    }

    /// The replicated wall clock, Unix milliseconds.
    pub fn wall_ms(&self) -> u64 {
        self.clocks.wall_ms()
    }

    /// The replicated clock that durations run on, in milliseconds; never goes back.
    pub fn elapsed_ms(&self) -> u64 {
        self.clocks.elapsed_ms()
    }

    /// Bytes of the contents of all messages.
    pub fn bytes(&self) -> u64 {
        self.catalog.counts().bytes
    }

    /// Queues whose pushes are paused.
    pub fn paused_count(&self) -> u64 {
        self.catalog.counts().paused
    }

    /// The replicated lease clock, in milliseconds.
    pub fn lease_clock_ms(&self) -> u64 {
        self.clocks.lease_ms()
    }

    /// Ready messages of a queue that may be handed out; 0 if there is no such queue.
    pub fn available(&self, queue: &QueueName) -> u64 {
        self.queue(queue).map_or(0, Queue::available)
    }

    /// Whether the queue exists.
    pub fn has_queue(&self, queue: &QueueName) -> bool {
        self.catalog.number(queue).is_some()
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
        self.catalog.named(name)
    }

    /// The index under which a session is open.
    pub fn session_index(&self, session: SessionId) -> Option<u64> {
        self.sessions.all().get(&session).map(|session| session.opening.index)
    }

    /// Where the client of an open session was when it opened.
    pub(super) fn session_source(&self, session: SessionId) -> Option<Source> {
        self.sessions.all().get(&session).map(|session| session.opening.source)
    }

    /// Whether the session was forgotten, and its id is still kept.
    pub(crate) fn has_forgotten(&self, session: SessionId) -> bool {
        self.sessions.forgotten().has(session)
    }

    pub(super) fn has_leases(&self, session: SessionId) -> bool {
        self.holders.has(session)
    }
}

//! What the client gets. A frame of kind response carries one [`Response`] in its header and, where messages
//! are delivered or shown, their contents in its tail, one after the other.
//!
//! Variants and fields are appended, never reordered: postcard numbers them by position.

use serde::{Deserialize, Serialize};

use crate::content::ContentSpec;
use crate::error::{Error, ErrorCode};
use crate::health::HealthView;
use crate::limits::{
    ERROR_TEXT_SIZE_MAX, HISTORY_COUNT_MAX, LEASE_COUNT_MAX, RECEIPTS_COUNT_MAX, STAGES_MAX,
};
use crate::names::{ClusterId, Key, LeaseToken, MessageId, NodeId, QueueName};
use crate::settings::Settings;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::checkpoint::Checkpoint;
use crate::wire::clients::LeaseHolder;
use crate::wire::level::{Level, Levels};
use crate::wire::logs::LogView;
use crate::wire::request::{Cursor, MessageState};
pub use crate::wire::requests::Answer;
use crate::wire::security::{SecretView, TlsView};
pub use crate::wire::stages::{StageView, WriteStage};

/// An answer and where it stands in the one order of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Where this took effect; for a read, the entry behind which it stands. A repeat carries the original.
    pub at: At,
    /// This is the recorded answer of an earlier try.
    pub repeated: bool,
    /// The lease clock at the moment of answering, in milliseconds: a deadline less this is what is left of a lease. 0 with
    /// an error of the node that answers.
    pub lease_clock_ms: u64,
    /// What came of it.
    pub result: Result<Answer, Error>,
    /// How old what was read may be.
    pub age: Age,
}

/// How old the state may be that an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Age {
    /// It shows everything that was acknowledged before the request was made.
    #[default]
    Now,
    /// It shows everything that was acknowledged this many milliseconds before the answer, or earlier.
    AtMostMs(u64),
    /// Nobody who leads was heard of yet.
    Unknown,
}

/// A place in the log: entry, and command within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct At {
    /// Raft index; 0 where nothing was read or written.
    pub index: u64,
    /// Position of the command in the entry; `u32::MAX` for a read, which stands behind all of them.
    pub position: u32,
}

/// A run of messages of one push that fared alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushOutcome {
    /// Stored under consecutive ids.
    Stored {
        /// Id of the first.
        first_id: MessageId,
        /// How many.
        count: u32,
    },
    /// Not stored.
    Refused {
        /// The reason.
        code: ErrorCode,
        /// How many.
        count: u32,
    },
    /// One message that is there already.
    Duplicate {
        /// Its id.
        id: MessageId,
    },
}

/// A leased or popped message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Where it came from.
    pub queue: QueueName,
    /// Which message.
    pub id: MessageId,
    /// The right to settle it; with a pop it is settled already.
    pub token: LeaseToken,
    /// Attempt number: 1 for the first lease.
    pub attempt: u32,
    /// How often it failed or its lease ended.
    pub failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// Wall time of the push, Unix milliseconds.
    pub pushed_at_ms: u64,
    /// The lease in milliseconds; 0 with a pop.
    pub lease_ms: u64,
    /// Lease clock at which the lease may end.
    pub deadline_ms: u64,
    /// Measures the content in the tail.
    pub content: ContentSpec,
    /// Of a queue of one active consumer: sessions that had the queue until now, this one included; else 0.
    pub epoch: u64,
    /// What an earlier attempt left.
    pub checkpoint: Option<Checkpoint>,
}

impl<const N: usize> Bounded<Delivery, N> {
    /// Sizes and checksums of the contents in its tail, in their order.
    pub fn contents(&self) -> Vec<ContentSpec> {
        self.iter().map(|delivery| delivery.content).collect()
    }
}

/// What became of one receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// Done.
    Ok,
    /// The lease ended or was settled before; the message is still in the queue.
    Stale,
    /// No such message any more.
    Gone,
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Messages changed, or found by a dry run.
    pub count: u64,
    /// Where the next one is to begin; `None` if nothing is left.
    pub next: Option<Cursor>,
    /// Messages that stayed where they are because another message holds their unique key there; not among `count`. A dry
    /// run counts none.
    pub skipped: u64,
}

/// What became of one message of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edited {
    /// Done.
    Done,
    /// No such message in that queue.
    Gone,
    /// Not done: it is leased.
    Leased,
    /// Not cancelled: it is ready, leased or dead.
    AlreadyReady,
    /// Not done: another message holds its unique key in the queue it would be live in.
    KeyHeld,
}

/// What became of an extend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// One a receipt; empty for a whole session.
    pub results: Bounded<Settled, RECEIPTS_COUNT_MAX>,
    /// Leases made longer.
    pub count: u64,
    /// Lease clock at which they may end.
    pub deadline_ms: u64,
}

/// A page of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peeked {
    /// In order of state, priority and id.
    pub messages: Bounded<MessageView, LEASE_COUNT_MAX>,
    /// Where the next page begins; none if this was the last. Fewer messages than were asked for and a next page: more would
    /// have been too large for one answer.
    pub next: Option<Cursor>,
}

impl Peeked {
    /// Sizes and checksums of the contents in its tail, in their order.
    pub fn contents(&self) -> Vec<ContentSpec> {
        self.messages.iter().map(|view| view.content).collect()
    }
}

/// A message as peek shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Which message.
    pub id: MessageId,
    /// Where it stands.
    pub state: MessageState,
    /// 0 to 31.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// Leases granted.
    pub attempts: u32,
    /// Failures and ended leases.
    pub failures: u32,
    /// Given back without blame.
    pub releases: u32,
    /// Wall time of the push, Unix milliseconds.
    pub pushed_at_ms: u64,
    /// Milliseconds since the push.
    pub age_ms: u64,
    /// Delayed: wall time when it is due. Leased: milliseconds left on the lease clock. Dead: wall time of death.
    pub until_ms: Option<u64>,
    /// Delayed for a duration: milliseconds left of it.
    pub left_ms: Option<u64>,
    /// Dead: milliseconds since its death.
    pub dead_ms: Option<u64>,
    /// The newest lease, if leased.
    pub token: Option<LeaseToken>,
    /// Why it is dead.
    pub dead: Option<DeadReason>,
    /// Text of the last failure.
    pub last_error: Option<Text<ERROR_TEXT_SIZE_MAX>>,
    /// What happened last, from the first failure on, oldest first.
    pub history: Bounded<Event, HISTORY_COUNT_MAX>,
    /// Wall time when its time to live passes.
    pub expires_at_ms: Option<u64>,
    /// Measures the content in the tail.
    pub content: ContentSpec,
    /// Size of the checkpoint that its next attempt gets.
    pub checkpoint_size: Option<u32>,
    /// Who holds it, if leased.
    pub holder: Option<LeaseHolder>,
}

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeadReason {
    /// Its failures were used up.
    MaxFailures,
    /// A consumer rejected it.
    Rejected,
    /// Its time to live passed.
    Expired,
    /// It made room in a full queue.
    Overflow,
    /// Somebody put it there by hand, or its group was parked.
    Admin,
}

/// Something that happened to a message, kept from its first failure on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Wall time, Unix milliseconds.
    pub at_ms: u64,
    /// Leases granted until then.
    pub attempts: u32,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A consumer said that it failed.
    Failed,
    /// Its lease ended.
    LeaseEnded,
    /// It was given back without blame.
    Released,
    /// It became dead.
    Died(DeadReason),
    /// It was dead and was put back.
    Redriven,
    /// It came from this queue.
    Moved(QueueName),
}

/// A queue with its counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// Messages ready.
    pub ready: u64,
    /// Messages leased.
    pub leased: u64,
    /// Messages delayed.
    pub delayed: u64,
    /// Messages dead.
    pub dead: u64,
    /// Contents of all four.
    pub bytes: u64,
    /// Milliseconds since the push of the oldest ready message.
    pub oldest_ready_ms: Option<u64>,
    /// Milliseconds until the next delayed message is due.
    pub next_due_in_ms: Option<u64>,
    /// Messages pushed since the queue was made.
    pub pushed_total: u64,
    /// Leases granted since the queue was made.
    pub leased_total: u64,
    /// Messages acked or popped since the queue was made.
    pub acked_total: u64,
    /// How it behaves.
    pub settings: Settings,
    /// Leases and pops parked at the node that answers.
    pub waiting: u32,
    /// 1 when it was made; 1 more with each change of its settings.
    pub version: u64,
    /// It is at its limit of messages or bytes, and refuses pushes for that.
    pub full: bool,
    /// Messages are ready, and none is handed out: dead ones block their groups.
    pub blocked: bool,
}

/// A node that leads, as others are sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// Raft's number.
    pub node: NodeId,
    /// Its name.
    pub name: Text<64>,
    /// Where clients reach it.
    pub address: Text<256>,
    /// Its term.
    pub term: u64,
}

/// What a node does in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Leads, with a quorum or without.
    Leader,
    /// Follows or is electing.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Receives the log and has no vote.
    Learner,
}

/// What one node says of itself and of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The cluster.
    pub cluster: ClusterId,
    /// Raft's number of the node that answers.
    pub node: NodeId,
    /// Its name.
    pub name: Text<64>,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows: whom it heard lately, or itself if a majority followed it lately.
    pub leader: Option<LeaderView>,
    /// Last index in its log.
    pub last_index: u64,
    /// Highest index it knows to be committed.
    pub commit_index: u64,
    /// Highest index it has applied.
    pub applied_index: u64,
    /// Index of its newest snapshot, 0 for none.
    pub snapshot_index: u64,
    /// Index up to which its log is purged.
    pub purged_index: u64,
    /// Free bytes on its disk.
    pub disk_free_bytes: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Its version.
    pub version: Text<64>,
    /// It was drained and does not want to lead.
    pub drained: bool,
    /// The cluster's feature level, as far as it has applied.
    pub level: Level,
    /// The feature levels it speaks.
    pub levels: Levels,
    /// The members as it knows them.
    pub members: Bounded<MemberView, 64>,
    /// Who votes is being changed: until it is, a majority of the voters before and one of those after are needed.
    pub changing: bool,
    /// Milliseconds that its own clock is ahead of the cluster's time of day, 0 if that is not known; by more than a
    /// second, and it is not believed.
    pub clock_off_ms: i64,
    /// Connections of clients that it takes at a time.
    pub connections_max: u64,
    /// Those that its setting asks for: more than it takes, if it has too few file descriptors for them.
    pub connections_asked: u64,
    /// What it can say of how the cluster is.
    pub health: HealthView,
    /// How its connections are secured.
    pub tls: TlsView,
    /// Which secret of the cluster it has.
    pub secret: SecretView,
    /// Which log lines it writes.
    pub log: LogView,
}

/// A member as the membership names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Raft's number.
    pub node: NodeId,
    /// Its name.
    pub name: Text<64>,
    /// Where clients and peers reach it.
    pub address: Text<256>,
    /// It votes; otherwise it learns.
    pub voter: bool,
    /// On the leader: index known to be on its disk.
    pub matched_index: Option<u64>,
}

/// Totals of the state.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsView {
    /// Queues.
    pub queues: u64,
    /// Messages ready.
    pub ready: u64,
    /// Messages leased.
    pub leased: u64,
    /// Messages delayed.
    pub delayed: u64,
    /// Messages dead.
    pub dead: u64,
    /// Contents of all four.
    pub bytes: u64,
    /// Sessions remembered.
    pub sessions: u64,
    /// Messages pushed since the cluster was made.
    pub pushed_total: u64,
    /// Leases granted since the cluster was made.
    pub leased_total: u64,
    /// Messages acked or popped since the cluster was made.
    pub acked_total: u64,
    /// Client connections of the node that answers.
    pub connections: u64,
    /// Leases and pops parked at the node that answers.
    pub waiting: u64,
    /// Wall clock of the state, Unix milliseconds.
    pub wall_ms: u64,
    /// Where the time of writes went at the node that answers, since it started; in the order of the way of a write.
    pub stages: Bounded<StageView, STAGES_MAX>,
}

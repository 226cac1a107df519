//! What is replicated: the commands of one entry with the stamps of the leader that proposed it. `apply`
//! reads only the state and this; the proposing leader has filled every default in.

use queue_protocol::limits::{
    ERROR_TEXT_SIZE_MAX, KEY_SIZE_MAX, LEASE_QUEUES_MAX, PUSH_COUNT_MAX, QUEUE_NAME_SIZE_MAX,
    RECEIPTS_COUNT_MAX, TAIL_SIZE_MAX, TXN_COUNT_MAX,
};
use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName, SessionId, StoreId};
use queue_protocol::settings::{QueueSettings, Settings};
use queue_protocol::wire::auth::ChangeAuth;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::checkpoint::SaveCheckpoint;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::{Change, PushOptions, Sweep, WeighGroup};
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::schedule::{Missed, When};
use queue_protocol::wire::txn::Condition;
use serde::{Deserialize, Serialize};

use super::auth::{By, KeyNumber};
use super::clients::answers::{lease_size_max, push_size_max, steps_size_max};
use super::clients::bound::RELEASED_COUNT_MAX;
use super::nodes::Admission;
pub use super::rotation::{BeginRotation, NoteRotation};

/// Commands of one entry, at most.
pub const COMMANDS_COUNT_MAX: usize = 4_096;
/// Bytes that the commands of one entry and their contents take together, at most; one command may take more.
pub const ENTRY_SIZE_MAX: usize = 1 << 20;

/// The command section of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When it was proposed.
    pub stamps: Stamps,
    /// Executed in this order, each as a whole.
    pub commands: Bounded<Command, COMMANDS_COUNT_MAX>,
}

/// The replicated clocks as the proposing leader read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamps {
    /// Unix milliseconds; the state takes the maximum of this and its own.
    pub wall_ms: u64,
    /// Milliseconds on the clock that durations run on; the state takes the maximum of this and its own.
    pub elapsed_ms: u64,
    /// Milliseconds with a quorum behind this leader since its previous entry of this term.
    pub confirmed_ms: u64,
    /// Milliseconds from the newest counted acknowledgement of a quorum to the stamping of this entry: what the lease
    /// clock lags behind. Every deadline on that clock that begins with this entry is this much later.
    pub unconfirmed_ms: u64,
}

impl Stamps {
    /// The stamps of a leader whose elapsed time equals its wall time and whose quorum has confirmed everything.
    pub fn of(wall_ms: u64, confirmed_ms: u64) -> Self {
        Self { wall_ms, elapsed_ms: wall_ms, confirmed_ms, unconfirmed_ms: 0 }
    }
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Makes it count once; `None` only for what the broker itself proposes.
    pub session: Option<SessionStamp>,
    /// The operation that is replicated.
    pub op: Op,
}

/// The place of a command in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStamp {
    /// The session that asks, chosen by the client.
    pub session: SessionId,
    /// Given once per request.
    pub number: u64,
    /// Answers to all numbers below may be forgotten.
    pub done_below: u64,
    /// How the session opens with this command; `None` if the proposing leader knew that it is open.
    pub opening: Option<Opening>,
    /// Of the request, which is the same whenever it comes under this number.
    pub request: RequestHash,
    /// Who sent it; `None` of who is not logged in.
    pub by: Option<By>,
}

/// What a session opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Opening {
    /// The index that its client learned from a leader before its first request; one for this session for ever.
    pub index: u64,
    /// Where the client is.
    pub source: Source,
}

/// Where a client is: its IPv6 address without the lower half, or its IPv4 address as mapped to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Source(pub [u8; 16]);

/// An operation of the replicated state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Store messages; takes as many rows of the entry's body table as it has messages, in order.
    Push(Push),
    /// Hand out messages for a while.
    Lease(Lease),
    /// Hand out and settle. `lease_ms` is ignored.
    Pop(Lease),
    /// Delete leased messages: they are done.
    Ack(Receipts),
    /// Give leased messages back.
    Nack {
        /// The leases that end.
        leases: Receipts,
        /// Whether it counts as a failure, and when the messages are ready again.
        kind: queue_protocol::wire::request::NackKind,
    },
    /// Let leases end later.
    Extend {
        /// `None` is all of the session.
        leases: Option<Receipts>,
        /// From this entry on.
        lease_ms: u64,
    },
    /// Make a queue that does not exist.
    CreateQueue {
        /// The name of the new queue.
        queue: QueueName,
        /// Its settings, all filled in.
        settings: Box<Settings>,
        /// Not refused if it exists.
        if_not_exists: bool,
    },
    /// Change how a queue behaves.
    AlterQueue {
        /// The queue that is changed.
        queue: QueueName,
        /// The settings that change; the others stay.
        change: Box<QueueSettings>,
        /// Refused if its version is another.
        if_version: Option<u64>,
    },
    /// Remove a queue with all its messages.
    RemoveQueue {
        /// The queue that is removed.
        queue: QueueName,
        /// Not refused if it does not exist.
        if_exists: bool,
        /// Refused if it holds messages.
        if_empty: bool,
    },
    /// Change the messages that a filter names, a part at a time.
    Sweep(Box<Sweep>),
    /// Change messages by id.
    Edit {
        /// The queue that holds the messages.
        queue: QueueName,
        /// The messages, each changed by itself.
        ids: Bounded<MessageId, RECEIPTS_COUNT_MAX>,
        /// What is done to each of them.
        change: Change,
    },
    /// Forget the session and its recorded answers.
    CloseSession,
    /// Give the next Raft id to a node that joins; only the broker itself does that.
    AssignNode {
        /// The data directory of the node.
        store: StoreId,
        /// The public half of its key.
        key: [u8; 32],
    },
    /// Nothing but the clocks.
    Tick,
    /// Give a group a weight of its own.
    WeighGroup(Box<WeighGroup>),
    /// From the next entry on the cluster is at this feature level, if it is not at a higher one.
    RaiseLevel(Level),
    /// Do several things or nothing.
    Txn(Box<Txn>),
    /// Push a message again and again; takes one row of the entry's body table.
    SetSchedule(Box<SetSchedule>),
    /// Remove the schedule of that name.
    RemoveSchedule(Key),
    /// Push what a schedule says; only the broker itself does that.
    Fire(Box<Fire>),
    /// Make a lease longer, and keep how far the work has come.
    SaveCheckpoint(Box<SaveCheckpoint>),
    /// Bind the session to the presence of its client, or unbind it.
    BindSession {
        /// How long the client may be away; `None` unbinds.
        grace_ms: Option<u64>,
    },
    /// The client of a bound session was away for too long; only the broker itself says so.
    ReleaseAbsent(SessionId),
    /// The wall clock is wrong; only the broker itself says so. Changes nothing if the wall clock is to go back and is not
    /// at `from_ms` any more.
    SetWall {
        /// Where the leader saw it, Unix milliseconds.
        from_ms: u64,
        /// Where it is to be.
        to_ms: u64,
    },
    /// The node that made the cluster, number 1, and the key that certifies others; only that node itself says so, once.
    FoundCluster(Box<FoundCluster>),
    /// Another secret and admission key are made; only the broker itself says so.
    BeginRotation(Box<BeginRotation>),
    /// How far a member is with them; only the broker itself says so.
    NoteRotation(NoteRotation),
    /// Change who may do what.
    ChangeAuth(Box<ChangeAuth>),
    /// Keys were used; only the broker itself says so.
    NoteKeys(Bounded<KeyNumber, KEYS_NOTED_MAX>),
}

/// What a cluster begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundCluster {
    /// The data directory of node 1.
    pub store: StoreId,
    /// The public half of its key.
    pub key: [u8; 32],
    /// The key that certifies nodes.
    pub admission: Admission,
}

impl Op {
    /// Its pushes, in order.
    pub fn pushes(&self) -> impl Iterator<Item = &Push> {
        let (one, steps) = match self {
            Self::Push(push) => (Some(push), &[][..]),
            Self::Txn(txn) => (None, &txn.steps[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(steps.iter().filter_map(Step::push))
    }

    /// How many rows of the entry's body table it takes.
    pub fn rows(&self) -> u64 {
        let scheduled = u64::from(matches!(self, Self::SetSchedule(_)));
        self.pushes().map(|push| u64::from(push.count)).sum::<u64>() + scheduled
    }
}

/// What a command takes of what is limited, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    /// Bytes that it takes in an entry besides its session and place; for some a measure of the time it takes to apply.
    pub(crate) entry: usize,
    /// Bytes that the items of its answer count in its session.
    pub(crate) answer: u64,
    /// Bytes of contents that its answer names.
    pub(crate) contents: u64,
}

impl Cost {
    /// Takes this much in an entry, and has an answer without items.
    fn entry(entry: usize) -> Self {
        Self { entry, ..Self::default() }
    }
}

/// Bytes of a name of a queue with its length; a key is as long.
const NAME_SIZE: usize = 2 + QUEUE_NAME_SIZE_MAX;
const _: () = assert!(KEY_SIZE_MAX <= QUEUE_NAME_SIZE_MAX);
/// Bytes of a receipt.
const RECEIPT_SIZE: usize = 20;
/// Bytes of a text that a nack or a transaction brings, with what names it.
const TEXT_SIZE: usize = 76 + ERROR_TEXT_SIZE_MAX;
/// What an edit of one message counts, not for its bytes: an entry is to take no longer to apply than two sweeps.
const EDIT_SIZE: usize = 100;
/// Grants, notes and names of a change of who may do what.
const CHANGE_AUTH_SIZE: usize = 16 << 10;
/// Keys in one command that notes their use.
pub const KEYS_NOTED_MAX: usize = 1_024;
/// The number of a node.
const NODE_NUMBER_SIZE: usize = 10;
/// All settings of a queue.
const SETTINGS_SIZE: usize = 512;

impl Op {
    /// What it takes, never less than it does: an entry must fit what a peer accepts, and an answer its session.
    pub(crate) fn cost(&self) -> Cost {
        let receipts = |leases: &Receipts| leases.receipts.len();
        match self {
            Self::Push(push) => Cost { entry: push.entry_size(), answer: push_size_max(push), contents: 0 },
            Self::Lease(lease) | Self::Pop(lease) => Cost {
                entry: NAME_SIZE * lease.queues.len(),
                answer: lease_size_max(lease),
                contents: TAIL_SIZE_MAX as u64,
            },
            Self::Ack(leases) | Self::Extend { leases: Some(leases), .. } => {
                Cost { entry: RECEIPT_SIZE * receipts(leases), answer: receipts(leases) as u64, contents: 0 }
            }
            Self::Nack { leases, .. } => Cost {
                entry: TEXT_SIZE + RECEIPT_SIZE * receipts(leases),
                answer: receipts(leases) as u64,
                contents: 0,
            },
            Self::Edit { ids, .. } => {
                Cost { entry: EDIT_SIZE * ids.len(), answer: ids.len() as u64, contents: 0 }
            }
            Self::Txn(txn) => txn.cost(),
            Self::ReleaseAbsent(_) => Cost::entry(EDIT_SIZE * RELEASED_COUNT_MAX),
            Self::Sweep(_) => Cost::entry(ENTRY_SIZE_MAX / 2),
            Self::SaveCheckpoint(save) => {
                Cost { entry: 256 + save.checkpoint.as_bytes().len(), answer: 1, contents: 0 }
            }
            Self::CreateQueue { .. } | Self::AlterQueue { .. } => Cost::entry(SETTINGS_SIZE),
            Self::WeighGroup(_) => Cost::entry(2 * NAME_SIZE),
            Self::SetSchedule(_) => Cost::entry(1_024),
            Self::RemoveSchedule(_) | Self::Fire(_) | Self::RemoveQueue { .. } => Cost::entry(NAME_SIZE),
            Self::FoundCluster(_) => Cost::entry(256),
            Self::ChangeAuth(_) => Cost::entry(CHANGE_AUTH_SIZE),
            Self::NoteKeys(used) => Cost::entry(NODE_NUMBER_SIZE * used.len()),
            Self::BeginRotation(begin) => Cost::entry(128 + NODE_NUMBER_SIZE * begin.left_out.len()),
            Self::Extend { leases: None, .. }
            | Self::CloseSession
            | Self::AssignNode { .. }
            | Self::Tick
            | Self::RaiseLevel(_)
            | Self::BindSession { .. }
            | Self::NoteRotation(_)
            | Self::SetWall { .. } => Cost::default(),
        }
    }
}

/// Messages for one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The queue that gets the messages.
    pub queue: QueueName,
    /// Settings of the queue if it has to be made; `None` refuses.
    pub create: Option<Box<Settings>>,
    /// If one message is refused, none is stored.
    pub atomic: bool,
    /// How many messages there are, 1 to 1,000; their bodies are in the entry's table.
    pub count: u32,
    /// Those that are not plain ([`PushOptions::default`]): ordinal within this push, rising.
    pub special: Bounded<(u32, PushOptions), PUSH_COUNT_MAX>,
}

impl Push {
    /// Bytes of what it says of its messages, at most.
    fn entry_size(&self) -> usize {
        let keys = |(_, options): &(u32, PushOptions)| {
            let unique = options.unique.as_ref().map(|unique| &unique.key);
            let keys = [options.dedup_key.as_ref(), unique, options.group.as_ref()];
            keys.into_iter().flatten().map(|key| key.as_str().len()).sum::<usize>()
        };
        self.special.iter().map(|special| 48 + keys(special)).sum()
    }
}

/// A schedule, its first time computed by the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSchedule {
    /// The name of the schedule, unique in the cluster.
    pub name: Key,
    /// Also if there is one.
    pub replace: bool,
    /// The queue that gets the messages.
    pub queue: QueueName,
    /// At which times it pushes.
    pub when: When,
    /// What becomes of missed times.
    pub missed: Missed,
    /// How the message is to be treated.
    pub options: PushOptions,
    /// Time of the first push: of an interval on the elapsed clock, of a pattern on the wall clock.
    pub next_ms: Option<u64>,
}

/// A time of a schedule has come, and what follows from it, computed by the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fire {
    /// The schedule that fires, by name.
    pub name: Key,
    /// The time that it waits for; otherwise nothing is done.
    pub due_ms: Option<u64>,
    /// Whether that is to be computed anew, for the wall clock was set back; otherwise nothing is done.
    pub recount: bool,
    /// Of a pattern: the last of its times that is pushed by this.
    pub pushed_ms: Option<u64>,
    /// How many messages to push, at most 100.
    pub count: u32,
    /// The time that it waits for next.
    pub next_ms: Option<u64>,
}

/// Several changes, if conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What must be so.
    pub conditions: Bounded<Condition, TXN_COUNT_MAX>,
    /// What is done, in order.
    pub steps: Bounded<Step, TXN_COUNT_MAX>,
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Store messages in a queue.
    Push(Push),
    /// Delete leased messages: they are done.
    Ack(Receipts),
    /// Give leased messages back.
    Nack {
        /// The leases that end.
        leases: Receipts,
        /// Whether it counts as a failure, and when the messages are ready again.
        kind: queue_protocol::wire::request::NackKind,
    },
    /// Let leases end later.
    Extend {
        /// The leases that are made longer.
        leases: Receipts,
        /// From this entry on.
        lease_ms: u64,
    },
    /// Change messages by id.
    Edit {
        /// The queue that holds the messages.
        queue: QueueName,
        /// The messages that are changed.
        ids: Bounded<MessageId, RECEIPTS_COUNT_MAX>,
        /// What is done to each of them.
        change: Change,
    },
}

impl Step {
    /// The push that it is.
    pub fn push(&self) -> Option<&Push> {
        if let Self::Push(push) = self { Some(push) } else { None }
    }

    /// Messages, receipts or ids.
    pub fn items(&self) -> usize {
        match self {
            Self::Push(push) => push.count as usize,
            Self::Ack(leases) | Self::Nack { leases, .. } | Self::Extend { leases, .. } => {
                leases.receipts.len()
            }
            Self::Edit { ids, .. } => ids.len(),
        }
    }
}

impl Txn {
    /// Messages, receipts and ids of all steps.
    pub fn items(&self) -> usize {
        self.steps.iter().map(Step::items).sum()
    }

    /// As of its steps together. A nack brings its text, and all of it is one command: time to apply counts too.
    fn cost(&self) -> Cost {
        let pushes = || self.steps.iter().filter_map(Step::push);
        let texts = self.steps.iter().filter(|step| matches!(step, Step::Nack { .. })).count() * TEXT_SIZE;
        let parts = 512 * (self.conditions.len() + self.steps.len()) + EDIT_SIZE * self.items();
        Cost {
            entry: parts + texts + pushes().map(Push::entry_size).sum::<usize>(),
            answer: steps_size_max(self.steps.len(), pushes()),
            contents: 0,
        }
    }
}

/// Take messages from the first of `queues` that has any ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The queues to take from; the first that has a message is used.
    pub queues: Bounded<QueueName, LEASE_QUEUES_MAX>,
    /// At most so many.
    pub max_messages: u16,
    /// Contents together; one message is given however large.
    pub max_bytes: u32,
    /// `None` is the queue's default.
    pub lease_ms: Option<u64>,
}

/// Leases of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The queue that was leased from.
    pub queue: QueueName,
    /// Message and token of each lease, in the order of the answer.
    pub receipts: Bounded<(MessageId, LeaseToken), RECEIPTS_COUNT_MAX>,
}

/// A text kept with a message that failed.
pub type ErrorText = Text<ERROR_TEXT_SIZE_MAX>;

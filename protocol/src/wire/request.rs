//! What a client asks. A frame of kind request carries one [`Call`] in its header and, for a push, the
//! contents in its tail, one after the other.
//!
//! Variants and fields are appended, never reordered: postcard numbers them by position.

use serde::{Deserialize, Serialize};

use crate::content::ContentSpec;
use crate::limits::{
    ERROR_TEXT_SIZE_MAX, KEY_SIZE_MAX, LEASE_QUEUES_MAX, PRIORITY_DEFAULT, PUSH_COUNT_MAX, RECEIPTS_COUNT_MAX,
};
use crate::names::{Key, LeaseToken, MessageId, QueueName};
use crate::settings::QueueSettings;
use crate::wire::bounded::{Bounded, Text};
pub use crate::wire::cursor::Cursor;
pub use crate::wire::requests::Request;
use crate::wire::response::DeadReason;

/// A request and what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Names this request within the session of the hello; every request that changes a queue has one.
    pub stamp: Option<Stamp>,
    /// How long the client still waits, in milliseconds, the request's own `wait_ms` included.
    pub timeout_ms: u32,
    /// Reserved: for whom a gateway asks. Must be none; anything else is refused (`not_permitted`).
    pub on_behalf_of: Option<OnBehalfOf>,
    /// Reserved: the Raft group that is asked. Must be 0; anything else is refused (`bad_request`).
    pub group: u32,
    /// What is asked.
    pub request: Request,
}

impl Call {
    /// A call for the client of the connection itself, to the one group that there is.
    pub fn new(stamp: Option<Stamp>, timeout_ms: u32, request: Request) -> Self {
        Self { stamp, timeout_ms, on_behalf_of: None, group: 0, request }
    }
}

/// For whom a gateway asks over a connection of its own. Reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalfOf {
    /// The session of that client, little-endian.
    pub session: [u8; 16],
    /// Its principal, by number.
    pub principal: u32,
    /// The id of the key that it showed.
    pub key: [u8; 10],
    /// Where it comes from, as text.
    pub from: Text<64>,
}

/// The place of a request in its session (Ongaro's dissertation §6.3, for many requests in flight).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Given once per request, repeated with every retry of it.
    pub number: u64,
    /// All numbers below this one are answered at the client, so their answers may be forgotten.
    pub done_below: u64,
    /// The index of the log that the leader named before the session's first request ([`crate::wire::hello::Accepted::index`]):
    /// one for all requests of a session, never renewed.
    pub index: u64,
}

impl Request {
    /// How long it waits for messages, in milliseconds, lingering included; 0 for all that answers at once.
    pub fn wait_ms(&self) -> u32 {
        self.taking().map_or(0, |lease| lease.wait_ms.saturating_add(lease.linger_ms))
    }

    /// The queue it is about, the first of several; `None` if it is about none, or a transaction.
    pub fn queue(&self) -> Option<&QueueName> {
        match self {
            Self::Push(push) => Some(&push.queue),
            Self::Lease(lease) | Self::Pop(lease) => lease.queues.first(),
            Self::Ack(receipts) => Some(&receipts.queue),
            Self::Nack(nack) => Some(&nack.leases.queue),
            Self::Extend(Extend { leases: ExtendWhich::Receipts(receipts), .. }) => Some(&receipts.queue),
            Self::Peek(peek) => Some(&peek.queue),
            Self::Queues(queues) => queues.only.as_ref(),
            Self::CreateQueue(create) => Some(&create.queue),
            Self::AlterQueue(alter) => Some(&alter.queue),
            Self::RemoveQueue(remove) => Some(&remove.queue),
            Self::Sweep(sweep) => Some(&sweep.queue),
            Self::Edit(edit) => Some(&edit.queue),
            Self::Explain(explain) => Some(&explain.queue),
            Self::WeighGroup(weigh) => Some(&weigh.queue),
            Self::SaveCheckpoint(save) => Some(&save.queue),
            Self::Groups(groups) => Some(&groups.queue),
            Self::History(history) => Some(&history.queue),
            _ => None,
        }
    }

    fn taking(&self) -> Option<&Lease> {
        if let Self::Lease(lease) | Self::Pop(lease) = self { Some(lease) } else { None }
    }

    /// From now on it waits this long, lingering included, if it waits for messages at all.
    #[cfg(feature = "client")]
    pub(crate) fn set_wait_ms(&mut self, wait_ms: u32) {
        if let Self::Lease(lease) | Self::Pop(lease) = self {
            lease.wait_ms = wait_ms.saturating_sub(lease.linger_ms);
        }
    }
}

/// Messages for one queue, at most 1,000 and 8 MiB of contents; one command, never split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The queue that gets the messages.
    pub queue: QueueName,
    /// Make the queue, with default settings, if it does not exist.
    pub create: bool,
    /// If one message is refused, none is stored.
    pub atomic: bool,
    /// In push order, as are the contents in the tail.
    pub messages: Bounded<PushMessage, PUSH_COUNT_MAX>,
}

impl Push {
    /// Sizes and checksums of the contents in its tail, in their order.
    pub fn contents(&self) -> Vec<ContentSpec> {
        self.messages.iter().map(|message| message.content).collect()
    }
}

/// One message of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushMessage {
    /// Measures the content in the tail.
    pub content: ContentSpec,
    /// How it is to be treated.
    pub options: PushOptions,
}

impl PushMessage {
    /// A message without options that has this content.
    pub fn plain(content: &[u8]) -> Self {
        Self { content: ContentSpec::of(content), options: PushOptions::default() }
    }
}

/// What can be said of a message when it is pushed; the default is a plain one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOptions {
    /// 0 to 31, higher first.
    pub priority: u8,
    /// When it becomes ready.
    pub due: Due,
    /// Time to live in milliseconds from now; the queue's if `None`.
    pub ttl_ms: Option<u64>,
    /// Not stored if this key came with a push within the queue's dedup window.
    pub dedup_key: Option<Key>,
    /// Not beside another that has the same key and is ready, leased or delayed.
    pub unique: Option<Unique>,
    /// The group it belongs to.
    pub group: Option<Key>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            priority: PRIORITY_DEFAULT,
            due: Due::Now,
            ttl_ms: None,
            dedup_key: None,
            unique: None,
            group: None,
        }
    }
}

/// A key that one live message of a queue can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key.
    pub key: Key,
    /// What to do if a message has it.
    pub held: UniqueHeld,
}

/// What a push does when a live message has its unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UniqueHeld {
    /// It is refused.
    Reject,
    /// It takes the place of the other, unless that is leased: then it is refused.
    Replace,
    /// It is not stored, and answered with the id of the other.
    Keep,
}

/// When a message becomes ready, on the replicated wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// This many milliseconds after its push, at most 366 d.
    AfterMs(u64),
    /// At this Unix time in milliseconds.
    AtMs(u64),
}

/// Take up to `max_messages` from the first of `queues` that has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Looked at in this order; none twice.
    pub queues: Bounded<QueueName, LEASE_QUEUES_MAX>,
    /// 1 to 256.
    pub max_messages: u16,
    /// Contents together; at least one message is given, however large.
    pub max_bytes: u32,
    /// 1 s to 12 h; the queue's default if `None`.
    pub lease_ms: Option<u64>,
    /// How long to wait for the first message, at most 5 min; 0 answers at once.
    pub wait_ms: u32,
    /// Once a message is there, wait so much longer for `max_messages` of them; at most 5 min.
    pub linger_ms: u32,
}

/// Leases of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The queue that was leased from.
    pub queue: QueueName,
    /// Message and token, in the order of the answer.
    pub receipts: Bounded<(MessageId, LeaseToken), RECEIPTS_COUNT_MAX>,
}

/// Give back the leases named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// The leases.
    pub leases: Receipts,
    /// Whether and how it counts as a failure.
    pub kind: NackKind,
}

/// Why a message is given back, which decides where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NackKind {
    /// Without blame: ready again in its old place, or after `delay_ms`.
    Release {
        /// Delay before it is ready again.
        delay_ms: u64,
    },
    /// Failed: `failures` + 1, then ready again after `delay_ms` or the queue's back-off, or dead.
    Fail {
        /// Delay before it is ready again; the queue's back-off if `None`.
        delay_ms: Option<u64>,
        /// Kept with the message.
        error: Text<ERROR_TEXT_SIZE_MAX>,
    },
    /// Dead now.
    Reject {
        /// Kept with the message.
        reason: Text<ERROR_TEXT_SIZE_MAX>,
    },
}

/// Let leases end `lease_ms` from now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extend {
    /// The leases.
    pub leases: ExtendWhich,
    /// 1 s to 12 h, counted on the lease clock from the entry that carries this.
    pub lease_ms: u64,
}

/// The leases an extend speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtendWhich {
    /// These leases.
    Receipts(Receipts),
    /// All that this session holds.
    Session,
}

/// States of a message, in the order in which they are shown everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MessageState {
    /// Can be leased.
    Ready,
    /// Handed out.
    Leased,
    /// Becomes ready later.
    Delayed,
    /// Set aside: failures used up or rejected.
    Dead,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// By read index, on the leader.
    Linearizable,
    /// What the asked node has applied.
    Stale,
}

/// Show messages in order of state, priority and id. Of the ready ones of a queue without groups that is the delivery order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peek {
    /// The queue.
    pub queue: QueueName,
    /// Which state; `None` looks for `id` in all of them.
    pub state: Option<MessageState>,
    /// Only this message.
    pub id: Option<MessageId>,
    /// 1 to 256.
    pub max_messages: u16,
    /// Contents together; at least one message is shown.
    pub max_bytes: u32,
    /// Only what comes behind this place, which is `next` of an earlier answer.
    pub after: Option<Cursor>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// List queues by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Only this one.
    pub only: Option<QueueName>,
    /// Names after this one, for the next page of 1,000.
    pub after: Option<QueueName>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// Make a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateQueue {
    /// Its name.
    pub queue: QueueName,
    /// How it behaves.
    pub settings: QueueSettings,
    /// Done, not refused, if it exists, whatever its settings.
    pub if_not_exists: bool,
}

/// Change how a queue behaves; what is not named stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterQueue {
    /// Its name.
    pub queue: QueueName,
    /// What changes.
    pub change: QueueSettings,
    /// Refused if the queue's version is another.
    pub if_version: Option<u64>,
}

/// Give a group of a queue a weight of its own, for its next turn on, whether it has messages or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeighGroup {
    /// The queue.
    pub queue: QueueName,
    /// The group.
    pub group: Key,
    /// Messages a turn, 1 to 1,000; the queue's weight if `None`.
    pub weight: Option<u32>,
}

/// Remove a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveQueue {
    /// Its name.
    pub queue: QueueName,
    /// Done, not refused, if it does not exist.
    pub if_exists: bool,
    /// Refused if a message is in it.
    pub if_empty: bool,
}

/// Do something to the messages chosen, no more than 4,096 looked at: if the answer has a cursor, there may be more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The queue.
    pub queue: QueueName,
    /// The messages that it is about.
    pub select: Select,
    /// What to do.
    pub action: Action,
    /// Most messages to change; 1 or more.
    pub limit: u64,
    /// Only count them.
    pub dry_run: bool,
    /// Go on behind this, as the answer before said; `None` begins.
    pub after: Option<Cursor>,
}

impl Sweep {
    /// From the beginning and without limit.
    pub fn all(queue: QueueName, select: Select, action: Action) -> Self {
        Self { queue, select, action, limit: u64::MAX, dry_run: false, after: None }
    }
}

/// What is done to the messages of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Delete for good.
    Delete,
    /// Put dead messages back, here or into another queue, their failures forgotten.
    Redrive {
        /// Here if `None`.
        to: Option<QueueName>,
    },
    /// Put ready, delayed and dead messages into another queue.
    Move {
        /// Which must exist and be another.
        to: QueueName,
    },
}

/// Messages for which all that is named holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Select {
    /// In this state; `None` is ready, delayed and dead. Leased messages can be deleted, and only if they are named.
    pub state: Option<MessageState>,
    /// One of these.
    pub ids: Option<Bounded<MessageId, RECEIPTS_COUNT_MAX>>,
    /// Pushed longer ago than this, in milliseconds.
    pub older_than_ms: Option<u64>,
    /// Dead for this reason.
    pub reason: Option<DeadReason>,
    /// Died at most this long ago, in milliseconds.
    pub died_within_ms: Option<u64>,
    /// Contained in the text of the last failure.
    pub error: Option<Text<KEY_SIZE_MAX>>,
}

/// Change messages by id, each by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The queue.
    pub queue: QueueName,
    /// The messages.
    pub ids: Bounded<MessageId, RECEIPTS_COUNT_MAX>,
    /// The change.
    pub change: Change,
}

/// What is done to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Delete it, unless it is leased.
    Delete,
    /// Delete it if it is still delayed.
    Cancel,
    /// Make it ready now if it is delayed or dead.
    Kick,
    /// Give it another priority; a leased one keeps it for when it comes back.
    Priority(u8),
    /// Put it into another queue, unless it is leased.
    Move(QueueName),
}

/// Bind the session of the connection to the presence of its client, or unbind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindSession {
    /// 1 s to 12 h, counted on the lease clock; `None` unbinds it.
    pub grace_ms: Option<u64>,
}

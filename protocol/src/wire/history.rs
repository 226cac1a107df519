//! What happened to one message, also when it is gone.

use serde::{Deserialize, Serialize};

use crate::limits::HISTORY_COUNT_MAX;
use crate::names::{MessageId, QueueName};
use crate::wire::bounded::Bounded;
use crate::wire::request::{Consistency, MessageState};
use crate::wire::response::Event;

/// Tell what happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Where it is or was last.
    pub queue: QueueName,
    /// The message.
    pub id: MessageId,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    /// Where it stands.
    pub fate: Fate,
    /// What happened last, from its first failure on, oldest first.
    pub events: Bounded<Event, HISTORY_COUNT_MAX>,
    /// The node that answers knows of all messages that went at or after this wall time, Unix milliseconds.
    pub complete_since_ms: u64,
}

/// Where a message stands, or how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is there.
    Live(MessageState),
    /// It is not.
    Gone(GoneView),
}

/// How a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneView {
    /// Why.
    pub how: GoneHow,
    /// Wall time, Unix milliseconds.
    pub at_ms: u64,
    /// Wall time of the push, Unix milliseconds.
    pub pushed_at_ms: u64,
    /// Leases granted.
    pub attempts: u32,
    /// Failures and ended leases.
    pub failures: u32,
    /// Given back without blame.
    pub releases: u32,
}

/// Why a message is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoneHow {
    /// A consumer acked it.
    Acked,
    /// It was popped.
    Popped,
    /// Its time to live passed, in a queue that drops what expires.
    Expired,
    /// Somebody deleted it: by id, or with a purge.
    Deleted,
    /// Another with the same unique key took its place.
    Replaced,
    /// It was dead, and the queue keeps no more of them, or not for so long.
    Forgotten,
}

//! Explanations: why a queue, or one message of it, is not delivered now, and why pushes to it are refused.

use serde::{Deserialize, Serialize};

use crate::health::{REFUSALS_MAX, Refusal};
use crate::limits::HOLDS_COUNT_MAX;
use crate::names::{Key, MessageId, QueueName, SessionId};
use crate::wire::bounded::Bounded;
use crate::wire::request::Consistency;
use crate::wire::response::DeadReason;

/// Say why a queue, or one message of it, is not delivered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// Which queue.
    pub queue: QueueName,
    /// Only this message.
    pub id: Option<MessageId>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// Messages before a message that are counted at most.
pub const AHEAD_COUNT_MAX: usize = 100_000;

/// Why a queue or a message is not delivered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What holds it back; nothing, if it is delivered to whoever asks.
    pub holds: Bounded<Hold, HOLDS_COUNT_MAX>,
    /// Ready messages that come before the message, if it is ready; at most [`AHEAD_COUNT_MAX`] are counted.
    pub ahead: Option<u64>,
    /// Leases and pops parked at the node that answers.
    pub waiting: u32,
    /// As [`StatusView::clock_off_ms`](crate::wire::response::StatusView::clock_off_ms), of the node that answers.
    pub clock_off_ms: i64,
    /// Why pushes to the queue are refused, if they are.
    pub refusals: Bounded<Refusal, REFUSALS_MAX>,
}

/// Something that keeps messages from being delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Leases of the queue are paused.
    Paused,
    /// The queue holds nothing.
    Empty,
    /// The message is leased; of a queue, the one whose lease ends first.
    Leased {
        /// The message.
        id: MessageId,
        /// Until its lease may end, milliseconds on the lease clock.
        left_ms: u64,
    },
    /// The message is delayed; of a queue, the one that is due first.
    Delayed {
        /// The message.
        id: MessageId,
        /// Wall time when it is due.
        due_at_ms: u64,
        /// Milliseconds left of its delay; `None` if it waits for a time that was named.
        left_ms: Option<u64>,
    },
    /// The message is dead; of a queue, all are.
    Dead {
        /// The message.
        id: MessageId,
        /// The reason.
        reason: DeadReason,
    },
    /// The queue is ordered, and a message of the group is leased.
    GroupLeased {
        /// Which group.
        group: Key,
        /// The message, unless it was not found among the first 100,000.
        id: Option<MessageId>,
        /// Until its lease may end, milliseconds on the lease clock.
        left_ms: Option<u64>,
    },
    /// The queue is ordered, and a message of the group waits to be tried again.
    GroupWaits {
        /// Which group.
        group: Key,
        /// The message, unless it was not found among the first 100,000.
        id: Option<MessageId>,
        /// Wall time when it is due.
        due_at_ms: Option<u64>,
        /// Milliseconds left of its delay; `None` if it waits for a time that was named.
        left_ms: Option<u64>,
    },
    /// The queue is ordered, and a dead message blocks the group.
    GroupBlocked {
        /// Which group.
        group: Key,
        /// The message, unless it was not found among the first 100,000.
        id: Option<MessageId>,
    },
    /// A message of the group died, and the others are on their way.
    GroupParked {
        /// Which group.
        group: Key,
    },
    /// As many messages of the group are leased as may be.
    GroupFull {
        /// Which group.
        group: Key,
    },
    /// As many messages were delivered as the queue's rate allows.
    Rate {
        /// Milliseconds until there is a next one.
        wait_ms: u64,
    },
    /// As many messages of the group were delivered as its rate allows.
    GroupRate {
        /// Which group.
        group: Key,
        /// Milliseconds until there is a next one.
        wait_ms: Option<u64>,
    },
    /// The queue serves one session at a time, and this one has it.
    Active {
        /// Whose.
        session: SessionId,
        /// Sessions that had it until now, this one included.
        epoch: u64,
        /// Until it may go to another unless that one renews it, milliseconds on the lease clock.
        left_ms: u64,
    },
}

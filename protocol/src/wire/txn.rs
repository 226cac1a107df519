//! Transactions: several changes in one entry, all of them or none, and only if conditions hold.
//!
//! Variants and fields are appended, never reordered: postcard numbers them by position.

use serde::{Deserialize, Serialize};

use crate::content::ContentSpec;
use crate::error::ErrorCode;
use crate::limits::{PUSH_COUNT_MAX, TXN_COUNT_MAX};
use crate::names::{Key, LeaseToken, MessageId, QueueName};
use crate::wire::bounded::Bounded;
use crate::wire::request::{Edit, Nack, Push, Receipts};
use crate::wire::response::PushOutcome;

/// Change what the steps say, one after the other, if all conditions hold before the first. If one step cannot be done for
/// everything that it names, none is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What must be so.
    pub conditions: Bounded<Condition, TXN_COUNT_MAX>,
    /// What is done; messages, receipts and ids together at most 1,000.
    pub steps: Bounded<Step, TXN_COUNT_MAX>,
}

impl Txn {
    /// Sizes and checksums of the contents in its tail, in their order.
    pub fn contents(&self) -> Vec<ContentSpec> {
        let of = |step: &Step| match step {
            Step::Push(push) => push.contents(),
            Step::Ack(_) | Step::Nack(_) | Step::Extend { .. } | Step::Edit(_) => Vec::new(),
        };
        self.steps.iter().flat_map(of).collect()
    }
}

/// Something that must be so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// A lease has neither ended nor been settled.
    Leased {
        /// Where from.
        queue: QueueName,
        /// Which message.
        id: MessageId,
        /// Its newest lease.
        token: LeaseToken,
    },
    /// A message is in a queue, in any state.
    Exists {
        /// The queue.
        queue: QueueName,
        /// The message.
        id: MessageId,
    },
    /// A queue holds at most `count` messages that are ready, leased or delayed.
    AtMost {
        /// Which queue.
        queue: QueueName,
        /// How many.
        count: u64,
    },
    /// A queue has this version.
    Version {
        /// Which queue.
        queue: QueueName,
        /// As [`crate::wire::response::QueueView`] shows it.
        version: u64,
    },
    /// A queue does not remember a dedup key.
    NoDedupKey {
        /// Which queue.
        queue: QueueName,
        /// Which key.
        key: Key,
    },
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Store messages. Their contents are in the tail behind those of the pushes before.
    Push(Push),
    /// Settle leases for good.
    Ack(Receipts),
    /// Give leased messages back.
    Nack(Nack),
    /// Make leases longer.
    Extend {
        /// The leases.
        leases: Receipts,
        /// As [`crate::wire::request::Extend`] has it.
        lease_ms: u64,
    },
    /// Change messages by id.
    Edit(Edit),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOutcome {
    /// All was done; one result a step.
    Done(Bounded<StepDone, TXN_COUNT_MAX>),
    /// Nothing was done.
    Failed {
        /// What was in the way.
        at: TxnPart,
        /// The reason.
        code: ErrorCode,
    },
}

/// A part of a transaction, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnPart {
    /// A condition.
    Condition(u16),
    /// A step.
    Step(u16),
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepDone {
    /// Of a push: stored or known already, in runs.
    Pushed(Bounded<PushOutcome, PUSH_COUNT_MAX>),
    /// Of an extend: the lease clock at which the leases may end.
    Extended(u64),
    /// Of any other.
    Done,
}

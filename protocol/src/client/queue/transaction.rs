//! Transactions: changes of several messages and queues in one entry of the log, all of them or none.

use std::time::Duration;

use bytes::Bytes;

use super::push::{outcomes, rows};
use super::{Error, Leased, Message, Pushed, Queue, invalid, milliseconds, over};
use crate::client::Client;
use crate::client::worker::Verdict;
use crate::names::{Key, MessageId, Receipt};
use crate::wire::bounded::Bounded;
use crate::wire::request::{Change, Edit, Nack, Push};
use crate::wire::requests::ask;
use crate::wire::txn::{Condition, Step, StepDone, Txn, TxnOutcome};

/// Changes that are done together or not at all: `client.transaction().ack(&job).push(&next, "body").commit().await`. Steps
/// are done in order, and only if all conditions hold before the first.
///
/// At most 256 steps and 256 conditions, 1,000 messages and receipts together, 8 MiB of bodies.
#[must_use = "nothing is done before `commit`"]
#[derive(Clone)]
pub struct Transaction {
    client: Client,
    conditions: Vec<Condition>,
    steps: Vec<Step>,
    contents: Vec<Bytes>,
    /// The first thing that is wrong with it.
    invalid: Option<Error>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What became of its pushes, in order.
    pub pushed: Vec<Pushed>,
}

impl Transaction {
    pub(super) fn new(client: Client) -> Self {
        Self { client, conditions: Vec::new(), steps: Vec::new(), contents: Vec::new(), invalid: None }
    }

    fn step(mut self, step: Result<Step, Error>) -> Self {
        match step {
            Ok(step) => self.steps.push(step),
            Err(error) => self.invalid = self.invalid.or(Some(error)),
        }
        self
    }

    fn only_if(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Pushes a message.
    pub fn push(mut self, queue: &Queue, message: impl Into<Message>) -> Self {
        let step = message.into().finish().map(|message| {
            let (rows, contents) = rows(vec![message]);
            self.contents.extend(contents);
            let messages = Bounded::new(rows).expect("one message is within the limit");
            Step::Push(Push { queue: queue.name.clone(), create: false, atomic: false, messages })
        });
        self.step(step)
    }

    /// Acks a message that is leased; nothing is done if the lease has ended.
    pub fn ack(self, leased: &Leased) -> Self {
        self.settle(leased, &Verdict::Ack)
    }

    /// Settles a message that is leased as the verdict says; nothing is done if the lease has ended.
    pub fn settle(self, leased: &Leased, verdict: &Verdict) -> Self {
        let step = leased.queue().receipts(&[leased.receipt()]).map(|leases| match verdict.nack() {
            None => Step::Ack(leases),
            Some(kind) => Step::Nack(Nack { leases, kind }),
        });
        self.step(step)
    }

    /// Lets a lease end `length` from now, 1 s to 12 h; nothing is done if it has ended.
    pub fn extend(self, leased: &Leased, length: Duration) -> Self {
        let leases = leased.queue().receipts(&[leased.receipt()]);
        self.step(leases.map(|leases| Step::Extend { leases, lease_ms: milliseconds(length) }))
    }

    /// Changes messages by id; nothing is done if one of them is not there, or leased.
    pub fn edit(self, queue: &Queue, ids: impl IntoIterator<Item = MessageId>, change: Change) -> Self {
        let ids = Bounded::new(ids.into_iter().collect()).map_err(|error| over("ids in one request", error));
        self.step(ids.map(|ids| Step::Edit(Edit { queue: queue.name.clone(), ids, change })))
    }

    /// Only if this lease has neither ended nor been settled.
    pub fn if_leased(self, leased: &Leased) -> Self {
        let Receipt { queue, id, token } = leased.receipt();
        self.only_if(Condition::Leased { queue, id, token })
    }

    /// Only if the message is in the queue, in any state.
    pub fn if_exists(self, queue: &Queue, id: MessageId) -> Self {
        self.only_if(Condition::Exists { queue: queue.name.clone(), id })
    }

    /// Only if the queue holds at most `count` messages that are ready, leased or delayed.
    pub fn if_at_most(self, queue: &Queue, count: u64) -> Self {
        self.only_if(Condition::AtMost { queue: queue.name.clone(), count })
    }

    /// Only if the settings of the queue have this version, as [`Queue::stats`] shows it.
    pub fn if_version(self, queue: &Queue, version: u64) -> Self {
        self.only_if(Condition::Version { queue: queue.name.clone(), version })
    }

    /// Only if the queue does not remember this dedup key.
    pub fn if_no_dedup_key(mut self, queue: &Queue, key: impl AsRef<str>) -> Self {
        match key.as_ref().parse::<Key>() {
            Ok(key) => self.only_if(Condition::NoDedupKey { queue: queue.name.clone(), key }),
            Err(error) => {
                self.invalid = self.invalid.or_else(|| Some(invalid(&error)));
                self
            }
        }
    }

    /// Does everything, or nothing.
    ///
    /// # Errors
    /// [`Error::Aborted`] if nothing was done because of a condition or step, and which; see [`Error`].
    pub async fn commit(self) -> Result<Committed, Error> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        let conditions = Bounded::new(self.conditions).map_err(|error| over("conditions", error))?;
        let steps = Bounded::new(self.steps).map_err(|error| over("steps", error))?;
        let done =
            match self.client.ask_with(ask::Txn(Txn { conditions, steps }), self.contents).await?.answer {
                TxnOutcome::Done(done) => done,
                TxnOutcome::Failed { at, code } => return Err(Error::Aborted { at, code }),
            };
        let mut pushed = Vec::new();
        for step in &*done {
            if let StepDone::Pushed(runs) = step {
                pushed.extend(outcomes(runs, 1)?.into_iter().flatten());
            }
        }
        Ok(Committed { pushed })
    }
}

//! A queue as a program sees it: a [`Queue`] is a handle, each action has a builder, and each error has a name.
//!
//! It says nothing on the wire itself: everything goes through the calls of [`Client`].

mod dead;
mod error;
mod lease;
mod message;
mod push;
mod received;
mod transaction;

pub use self::dead::{DeadLetters, SweepBuilder};
pub use self::error::Error;
pub use self::lease::{LeaseBuilder, PopBuilder};
pub use self::message::Message;
pub use self::push::{BatchBuilder, PushBuilder, Pushed};
pub use self::received::{Leased, Received, Seen};
pub use self::transaction::{Committed, Transaction};
use super::Client;
use super::worker::Worker;
use crate::limits::{LEASE_COUNT_MAX, TAIL_SIZE_MAX};
use crate::names::{QueueName, Receipt};
use crate::settings::QueueSettings;
use crate::values::milliseconds;
use crate::wire::bounded::{Bounded, TooMany};
use crate::wire::request::{
    Action, AlterQueue, Consistency, CreateQueue, MessageState, Peek, Queues, Receipts, RemoveQueue, Select,
    Sweep,
};
use crate::wire::requests::ask;
use crate::wire::response::{QueueView, Settled};

/// One queue of the cluster. Cheap to clone; making a handle asks nobody, and the queue need not exist yet.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    name: QueueName,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queue").field(&self.name).finish()
    }
}

impl Client {
    /// A handle on the queue of this name: 1 to 128 of `A-Z a-z 0-9 . _ -`. Asks nobody.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no name of a queue.
    pub fn queue(&self, name: impl AsRef<str>) -> Result<Queue, Error> {
        let name = name.as_ref().parse().map_err(|error: crate::names::BadQueueName| invalid(&error))?;
        Ok(Queue { client: self.clone(), name })
    }

    /// Every queue with its counts, by name; queues that come or go meanwhile may be missed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn all_queues(&self) -> Result<Vec<QueueView>, Error> {
        let mut all: Vec<QueueView> = Vec::new();
        loop {
            let after = all.last().map(|view| view.name.clone());
            let page = Queues { only: None, after, consistency: Consistency::Linearizable };
            let page = self.ask(ask::Queues(page)).await?.answer;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// A transaction: changes of several messages and queues, all of them or none.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }
}

impl Queue {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Makes the queue with these settings, the defaults where none is named; `false` if it exists, with whatever settings.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, settings: QueueSettings) -> Result<bool, Error> {
        let create = CreateQueue { queue: self.name.clone(), settings, if_not_exists: true };
        Ok(self.client.ask(ask::CreateQueue(Box::new(create))).await?.answer)
    }

    /// Changes the settings that are named; the version of the queue's settings afterwards.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`].
    pub async fn alter(&self, change: QueueSettings) -> Result<u64, Error> {
        let alter = AlterQueue { queue: self.name.clone(), change, if_version: None };
        Ok(self.client.ask(ask::AlterQueue(Box::new(alter))).await?.answer)
    }

    /// Removes the queue with everything in it; how many messages that were, 0 if there was no such queue.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove(&self) -> Result<u64, Error> {
        let remove = RemoveQueue { queue: self.name.clone(), if_exists: true, if_empty: false };
        Ok(self.client.ask(ask::RemoveQueue(remove)).await?.answer)
    }

    /// Counts, ages and settings of the queue, as of now.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`].
    pub async fn stats(&self) -> Result<QueueView, Error> {
        let only = Some(self.name.clone());
        let queues = Queues { only, after: None, consistency: Consistency::Linearizable };
        let views = self.client.ask(ask::Queues(queues)).await?.answer;
        views.into_iter().next().ok_or_else(|| Error::no_queue(&self.name))
    }

    /// A push of one message. Bytes and texts are bodies: `queue.push("body")`, `queue.push(vec)`.
    pub fn push(&self, message: impl Into<Message>) -> PushBuilder {
        PushBuilder { queue: self.clone(), message: message.into(), create: false }
    }

    /// A push of many messages in one request.
    pub fn push_all<M: Into<Message>>(&self, messages: impl IntoIterator<Item = M>) -> BatchBuilder {
        let messages = messages.into_iter().map(Into::into).collect();
        BatchBuilder { queue: self.clone(), messages, create: false, atomic: false }
    }

    /// A lease of messages: whoever has them acks each when its work is done. Not acked in time, they come again.
    pub fn lease(&self) -> LeaseBuilder {
        LeaseBuilder::new(self.clone())
    }

    /// Takes messages for good, at most once: what is lost after that is lost.
    pub fn pop(&self) -> PopBuilder {
        PopBuilder::new(self.clone())
    }

    /// A worker: leases messages, gives each to a handler, keeps the leases while handlers run, settles what they decide.
    pub fn worker(&self) -> Worker {
        Worker::new(self.client.clone(), self.name.clone())
    }

    /// Settles leases of this queue for good, at most 1,000 in one request; one result each, in order. Takes `&Leased` and
    /// receipts.
    ///
    /// # Errors
    /// Those of the whole request; see [`Error`].
    pub async fn ack<R: Into<Receipt>>(
        &self,
        leases: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let receipts: Vec<Receipt> = leases.into_iter().map(Into::into).collect();
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let settled = self.client.ask(ask::Ack(self.receipts(&receipts)?)).await?.answer;
        Ok(receipts.into_iter().zip(settled).map(|(receipt, settled)| result(receipt, settled)).collect())
    }

    /// Up to 256 messages of one state, without changing anything.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`].
    pub async fn peek(&self, state: MessageState, max: usize) -> Result<Vec<Seen>, Error> {
        let answered = self.client.ask(ask::Peek(self.peek_of(state, max))).await?;
        Ok(answered
            .answer
            .messages
            .into_iter()
            .zip(answered.contents)
            .map(|(view, it)| Seen::new(view, &it))
            .collect())
    }

    fn peek_of(&self, state: MessageState, max: usize) -> Peek {
        Peek {
            queue: self.name.clone(),
            state: Some(state),
            id: None,
            max_messages: u16::try_from(max.clamp(1, LEASE_COUNT_MAX)).expect("256 at most"),
            max_bytes: u32::try_from(TAIL_SIZE_MAX).expect("8 MiB"),
            after: None,
            consistency: Consistency::Linearizable,
        }
    }

    /// Deletes everything that is not leased; how many messages that were.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`].
    pub async fn purge(&self) -> Result<u64, Error> {
        let all = Sweep::all(self.name.clone(), Select::default(), Action::Delete);
        Ok(self.client.sweep(all, |_| {}).await?.answer.count)
    }

    /// The messages that are dead: failed too often, rejected, expired.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { queue: self.clone() }
    }

    /// As the wire has them; all must be of this queue.
    fn receipts(&self, receipts: &[Receipt]) -> Result<Receipts, Error> {
        if let Some(other) = receipts.iter().find(|receipt| receipt.queue != self.name) {
            return Err(Error::Invalid(format!("receipt {other} is not of the queue {}", self.name)));
        }
        let pairs = receipts.iter().map(|receipt| (receipt.id, receipt.token)).collect();
        let receipts = Bounded::new(pairs).map_err(|error| over("receipts in one request", error))?;
        Ok(Receipts { queue: self.name.clone(), receipts })
    }
}

fn result(receipt: Receipt, settled: Settled) -> Result<(), Error> {
    match settled {
        Settled::Ok => Ok(()),
        Settled::Stale => Err(Error::StaleReceipt { receipt, gone: false }),
        Settled::Gone => Err(Error::StaleReceipt { receipt, gone: true }),
    }
}

fn invalid(error: &impl std::fmt::Display) -> Error {
    Error::Invalid(error.to_string())
}

fn over(what: &str, error: TooMany) -> Error {
    Error::Invalid(format!("{} {what}: {} is the limit", error.len, error.max))
}

//! Messages as they come: popped, leased, or only looked at.

use std::borrow::Cow;
use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{Error, Queue, milliseconds, result};
use crate::client::worker::Verdict;
use crate::content::{self, Headers};
use crate::names::{Key, LeaseToken, MessageId, Receipt};
use crate::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use crate::wire::request::{Extend, ExtendWhich, Nack};
use crate::wire::requests::ask;
use crate::wire::response::{Delivery, Extended, MessageView, Settled};

/// A message that was handed out.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id, which it keeps for ever.
    pub id: MessageId,
    /// Its body.
    pub body: Bytes,
    /// Its headers, in the order in which they were given.
    pub headers: Headers,
    /// Its headers do not decode, which only a faulty client can bring about; they are the beginning of `body` then.
    pub malformed: bool,
    /// Attempt number: 1 for the first lease.
    pub attempt: u32,
    /// How often it failed or its lease ended.
    pub failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// When it was pushed, by the clock of the cluster.
    pub pushed_at: SystemTime,
    /// What an earlier attempt left, see [`Leased::save_checkpoint`].
    pub checkpoint: Option<Checkpoint>,
}

impl Received {
    pub(super) fn new(delivery: Delivery, content: &Bytes) -> Self {
        let (headers, body, malformed) = split(content);
        Self {
            id: delivery.id,
            body,
            headers,
            malformed,
            attempt: delivery.attempt,
            failures: delivery.failures,
            priority: delivery.priority,
            group: delivery.group,
            pushed_at: UNIX_EPOCH + Duration::from_millis(delivery.pushed_at_ms),
            checkpoint: delivery.checkpoint,
        }
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// A message that is leased: nobody else gets it until its lease ends. Settle it once: `ack` when its work is done, or give it
/// back in one of three ways. Dropped, it comes again when the lease ends, which counts as a failure.
#[derive(Clone, Debug)]
pub struct Leased {
    queue: Queue,
    received: Received,
    token: LeaseToken,
    length: Duration,
    left: Duration,
}

impl Deref for Leased {
    type Target = Received;
    fn deref(&self) -> &Received {
        &self.received
    }
}

impl From<&Leased> for Receipt {
    fn from(leased: &Leased) -> Self {
        leased.receipt()
    }
}

impl Leased {
    pub(super) fn new(queue: Queue, delivery: Delivery, content: &Bytes, lease_clock_ms: u64) -> Self {
        Self {
            queue,
            token: delivery.token,
            length: Duration::from_millis(delivery.lease_ms),
            left: Duration::from_millis(delivery.deadline_ms.saturating_sub(lease_clock_ms)),
            received: Received::new(delivery, content),
        }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The right to settle it, as text for others: `queue/id/token`.
    pub fn receipt(&self) -> Receipt {
        Receipt { queue: self.queue.name.clone(), id: self.id, token: self.token }
    }

    /// Larger than that of every lease before. Store the highest one next to your data and reject writes that carry a lower
    /// one: then no consumer whose lease has ended can overwrite what its successor did.
    pub fn fencing_token(&self) -> u64 {
        self.token.0
    }

    /// How long the lease was, and how much of it was left when the message was handed out.
    pub fn lease(&self) -> (Duration, Duration) {
        (self.length, self.left)
    }

    /// Done: the message is deleted.
    ///
    /// # Errors
    /// [`Error::StaleReceipt`] if the lease has ended; see [`Error`].
    pub async fn ack(&self) -> Result<(), Error> {
        self.settle(&Verdict::Ack).await
    }

    /// Failed: the message comes again after the queue's back-off, or is dead if this was its last failure. `why` is kept with
    /// it, up to 1 KiB.
    ///
    /// # Errors
    /// [`Error::StaleReceipt`] if the lease has ended; see [`Error`].
    pub async fn fail(&self, why: impl Into<String>) -> Result<(), Error> {
        self.settle(&Verdict::Fail { delay_ms: None, error: why.into() }).await
    }

    /// As [`Leased::fail`], but comes again after `delay`.
    ///
    /// # Errors
    /// As [`Leased::fail`].
    pub async fn fail_for(&self, delay: Duration, why: impl Into<String>) -> Result<(), Error> {
        self.settle(&Verdict::Fail { delay_ms: Some(milliseconds(delay)), error: why.into() }).await
    }

    /// Given back without counting a failure: comes again at once, in its old place.
    ///
    /// # Errors
    /// [`Error::StaleReceipt`] if the lease has ended; see [`Error`].
    pub async fn release(&self) -> Result<(), Error> {
        self.settle(&Verdict::Release { delay_ms: 0 }).await
    }

    /// As [`Leased::release`], but comes again after `delay`.
    ///
    /// # Errors
    /// As [`Leased::release`].
    pub async fn release_for(&self, delay: Duration) -> Result<(), Error> {
        self.settle(&Verdict::Release { delay_ms: milliseconds(delay) }).await
    }

    /// Dead at once: it will never succeed. `why` is kept with it, up to 1 KiB.
    ///
    /// # Errors
    /// [`Error::StaleReceipt`] if the lease has ended; see [`Error`].
    pub async fn reject(&self, why: impl Into<String>) -> Result<(), Error> {
        self.settle(&Verdict::Reject { reason: why.into() }).await
    }

    /// What a [`Verdict`] says.
    async fn settle(&self, verdict: &Verdict) -> Result<(), Error> {
        let receipts = self.queue.receipts(&[self.receipt()])?;
        let settled = match verdict.nack() {
            None => self.queue.client.ask(ask::Ack(receipts)).await?,
            Some(kind) => self.queue.client.ask(ask::Nack(Nack { leases: receipts, kind })).await?,
        };
        self.one(&settled.answer)
    }

    /// Lets the lease end `length` from now, 1 s to 12 h.
    ///
    /// # Errors
    /// [`Error::StaleReceipt`] if the lease has ended; see [`Error`].
    pub async fn extend(&self, length: Duration) -> Result<(), Error> {
        let which = ExtendWhich::Receipts(self.queue.receipts(&[self.receipt()])?);
        let Extended { results, .. } = self
            .queue
            .client
            .ask(ask::Extend(Extend { leases: which, lease_ms: milliseconds(length) }))
            .await?
            .answer;
        self.one(&results)
    }

    /// As [`Leased::extend`], and keeps up to 4 KiB with the message: progress handed to the next attempt as
    /// [`Received::checkpoint`].
    ///
    /// # Errors
    /// As [`Leased::extend`].
    pub async fn save_checkpoint(&self, length: Duration, progress: impl Into<Bytes>) -> Result<(), Error> {
        let checkpoint =
            Checkpoint::new(progress).map_err(|error| super::over("bytes of checkpoint", error))?;
        let (queue, id, token) = (self.queue.name.clone(), self.id, self.token);
        let save = SaveCheckpoint { queue, id, token, lease_ms: milliseconds(length), checkpoint };
        let Extended { results, .. } = self.queue.client.ask(ask::SaveCheckpoint(save)).await?.answer;
        self.one(&results)
    }

    /// The one result that there is.
    fn one(&self, results: &[Settled]) -> Result<(), Error> {
        match results {
            [settled] => result(self.receipt(), *settled),
            _ => Err(Error::Unknown { what: format!("{} results came for one receipt", results.len()) }),
        }
    }
}

impl Verdict {
    /// It failed; it comes again after the queue's back-off, or is dead if that was its last failure.
    pub fn fail(why: impl Into<String>) -> Self {
        Self::Fail { delay_ms: None, error: why.into() }
    }

    /// It is dead now.
    pub fn reject(why: impl Into<String>) -> Self {
        Self::Reject { reason: why.into() }
    }
}

/// A message as it stands in the queue, not handed out.
#[derive(Clone, Debug)]
pub struct Seen {
    /// State, counts, times and failures.
    pub view: MessageView,
    /// Its body.
    pub body: Bytes,
    /// Its headers, in the order in which they were given.
    pub headers: Headers,
}

impl Seen {
    pub(super) fn new(view: MessageView, content: &Bytes) -> Self {
        let (headers, body, _malformed) = split(content);
        Self { view, body, headers }
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(given, _)| **given == *name).map(|(_, value)| &**value)
}

/// Headers, body, and whether the headers do not decode.
fn split(content: &Bytes) -> (Headers, Bytes, bool) {
    match content::decode(content) {
        Ok((headers, body)) => (headers, body, false),
        Err(_) => (Headers::default(), content.clone(), true),
    }
}

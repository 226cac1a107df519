//! Dead letters: looked at, put back, deleted.

use std::time::Duration;

use super::{Error, Queue, Seen, milliseconds, over};
use crate::names::MessageId;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::request::{Action, MessageState, Select, Sweep};
use crate::wire::response::DeadReason;

/// The dead messages of a queue.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    pub(super) queue: Queue,
}

impl DeadLetters {
    /// Up to 256 of them, lowest id first: `view` says why each is dead, and what its last failure was.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`].
    pub async fn list(&self, max: usize) -> Result<Vec<Seen>, Error> {
        self.queue.peek(MessageState::Dead, max).await
    }

    /// Puts them back into their queue, failures forgotten: all, or those that the builder names.
    pub fn redrive(&self) -> SweepBuilder {
        self.sweep(Action::Redrive { to: None })
    }

    /// Puts them into another queue, failures forgotten.
    pub fn redrive_to(&self, to: &Queue) -> SweepBuilder {
        self.sweep(Action::Redrive { to: Some(to.name.clone()) })
    }

    /// Deletes them: all, or those that the builder names.
    pub fn delete(&self) -> SweepBuilder {
        self.sweep(Action::Delete)
    }

    fn sweep(&self, action: Action) -> SweepBuilder {
        let select = Select { state: Some(MessageState::Dead), ..Select::default() };
        let sweep = Sweep::all(self.queue.name.clone(), select, action);
        SweepBuilder { queue: self.queue.clone(), sweep, invalid: None }
    }
}

/// Does something to all dead messages for which everything that is named holds.
#[must_use = "nothing is done before `send`"]
#[derive(Clone, Debug)]
pub struct SweepBuilder {
    queue: Queue,
    sweep: Sweep,
    invalid: Option<Error>,
}

impl SweepBuilder {
    /// One of these, at most 1,000.
    pub fn ids(mut self, ids: impl IntoIterator<Item = MessageId>) -> Self {
        match Bounded::new(ids.into_iter().collect()) {
            Ok(ids) => self.sweep.select.ids = Some(ids),
            Err(error) => self.invalid = Some(over("ids in one request", error)),
        }
        self
    }

    /// Pushed longer ago than this.
    pub fn older_than(mut self, time: Duration) -> Self {
        self.sweep.select.older_than_ms = Some(milliseconds(time));
        self
    }

    /// Died at most this long ago.
    pub fn died_within(mut self, time: Duration) -> Self {
        self.sweep.select.died_within_ms = Some(milliseconds(time));
        self
    }

    /// Dead for this reason.
    pub fn reason(mut self, reason: DeadReason) -> Self {
        self.sweep.select.reason = Some(reason);
        self
    }

    /// The text of the last failure contains this, up to 128 bytes.
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        match Text::new(text) {
            Ok(text) => self.sweep.select.error = Some(text),
            Err(error) => self.invalid = Some(over("bytes of text", error)),
        }
        self
    }

    /// At most this many, 1 or more. Default: no limit.
    pub fn limit(mut self, count: u64) -> Self {
        self.sweep.limit = count;
        self
    }

    /// Changes nothing, only counts.
    pub fn dry_run(mut self) -> Self {
        self.sweep.dry_run = true;
        self
    }

    /// Does it, in parts of up to 4,096 messages; how many it was done to. A message stays where it is and is not counted if
    /// another one holds its unique key in the queue that it would come to.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others; see [`Error`]. Parts before the one that failed are done.
    pub async fn send(self) -> Result<u64, Error> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        Ok(self.queue.client.sweep(self.sweep, |_| {}).await?.answer.count)
    }
}

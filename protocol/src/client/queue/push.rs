//! Pushes: of one message, and of many in one request.

use bytes::Bytes;

use super::{Error, Message, Queue, over};
use crate::client::NewMessage;
use crate::content::ContentSpec;
use crate::names::MessageId;
use crate::wire::bounded::Bounded;
use crate::wire::request::{Push, PushMessage};
use crate::wire::requests::ask;
use crate::wire::response::PushOutcome;

/// What became of a message that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its id; of the message that is there already, if it is a duplicate.
    pub id: MessageId,
    /// Nothing was stored: a message with its dedup or unique key is there.
    pub duplicate: bool,
}

/// A push of one message: `queue.push("body").delay(time).send().await`.
#[must_use = "nothing is pushed before `send`"]
#[derive(Clone, Debug)]
pub struct PushBuilder {
    pub(super) queue: Queue,
    pub(super) message: Message,
    pub(super) create: bool,
}

impl PushBuilder {
    /// Makes the queue, with default settings, if it does not exist.
    pub fn create_queue(mut self) -> Self {
        self.create = true;
        self
    }

    /// Pushes it; when this returns it is on the disks of a majority of the nodes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::QueueFull`], [`Error::QueuePaused`], [`Error::UniqueHeld`] and others; see [`Error`].
    pub async fn send(self) -> Result<Pushed, Error> {
        let messages = vec![self.message.finish()?];
        let mut outcomes = push(&self.queue, self.create, false, messages).await?;
        outcomes.pop().expect("one outcome for one message")
    }
}

/// A push of many messages: `queue.push_all(bodies).send().await`. One request, of at most 1,000 messages and 8 MiB.
#[must_use = "nothing is pushed before `send`"]
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    pub(super) queue: Queue,
    pub(super) messages: Vec<Message>,
    pub(super) create: bool,
    pub(super) atomic: bool,
}

impl BatchBuilder {
    /// Makes the queue, with default settings, if it does not exist.
    pub fn create_queue(mut self) -> Self {
        self.create = true;
        self
    }

    /// If one message is refused, none is stored.
    pub fn all_or_none(mut self) -> Self {
        self.atomic = true;
        self
    }

    /// Pushes them; one result a message, in order.
    ///
    /// # Errors
    /// Those of the whole batch: more than 1,000 messages or 8 MiB, no such queue, and others; see [`Error`].
    pub async fn send(self) -> Result<Vec<Result<Pushed, Error>>, Error> {
        let messages = self.messages.into_iter().map(Message::finish).collect::<Result<Vec<_>, _>>()?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        push(&self.queue, self.create, self.atomic, messages).await
    }
}

/// One result a message.
async fn push(
    queue: &Queue,
    create: bool,
    atomic: bool,
    messages: Vec<NewMessage>,
) -> Result<Vec<Result<Pushed, Error>>, Error> {
    let count = messages.len();
    let (messages, contents) = rows(messages);
    let messages = Bounded::new(messages).map_err(|error| over("messages in one push", error))?;
    let push = Push { queue: queue.name.clone(), create, atomic, messages };
    let answered = queue.client.ask_with(ask::Push(push), contents).await?;
    outcomes(&answered.answer, count)
}

/// What stands in the header for these messages, and their contents for the tail.
pub(super) fn rows(messages: Vec<NewMessage>) -> (Vec<PushMessage>, Vec<Bytes>) {
    let row = |message: NewMessage| {
        let content = ContentSpec::of(&message.content);
        (PushMessage { content, options: message.options }, message.content)
    };
    messages.into_iter().map(row).unzip()
}

/// One result a message of these runs, which must be those of `count` messages.
pub(super) fn outcomes(runs: &[PushOutcome], count: usize) -> Result<Vec<Result<Pushed, Error>>, Error> {
    let counts = runs.iter().map(|run| match run {
        PushOutcome::Stored { count, .. } | PushOutcome::Refused { count, .. } => u64::from(*count),
        PushOutcome::Duplicate { .. } => 1,
    });
    let answered: u64 = counts.sum();
    if answered != count as u64 {
        return Err(Error::Unknown { what: format!("{answered} results came for {count} messages") });
    }
    let mut outcomes = Vec::with_capacity(count);
    for run in runs {
        match *run {
            PushOutcome::Stored { first_id, count } => {
                let ids = (0..u64::from(count)).map(|at| MessageId(first_id.0.saturating_add(at)));
                outcomes.extend(ids.map(|id| Ok(Pushed { id, duplicate: false })));
            }
            PushOutcome::Refused { code, count } => {
                outcomes.extend((0..count).map(|_| Err(Error::of_message(code))));
            }
            PushOutcome::Duplicate { id } => outcomes.push(Ok(Pushed { id, duplicate: true })),
        }
    }
    Ok(outcomes)
}

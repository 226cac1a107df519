//! Requests with the answer that belongs to each, as its row has it ([`crate::wire::requests`]).

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Answered, Client, ClientError};
use crate::content::ContentSpec;
use crate::error::{Error, ErrorCode};
use crate::names::QueueName;
use crate::wire::bounded::{Bounded, TooMany};
use crate::wire::request::{Push, PushMessage, PushOptions, Sweep};
use crate::wire::requests::{Ask, ask};
use crate::wire::response::{PushOutcome, Swept};

/// A message to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Headers and body, as [`crate::content::encode`] makes them.
    pub content: Bytes,
    /// How it is to be treated.
    pub options: PushOptions,
}

impl NewMessage {
    /// A message without headers, of default priority, ready at once.
    pub fn of_body(body: &[u8]) -> Self {
        let content =
            crate::content::encode(&Bounded::default(), body).expect("no headers are within the limit");
        Self { content, options: PushOptions::default() }
    }
}

impl<T> Answered<T> {
    /// The same with what `turn` makes of the answer.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Answered<U> {
        Answered {
            answer: turn(self.answer),
            contents: self.contents,
            at: self.at,
            repeated: self.repeated,
            lease_clock_ms: self.lease_clock_ms,
            age: self.age,
            leader: self.leader,
            redirects: self.redirects,
            elapsed: self.elapsed,
        }
    }
}

impl Answered {
    /// What a call of an `A` was answered with.
    pub fn to<A: Ask>(self) -> Answered<A::Answer> {
        self.map(|answer| A::answer(answer).expect("an answer to another request is not handed out"))
    }
}

fn too_many(error: TooMany) -> ClientError {
    ClientError::Refused(Error::refused(ErrorCode::BadRequest, error.to_string()))
}

impl Client {
    /// Asks for what carries no contents.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ask<A: Ask>(&self, ask: A) -> Result<Answered<A::Answer>, ClientError> {
        self.ask_with(ask, Vec::new()).await
    }

    /// Asks; `contents` go into the tail, in the order in which the request describes them.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ask_with<A: Ask>(
        &self,
        ask: A,
        contents: Vec<Bytes>,
    ) -> Result<Answered<A::Answer>, ClientError> {
        Ok(self.call(ask.into(), contents).await?.to::<A>())
    }

    /// Asks exactly the node at `address`, without following.
    ///
    /// # Errors
    /// As [`Client::call_node`].
    pub async fn ask_node<A: Ask>(&self, address: &str, ask: A) -> Result<Answered<A::Answer>, ClientError> {
        Ok(self.call_node(address, ask.into()).await?.to::<A>())
    }

    /// As [`Client::ask`], but waits no more once `hurry` is cancelled.
    pub(super) async fn ask_hurried<A: Ask>(
        &self,
        ask: A,
        hurry: CancellationToken,
    ) -> Result<Answered<A::Answer>, ClientError> {
        Ok(self.call_hurried(ask.into(), hurry).await?.to::<A>())
    }

    /// Stores messages; the outcomes come in runs, in order.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn push(
        &self,
        queue: QueueName,
        create: bool,
        messages: Vec<NewMessage>,
    ) -> Result<Answered<Vec<PushOutcome>>, ClientError> {
        let row = |message: &NewMessage| PushMessage {
            content: ContentSpec::of(&message.content),
            options: message.options.clone(),
        };
        let rows = Bounded::new(messages.iter().map(row).collect()).map_err(too_many)?;
        let contents = messages.into_iter().map(|message| message.content).collect();
        let push = ask::Push(Push { queue, create, atomic: false, messages: rows });
        Ok(self.ask_with(push, contents).await?.map(Bounded::into_vec))
    }

    /// Deletes, redrives or moves the messages chosen, all of them up to the limit, a part at a time; how many it was done to,
    /// and how many stayed because another message holds their unique key. If `progress` hears of a part, that part is done.
    ///
    /// # Errors
    /// As [`Client::call`]; parts that `progress` heard of are done nevertheless.
    pub async fn sweep(
        &self,
        mut sweep: Sweep,
        mut progress: impl FnMut(u64),
    ) -> Result<Answered<Swept>, ClientError> {
        let mut total = Swept { count: 0, next: None, skipped: 0 };
        loop {
            let answered = self.ask(ask::Sweep(Box::new(sweep.clone()))).await?;
            let Swept { count, next, skipped } = answered.answer;
            total.count += count;
            total.skipped += skipped;
            progress(total.count);
            sweep.limit = sweep.limit.saturating_sub(count);
            sweep.after = next;
            if next.is_none() || sweep.limit == 0 {
                return Ok(answered.map(|_| total));
            }
        }
    }
}

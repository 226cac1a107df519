//! Whether what a client was told is what the state machine replied, and whether a read shows what the model holds.

use queue_broker::queue::model::Model;
use queue_broker::queue::reply::{Grant, Outcome as Replied, Reply};
use queue_protocol::client::Answered;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Lease, MessageState, Peek, Request};
use queue_protocol::wire::response::{Answer, Delivery, QueueView};

const STATES: [MessageState; 4] =
    [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];

fn same_items<T: PartialEq, const N: usize>(told: &Bounded<T, N>, replied: &[T]) -> bool {
    told[..] == *replied
}

fn same_delivery(told: &Delivery, replied: &Grant) -> bool {
    (&told.queue, told.id, told.token, told.attempt)
        == (&replied.queue, replied.id, replied.token, replied.attempt)
        && (told.failures, told.priority, told.pushed_at_ms)
            == (replied.failures, replied.priority, replied.pushed_at_ms)
        && (told.lease_ms, told.deadline_ms) == (replied.lease_ms, replied.deadline_ms)
}

/// What is wrong with an answer to a command that was replied to with `reply`. `row` looks a body up.
pub(super) fn wrong(
    answered: &Answered,
    reply: &Reply,
    row: impl Fn(u64, u32) -> Option<ContentSpec>,
) -> Option<String> {
    let replied = match &reply.result {
        Ok(replied) => replied,
        Err(refusal) => return Some(format!("the command was refused: {refusal:?}")),
    };
    let same = match (&answered.answer, replied) {
        (Answer::Pushed(told), Replied::Pushed(replied)) => same_items(told, replied),
        (Answer::Delivered(told), Replied::Delivered(replied)) => {
            let bodies = told.iter().zip(replied).zip(&answered.contents);
            told.len() == replied.len()
                && answered.contents.len() == replied.len()
                && bodies.into_iter().all(|((told, replied), content)| {
                    let spec = ContentSpec::of(content);
                    same_delivery(told, replied)
                        && told.content == spec
                        && row(replied.body.index, replied.body.ordinal) == Some(spec)
                })
        }
        (Answer::Delivered(told), Replied::Nothing) => told.is_empty(),
        (Answer::Swept(told), Replied::Swept(replied)) => told == replied,
        (Answer::Settled(told), Replied::Settled(replied)) => same_items(told, replied),
        (Answer::Extended(told), Replied::Extended { results, count, deadline_ms }) => {
            same_items(&told.results, results) && (told.count, told.deadline_ms) == (*count, *deadline_ms)
        }
        (Answer::Created(told), Replied::Created(replied)) => told == replied,
        (Answer::Count(told), Replied::Count(replied)) => told == replied,
        (Answer::Altered(told), Replied::Altered(replied)) => told == replied,
        (Answer::Weighed(told), Replied::Weighed(replied)) => told == replied,
        (Answer::Txn(told), Replied::Txn(replied)) => told == replied,
        (Answer::Closed, Replied::Closed) => true,
        _ => false,
    };
    (!same).then(|| format!("it was {:?}, the replicas have {replied:?}", answered.answer))
}

/// What is wrong with a read that stands behind what `model` has applied.
pub(super) fn wrong_read(
    session: SessionId,
    request: &Request,
    answered: &Answered,
    model: &Model,
) -> Option<String> {
    match (request, &answered.answer) {
        (Request::Lease(lease) | Request::Pop(lease), Answer::Delivered(told)) if told.is_empty() => {
            wrongly_empty(lease, session, model)
        }
        (Request::Peek(peek), Answer::Peeked(_)) => wrong_peek(peek, answered, model),
        (Request::Queues(_), Answer::Queues(told)) => told.iter().find_map(|view| wrong_counts(view, model)),
        (_, other) => Some(format!("{other:?} stands where only reads do")),
    }
}

fn wrongly_empty(lease: &Lease, session: SessionId, model: &Model) -> Option<String> {
    let full = lease.queues.iter().find(|queue| model.available_to(queue, Some(session)) > 0)?;
    Some(format!("it was empty, {full} has ready messages"))
}

fn wrong_peek(peek: &Peek, answered: &Answered, model: &Model) -> Option<String> {
    let Answer::Peeked(queue_protocol::wire::response::Peeked { messages: told, .. }) = &answered.answer
    else {
        return None;
    };
    let state = peek.state?;
    let held = model.peek(&peek.queue, state);
    // How many fit is a matter of size.
    let same = told.iter().zip(&held).all(|(told, held)| {
        (told.id, told.state, told.token) == (held.id, held.state, held.token)
            && (told.attempts, told.failures, told.releases) == (held.attempts, held.failures, held.releases)
            && (told.priority, told.pushed_at_ms) == (held.priority, held.pushed_at_ms)
    });
    let cut = usize::from(peek.max_messages).min(held.len());
    (!same || told.len() > held.len() || (told.is_empty() && cut > 0))
        .then(|| format!("it showed {told:?}, the model has {held:?}"))
}

fn wrong_counts(view: &QueueView, model: &Model) -> Option<String> {
    let told = [view.ready, view.leased, view.delayed, view.dead];
    let held = STATES.map(|state| model.peek(&view.name, state).len() as u64);
    (told != held).then(|| format!("{} was said to hold {told:?}, the model has {held:?}", view.name))
}

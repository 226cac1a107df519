//! The answers that a session keeps, so that a repeat gets the first one.

use std::collections::VecDeque;
use std::sync::Arc;

use queue_protocol::limits::{
    CHECKPOINT_SIZE_MAX, CHECKPOINTS_SIZE_MAX, LEASE_COUNT_MAX, QUEUE_NAME_SIZE_MAX,
    SESSION_ANSWERS_SIZE_MAX, SESSION_BODIES_SIZE_MAX, SESSION_NUMBERS_MAX,
};
use queue_protocol::names::MessageId;
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::response::{At, PushOutcome};
use queue_protocol::wire::txn::StepDone;

use crate::queue::command::{Lease, Op, Push};
use crate::queue::reply::{Grant, Outcome, Refusal, Reply};

/// Answers to be counted as so many bytes, whatever is in them.
const ANSWER_SIZE: u64 = 56;
/// One message of a delivery, besides the name of its queue.
const GRANT_SIZE: u64 = 64;
/// One result of a push.
pub(in crate::queue) const PUSH_OUTCOME_SIZE: u64 = 16;

/// One step of a transaction, besides its results.
const STEP_SIZE: u64 = 16;

/// What a message of a delivery counts.
pub(in crate::queue) fn grant_size(grant: &Grant) -> u64 {
    let checkpoint = grant.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.as_bytes().len());
    GRANT_SIZE + (grant.queue.as_str().len() + checkpoint) as u64
}

/// What a step counts.
pub(in crate::queue) fn step_size(step: &StepDone) -> u64 {
    let runs = if let StepDone::Pushed(runs) = step { runs.len() as u64 } else { 0 };
    STEP_SIZE + runs * PUSH_OUTCOME_SIZE
}

/// The most the results of a push can count: those without options fare alike, or the last ones are refused.
pub(in crate::queue) fn push_size_max(push: &Push) -> u64 {
    let runs = (2 * push.special.len() as u64 + 2).min(push.count.into());
    runs * PUSH_OUTCOME_SIZE
}

/// The most the deliveries of a lease can count.
pub(in crate::queue) fn lease_size_max(lease: &Lease) -> u64 {
    let count = u64::from(lease.max_messages).clamp(1, LEASE_COUNT_MAX as u64);
    let checkpoints = (count * CHECKPOINT_SIZE_MAX as u64).min(CHECKPOINTS_SIZE_MAX as u64);
    count * (GRANT_SIZE + QUEUE_NAME_SIZE_MAX as u64) + checkpoints
}

/// The most the results of so many steps can count, these pushes among them.
pub(in crate::queue) fn steps_size_max<'a>(count: usize, pushes: impl Iterator<Item = &'a Push>) -> u64 {
    count as u64 * STEP_SIZE + pushes.map(push_size_max).sum::<u64>()
}

/// The answers of one session that are kept, by number: the first place is that of `done_below`, and the last one is
/// taken. Numbers come nearly in order and leave in order. Copied as a whole when it changes while a snapshot has it.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Answers {
    /// Answers below are not kept.
    done_below: u64,
    /// Bytes of all answers, as the limit counts them.
    size: u64,
    /// Contents that they name.
    bodies_size: u64,
    kept: Arc<VecDeque<Option<Answer>>>,
}

/// An answer that a repeat gets again.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Answer {
    /// Where it took effect.
    pub(in crate::queue) at: At,
    /// Of the request that it answers.
    pub(in crate::queue) request: RequestHash,
    result: Recorded,
}

/// What came of a command, small for a push.
#[derive(Clone, Debug)]
enum Recorded {
    Pushed { first_id: MessageId, count: u32 },
    Other(Arc<Result<Outcome, Refusal>>),
}

impl Answer {
    pub(in crate::queue) fn new(at: At, request: RequestHash, result: &Result<Outcome, Refusal>) -> Self {
        let result = match result {
            Ok(Outcome::Pushed(outcomes)) if let [PushOutcome::Stored { first_id, count }] = outcomes[..] => {
                Recorded::Pushed { first_id, count }
            }
            other => Recorded::Other(Arc::new(other.clone())),
        };
        Self { at, request, result }
    }

    pub(in crate::queue) fn result(&self) -> Result<Outcome, Refusal> {
        match &self.result {
            Recorded::Pushed { first_id, count } => {
                Ok(Outcome::Pushed(vec![PushOutcome::Stored { first_id: *first_id, count: *count }]))
            }
            Recorded::Other(result) => Result::clone(result),
        }
    }

    pub(in crate::queue) fn reply(&self) -> Reply {
        Reply { at: self.at, repeated: true, result: self.result() }
    }

    /// Messages it hands out, whose bodies are live.
    pub(in crate::queue) fn grants(&self) -> &[Grant] {
        match &self.result {
            Recorded::Other(result) => match &**result {
                Ok(outcome) => outcome.grants(),
                Err(_) => &[],
            },
            Recorded::Pushed { .. } => &[],
        }
    }

    /// Counted size, and contents named.
    fn sizes(&self) -> (u64, u64) {
        let name_size = |name: &Option<_>| {
            name.as_ref().map_or(0, |name: &queue_protocol::names::QueueName| name.as_str().len())
        };
        let items = match &self.result {
            Recorded::Pushed { .. } => PUSH_OUTCOME_SIZE,
            Recorded::Other(result) => match &**result {
                Ok(outcome) => outcome.items_size(),
                Err(refusal) => (name_size(&refusal.queue) + name_size(&refusal.similar)) as u64,
            },
        };
        (ANSWER_SIZE + items, self.grants().iter().map(|grant| u64::from(grant.body.size)).sum())
    }
}

/// The most the answer to `op` can count, and the contents it can name.
fn sizes_max(op: &Op) -> (u64, u64) {
    let cost = op.cost();
    (ANSWER_SIZE + cost.answer.max(2 * QUEUE_NAME_SIZE_MAX as u64), cost.contents)
}

impl Answers {
    /// None so far; those below a number will never be there.
    pub(in crate::queue) fn new(done_below: u64) -> Self {
        Self { done_below, size: 0, bodies_size: 0, kept: Arc::default() }
    }

    /// Answers below are not kept.
    pub(in crate::queue) fn done_below(&self) -> u64 {
        self.done_below
    }

    /// Counted size of all of them.
    pub(in crate::queue) fn size(&self) -> u64 {
        self.size
    }

    pub(in crate::queue) fn get(&self, number: u64) -> Option<&Answer> {
        self.kept.get(self.place(number)?)?.as_ref()
    }

    fn place(&self, number: u64) -> Option<usize> {
        let place = number.checked_sub(self.done_below).filter(|place| *place < SESSION_NUMBERS_MAX)?;
        Some(usize::try_from(place).expect("the window is small"))
    }

    /// Whether the answer to `op` will fit, whatever it is.
    pub(super) fn have_room(&self, number: u64, op: &Op) -> bool {
        let (size, bodies_size) = sizes_max(op);
        self.place(number).is_some()
            && self.size + size <= SESSION_ANSWERS_SIZE_MAX as u64
            && self.bodies_size + bodies_size <= SESSION_BODIES_SIZE_MAX
    }

    /// Keeps an answer; `None` if its number is out of the window or its size cannot be counted.
    pub(in crate::queue) fn keep(&mut self, number: u64, answer: Answer) -> Option<()> {
        let place = self.place(number)?;
        let (size, bodies_size) = answer.sizes();
        self.size = self.size.checked_add(size)?;
        self.bodies_size = self.bodies_size.checked_add(bodies_size)?;
        let kept = Arc::make_mut(&mut self.kept);
        if kept.is_empty() {
            // Most sessions never keep more than one at a time.
            kept.reserve_exact(place + 1);
        }
        if kept.len() <= place {
            kept.resize_with(place + 1, || None);
        }
        kept[place] = Some(answer);
        Some(())
    }

    /// Lets the answers below a number go.
    pub(super) fn drop_below(&mut self, below: u64) {
        let Some(gone) = below.checked_sub(self.done_below).filter(|gone| *gone > 0) else { return };
        let gone = usize::try_from(gone).unwrap_or(usize::MAX);
        self.done_below = below;
        if self.kept.is_empty() {
            return;
        }
        let kept = Arc::make_mut(&mut self.kept);
        for answer in kept.drain(..gone.min(kept.len())).flatten() {
            let (size, bodies_size) = answer.sizes();
            self.size -= size;
            self.bodies_size -= bodies_size;
        }
        // A client that once had many requests on their way need not have them again.
        if kept.capacity() > 4 * kept.len().max(16) {
            kept.shrink_to(2 * kept.len());
        }
    }

    /// Numbers and answers, rising.
    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = (u64, &Answer)> {
        (self.done_below..)
            .zip(self.kept.iter())
            .filter_map(|(number, answer)| Some((number, answer.as_ref()?)))
    }

    /// Asserts limits and sums.
    pub(in crate::queue) fn check(&self) {
        let kept = &self.kept;
        assert!(kept.len() as u64 <= SESSION_NUMBERS_MAX && kept.back().is_none_or(Option::is_some));
        let sizes = self.iter().map(|(_, answer)| answer.sizes());
        let sums = sizes.fold((0, 0), |sums, sizes| (sums.0 + sizes.0, sums.1 + sizes.1));
        assert_eq!(sums, (self.size, self.bodies_size), "sizes of answers");
        assert!(self.size <= SESSION_ANSWERS_SIZE_MAX as u64);
        assert!(self.bodies_size <= SESSION_BODIES_SIZE_MAX);
    }
}

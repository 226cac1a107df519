//! What is remembered of clients so that a command counts once, however often it is repeated
//! (**Source**: Ongaro's dissertation §6.3, for many requests in flight).
//!
//! A session opens with its first recorded answer and is forgotten when it is closed, or by the wall clock when it
//! was unused for [`SESSION_IDLE_MS`] and holds no lease. What must never happen is that a repeat of an executed
//! command meets a state that has forgotten it and runs again under the same id. Three rules together rule it out:
//!
//! 1. **The client's**: numbers start at 1, and `done_below` stays 1 until one of the session's commands was
//!    answered by success with something other than an empty delivery. So a stamp with `done_below` above 1 proves that
//!    the session was open, and if it is not known it is refused as expired. A client whose first 1,023 requests
//!    all came back empty or refused opens the session with an `extend` of all leases, which is always recorded.
//! 2. **The state's**: the id of a forgotten session is kept for [`SESSION_FORGOTTEN_MS`] more, and refused.
//! 3. **The client's**: a request that got no answer for [`SESSION_FORGOTTEN_MS`] since it was first sent is not sent
//!    again under its number; its outcome is unknown.
//!
//! At [`SESSIONS_FORGOTTEN_MAX`] ids no session opens until some have aged out: nothing is forgotten early.

use std::collections::VecDeque;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{
    CHECKPOINT_SIZE_MAX, CHECKPOINTS_SIZE_MAX, LEASE_COUNT_MAX, QUEUE_NAME_SIZE_MAX,
    SESSION_ANSWERS_SIZE_MAX, SESSION_BODIES_SIZE_MAX, SESSION_IDLE_MS, SESSION_NUMBERS_MAX, SESSIONS_MAX,
    TAIL_SIZE_MAX,
};
use queue_protocol::names::{MessageId, SessionId};
use queue_protocol::response::{At, PushOutcome};
use queue_protocol::txn::{StepDone, TxnOutcome};

use super::bound::{Bound, is_grace};
use super::command::{Op, Push, SessionStamp};
use super::reply::{Grant, Outcome, Refusal, Reply};

/// The id of a forgotten session is refused for so long on the wall clock: 1 h.
pub const SESSION_FORGOTTEN_MS: u64 = 3_600_000;
/// Ids of forgotten sessions beyond which no session opens.
pub const SESSIONS_FORGOTTEN_MAX: usize = 1_000_000;

/// Answers to be counted as so many bytes, whatever is in them.
const ANSWER_SIZE: u64 = 48;
/// One message of a delivery, besides the name of its queue.
const GRANT_SIZE: u64 = 64;
/// One result of a push.
const PUSH_OUTCOME_SIZE: u64 = 16;

/// One step of a transaction, besides its results.
const STEP_SIZE: u64 = 16;

/// What a message of a delivery counts.
fn grant_size(grant: &Grant) -> u64 {
    let checkpoint = grant.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.as_bytes().len());
    GRANT_SIZE + (grant.queue.as_str().len() + checkpoint) as u64
}

/// What a step counts.
fn step_size(step: &StepDone) -> u64 {
    let runs = if let StepDone::Pushed(runs) = step { runs.len() as u64 } else { 0 };
    STEP_SIZE + runs * PUSH_OUTCOME_SIZE
}

/// The most the results of a push can count: those without options fare alike, or the last ones are refused.
fn push_size_max(push: &Push) -> u64 {
    let runs = (2 * push.special.len() as u64 + 2).min(push.count.into());
    runs * PUSH_OUTCOME_SIZE
}

/// All sessions and their answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    open: OrdMap<SessionId, Session>,
    /// When to look whether a session is unused, on the wall clock; each open session once.
    checks: OrdSet<(u64, SessionId)>,
    /// Until when an id is refused, on the wall clock.
    forgotten: OrdMap<SessionId, u64>,
    forgotten_until: OrdSet<(u64, SessionId)>,
    /// Open sessions that are bound.
    pub(super) bound: Bound,
}

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Answers below are not kept.
    pub(super) done_below: u64,
    /// Wall time of its last command.
    pub(super) used_at_ms: u64,
    /// Wall time of the next look.
    pub(super) check_ms: u64,
    /// Counted size of its answers.
    pub(super) answers_size: u64,
    /// Contents named by its answers.
    pub(super) bodies_size: u64,
    answers: Answers,
}

/// The answers of one session that are kept, by number: the first place is that of `done_below`, and the last one is
/// taken. Numbers come nearly in order and leave in order. Copied as a whole when it changes while a snapshot has it.
#[derive(Clone, Debug, Default)]
struct Answers(Arc<VecDeque<Option<Answer>>>);

/// A recorded answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Where it took effect.
    pub(super) at: At,
    result: Recorded,
}

/// What came of a command, small for a push.
#[derive(Clone, Debug)]
enum Recorded {
    Pushed { first_id: MessageId, count: u32 },
    Other(Arc<Result<Outcome, Refusal>>),
}

/// What to do with a command.
pub(super) enum Admission {
    /// It was not executed before: execute it, then [`Sessions::record`].
    Execute,
    /// It was.
    Answered(Reply),
    /// It may not be executed, and its refusal is not recorded.
    Refused(ErrorCode),
}

impl Answer {
    pub(super) fn new(at: At, result: &Result<Outcome, Refusal>) -> Self {
        let result = match result {
            Ok(Outcome::Pushed(outcomes)) if let [PushOutcome::Stored { first_id, count }] = outcomes[..] => {
                Recorded::Pushed { first_id, count }
            }
            other => Recorded::Other(Arc::new(other.clone())),
        };
        Self { at, result }
    }

    pub(super) fn result(&self) -> Result<Outcome, Refusal> {
        match &self.result {
            Recorded::Pushed { first_id, count } => {
                Ok(Outcome::Pushed(vec![PushOutcome::Stored { first_id: *first_id, count: *count }]))
            }
            Recorded::Other(result) => Result::clone(result),
        }
    }

    fn reply(&self) -> Reply {
        Reply { at: self.at, repeated: true, result: self.result() }
    }

    /// Messages it hands out, whose bodies are live.
    pub(super) fn grants(&self) -> &[Grant] {
        match &self.result {
            Recorded::Other(result) => match &**result {
                Ok(Outcome::Delivered(grants)) => grants,
                _ => &[],
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
                Ok(Outcome::Pushed(outcomes)) => outcomes.len() as u64 * PUSH_OUTCOME_SIZE,
                Ok(Outcome::Delivered(grants)) => grants.iter().map(grant_size).sum(),
                Ok(Outcome::Settled(results) | Outcome::Extended { results, .. }) => results.len() as u64,
                Ok(Outcome::Edited(results)) => results.len() as u64,
                Ok(Outcome::Txn(TxnOutcome::Done(steps))) => steps.iter().map(step_size).sum(),
                Ok(_) => 0,
                Err(refusal) => (name_size(&refusal.queue) + name_size(&refusal.similar)) as u64,
            },
        };
        (ANSWER_SIZE + items, self.grants().iter().map(|grant| u64::from(grant.body.size)).sum())
    }
}

/// The most the answer to `op` can count, and the contents it can name.
fn sizes_max(op: &Op) -> (u64, u64) {
    let name_size = QUEUE_NAME_SIZE_MAX as u64;
    let (items, bodies) = match op {
        Op::Lease(lease) | Op::Pop(lease) => {
            let count = u64::from(lease.max_messages).clamp(1, LEASE_COUNT_MAX as u64);
            let checkpoints = (count * CHECKPOINT_SIZE_MAX as u64).min(CHECKPOINTS_SIZE_MAX as u64);
            (count * (GRANT_SIZE + name_size) + checkpoints, TAIL_SIZE_MAX as u64)
        }
        Op::Ack(receipts) | Op::Nack { leases: receipts, .. } | Op::Extend { leases: Some(receipts), .. } => {
            (receipts.receipts.len() as u64, 0)
        }
        Op::Edit { ids, .. } => (ids.len() as u64, 0),
        Op::Push(push) => (push_size_max(push), 0),
        Op::Txn(txn) => {
            let pushes = op.pushes().map(push_size_max).sum::<u64>();
            (txn.steps.len() as u64 * STEP_SIZE + pushes, 0)
        }
        _ => (0, 0),
    };
    (ANSWER_SIZE + items.max(2 * name_size), bodies)
}

impl Answers {
    fn get(&self, done_below: u64, number: u64) -> Option<&Answer> {
        self.0.get(place(done_below, number)?)?.as_ref()
    }

    /// Puts one in its place.
    fn put(&mut self, done_below: u64, number: u64, answer: Answer) {
        let place = place(done_below, number).expect("an admitted command is in the window");
        let kept = Arc::make_mut(&mut self.0);
        if kept.len() <= place {
            kept.resize_with(place + 1, || None);
        }
        kept[place] = Some(answer);
    }

    /// Numbers and answers, rising.
    fn iter(&self, done_below: u64) -> impl Iterator<Item = (u64, &Answer)> {
        (done_below..).zip(self.0.iter()).filter_map(|(number, answer)| Some((number, answer.as_ref()?)))
    }
}

fn place(done_below: u64, number: u64) -> Option<usize> {
    let place = number.checked_sub(done_below).filter(|place| *place < SESSION_NUMBERS_MAX)?;
    Some(usize::try_from(place).expect("the window is small"))
}

impl Session {
    fn new(done_below: u64, used_at_ms: u64, check_ms: u64) -> Self {
        let answers = Answers::default();
        Self { done_below, used_at_ms, check_ms, answers_size: 0, bodies_size: 0, answers }
    }

    fn answer(&self, number: u64) -> Option<&Answer> {
        self.answers.get(self.done_below, number)
    }

    /// Keeps an answer whose number is in the window; `None` if its size cannot be counted.
    fn keep(&mut self, number: u64, answer: Answer) -> Option<()> {
        let (answers_size, bodies_size) = answer.sizes();
        self.answers_size = self.answers_size.checked_add(answers_size)?;
        self.bodies_size = self.bodies_size.checked_add(bodies_size)?;
        self.answers.put(self.done_below, number, answer);
        Some(())
    }

    /// Lets the answers below a number go.
    fn drop_answers(&mut self, below: u64) {
        let gone = usize::try_from(below - self.done_below).unwrap_or(usize::MAX);
        self.done_below = below;
        if self.answers.0.is_empty() {
            return;
        }
        let kept = Arc::make_mut(&mut self.answers.0);
        for answer in kept.drain(..gone.min(kept.len())).flatten() {
            let (answers_size, bodies_size) = answer.sizes();
            self.answers_size -= answers_size;
            self.bodies_size -= bodies_size;
        }
        // A client that once had many requests on their way need not have them again.
        if kept.capacity() > 4 * kept.len().max(16) {
            kept.shrink_to(2 * kept.len());
        }
    }
}

impl Sessions {
    /// Why a command can never be executed under this stamp: its session or its answer is no longer known.
    pub(super) fn lost(&self, stamp: &SessionStamp) -> Option<ErrorCode> {
        match self.open.get(&stamp.session) {
            Some(session) if stamp.number < stamp.done_below.max(session.done_below) => {
                Some(ErrorCode::TooOld)
            }
            Some(_) => None,
            None if stamp.done_below > 1 || self.forgotten.contains_key(&stamp.session) => {
                Some(ErrorCode::SessionExpired)
            }
            None => (stamp.number == 0).then_some(ErrorCode::TooOld),
        }
    }

    /// Decides what to do with a command, after dropping the answers it says have arrived.
    pub(super) fn admit(&mut self, stamp: &SessionStamp, op: &Op, wall_ms: u64) -> Admission {
        let SessionStamp { session: id, number, done_below } = *stamp;
        let lost = self.lost(stamp);
        let Some(session) = self.open.get_mut(&id) else {
            let full = self.open.len() >= SESSIONS_MAX || self.forgotten.len() >= SESSIONS_FORGOTTEN_MAX;
            return match lost {
                Some(code) => Admission::Refused(code),
                None if full => Admission::Refused(ErrorCode::SessionLimit),
                None if number > SESSION_NUMBERS_MAX => Admission::Refused(ErrorCode::SessionFull),
                None => Admission::Execute,
            };
        };
        session.used_at_ms = wall_ms;
        if let Some(code) = lost {
            return Admission::Refused(code);
        }
        if done_below > session.done_below {
            session.drop_answers(done_below);
        }
        if let Some(answer) = session.answer(number) {
            return Admission::Answered(answer.reply());
        }
        let (answers_size, bodies_size) = sizes_max(op);
        let full = number - session.done_below >= SESSION_NUMBERS_MAX
            || session.answers_size + answers_size > SESSION_ANSWERS_SIZE_MAX as u64
            || session.bodies_size + bodies_size > SESSION_BODIES_SIZE_MAX;
        if full { Admission::Refused(ErrorCode::SessionFull) } else { Admission::Execute }
    }

    /// Keeps the answer to an admitted command; opens the session if it is the first.
    pub(super) fn record(
        &mut self,
        stamp: &SessionStamp,
        at: At,
        result: &Result<Outcome, Refusal>,
        wall_ms: u64,
    ) {
        let id = stamp.session;
        if !self.open.contains_key(&id) {
            let check_ms = wall_ms.saturating_add(SESSION_IDLE_MS);
            self.checks.insert((check_ms, id));
            self.open.insert(id, Session::new(1, wall_ms, check_ms));
        }
        let session = self.open.get_mut(&id).expect("it is open");
        session.keep(stamp.number, Answer::new(at, result)).expect("sizes are bounded");
    }

    /// Forgets a session, known or not, and refuses its id from now on.
    pub(super) fn close(&mut self, id: SessionId, wall_ms: u64) {
        let known = self.open.remove(&id);
        if let Some(session) = &known {
            self.checks.remove(&(session.check_ms, id));
        }
        self.bound.set(id, None);
        let room = known.is_some() || self.forgotten.len() < SESSIONS_FORGOTTEN_MAX;
        if room && !self.forgotten.contains_key(&id) {
            let until_ms = wall_ms.saturating_add(SESSION_FORGOTTEN_MS);
            self.forgotten.insert(id, until_ms);
            self.forgotten_until.insert((until_ms, id));
        }
    }

    /// When to look next, and at which session.
    pub(super) fn first_check(&self) -> Option<(u64, SessionId)> {
        self.checks.get_min().copied()
    }

    /// Looks at a session: forgets it if it is unused, else sets the next look.
    pub(super) fn look(&mut self, id: SessionId, has_leases: bool, wall_ms: u64) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let unused_ms = session.used_at_ms.saturating_add(SESSION_IDLE_MS);
        if unused_ms <= wall_ms && !has_leases {
            self.close(id, wall_ms);
            return;
        }
        self.checks.remove(&(session.check_ms, id));
        session.check_ms =
            if unused_ms > wall_ms { unused_ms } else { wall_ms.saturating_add(SESSION_IDLE_MS) };
        self.checks.insert((session.check_ms, id));
    }

    /// Lets go of at most `max` ids that need not be refused any more.
    pub(super) fn release_forgotten(&mut self, max: usize, wall_ms: u64) {
        for _ in 0..max {
            let Some(&(until_ms, id)) = self.forgotten_until.get_min() else { break };
            if until_ms > wall_ms {
                break;
            }
            self.forgotten_until.remove(&(until_ms, id));
            self.forgotten.remove(&id);
        }
    }

    /// The recorded answer.
    pub(super) fn recorded(&self, session: SessionId, number: u64) -> Option<Reply> {
        self.open.get(&session)?.answer(number).map(Answer::reply)
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// All, by id.
    pub(super) fn open(&self) -> &OrdMap<SessionId, Session> {
        &self.open
    }

    /// All recorded answers, by session and number.
    pub(super) fn answers(&self) -> impl Iterator<Item = ((SessionId, u64), &Answer)> {
        self.open.iter().flat_map(|(id, session)| {
            session.answers.iter(session.done_below).map(|(number, answer)| ((*id, number), answer))
        })
    }

    /// Ids that are refused, and until when.
    pub(super) fn forgotten(&self) -> &OrdMap<SessionId, u64> {
        &self.forgotten
    }

    /// Puts a session back as it was; its answers follow by [`Sessions::restore_answer`].
    pub(super) fn restore(
        &mut self,
        id: SessionId,
        done_below: u64,
        used_at_ms: u64,
        check_ms: u64,
        grace_ms: Option<u64>,
    ) {
        self.bound.set(id, grace_ms);
        self.open.insert(id, Session::new(done_below, used_at_ms, check_ms));
        self.checks.insert((check_ms, id));
    }

    /// Puts an answer back; `None` if it has no session or a number out of the window.
    pub(super) fn restore_answer(
        &mut self,
        id: SessionId,
        number: u64,
        at: At,
        result: &Result<Outcome, Refusal>,
    ) -> Option<()> {
        let session = self.open.get_mut(&id)?;
        place(session.done_below, number)?;
        session.keep(number, Answer::new(at, result))
    }

    /// Puts the id of a forgotten session back.
    pub(super) fn restore_forgotten(&mut self, id: SessionId, until_ms: u64) {
        self.forgotten.insert(id, until_ms);
        self.forgotten_until.insert((until_ms, id));
    }

    /// Asserts limits, sums, and that the orders agree with what they order.
    pub(super) fn check(&self) {
        let checks = self.open.iter().map(|(id, session)| (session.check_ms, *id)).collect::<OrdSet<_>>();
        assert!(checks == self.checks, "session checks");
        let until = self.forgotten.iter().map(|(id, until_ms)| (*until_ms, *id)).collect::<OrdSet<_>>();
        assert!(until == self.forgotten_until, "forgotten sessions");
        for (id, grace_ms) in self.bound.iter() {
            assert!(
                self.open.contains_key(&id) && is_grace(grace_ms),
                "session {id} is bound for {grace_ms} ms"
            );
        }
        for (id, session) in &self.open {
            assert!(!self.forgotten.contains_key(id), "session {id} is open and forgotten");
            let kept = &session.answers.0;
            assert!(kept.len() as u64 <= SESSION_NUMBERS_MAX && kept.back().is_none_or(Option::is_some));
            let sizes = session.answers.iter(session.done_below).map(|(_, answer)| answer.sizes());
            let sums = sizes.fold((0, 0), |sums, sizes| (sums.0 + sizes.0, sums.1 + sizes.1));
            assert_eq!(sums, (session.answers_size, session.bodies_size), "session {id}");
            assert!(session.answers_size <= SESSION_ANSWERS_SIZE_MAX as u64);
            assert!(session.bodies_size <= SESSION_BODIES_SIZE_MAX);
        }
    }
}

//! What is remembered of clients so that a command counts once, however often it is repeated
//! (**Source**: Ongaro's dissertation §6.3, for many requests in flight).
//!
//! ```text
//!            first recorded answer          closed, not used, or in the way          2 min of elapsed time
//! unknown ──────────────────────────► open ──────────────────────────────► forgotten ──────────────────────► dropped
//!    │ at or below the mark                                                    │                   the mark rises to
//!    └──────────────► refused as expired ◄─────────────────────────────────────┘                   its index at least
//! ```
//!
//! What must never happen is that a repeat of an executed command meets a state that has forgotten it and runs again under
//! the same id. Three rules rule it out, whatever clocks say and however late a repeat comes:
//!
//! 1. **The client's**: before its first request it learns an index of the log from the leader, and draws the id of its
//!    session. All requests under that id carry that index; it is never renewed for this id.
//! 2. **The state's**: an id that was open is open, or forgotten and refused, or dropped; and no index of a dropped id is
//!    above the mark, which never falls.
//! 3. **The state's**: a session opens only above the mark.
//!
//! Let a command of session X, whose index is i, be executed and recorded. X was open then. A repeat of it meets X open,
//! and finds its answer or learns that its number is too old; or forgotten, and is refused; or dropped, so that i is at or
//! below the mark by 2, and is refused by 3, for by 1 it carries i and no other index.
//!
//! So a session that is not known and above the mark never was open: whatever its numbers are, nothing of it was recorded.
//!
//! **Nobody is refused for long.** A session that opens does so under an index below that of the entry that opens it, so the
//! mark is always below some entry that is older than [`SESSION_FORGOTTEN_MS`], or than the last
//! [`SESSIONS_FORGOTTEN_MAX`] sessions that ended. Who sends nothing first under an index that was learned more than
//! [`SESSION_INDEX_MS_MAX`](queue_protocol::limits::SESSION_INDEX_MS_MAX) ago is above it; who is not is told so before
//! anything is executed, and draws another id under a newer index.
//!
//! **What gives way.** A session is forgotten when it was not used for [`SESSION_IDLE_MS`] and holds no lease. Earlier, again
//! without leases, one session for each that opens beyond [`SESSIONS_MAX`]: the one that was not used for longest of the
//! source with most sessions, else of all, if that is [`SESSION_SPARE_MS`] or more; else the same if it is
//! [`SESSION_SPARE_MS_MIN`] or more. While the answers of all sessions together are larger than [`ANSWERS_SIZE_MAX`],
//! sessions go that were not used for [`SESSION_SPARE_MS`]. All this counts in elapsed time. So `session_limit` is met only
//! while nearly all of [`SESSIONS_MAX`] sessions hold a lease or were used within the last ten seconds.

use imbl::OrdMap;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{
    SESSION_FORGOTTEN_MS, SESSION_IDLE_MS, SESSION_SPARE_MS, SESSION_SPARE_MS_MIN, SESSIONS_MAX,
};
use queue_protocol::names::SessionId;
use queue_protocol::wire::response::At;

use super::answers::{Answer, Answers};
use super::bound::{Bound, is_grace};
use super::forgotten::{Forgotten, SESSIONS_FORGOTTEN_MAX};
use super::idle::Idle;
use crate::queue::auth::PrincipalNumber;
use crate::queue::command::{Op, Opening, SessionStamp, Source};
use crate::queue::reply::{Outcome, Refusal, Reply};

/// Counted size of all answers beyond which sessions that are not used give way: 64 MiB.
const ANSWERS_SIZE_MAX: u64 = 64 << 20;
/// Sessions looked at for one that gives way, at most; those that were used meanwhile are listed anew.
const LOOKS_MAX: usize = 4_096;

const _: () = assert!(SESSION_SPARE_MS_MIN < SESSION_SPARE_MS && SESSION_SPARE_MS < SESSION_FORGOTTEN_MS);
const _: () = assert!(SESSIONS_FORGOTTEN_MAX > SESSIONS_MAX);

/// All sessions and their answers.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Sessions {
    open: OrdMap<SessionId, Session>,
    idle: Idle,
    forgotten: Forgotten,
    /// Counted size of all answers.
    answers_size: u64,
    /// Open sessions that are bound.
    pub(in crate::queue) bound: Bound,
    /// Open sessions at most.
    max: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: OrdMap::new(),
            idle: Idle::default(),
            forgotten: Forgotten::default(),
            answers_size: 0,
            bound: Bound::default(),
            max: SESSIONS_MAX,
        }
    }
}

/// A session that is open: its numbers, its answers, when it was used.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Session {
    /// The index and the address under which it opened.
    pub(in crate::queue) opening: Opening,
    /// Elapsed time of its last command, or of the last look that found a lease.
    pub(in crate::queue) used_at_ms: u64,
    /// Where it stands among those that are not used: a time at which it was.
    pub(in crate::queue) listed_ms: u64,
    /// The principal that opened it; `None` if that was not logged in.
    pub(in crate::queue) owner: Option<PrincipalNumber>,
    answers: Answers,
}

impl Session {
    /// Answers below are not kept.
    pub(in crate::queue) fn done_below(&self) -> u64 {
        self.answers.done_below()
    }
}

/// What to do with a command.
pub(in crate::queue) enum Admission {
    /// It was not executed before: execute it, then [`Sessions::record`].
    Execute,
    /// The same, once there is room for its session.
    Open,
    /// It was executed before; this is its answer.
    Answered(Reply),
    /// It may not be executed, and its refusal is not recorded.
    Refused(ErrorCode),
}

impl Sessions {
    /// Why a command can never be executed under this stamp: its session or its answer is no longer known, or its number was
    /// another request's.
    pub(in crate::queue) fn lost(&self, stamp: &SessionStamp) -> Option<ErrorCode> {
        let done_below = match (self.open.get(&stamp.session), &stamp.opening) {
            (Some(session), _) => session.done_below(),
            // Whoever proposed it knew the session.
            (None, None) => return Some(ErrorCode::SessionExpired),
            (None, Some(opening)) if self.forgotten.refuses(stamp.session, opening.index) => {
                return Some(ErrorCode::SessionExpired);
            }
            (None, Some(_)) => 1,
        };
        if stamp.number < done_below.max(stamp.done_below) {
            return Some(ErrorCode::TooOld);
        }
        let answer = self.open.get(&stamp.session)?.answers.get(stamp.number)?;
        (answer.request != stamp.request).then_some(ErrorCode::NumberReused)
    }

    /// Decides what to do with a command of the entry `index`, after dropping the answers it says have arrived.
    pub(in crate::queue) fn admit(
        &mut self,
        stamp: &SessionStamp,
        op: &Op,
        index: u64,
        elapsed_ms: u64,
    ) -> Admission {
        let lost = self.lost(stamp);
        let number = stamp.number;
        let Some(session) = self.open.get_mut(&stamp.session) else {
            return match lost {
                Some(code) => Admission::Refused(code),
                // No leader said so, and the mark must not rise above what all others learn.
                None if stamp.opening.is_some_and(|opening| opening.index >= index) => {
                    Admission::Refused(ErrorCode::SessionExpired)
                }
                None if !Answers::new(stamp.done_below.max(1)).have_room(number, op) => {
                    Admission::Refused(ErrorCode::SessionFull)
                }
                None if self.open.len() >= self.max => Admission::Open,
                None => Admission::Execute,
            };
        };
        session.used_at_ms = elapsed_ms;
        if let Some(code) = lost {
            return Admission::Refused(code);
        }
        let before = session.answers.size();
        session.answers.drop_below(stamp.done_below);
        self.answers_size -= before - session.answers.size();
        if let Some(answer) = session.answers.get(number) {
            return Admission::Answered(answer.reply());
        }
        let room = session.answers.have_room(number, op);
        if room { Admission::Execute } else { Admission::Refused(ErrorCode::SessionFull) }
    }

    /// Keeps the answer to an admitted command; opens the session if it is the first.
    pub(in crate::queue) fn record(
        &mut self,
        stamp: &SessionStamp,
        owner: Option<PrincipalNumber>,
        at: At,
        result: &Result<Outcome, Refusal>,
        elapsed_ms: u64,
    ) {
        let id = stamp.session;
        if !self.open.contains_key(&id) {
            let opening =
                stamp.opening.expect("nothing is admitted of a session that is not known and cannot open");
            self.open(id, owner, stamp.done_below.max(1), opening, [elapsed_ms, elapsed_ms]);
        }
        let answer = Answer::new(at, stamp.request, result);
        self.keep(id, stamp.number, answer).expect("sizes are bounded");
    }

    fn open(
        &mut self,
        id: SessionId,
        owner: Option<PrincipalNumber>,
        done_below: u64,
        opening: Opening,
        [used_at_ms, listed_ms]: [u64; 2],
    ) {
        self.idle.insert(id, opening.source, listed_ms);
        let answers = Answers::new(done_below);
        self.open.insert(id, Session { opening, used_at_ms, listed_ms, owner, answers });
    }

    /// Open sessions of those that were not logged in.
    pub(in crate::queue) fn without_owner(&self) -> Vec<SessionId> {
        let open = self.open.iter().filter(|(_, session)| session.owner.is_none());
        open.map(|(id, _)| *id).collect()
    }

    fn keep(&mut self, id: SessionId, number: u64, answer: Answer) -> Option<()> {
        let answers = &mut self.open.get_mut(&id)?.answers;
        let before = answers.size();
        answers.keep(number, answer)?;
        self.answers_size = self.answers_size.checked_add(answers.size() - before)?;
        Some(())
    }

    /// Forgets a session that is open, and refuses its id from now on.
    pub(in crate::queue) fn forget(&mut self, id: SessionId, elapsed_ms: u64) {
        let Some(session) = self.open.remove(&id) else { return };
        let Opening { index, source } = session.opening;
        self.idle.remove(id, source, session.listed_ms);
        self.answers_size -= session.answers.size();
        self.bound.set(id, None);
        self.forgotten.keep(id, index, elapsed_ms);
    }

    /// Forgets a session by a command of its own in the entry `index`. If it is not open yet, it never will be.
    pub(in crate::queue) fn close(&mut self, stamp: &SessionStamp, index: u64, elapsed_ms: u64) {
        self.forget(stamp.session, elapsed_ms);
        if let Some(opening) = stamp.opening.filter(|opening| opening.index < index)
            && !self.forgotten.refuses(stamp.session, opening.index)
        {
            self.forgotten.keep(stamp.session, opening.index, elapsed_ms);
        }
    }

    /// How long a session may be idle now before it is forgotten.
    pub(in crate::queue) fn idle_ms_max(&self) -> u64 {
        if self.answers_size > ANSWERS_SIZE_MAX { SESSION_SPARE_MS } else { SESSION_IDLE_MS }
    }

    /// The session to be forgotten so that another one can open.
    pub(in crate::queue) fn in_the_way(
        &mut self,
        elapsed_ms: u64,
        has_leases: impl Fn(SessionId) -> bool,
    ) -> Option<SessionId> {
        let largest = self.idle.largest();
        [SESSION_SPARE_MS, SESSION_SPARE_MS_MIN].into_iter().find_map(|idle_ms| {
            let mut unused = |of| self.unused(of, idle_ms, elapsed_ms, &has_leases);
            unused(largest).or_else(|| unused(None))
        })
    }

    /// The session that was not used for longest, of one source or of all, if that is so long, and holds no lease.
    pub(in crate::queue) fn unused(
        &mut self,
        of: Option<Source>,
        idle_ms: u64,
        elapsed_ms: u64,
        has_leases: impl Fn(SessionId) -> bool,
    ) -> Option<SessionId> {
        for _ in 0..LOOKS_MAX {
            let (listed_ms, id) = self.idle.first(of)?;
            if listed_ms.checked_add(idle_ms).is_none_or(|at_ms| at_ms > elapsed_ms) {
                return None;
            }
            let session = self.open.get_mut(&id).expect("what is listed is open");
            if has_leases(id) {
                session.used_at_ms = elapsed_ms;
            }
            if session.used_at_ms == listed_ms {
                return Some(id);
            }
            session.listed_ms = session.used_at_ms;
            self.idle.shift(id, session.opening.source, listed_ms, session.used_at_ms);
        }
        None
    }

    /// Drops at most `max` ids that need not be kept any more.
    pub(in crate::queue) fn release_forgotten(&mut self, max: usize, elapsed_ms: u64) {
        self.forgotten.release(max, elapsed_ms);
    }

    /// The answer that was recorded under a number, if it still is.
    pub(in crate::queue) fn recorded(&self, session: SessionId, number: u64) -> Option<Reply> {
        self.open.get(&session)?.answers.get(number).map(Answer::reply)
    }

    /// How many are open.
    pub(in crate::queue) fn count(&self) -> usize {
        self.open.len()
    }

    /// All open sessions, by id.
    pub(in crate::queue) fn all(&self) -> &OrdMap<SessionId, Session> {
        &self.open
    }

    /// All recorded answers, by session and number.
    pub(in crate::queue) fn answers(&self) -> impl Iterator<Item = ((SessionId, u64), &Answer)> {
        self.open
            .iter()
            .flat_map(|(id, session)| session.answers.iter().map(|(number, answer)| ((*id, number), answer)))
    }

    /// Ids that are refused.
    pub(in crate::queue) fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// Puts a session back as it was, used and listed at two times; its answers follow by [`Sessions::restore_answer`].
    pub(in crate::queue) fn restore(
        &mut self,
        id: SessionId,
        owner: Option<PrincipalNumber>,
        done_below: u64,
        opening: Opening,
        times_ms: [u64; 2],
        grace_ms: Option<u64>,
    ) {
        self.bound.set(id, grace_ms);
        self.open(id, owner, done_below, opening, times_ms);
    }

    /// Puts an answer back; `None` if it has no session or a number out of the window.
    pub(in crate::queue) fn restore_answer(
        &mut self,
        id: SessionId,
        number: u64,
        answer: Answer,
    ) -> Option<()> {
        self.keep(id, number, answer)
    }

    /// Puts the ids of forgotten sessions back.
    pub(in crate::queue) fn restore_forgotten(&mut self, forgotten: Forgotten) {
        self.forgotten = forgotten;
    }

    /// Counted size of all answers.
    #[cfg(test)]
    pub(in crate::queue) fn answers_size(&self) -> u64 {
        self.answers_size
    }

    /// Other than the limit, so that tests come to it.
    #[cfg(test)]
    pub(in crate::queue) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Asserts limits, sums, and that the orders agree with what they order.
    pub(in crate::queue) fn check(&self) {
        self.forgotten.check();
        let listed = |(id, session): (&SessionId, &Session)| (*id, session.opening.source, session.listed_ms);
        self.idle.check(self.open.iter().map(listed));
        for (id, grace_ms) in self.bound.iter() {
            assert!(
                self.open.contains_key(&id) && is_grace(grace_ms),
                "session {id} is bound for {grace_ms} ms"
            );
        }
        let mut answers_size = 0;
        for (id, session) in &self.open {
            assert!(!self.forgotten.has(*id), "session {id} is open and forgotten");
            assert!(
                session.listed_ms <= session.used_at_ms,
                "session {id} is listed as used later than it was"
            );
            session.answers.check();
            answers_size += session.answers.size();
        }
        assert_eq!(answers_size, self.answers_size, "sizes of answers");
        assert!(self.open.len() <= self.max, "sessions");
    }
}

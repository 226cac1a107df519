//! Sessions of the model: what is answered again, what is refused, who gives way.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{
    SESSION_FORGOTTEN_MS, SESSION_NUMBERS_MAX, SESSION_SPARE_MS, SESSION_SPARE_MS_MIN,
};
use queue_protocol::names::SessionId;
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::At;

use super::super::command::{Command, Op, SessionStamp, Source};
use super::super::reply::{BodyRef, Outcome, Reply};
use super::{Model, Session, refusal};

impl Model {
    pub(super) fn command(&mut self, at: At, command: &Command, bodies: &[BodyRef]) -> Reply {
        let fresh = |result| Reply { at, repeated: false, result };
        let Some(stamp) = command.session else {
            return fresh(self.execute(None, &command.op, bodies));
        };
        let SessionStamp { session: id, number, done_below, .. } = stamp;
        if command.op == Op::CloseSession {
            let may_open = !self.has_session(id) && self.may_open(&stamp, at.index);
            self.forget(id);
            if let Some(opening) = stamp.opening.filter(|_| may_open) {
                self.forgotten.push((id, opening.index, self.elapsed_ms + SESSION_FORGOTTEN_MS));
            }
            return fresh(Ok(Outcome::Closed));
        }
        let refused = |code| fresh(Err(refusal(code)));
        if let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) {
            session.used_at_ms = self.elapsed_ms;
            if number < done_below || number < session.done_below {
                return refused(ErrorCode::TooOld);
            }
            session.done_below = session.done_below.max(done_below);
            let keep = session.done_below;
            session.answers.retain(|(number, ..)| *number >= keep);
            if let Some((_, request, answer)) =
                session.answers.iter().find(|(answered, ..)| *answered == number)
            {
                if *request != stamp.request {
                    return refused(ErrorCode::NumberReused);
                }
                return Reply { repeated: true, ..answer.clone() };
            }
            if number - keep >= SESSION_NUMBERS_MAX {
                return refused(ErrorCode::SessionFull);
            }
        } else {
            let done_below = done_below.max(1);
            if !self.may_open(&stamp, u64::MAX) {
                return refused(ErrorCode::SessionExpired);
            }
            if number < done_below {
                return refused(ErrorCode::TooOld);
            }
            if !self.may_open(&stamp, at.index) {
                return refused(ErrorCode::SessionExpired);
            }
            if number - done_below >= SESSION_NUMBERS_MAX {
                return refused(ErrorCode::SessionFull);
            }
            if self.sessions.len() >= self.sessions_max {
                let Some(id) = self.in_the_way() else { return refused(ErrorCode::SessionLimit) };
                self.forget(id);
            }
        }
        let reply = fresh(self.execute(Some(id), &command.op, bodies));
        if reply.result != Ok(Outcome::Nothing) {
            self.record(&stamp, &reply);
        }
        reply
    }

    fn record(&mut self, stamp: &SessionStamp, reply: &Reply) {
        if !self.has_session(stamp.session) {
            self.sessions.push(Session {
                id: stamp.session,
                opening: stamp.opening.unwrap(),
                done_below: stamp.done_below.max(1),
                used_at_ms: self.elapsed_ms,
                listed_ms: self.elapsed_ms,
                grace_ms: None,
                answers: Vec::new(),
            });
        }
        let session = self.sessions.iter_mut().find(|session| session.id == stamp.session).unwrap();
        session.answers.push((stamp.number, stamp.request, reply.clone()));
        if let Ok(Outcome::Bound(grace_ms)) = reply.result {
            session.grace_ms = grace_ms;
        }
    }

    fn has_session(&self, id: SessionId) -> bool {
        self.sessions.iter().any(|session| session.id == id)
    }

    /// Whether a session that is not open never was, and can be opened by the entry `index`.
    fn may_open(&self, stamp: &SessionStamp, index: u64) -> bool {
        let was_open = self.forgotten.iter().any(|(id, _, _)| *id == stamp.session);
        stamp.opening.is_some_and(|opening| {
            !was_open && opening.index < index && self.mark.is_none_or(|mark| mark < opening.index)
        })
    }

    pub(super) fn forget(&mut self, id: SessionId) {
        let Some(at) = self.sessions.iter().position(|session| session.id == id) else {
            return self.resign(id);
        };
        let session = self.sessions.remove(at);
        self.resign(id);
        self.forgotten.push((id, session.opening.index, self.elapsed_ms + SESSION_FORGOTTEN_MS));
    }

    pub(super) fn drop_forgotten(&mut self) {
        for (id, index, until_ms) in self.forgotten.clone() {
            if until_ms <= self.elapsed_ms {
                self.mark = self.mark.max(Some(index));
                self.forgotten.retain(|(forgotten, _, _)| *forgotten != id);
            }
        }
    }

    fn in_the_way(&mut self) -> Option<SessionId> {
        let count = |source| self.sessions.iter().filter(|session| session.opening.source == source).count();
        let sources = self.sessions.iter().map(|session| session.opening.source);
        let largest = sources.max_by_key(|source| (count(*source), *source));
        let spare = [(largest, SESSION_SPARE_MS), (None, SESSION_SPARE_MS)];
        let mut rules =
            spare.into_iter().chain([(largest, SESSION_SPARE_MS_MIN), (None, SESSION_SPARE_MS_MIN)]);
        rules.find_map(|(of, idle_ms)| self.unused(of, idle_ms))
    }

    /// The one that was not used for longest, of one source or of all. Who holds a lease when it is looked at is in use.
    pub(super) fn unused(&mut self, of: Option<Source>, idle_ms: u64) -> Option<SessionId> {
        loop {
            let chosen =
                self.sessions.iter().filter(|session| of.is_none_or(|of| session.opening.source == of));
            let (listed_ms, id) = chosen.map(|session| (session.listed_ms, session.id)).min()?;
            if listed_ms + idle_ms > self.elapsed_ms {
                return None;
            }
            let has_leases = self.in_state(MessageState::Leased).any(|m| m.holder == Some(id));
            let elapsed_ms = self.elapsed_ms;
            let session = self.sessions.iter_mut().find(|session| session.id == id).unwrap();
            if has_leases {
                session.used_at_ms = elapsed_ms;
            }
            if session.used_at_ms == session.listed_ms {
                return Some(id);
            }
            session.listed_ms = session.used_at_ms;
        }
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// As if so many were the most that can be open.
    #[cfg(test)]
    pub(in super::super) fn set_sessions_max(&mut self, max: usize) {
        self.sessions_max = max;
    }

    /// Bound sessions and their graces.
    pub fn bound(&self) -> Vec<(SessionId, u64)> {
        let mut bound: Vec<_> =
            self.sessions.iter().filter_map(|session| Some((session.id, session.grace_ms?))).collect();
        bound.sort();
        bound
    }

    /// The answer that was recorded under a number, if it still is.
    pub fn recorded(&self, session: SessionId, number: u64) -> Option<Reply> {
        let session = self.sessions.iter().find(|known| known.id == session)?;
        let (.., answer) = session.answers.iter().find(|(answered, ..)| *answered == number)?;
        Some(Reply { repeated: true, ..answer.clone() })
    }
}

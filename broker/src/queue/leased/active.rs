//! The one session that a queue of one active consumer serves: who, since which epoch, and until when it has a claim.
//!
//! A session claims the queue with the first message it gets. Each lease, ack, nack or extend of its own renews the claim,
//! until three times the length of the lease has passed on the lease clock; so no lease of it outlives the claim. Then, or
//! when the session is closed and its leases have ended, the queue is free: who is served next claims it, under a new
//! epoch unless it is the same session. A claim that is over while nothing waits to be handed out is left alone: a
//! consumer that has nothing to do keeps its queue.

use queue_protocol::names::{QueueName, SessionId};
use serde::{Deserialize, Serialize};

use crate::queue::apply::Apply;
use crate::queue::catalog::QueueNumber;
use crate::queue::queue::Queue;
use crate::queue::state::State;

/// Lengths of a lease after which a claim is over.
const CLAIM_LEASES: u64 = 3;

/// Who is served by a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::queue) struct Active {
    /// Who claims it, or did last.
    session: Option<SessionId>,
    /// Sessions that claimed it, one after the other.
    epoch: u64,
    /// Lease clock at which the claim is over; `None` if there is none.
    until_ms: Option<u64>,
}

/// Whom a queue serves next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// It serves every session.
    Any,
    /// It serves this session alone.
    Only(SessionId),
    /// One session, rather the one that was served last.
    One(Option<SessionId>),
}

impl Active {
    /// Who claims the queue.
    pub(in crate::queue) fn holder(&self) -> Option<SessionId> {
        self.until_ms.and(self.session)
    }

    /// How many sessions claimed it.
    pub(in crate::queue) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Ends the claim, at once or at a time.
    pub(in crate::queue) fn end(&mut self, until_ms: Option<u64>) {
        self.until_ms = until_ms.filter(|_| self.until_ms.is_some());
    }

    /// The same with an epoch that no session had, `skipped` further on.
    pub(in crate::queue) fn recovered(self, is_single: bool, skipped: u64) -> Self {
        match self.session {
            None if !is_single => self,
            session => Self {
                session: Some(session.unwrap_or(SessionId(0))),
                epoch: self.epoch.saturating_add(skipped),
                ..self
            },
        }
    }

    /// Whether it can have come about.
    pub(in crate::queue) fn fits(&self, single: bool) -> bool {
        self.session.is_some() == (self.epoch > 0)
            && (self.until_ms.is_none() || (single && self.session.is_some()))
            && self.epoch <= 1 << 62
    }
}

impl Queue {
    /// Whether messages may be handed out to a session as far as others are concerned.
    pub(in crate::queue) fn serves(&self, session: Option<SessionId>) -> bool {
        self.active.until_ms.is_none() || self.active.session == session
    }

    /// The epoch of what is handed out; 0 where any session is served.
    pub(in crate::queue) fn epoch(&self) -> u64 {
        if self.settings.single_active { self.active.epoch } else { 0 }
    }

    /// A session is about to get messages. `stamped_ms` is the lease clock from which the lease is counted.
    pub(in crate::queue) fn claim(&mut self, session: Option<SessionId>, lease_ms: u64, stamped_ms: u64) {
        let Some(session) = session.filter(|_| self.settings.single_active) else { return };
        if self.active.session != Some(session) {
            self.active = Active { session: Some(session), epoch: self.active.epoch + 1, until_ms: None };
        }
        self.active.until_ms.get_or_insert(0);
        self.renew(Some(session), lease_ms, stamped_ms);
    }

    /// A session that may have a claim has shown that it is there.
    pub(in crate::queue) fn renew(&mut self, session: Option<SessionId>, lease_ms: u64, stamped_ms: u64) {
        let until_ms = stamped_ms.saturating_add(lease_ms.saturating_mul(CLAIM_LEASES));
        if self.active.holder() == session && session.is_some() {
            self.active.until_ms = self.active.until_ms.max(Some(until_ms));
        }
    }

    /// When a claim that keeps messages from others is over.
    pub(in crate::queue) fn claim_end(&self) -> Option<u64> {
        self.active.until_ms.filter(|_| self.available() > 0)
    }
}

impl Apply<'_> {
    /// A session is gone: its claims end with its leases.
    pub(in crate::queue) fn resign(&mut self, session: SessionId) {
        let claimed: Vec<QueueNumber> = self.state.catalog().claimed_by(session).collect();
        for number in claimed {
            self.change(number, |queue| {
                let theirs = queue.leased.values().filter(|leased| leased.session == Some(session));
                let last = theirs.map(|leased| leased.deadline_ms).max();
                queue.active.end(last);
            });
        }
    }
}

impl State {
    /// Whom a queue serves.
    pub fn consumer(&self, name: &QueueName) -> Consumer {
        match self.queue(name) {
            Some(queue) if queue.settings.single_active => match queue.active.holder() {
                Some(holder) => Consumer::Only(holder),
                None => Consumer::One(queue.active.session),
            },
            _ => Consumer::Any,
        }
    }

    /// Ready messages of a queue that a session would get; 0 if there is no such queue.
    pub fn available_to(&self, name: &QueueName, session: Option<SessionId>) -> u64 {
        self.queue(name).filter(|queue| queue.serves(session)).map_or(0, Queue::available)
    }
}

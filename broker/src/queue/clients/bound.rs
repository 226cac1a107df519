//! Bound sessions: those whose client says that it is there, so that what it has leased need not wait for the end of
//! its leases when it is gone.
//!
//! The state knows who is bound, and for how long a client may be away. Whether it is away the leader alone sees, and
//! says so with a command; that changes nothing for a session that is not bound any more. A client that is back by the
//! time the command is applied loses the leases all the same, and learns it as from any lease that ended: its receipts
//! are stale.

use imbl::OrdMap;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{GRACE_MS_MAX, GRACE_MS_MIN, RECEIPTS_COUNT_MAX};
use queue_protocol::names::{MessageId, SessionId};

use crate::queue::apply::{Apply, refusal};
use crate::queue::catalog::QueueNumber;
use crate::queue::reply::{Outcome, Refusal};
use crate::queue::state::State;

/// Leases given back by one command, at most: as many as an ack can name.
pub const RELEASED_COUNT_MAX: usize = RECEIPTS_COUNT_MAX;

/// Sessions that are bound, and how long their clients may be away, in milliseconds on the lease clock. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bound(OrdMap<SessionId, u64>);

impl Bound {
    /// The grace of a session; `None` if it is not bound.
    pub fn grace_ms(&self, session: SessionId) -> Option<u64> {
        self.0.get(&session).copied()
    }

    /// All of them with their graces, by id.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, u64)> + '_ {
        self.0.iter().map(|(session, grace_ms)| (*session, *grace_ms))
    }

    /// Whether nothing was changed between the two; `false` proves nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }

    pub(in crate::queue) fn set(&mut self, session: SessionId, grace_ms: Option<u64>) {
        match grace_ms {
            Some(grace_ms) => self.0.insert(session, grace_ms),
            None => self.0.remove(&session),
        };
    }
}

/// Whether a client can be given so much time.
pub(crate) fn is_grace(grace_ms: u64) -> bool {
    (GRACE_MS_MIN..=GRACE_MS_MAX).contains(&grace_ms)
}

impl Apply<'_> {
    /// Binds a session or unbinds it.
    ///
    /// # Errors
    /// Refused if the grace is out of its range, or there is no session.
    pub(in crate::queue) fn bind(
        &mut self,
        session: Option<SessionId>,
        grace_ms: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let session = session.filter(|_| grace_ms.is_none_or(is_grace));
        let session = session.ok_or_else(|| refusal(ErrorCode::BadRequest))?;
        self.state.sessions_mut().bound.set(session, grace_ms);
        Ok(Outcome::Bound(grace_ms))
    }

    /// Gives back without blame what a bound session has leased, as much as one command may, in order of queue and id;
    /// with the last of it its claims pass on.
    pub(in crate::queue) fn release_absent(&mut self, session: SessionId) -> Outcome {
        if self.state.sessions().bound.grace_ms(session).is_none() {
            return Outcome::Count(0);
        }
        let now = self.state.now();
        let held = self.state.holders().of(session).take(RELEASED_COUNT_MAX);
        let mut held: Vec<(QueueNumber, MessageId)> = held.map(|(id, number)| (number, id)).collect();
        held.sort_unstable();
        for run in held.chunk_by(|a, b| a.0 == b.0) {
            self.change(run[0].0, |queue| {
                for (_, id) in run {
                    let leased = queue.end_lease(*id).expect("who holds what is what is leased");
                    queue.release(*id, leased, 0, now);
                }
            });
        }
        held.iter().for_each(|(_, id)| self.unhold(Some(session), *id));
        if !self.state.has_leases(session) {
            self.resign(session);
        }
        Outcome::Count(held.len() as u64)
    }
}

impl State {
    /// The sessions that are bound.
    pub fn bound(&self) -> &Bound {
        &self.sessions().bound
    }

    /// Whether a session has something that others wait for: a lease, or a claim.
    pub fn holds_anything(&self, session: SessionId) -> bool {
        self.has_leases(session) || self.catalog().claimed_by(session).next().is_some()
    }
}

//! Where the leases of each session are.

use imbl::OrdMap;
use queue_protocol::names::{MessageId, SessionId};

use crate::queue::catalog::QueueNumber;

/// Leases by session and message; the session may be closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Holders(OrdMap<(SessionId, MessageId), QueueNumber>);

impl Holders {
    /// The session has a lease of that message, which is in that queue.
    pub(in crate::queue) fn note(&mut self, session: SessionId, id: MessageId, queue: QueueNumber) {
        self.0.insert((session, id), queue);
    }

    /// The session has no lease of that message any more.
    pub(in crate::queue) fn forget(&mut self, session: SessionId, id: MessageId) {
        self.0.remove(&(session, id));
    }

    /// Leases of a session, by rising id.
    pub(in crate::queue) fn of(
        &self,
        session: SessionId,
    ) -> impl Iterator<Item = (MessageId, QueueNumber)> + '_ {
        let all = (session, MessageId(0))..=(session, MessageId(u64::MAX));
        self.0.range(all).map(|((_, id), number)| (*id, *number))
    }

    /// Whether a session has a lease.
    pub(in crate::queue) fn has(&self, session: SessionId) -> bool {
        self.0.get_next(&(session, MessageId(0))).is_some_and(|((holder, _), _)| *holder == session)
    }

    /// How many leases sessions have.
    pub(in crate::queue) fn len(&self) -> usize {
        self.0.len()
    }
}

//! The messages of one queue that are handed out, by id, and in the order in which their leases end.

use std::ops::Deref;

use imbl::{OrdMap, OrdSet};
use queue_protocol::names::{LeaseToken, MessageId};

use crate::queue::messages::message::{Leased, Message};
use crate::queue::queue::Deadline;

/// Leases by message; read as the map they are, changed here alone.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Leases {
    by_id: OrdMap<MessageId, Leased>,
    /// Lease clock at which each ends, and whose it is.
    ends: OrdSet<Deadline>,
}

impl Deref for Leases {
    type Target = OrdMap<MessageId, Leased>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl Leases {
    /// Takes over a message that is handed out.
    pub(in crate::queue) fn put(&mut self, id: MessageId, leased: Leased) {
        self.ends.insert((leased.deadline_ms, id));
        self.by_id.insert(id, leased);
    }

    /// Takes a message back.
    pub(in crate::queue) fn take(&mut self, id: MessageId) -> Option<Leased> {
        let leased = self.by_id.remove(&id)?;
        self.ends.remove(&(leased.deadline_ms, id));
        Some(leased)
    }

    /// Moves the end of a lease, if there is one.
    pub(in crate::queue) fn extend(&mut self, id: MessageId, deadline_ms: u64) {
        if let Some(leased) = self.by_id.get_mut(&id) {
            self.ends.remove(&(leased.deadline_ms, id));
            leased.deadline_ms = deadline_ms;
            self.ends.insert((deadline_ms, id));
        }
    }

    /// The lease that ends first.
    pub(in crate::queue) fn first_end(&self) -> Option<Deadline> {
        self.ends.get_min().copied()
    }

    /// Whether the message is handed out under this token, the newest one.
    pub(in crate::queue) fn is_under(&self, id: MessageId, token: LeaseToken) -> bool {
        self.by_id.get(&id).is_some_and(|leased| leased.token == token)
    }

    /// The message itself, of which neither content nor group may become another.
    pub(in crate::queue) fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        Some(&mut self.by_id.get_mut(&id)?.message)
    }

    /// Asserts that the order lists what is handed out.
    pub(in crate::queue) fn check(&self) {
        let ends = self.by_id.iter().map(|(id, leased)| (leased.deadline_ms, *id)).collect::<OrdSet<_>>();
        assert!(ends == self.ends, "ends of leases");
    }
}

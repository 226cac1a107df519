//! The delayed messages of one queue, by id, and in the orders in which they are due.

use std::ops::Deref;

use imbl::OrdMap;
use queue_protocol::names::MessageId;

use super::dues::Dues;
use crate::queue::messages::message::{Delayed, Message};

/// Delayed messages; read as the map they are, changed here alone.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Delays {
    by_id: OrdMap<MessageId, Delayed>,
    dues: Dues,
}

impl Deref for Delays {
    type Target = OrdMap<MessageId, Delayed>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl Delays {
    /// Takes over a message that is due later.
    pub(in crate::queue) fn put(&mut self, id: MessageId, delayed: Delayed) {
        self.dues.insert(delayed.due, id);
        self.by_id.insert(id, delayed);
    }

    /// Takes a message out.
    pub(in crate::queue) fn take(&mut self, id: MessageId) -> Option<Message> {
        let delayed = self.by_id.remove(&id)?;
        self.dues.remove(delayed.due, id);
        Some(delayed.message)
    }

    /// When they are due.
    pub(in crate::queue) fn dues(&self) -> &Dues {
        &self.dues
    }

    /// The message itself, of which neither content nor group may become another.
    pub(in crate::queue) fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        Some(&mut self.by_id.get_mut(&id)?.message)
    }

    /// Asserts that the orders list what is delayed.
    pub(in crate::queue) fn check(&self) {
        let mut dues = Dues::default();
        self.by_id.iter().for_each(|(id, delayed)| dues.insert(delayed.due, *id));
        assert!(dues == self.dues, "delays");
    }
}

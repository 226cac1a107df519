//! The dead messages of one queue, by id, and in the order in which they died.

use std::ops::Deref;

use imbl::{OrdMap, OrdSet};
use queue_protocol::names::MessageId;

use super::message::{Dead, Message};
use crate::queue::queue::Deadline;

/// Dead messages; read as the map they are, changed here alone.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Graves {
    by_id: OrdMap<MessageId, Dead>,
    /// Elapsed time at which each died, and which it is.
    died: OrdSet<Deadline>,
    bytes: u64,
}

impl Deref for Graves {
    type Target = OrdMap<MessageId, Dead>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl Graves {
    /// Takes over a dead message.
    pub(super) fn put(&mut self, id: MessageId, dead: Dead) {
        self.bytes += dead.message.size();
        self.died.insert((dead.died.elapsed_ms, id));
        self.by_id.insert(id, dead);
    }

    /// Takes a dead message out.
    pub(super) fn take(&mut self, id: MessageId) -> Option<Message> {
        let dead = self.by_id.remove(&id)?;
        self.died.remove(&(dead.died.elapsed_ms, id));
        self.bytes -= dead.message.size();
        Some(dead.message)
    }

    /// The one that died first, and when.
    pub(super) fn first(&self) -> Option<Deadline> {
        self.died.get_min().copied()
    }

    /// Contents of all of them.
    pub(in crate::queue) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message itself, of which neither content nor group may become another.
    pub(in crate::queue) fn message_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        Some(&mut self.by_id.get_mut(&id)?.message)
    }

    /// Asserts that the order lists the dead and that their bytes are right.
    pub(in crate::queue) fn check(&self) {
        let died = self.by_id.iter().map(|(id, dead)| (dead.died.elapsed_ms, *id)).collect::<OrdSet<_>>();
        assert!(died == self.died, "deaths");
        assert_eq!(
            self.by_id.values().map(|dead| dead.message.size()).sum::<u64>(),
            self.bytes,
            "bytes of the dead"
        );
    }
}

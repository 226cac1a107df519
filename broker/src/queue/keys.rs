//! Keys of one queue: dedup keys, remembered for a window whatever becomes of their messages, and unique keys, held by
//! messages as long as they are ready, delayed or leased.

use imbl::OrdMap;
use queue_protocol::limits::DEDUP_KEYS_MAX;
use queue_protocol::names::{Key, MessageId};

use super::messages::Deadline;

/// Dedup keys and until when they are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Dedup {
    /// The message that brought it, and the elapsed time until which it is remembered.
    keys: OrdMap<Key, (MessageId, u64)>,
    ends: OrdMap<Deadline, Key>,
}

impl Dedup {
    /// The message that brought the key, if that is remembered.
    pub(super) fn known(&self, key: &Key, elapsed_ms: u64) -> Option<MessageId> {
        self.keys.get(key).filter(|(_, until_ms)| *until_ms > elapsed_ms).map(|(id, _)| *id)
    }

    /// Whether one more key can be remembered.
    pub(super) fn has_room(&self, key: &Key) -> bool {
        self.keys.len() < DEDUP_KEYS_MAX || self.keys.contains_key(key)
    }

    /// Remembers a key that is not known.
    pub(super) fn remember(&mut self, key: Key, id: MessageId, until_ms: u64) {
        self.ends.insert((until_ms, id), key.clone());
        // Its window may have passed without having been fired.
        if let Some((id, until_ms)) = self.keys.insert(key, (id, until_ms)) {
            self.ends.remove(&(until_ms, id));
        }
    }

    /// The key that is to be forgotten first.
    pub(super) fn first(&self) -> Option<Deadline> {
        self.ends.get_min().map(|(end, _)| *end)
    }

    /// Forgets the key that [`Dedup::first`] named.
    pub(super) fn forget_first(&mut self) {
        if let Some(end) = self.first()
            && let Some(key) = self.ends.remove(&end)
        {
            self.keys.remove(&key);
        }
    }

    /// All keys, rising.
    pub(super) fn keys(&self) -> &OrdMap<Key, (MessageId, u64)> {
        &self.keys
    }

    /// Whether both maps list the same.
    pub(super) fn holds(&self) -> bool {
        let listed =
            |(key, (id, until_ms)): (&Key, &(MessageId, u64))| self.ends.get(&(*until_ms, *id)) == Some(key);
        self.keys.len() == self.ends.len() && self.keys.iter().all(listed)
    }
}

/// Unique keys and who holds them.
#[derive(Clone, Debug, Default)]
pub(super) struct UniqueKeys {
    holders: OrdMap<Key, MessageId>,
    keys: OrdMap<MessageId, Key>,
}

impl UniqueKeys {
    /// The message that holds a key.
    pub(super) fn holder(&self, key: &Key) -> Option<MessageId> {
        self.holders.get(key).copied()
    }

    /// Gives a key that nobody holds to a message.
    pub(super) fn hold(&mut self, key: Key, id: MessageId) {
        self.keys.insert(id, key.clone());
        self.holders.insert(key, id);
    }

    /// Frees the key of a message, if it has one.
    pub(super) fn free(&mut self, id: MessageId) {
        if let Some(key) = self.keys.remove(&id) {
            self.holders.remove(&key);
        }
    }

    /// All keys, rising.
    pub(super) fn holders(&self) -> &OrdMap<Key, MessageId> {
        &self.holders
    }

    /// Whether both maps list the same, and only messages that `lives` knows.
    pub(super) fn holds(&self, lives: impl Fn(MessageId) -> bool) -> bool {
        self.keys.len() == self.holders.len()
            && self.holders.iter().all(|(key, id)| self.keys.get(id) == Some(key) && lives(*id))
    }
}

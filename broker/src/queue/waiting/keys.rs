//! Keys of one queue: dedup keys, remembered for a window whatever becomes of their messages, and unique keys, held by
//! messages as long as they are ready, delayed or leased. A message that dies keeps its key and does not hold it: the key
//! rests, until the message is live again where nobody holds it.

use imbl::OrdMap;
use queue_protocol::limits::DEDUP_KEYS_MAX;
use queue_protocol::names::{Key, MessageId};

use crate::queue::queue::Deadline;

/// Dedup keys and until when they are remembered.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Dedup {
    /// The message that brought it, and the elapsed time until which it is remembered.
    keys: OrdMap<Key, (MessageId, u64)>,
    ends: OrdMap<Deadline, Key>,
}

impl Dedup {
    /// The message that brought the key, if that is remembered.
    pub(in crate::queue) fn known(&self, key: &Key, elapsed_ms: u64) -> Option<MessageId> {
        self.keys.get(key).filter(|(_, until_ms)| *until_ms > elapsed_ms).map(|(id, _)| *id)
    }

    /// Whether one more key can be remembered.
    pub(in crate::queue) fn has_room(&self, key: &Key) -> bool {
        self.keys.len() < DEDUP_KEYS_MAX || self.keys.contains_key(key)
    }

    /// Remembers a key that is not known.
    pub(in crate::queue) fn remember(&mut self, key: Key, id: MessageId, until_ms: u64) {
        self.ends.insert((until_ms, id), key.clone());
        // Its window may have passed without having been fired.
        if let Some((id, until_ms)) = self.keys.insert(key, (id, until_ms)) {
            self.ends.remove(&(until_ms, id));
        }
    }

    /// The key that is to be forgotten first.
    pub(in crate::queue) fn first(&self) -> Option<Deadline> {
        self.ends.get_min().map(|(end, _)| *end)
    }

    /// Forgets the key that [`Dedup::first`] named.
    pub(in crate::queue) fn forget_first(&mut self) {
        if let Some(end) = self.first()
            && let Some(key) = self.ends.remove(&end)
        {
            self.keys.remove(&key);
        }
    }

    /// Message and end of the window (elapsed clock, ms) by dedup key, in order of the keys.
    pub(in crate::queue) fn keys(&self) -> &OrdMap<Key, (MessageId, u64)> {
        &self.keys
    }

    /// Whether both maps list the same.
    pub(in crate::queue) fn holds(&self) -> bool {
        let listed =
            |(key, (id, until_ms)): (&Key, &(MessageId, u64))| self.ends.get(&(*until_ms, *id)) == Some(key);
        self.keys.len() == self.ends.len() && self.keys.iter().all(listed)
    }
}

/// Unique keys and who holds them.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct UniqueKeys {
    holders: OrdMap<Key, MessageId>,
    keys: OrdMap<MessageId, Key>,
    /// Keys that messages have and do not hold: of the dead, and of those that came here with a key that was held.
    resting: OrdMap<MessageId, Key>,
}

impl UniqueKeys {
    /// The message that holds a key.
    pub(in crate::queue) fn holder(&self, key: &Key) -> Option<MessageId> {
        self.holders.get(key).copied()
    }

    /// Gives a key that nobody holds to a message.
    pub(in crate::queue) fn hold(&mut self, key: Key, id: MessageId) {
        self.keys.insert(id, key.clone());
        self.holders.insert(key, id);
    }

    /// The key that a message has, whether it holds it or not.
    pub(in crate::queue) fn of(&self, id: MessageId) -> Option<&Key> {
        self.keys.get(&id).or_else(|| self.resting.get(&id))
    }

    /// Takes the key from a message, if it has one.
    pub(in crate::queue) fn take(&mut self, id: MessageId) -> Option<Key> {
        match self.keys.remove(&id) {
            Some(key) => {
                self.holders.remove(&key);
                Some(key)
            }
            None => self.resting.remove(&id),
        }
    }

    /// Frees the key of a message that dies, if it holds one; the message keeps it.
    pub(in crate::queue) fn rest(&mut self, id: MessageId) {
        if let Some(key) = self.take(id) {
            self.resting.insert(id, key);
        }
    }

    /// Gives a key to a message that comes with it, to hold unless another does.
    pub(in crate::queue) fn arrive(&mut self, key: Key, id: MessageId) {
        if self.holders.contains_key(&key) {
            self.resting.insert(id, key);
        } else {
            self.hold(key, id);
        }
    }

    /// Lets a message hold its key again, if it has one. `false`: another holds it.
    pub(in crate::queue) fn wake(&mut self, id: MessageId) -> bool {
        match self.resting.get(&id) {
            None => true,
            Some(key) if self.holders.contains_key(key) => false,
            Some(key) => {
                self.hold(key.clone(), id);
                self.resting.remove(&id);
                true
            }
        }
    }

    /// Messages with keys that they do not hold.
    pub(in crate::queue) fn resting(&self) -> &OrdMap<MessageId, Key> {
        &self.resting
    }

    /// Notes that a message has a key that it does not hold.
    pub(in crate::queue) fn restore_resting(&mut self, id: MessageId, key: Key) {
        self.resting.insert(id, key);
    }

    /// The message that holds each unique key, in order of the keys.
    pub(in crate::queue) fn holders(&self) -> &OrdMap<Key, MessageId> {
        &self.holders
    }

    /// Whether both maps list the same, only messages that `lives` knows hold keys, and those whose keys rest are here and
    /// hold none.
    pub(in crate::queue) fn holds(
        &self,
        lives: impl Fn(MessageId) -> bool,
        is_here: impl Fn(MessageId) -> bool,
    ) -> bool {
        self.keys.len() == self.holders.len()
            && self.holders.iter().all(|(key, id)| self.keys.get(id) == Some(key) && lives(*id))
            && self.resting.keys().all(|id| is_here(*id) && !self.keys.contains_key(id))
    }
}

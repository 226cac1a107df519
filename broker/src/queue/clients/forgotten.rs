//! Ids of sessions that were forgotten, and the mark that takes their place: which session may never open again.
//!
//! Ids are kept in the order in which they were forgotten, for [`SESSION_FORGOTTEN_MS`] each. When the first one is dropped
//! the mark rises to the index under which its session opened, and never falls.

use imbl::{OrdMap, Vector};
use queue_protocol::limits::SESSION_FORGOTTEN_MS;
use queue_protocol::names::SessionId;

/// Ids of forgotten sessions at a time: with one more the oldest is dropped before its time.
pub const SESSIONS_FORGOTTEN_MAX: usize = 1_000_000;

/// A session whose id is still kept, so that a late request of it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closed {
    /// The index under which it opened.
    index: u64,
    /// Elapsed time at which the id is dropped.
    until_ms: u64,
}

/// All forgotten sessions whose ids are still kept.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Forgotten {
    by_id: OrdMap<SessionId, Closed>,
    /// In the order in which they were forgotten, which is that of `until_ms`.
    order: Vector<SessionId>,
    /// Highest index of a session whose id was dropped; `None` while none was.
    mark: Option<u64>,
}

impl Forgotten {
    /// Whether a session that is not open, and would open under this index, was or may have been open before.
    pub(in crate::queue) fn refuses(&self, id: SessionId, index: u64) -> bool {
        self.mark.is_some_and(|mark| index <= mark) || self.has(id)
    }

    /// Whether its id is kept.
    pub(in crate::queue) fn has(&self, id: SessionId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(in crate::queue) fn mark(&self) -> Option<u64> {
        self.mark
    }

    /// How many ids are kept.
    pub(in crate::queue) fn len(&self) -> usize {
        self.order.len()
    }

    /// Keeps the id of a session that is forgotten now.
    pub(in crate::queue) fn keep(&mut self, id: SessionId, index: u64, elapsed_ms: u64) {
        let until_ms = elapsed_ms.saturating_add(SESSION_FORGOTTEN_MS);
        if self.restore(id, index, until_ms).is_some() && self.len() > SESSIONS_FORGOTTEN_MAX {
            self.drop_first();
        }
    }

    /// Drops at most `max` ids whose time has passed.
    pub(in crate::queue) fn release(&mut self, max: usize, elapsed_ms: u64) {
        for _ in 0..max {
            match self.order.front().and_then(|id| self.by_id.get(id)) {
                Some(closed) if closed.until_ms <= elapsed_ms => self.drop_first(),
                _ => break,
            }
        }
    }

    fn drop_first(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        let closed = self.by_id.remove(&id).expect("what is in order is there");
        self.mark = self.mark.max(Some(closed.index));
    }

    /// Id, index and end of each, in the order in which they were forgotten.
    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = (SessionId, u64, u64)> + '_ {
        self.order.iter().map(|id| {
            let closed = self.by_id.get(id).expect("what is in order is there");
            (*id, closed.index, closed.until_ms)
        })
    }

    /// As it was when it had this mark and no ids.
    pub(in crate::queue) fn of_mark(mark: Option<u64>) -> Self {
        Self { mark, ..Self::default() }
    }

    /// Puts one behind the others; `None` if it is there already or they are out of order.
    pub(in crate::queue) fn restore(&mut self, id: SessionId, index: u64, until_ms: u64) -> Option<()> {
        let last = self.order.back().and_then(|id| self.by_id.get(id));
        if self.has(id) || last.is_some_and(|last| last.until_ms > until_ms) {
            return None;
        }
        self.by_id.insert(id, Closed { index, until_ms });
        self.order.push_back(id);
        Some(())
    }

    /// Asserts that both orders agree.
    pub(in crate::queue) fn check(&self) {
        assert!(self.len() == self.by_id.len() && self.len() <= SESSIONS_FORGOTTEN_MAX, "forgotten sessions");
        let ends: Vec<u64> = self.iter().map(|(_, _, until_ms)| until_ms).collect();
        assert!(ends.is_sorted(), "forgotten sessions are out of order");
    }
}

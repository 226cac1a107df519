//! Which session gives way when there are too many: the one that was not used for longest, of the source that has most.
//!
//! A command does not move its session in the order, for that would cost every command; a session is listed at a time that
//! it was used, and moved when it comes to the head and was used since.

use imbl::{OrdMap, OrdSet};
use queue_protocol::names::SessionId;

use crate::queue::command::Source;

/// Open sessions by the time at which they were last seen to be in use.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Idle {
    all: OrdSet<(u64, SessionId)>,
    by_source: OrdSet<(Source, u64, SessionId)>,
    counts: OrdMap<Source, usize>,
    /// The same, by count.
    largest: OrdSet<(usize, Source)>,
}

impl Idle {
    pub(in crate::queue) fn insert(&mut self, id: SessionId, source: Source, listed_ms: u64) {
        self.list(id, source, listed_ms);
        self.count(source, |count| count + 1);
    }

    pub(in crate::queue) fn remove(&mut self, id: SessionId, source: Source, listed_ms: u64) {
        self.unlist(id, source, listed_ms);
        self.count(source, |count| count - 1);
    }

    /// Moves one that was used since.
    pub(in crate::queue) fn shift(&mut self, id: SessionId, source: Source, from_ms: u64, to_ms: u64) {
        self.unlist(id, source, from_ms);
        self.list(id, source, to_ms);
    }

    /// The one that is listed first, of one source or of all.
    pub(in crate::queue) fn first(&self, source: Option<Source>) -> Option<(u64, SessionId)> {
        let Some(source) = source else { return self.all.get_min().copied() };
        let (of, listed_ms, id) = self.by_source.get_next(&(source, 0, SessionId(0))).copied()?;
        (of == source).then_some((listed_ms, id))
    }

    /// The source that has most, the highest of several.
    pub(in crate::queue) fn largest(&self) -> Option<Source> {
        self.largest.get_max().map(|(_, source)| *source)
    }

    fn list(&mut self, id: SessionId, source: Source, listed_ms: u64) {
        self.all.insert((listed_ms, id));
        self.by_source.insert((source, listed_ms, id));
    }

    fn unlist(&mut self, id: SessionId, source: Source, listed_ms: u64) {
        self.all.remove(&(listed_ms, id));
        self.by_source.remove(&(source, listed_ms, id));
    }

    fn count(&mut self, source: Source, change: impl FnOnce(usize) -> usize) {
        let before = self.counts.get(&source).copied().unwrap_or(0);
        let after = change(before);
        self.largest.remove(&(before, source));
        if after > 0 {
            self.largest.insert((after, source));
            self.counts.insert(source, after);
        } else {
            self.counts.remove(&source);
        }
    }

    /// Asserts that this is what lists of these sessions, sources and times say.
    pub(in crate::queue) fn check(&self, sessions: impl Iterator<Item = (SessionId, Source, u64)>) {
        let mut fresh = Self::default();
        sessions.for_each(|(id, source, listed_ms)| fresh.insert(id, source, listed_ms));
        assert!(fresh.all == self.all && fresh.by_source == self.by_source, "idle sessions");
        assert!(fresh.counts == self.counts && fresh.largest == self.largest, "sources of sessions");
    }
}

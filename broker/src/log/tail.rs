//! The newest entries, in memory: all that are not yet durable, and as many more as there is room for.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Entry;
use super::format::entry::ROW_SIZE;

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;

struct Kept {
    entry: Entry,
    size: usize,
    /// Number of the operation that brought it.
    operation: u64,
    /// Its bodies are not the ones that references mean.
    hidden: bool,
}

/// Entries with consecutive indices.
pub(crate) struct Tail {
    entries: VecDeque<Kept>,
    size: usize,
    size_max: usize,
    /// Operations up to this one are durable.
    durable: u64,
}

impl Tail {
    pub(crate) fn new(size_max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max, durable: 0 }
    }

    fn find(&self, index: u64) -> Option<&Kept> {
        let place = index.checked_sub(self.entries.front()?.entry.id.index)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.find(index).map(|kept| &kept.entry)
    }

    /// The entry, if references to its bodies mean these.
    pub(crate) fn get_bodies(&self, index: u64) -> Option<&Entry> {
        self.find(index).filter(|kept| !kept.hidden).map(|kept| &kept.entry)
    }

    /// Adds the entry after the last one.
    pub(crate) fn push(&mut self, entry: Entry, operation: u64) {
        let contents: usize =
            entry.contents.iter().flat_map(|contents| contents.iter()).map(Bytes::len).sum();
        let size = OVERHEAD + entry.commands.len() + entry.table.len() * ROW_SIZE + contents;
        self.size += size;
        self.entries.push_back(Kept { entry, size, operation, hidden: false });
        self.evict();
    }

    pub(crate) fn truncate_after(&mut self, keep: Option<u64>) {
        while self.entries.back().is_some_and(|last| keep.is_none_or(|keep| last.entry.id.index > keep)) {
            let last = self.entries.pop_back().expect("there is a last one");
            self.size -= last.size;
        }
    }

    /// The next entry will not follow the last one.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.size = 0;
    }

    /// Bodies of `from ..= to` come from elsewhere from now on.
    pub(crate) fn hide(&mut self, from: u64, to: u64) {
        for kept in self.entries.iter_mut().filter(|kept| (from..=to).contains(&kept.entry.id.index)) {
            kept.hidden = true;
        }
    }

    /// Operations up to this one are durable.
    pub(crate) fn set_durable(&mut self, operation: u64) {
        self.durable = operation;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max
            && self.entries.front().is_some_and(|kept| kept.operation <= self.durable)
        {
            let first = self.entries.pop_front().expect("there is a first one");
            self.size -= first.size;
        }
    }

    /// Indices follow each other and sizes add up.
    pub(crate) fn check(&self) {
        let indices = self.entries.iter().map(|kept| kept.entry.id.index);
        assert!(indices.clone().zip(indices.skip(1)).all(|(a, b)| a + 1 == b), "the tail has a gap");
        assert_eq!(self.entries.iter().map(|kept| kept.size).sum::<usize>(), self.size);
    }
}

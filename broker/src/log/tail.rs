//! The newest entries, in memory: all that are not yet durable, and as many more as there is room for.

use std::collections::BTreeMap;

use super::Entry;
use super::format::entry::ROW_SIZE;

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;
/// What a content costs beside its bytes: its place in the entry, and its count of owners.
const CONTENT_OVERHEAD: usize = 96;

/// Entries that a check looks at.
const CHECKED: usize = 64;

struct Kept {
    entry: Entry,
    size: usize,
    /// Number of the operation that brought it.
    operation: u64,
    /// Its bodies are not the ones that references mean.
    hidden: bool,
}

/// Entries by index. They have gaps only where the log was purged beyond its last entry.
pub(crate) struct Tail {
    entries: BTreeMap<u64, Kept>,
    size: usize,
    size_max: usize,
    /// Operations up to this one are durable.
    durable: u64,
}

impl Tail {
    pub(crate) fn new(size_max: usize) -> Self {
        Self { entries: BTreeMap::new(), size: 0, size_max, durable: 0 }
    }

    /// The index of the oldest.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.keys().next().copied()
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(&index).map(|kept| &kept.entry)
    }

    /// The entry, if references to its bodies mean these.
    pub(crate) fn get_bodies(&self, index: u64) -> Option<&Entry> {
        self.entries.get(&index).filter(|kept| !kept.hidden).map(|kept| &kept.entry)
    }

    /// Adds the entry after the last one.
    pub(crate) fn push(&mut self, entry: Entry, operation: u64) {
        // Each has memory of its own, or shares it with its neighbours: `FrameReader` and `Reader` see to that.
        let contents = entry.contents.iter().flat_map(|contents| contents.iter());
        let contents: usize = contents.map(|content| CONTENT_OVERHEAD + content.len()).sum();
        let size = OVERHEAD + entry.commands.len() + entry.table.len() * ROW_SIZE + contents;
        self.size += size;
        self.entries.insert(entry.id.index, Kept { entry, size, operation, hidden: false });
        self.evict();
    }

    pub(crate) fn truncate_after(&mut self, keep: Option<u64>) {
        let dropped = self.entries.split_off(&keep.map_or(0, |keep| keep + 1));
        self.size -= dropped.values().map(|kept| kept.size).sum::<usize>();
    }

    /// Bodies of `from ..= to` come from elsewhere from now on.
    pub(crate) fn hide(&mut self, from: u64, to: u64) {
        if from <= to {
            self.entries.range_mut(from..=to).for_each(|(_, kept)| kept.hidden = true);
        }
    }

    /// Operations up to this one are durable.
    pub(crate) fn set_durable(&mut self, operation: u64) {
        self.durable = operation;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max
            && let Some(first) = self.entries.first_entry()
            && first.get().operation <= self.durable
        {
            self.size -= first.remove().size;
        }
    }

    /// Sizes add up, and later operations brought later entries; of a long tail only its end is looked at.
    pub(crate) fn check(&self) {
        let recent = || self.entries.values().rev().take(CHECKED);
        assert!(recent().is_sorted_by(|a, b| a.operation >= b.operation), "the tail is out of order");
        let size: usize = recent().map(|kept| kept.size).sum();
        assert!(if self.entries.len() <= CHECKED { size == self.size } else { size < self.size });
    }
}

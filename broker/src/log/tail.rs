//! The newest entries, in memory: all that are not yet durable, and as many more as there is room for.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use queue_protocol::content::ContentSpec;

use super::format::entry::ROW_SIZE;
use super::{Entry, LogError};

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

impl Entry {
    /// Bodies of an entry that is in memory, by rising ordinal, verified.
    pub(super) fn bodies_in_memory(&self, ordinals: &[u32]) -> Result<Vec<(ContentSpec, Bytes)>, LogError> {
        let index = self.id.index;
        let contents = self.contents.as_deref().unwrap_or_default();
        let mut found = Vec::with_capacity(ordinals.len());
        let (mut row, mut offset) = (0, 0);
        for ordinal in ordinals {
            let wanted = *ordinal as usize;
            let spec = *self.table.get(wanted).ok_or(LogError::NoBody { index, ordinal: *ordinal })?;
            if wanted < row {
                (row, offset) = (0, 0);
            }
            offset += self.table[row..wanted].iter().map(|spec| spec.size as usize).sum::<usize>();
            row = wanted;
            let body = cut(contents, offset, spec.size as usize);
            spec.verify(&body).map_err(|_| LogError::Mismatch { index, ordinal: *ordinal })?;
            found.push((spec, body));
        }
        Ok(found)
    }
}

/// `count` bytes from `offset` of `parts`; shared if they lie in one part.
fn cut(parts: &[Bytes], offset: usize, count: usize) -> Bytes {
    let mut skip = offset;
    let mut gathered = BytesMut::new();
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let end = part.len().min(skip + count - gathered.len());
        let piece = part.slice(skip..end);
        if piece.len() == count {
            return piece;
        }
        gathered.extend_from_slice(&piece);
        skip = 0;
        if gathered.len() == count {
            break;
        }
    }
    gathered.freeze()
}

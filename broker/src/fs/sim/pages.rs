//! One simulated file, twice: as the page cache shows it and as the platter holds it.
//!
//! What differs is a set of pending facts: dirty units and sizes, each stamped with the write that made it. A sync
//! captures them when it begins and settles them when it ends; what is written in between stays pending. After a
//! failed sync nothing captured is pending any more, though only a part of it is durable: the cache lies.

use std::collections::BTreeMap;

use super::Persists;
use crate::fs::rng::Rng;

/// How often a unit that is overwritten while dirty had reached the platter before: 1 in this many.
const WRITTEN_BACK_ONE_IN: u64 = 4;

/// A file's contents.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    unit: usize,
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// Units whose cache may differ from the platter and which the system still means to write, with the last write.
    dirty: BTreeMap<usize, u64>,
    /// Sizes the file was given, oldest first, each with the write.
    sizes: Vec<(u64, usize)>,
    /// Counts writes.
    seq: u64,
    /// Everything up to this write is durable.
    synced: u64,
}

/// What a sync has to make durable: the pending facts at its beginning.
#[derive(Debug)]
pub(super) struct Capture {
    seq: u64,
    size: usize,
    units: Vec<(usize, Vec<u8>)>,
}

impl Pages {
    /// A file that holds `durable`, cached and durable; units of `unit` bytes.
    pub(super) fn new(unit: usize, durable: Vec<u8>) -> Self {
        let cache = durable.clone();
        Self { unit, cache, durable, dirty: BTreeMap::new(), sizes: Vec::new(), seq: 0, synced: 0 }
    }

    /// The cache's view.
    pub(super) fn cached(&self) -> &[u8] {
        &self.cache
    }

    /// The platter's view.
    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// Writes into the cache.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8], rng: &mut Rng) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for unit in offset / self.unit..end.div_ceil(self.unit) {
            if self.dirty.contains_key(&unit) && rng.chance(1, WRITTEN_BACK_ONE_IN) {
                self.write_back(unit);
            }
        }
        if end > self.cache.len() {
            self.set_size(end);
        }
        self.seq += 1;
        self.cache[offset..end].copy_from_slice(bytes);
        self.mark(offset, end);
    }

    /// Cuts or extends with zeros.
    pub(super) fn set_size(&mut self, size: usize) {
        let before = self.cache.len();
        if size == before {
            return;
        }
        self.seq += 1;
        self.cache.resize(size, 0);
        self.sizes.push((self.seq, size));
        if size < before {
            // If the cut is lost and the file grows again, the old bytes show until these units are written.
            self.mark(size, before);
        }
    }

    fn mark(&mut self, start: usize, end: usize) {
        for unit in start / self.unit..end.div_ceil(self.unit) {
            self.dirty.insert(unit, self.seq);
        }
    }

    fn cached_unit(&self, unit: usize) -> &[u8] {
        let start = (unit * self.unit).min(self.cache.len());
        &self.cache[start..(start + self.unit).min(self.cache.len())]
    }

    fn write_back(&mut self, unit: usize) {
        let bytes = self.cached_unit(unit).to_vec();
        put(&mut self.durable, unit * self.unit, &bytes);
    }

    /// Begins a sync.
    pub(super) fn capture(&self) -> Capture {
        let units = self.dirty.keys().map(|&unit| (unit, self.cached_unit(unit).to_vec())).collect();
        Capture { seq: self.seq, size: self.cache.len(), units }
    }

    /// Whether a later sync, already done, covered this one; otherwise its facts are pending no more.
    fn superseded(&mut self, capture: &Capture) -> bool {
        self.dirty.retain(|_, seq| *seq > capture.seq);
        self.sizes.retain(|(seq, _)| *seq > capture.seq);
        capture.seq <= self.synced
    }

    /// Ends a sync that worked.
    pub(super) fn settle(&mut self, capture: &Capture) {
        if self.superseded(capture) {
            return;
        }
        self.synced = capture.seq;
        self.durable.resize(capture.size, 0);
        for (unit, bytes) in &capture.units {
            put(&mut self.durable, unit * self.unit, bytes);
        }
    }

    /// Ends a sync that failed: some of it reached the platter, none of it is written again.
    pub(super) fn fail(&mut self, capture: &Capture, rng: &mut Rng) {
        if self.superseded(capture) {
            return;
        }
        if rng.chance(1, 2) {
            self.durable.resize(capture.size, 0);
        }
        for (unit, bytes) in &capture.units {
            if rng.chance(1, 2) {
                put(&mut self.durable, unit * self.unit, bytes);
            }
        }
    }

    /// Ends a sync of which one unit went where another one of the file belongs; nobody notices.
    pub(super) fn misdirect(&mut self, capture: &Capture, rng: &mut Rng) {
        let before = self.durable.clone();
        self.settle(capture);
        let places = self.durable.len().div_ceil(self.unit) as u64;
        let count = capture.units.len() as u64;
        if count == 0 || places < 2 {
            return;
        }
        let (unit, bytes) = &capture.units[small(rng.below(count))];
        let right = unit * self.unit;
        let wrong = (unit + 1 + small(rng.below(places - 1))) % small(places) * self.unit;
        let old_end = (right + bytes.len()).min(before.len()).max(right.min(before.len()));
        let mut old = before[right.min(before.len())..old_end].to_vec();
        old.resize(bytes.len(), 0);
        put(&mut self.durable, right, &old);
        put(&mut self.durable, wrong, bytes);
    }

    /// The power goes: each pending fact is durable or not, then only the platter is left.
    pub(super) fn crash(&mut self, persists: &mut Persists<'_>) {
        for (_, size) in std::mem::take(&mut self.sizes) {
            if persists.next() {
                self.durable.resize(size, 0);
            }
        }
        for (unit, _) in std::mem::take(&mut self.dirty) {
            if persists.next() {
                self.write_back(unit);
            }
        }
        self.cache.clone_from(&self.durable);
        self.synced = self.seq;
    }

    /// Drops clean pages, so that the platter shows where the cache lied. Dirty ones and the size stay.
    pub(super) fn evict(&mut self) {
        let mut fresh = self.durable.clone();
        fresh.resize(self.cache.len(), 0);
        for &unit in self.dirty.keys() {
            let bytes = self.cached_unit(unit).to_vec();
            put(&mut fresh, unit * self.unit, &bytes);
        }
        self.cache = fresh;
    }

    /// Flips a bit wherever the byte is held; false if it is held nowhere.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let (byte, mask) = (small(bit / 8), 1 << (bit % 8));
        let mut held = false;
        for view in [&mut self.cache, &mut self.durable] {
            if let Some(byte) = view.get_mut(byte) {
                *byte ^= mask;
                held = true;
            }
        }
        held
    }
}

/// Copies what fits: bytes beyond the end of a file are nowhere.
fn put(view: &mut [u8], offset: usize, bytes: &[u8]) {
    let start = offset.min(view.len());
    let end = (offset + bytes.len()).min(view.len());
    view[start..end.max(start)].copy_from_slice(&bytes[..end.max(start) - start]);
}

/// A position in a simulated file, which is held in memory.
pub(super) fn small(number: u64) -> usize {
    usize::try_from(number).expect("simulated files fit into memory")
}

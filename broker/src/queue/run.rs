//! A run: consecutive messages of one push entry, kept as one record however many they are.

use std::sync::Arc;

use queue_protocol::content::ContentSpec;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::reply::BodyRef;

/// Consecutive messages of one push entry that differ in size alone.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// How many are left; at least one.
    pub(super) count: u32,
    /// Row of the body table of the first that is left.
    pub(super) ordinal: u32,
    /// Raft index of the entry.
    pub(super) index: u64,
    /// Wall time of the push.
    pub(super) pushed_at_ms: u64,
    sizes: Sizes,
}

/// Sizes of the contents of a run.
#[derive(Clone, Debug)]
enum Sizes {
    Uniform(u32),
    /// Those from `skip` on belong to the messages that are left.
    Each {
        sizes: Arc<Vec<u32>>,
        skip: u32,
    },
}

/// Rows of the body table of entry `index`, from `ordinal` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushedRows<'a> {
    /// Raft index of the entry.
    pub(super) index: u64,
    /// Row of the first.
    pub(super) ordinal: u32,
    /// Wall time of the entry.
    pub(super) pushed_at_ms: u64,
    /// The rows.
    pub(super) rows: &'a [ContentSpec],
}

impl<'a> PushedRows<'a> {
    /// How many.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("a body table has fewer than 2^32 rows")
    }

    /// Contents together.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.size)).sum()
    }

    /// Those from `start` to before `end`.
    pub(super) fn slice(&self, start: u32, end: u32) -> PushedRows<'a> {
        let rows = &self.rows[start as usize..end as usize];
        PushedRows { ordinal: self.ordinal + start, rows, ..*self }
    }
}

impl Run {
    /// One of these rows; at least one.
    pub(super) fn new(pushed: PushedRows<'_>) -> Self {
        let PushedRows { index, ordinal, pushed_at_ms, rows } = pushed;
        let first = rows.first().map_or(0, |row| row.size);
        let mut run = Self { count: 0, ordinal, index, pushed_at_ms, sizes: Sizes::Uniform(first) };
        run.extend(rows);
        run
    }

    /// Takes over rows that follow those of this run in the same body table. Whether they do.
    pub(super) fn join(&mut self, pushed: PushedRows<'_>) -> bool {
        let follows = self.index == pushed.index && self.ordinal + self.count == pushed.ordinal;
        if follows {
            self.extend(pushed.rows);
        }
        follows
    }

    fn extend(&mut self, rows: &[ContentSpec]) {
        let more = u32::try_from(rows.len()).expect("a body table has fewer than 2^32 rows");
        match &mut self.sizes {
            Sizes::Uniform(size) if rows.iter().all(|row| row.size == *size) => {}
            Sizes::Uniform(size) => {
                let mut sizes = Vec::with_capacity(self.count as usize + rows.len());
                sizes.resize(self.count as usize, *size);
                sizes.extend(rows.iter().map(|row| row.size));
                self.sizes = Sizes::Each { sizes: Arc::new(sizes), skip: 0 };
            }
            Sizes::Each { sizes, skip } => {
                let sizes = Arc::make_mut(sizes);
                // A run that lost its end still shares the sizes of what was cut off.
                sizes.truncate(*skip as usize + self.count as usize);
                sizes.extend(rows.iter().map(|row| row.size));
            }
        }
        self.count += more;
    }

    /// Size of the content of the `k`-th message that is left.
    fn size(&self, k: u32) -> u32 {
        match &self.sizes {
            Sizes::Uniform(size) => *size,
            Sizes::Each { sizes, skip } => sizes[*skip as usize + k as usize],
        }
    }

    /// The one size all have, if they have one.
    fn uniform(&self) -> Option<u32> {
        let first = self.size(0);
        match &self.sizes {
            Sizes::Uniform(size) => Some(*size),
            Sizes::Each { .. } => (1..self.count).all(|k| self.size(k) == first).then_some(first),
        }
    }

    /// Contents together.
    pub(super) fn bytes(&self) -> u64 {
        match &self.sizes {
            Sizes::Uniform(size) => u64::from(*size) * u64::from(self.count),
            Sizes::Each { .. } => (0..self.count).map(|k| u64::from(self.size(k))).sum(),
        }
    }

    /// Lets go of the first `by` messages, fewer than all.
    pub(super) fn advance(&mut self, by: u32) {
        self.count -= by;
        self.ordinal += by;
        if let Sizes::Each { skip, .. } = &mut self.sizes {
            *skip += by;
        }
    }

    /// What lies before and behind the `k`-th message that is left.
    pub(super) fn without(self, k: u32) -> (Option<Self>, Option<Self>) {
        let mut behind = self.clone();
        let behind = (k + 1 < self.count).then(|| {
            behind.advance(k + 1);
            behind
        });
        ((k > 0).then_some(Self { count: k, ..self }), behind)
    }

    /// The `k`-th message that is left.
    pub(super) fn message(&self, k: u32, priority: u8) -> Message {
        let body = BodyRef { index: self.index, ordinal: self.ordinal + k, size: self.size(k) };
        Message::pushed(body, self.pushed_at_ms, priority)
    }

    /// This run for a snapshot, and the sizes that follow it.
    pub(super) fn to_stored(&self) -> (StoredRun, impl Iterator<Item = u32> + '_) {
        let Self { count, ordinal, index, pushed_at_ms, .. } = *self;
        // It may have lost the messages that differed: then it is stored as one that never had them.
        let size = self.uniform();
        let sizes = (0..if size.is_none() { count } else { 0 }).map(|k| self.size(k));
        (StoredRun { count, ordinal, index, pushed_at_ms, size }, sizes)
    }
}

/// A run as a snapshot holds it; sizes that differ follow one by one.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRun {
    count: u32,
    ordinal: u32,
    index: u64,
    pushed_at_ms: u64,
    /// `None` if sizes differ.
    size: Option<u32>,
}

impl StoredRun {
    /// How many sizes follow.
    pub(super) fn sizes_count(&self) -> u32 {
        if self.size.is_none() { self.count } else { 0 }
    }

    /// The run, with the sizes that followed, unless something is out of range.
    pub(super) fn into_run(self, sizes: Vec<u32>) -> Option<Run> {
        let Self { count, ordinal, index, pushed_at_ms, size } = self;
        let sizes = match size {
            Some(size) => Sizes::Uniform(size),
            None => Sizes::Each { sizes: Arc::new(sizes), skip: 0 },
        };
        let in_range = count > 0 && ordinal.checked_add(count).is_some();
        in_range.then_some(Run { count, ordinal, index, pushed_at_ms, sizes })
    }
}

//! A piece of a run: messages with consecutive ids that were pushed by one entry and differ in size alone.

use std::ops::Range;
use std::sync::Arc;

use queue_protocol::content::ContentSpec;
use queue_protocol::names::MessageId;
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::queue::due::clocks::Moment;
use crate::queue::reply::BodyRef;

/// Rows of the body table of entry `index`, from `ordinal` on.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct PushedRows<'a> {
    /// Raft index of the entry.
    pub(in crate::queue) index: u64,
    /// Row of the first.
    pub(in crate::queue) ordinal: u32,
    /// When the entry was proposed.
    pub(in crate::queue) pushed: Moment,
    /// Size and checksum of each content, in order.
    pub(in crate::queue) rows: &'a [ContentSpec],
}

impl<'a> PushedRows<'a> {
    /// How many messages were pushed.
    pub(in crate::queue) fn count(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("a body table has fewer than 2^32 rows")
    }

    /// Bytes of the contents of all of them.
    pub(in crate::queue) fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.size)).sum()
    }

    /// Those from `start` to before `end`.
    pub(in crate::queue) fn slice(&self, start: u32, end: u32) -> PushedRows<'a> {
        let rows = &self.rows[start as usize..end as usize];
        PushedRows { ordinal: self.ordinal + start, rows, ..*self }
    }
}

/// Messages of one push entry.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Piece {
    /// Id of the first.
    pub(in crate::queue) first: MessageId,
    /// Raft index of the entry.
    index: u64,
    /// When they were pushed.
    pushed: Moment,
    /// Row of the body table of the first.
    ordinal: u32,
    /// Messages of the run up to the end of this piece.
    pub(in crate::queue) end: u32,
    sizes: Sizes,
}

/// Sizes of contents, as narrow as they allow.
#[derive(Clone, Debug)]
enum Sizes {
    Uniform(u32),
    Small(Arc<Vec<u16>>),
    Large(Arc<Vec<u32>>),
}

impl Sizes {
    fn of(sizes: Vec<u32>) -> Self {
        let first = sizes.first().copied().unwrap_or_default();
        if sizes.iter().all(|size| *size == first) {
            return Self::Uniform(first);
        }
        match sizes.iter().map(|size| u16::try_from(*size)).collect() {
            Ok(sizes) => Self::Small(Arc::new(sizes)),
            Err(_) => Self::Large(Arc::new(sizes)),
        }
    }

    fn get(&self, k: u32) -> u32 {
        match self {
            Self::Uniform(size) => *size,
            Self::Small(sizes) => sizes[k as usize].into(),
            Self::Large(sizes) => sizes[k as usize],
        }
    }

    fn truncate(&mut self, count: u32) {
        match self {
            Self::Uniform(_) => {}
            Self::Small(sizes) => Arc::make_mut(sizes).truncate(count as usize),
            Self::Large(sizes) => Arc::make_mut(sizes).truncate(count as usize),
        }
    }

    /// Adds the sizes of rows behind `count` others.
    fn extend(&mut self, count: u32, rows: &[ContentSpec]) {
        let small = rows.iter().all(|row| u16::try_from(row.size).is_ok());
        match self {
            Self::Uniform(size) if rows.iter().all(|row| row.size == *size) => {}
            Self::Small(sizes) if small => {
                let narrow = |row: &ContentSpec| u16::try_from(row.size).expect("all are small");
                Arc::make_mut(sizes).extend(rows.iter().map(narrow));
            }
            Self::Large(sizes) => Arc::make_mut(sizes).extend(rows.iter().map(|row| row.size)),
            _ => {
                let before = (0..count).map(|k| self.get(k));
                *self = Self::of(before.chain(rows.iter().map(|row| row.size)).collect());
            }
        }
    }
}

impl Piece {
    /// Of these rows, the first piece of its run.
    pub(in crate::queue) fn new(first: MessageId, pushed: PushedRows<'_>) -> Self {
        let PushedRows { index, ordinal, pushed: at, rows } = pushed;
        let sizes = Sizes::of(rows.iter().map(|row| row.size).collect());
        Self { first, index, pushed: at, ordinal, end: pushed.count(), sizes }
    }

    /// Takes over rows that follow those of this piece, which has `count`, in id and body table, pushed at the same time.
    /// Whether they do: a schedule pushes rows of the entry that set it later.
    pub(in crate::queue) fn join(&mut self, count: u32, first: MessageId, pushed: PushedRows<'_>) -> bool {
        let follows = self.index == pushed.index
            && self.pushed == pushed.pushed
            && self.ordinal + count == pushed.ordinal
            && self.first.0 + u64::from(count) == first.0;
        if follows {
            self.sizes.extend(count, pushed.rows);
            self.end += pushed.count();
        }
        follows
    }

    /// Lets go of all but the first `count`, up to which the run has `end`.
    pub(in crate::queue) fn cut(&mut self, count: u32, end: u32) {
        self.sizes.truncate(count);
        self.end = end;
    }

    /// Id of the `k`-th message.
    pub(in crate::queue) fn id(&self, k: u32) -> MessageId {
        MessageId(self.first.0 + u64::from(k))
    }

    /// The `k`-th message of the piece, from 0.
    pub(in crate::queue) fn message(&self, k: u32, priority: u8) -> Message {
        let body = BodyRef { index: self.index, ordinal: self.ordinal + k, size: self.sizes.get(k) };
        Message::pushed(body, self.pushed, priority)
    }

    /// Raft index and rows of these messages.
    pub(in crate::queue) fn rows(&self, which: Range<u32>) -> (u64, Range<u32>) {
        (self.index, self.ordinal + which.start..self.ordinal + which.end)
    }

    /// Contents of these messages together.
    pub(in crate::queue) fn bytes(&self, which: Range<u32>) -> u64 {
        match &self.sizes {
            Sizes::Uniform(size) => u64::from(*size) * which.len() as u64,
            _ => self.sizes(which).map(u64::from).sum(),
        }
    }

    /// Sizes of the contents of these messages.
    pub(in crate::queue) fn sizes(&self, which: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        which.map(|k| self.sizes.get(k))
    }

    /// These messages, at least one, for a snapshot.
    pub(in crate::queue) fn to_stored(&self, which: Range<u32>) -> StoredPiece {
        let (index, rows) = self.rows(which.clone());
        // It may have lost the messages that differed: then it is stored as one that never had them.
        let first = self.sizes.get(which.start);
        let size = self.sizes(which.clone()).all(|size| size == first).then_some(first);
        let count = which.end - which.start;
        StoredPiece {
            first: self.id(which.start),
            count,
            ordinal: rows.start,
            index,
            pushed: self.pushed,
            size,
        }
    }
}

/// A piece as a snapshot holds it; sizes that differ follow one by one.
#[derive(Serialize, Deserialize)]
pub(in crate::queue) struct StoredPiece {
    first: MessageId,
    count: u32,
    ordinal: u32,
    index: u64,
    pushed: Moment,
    /// `None` if sizes differ.
    size: Option<u32>,
}

impl StoredPiece {
    /// How many sizes follow.
    pub(in crate::queue) fn sizes_count(&self) -> u32 {
        if self.size.is_none() { self.count } else { 0 }
    }

    /// The piece behind `before` other messages of its run, with the sizes that followed, unless something is out of
    /// range.
    pub(super) fn into_piece(self, before: u32, sizes: Vec<u32>) -> Option<Piece> {
        let Self { first, count, ordinal, index, pushed, size } = self;
        let end = before.checked_add(count)?;
        let in_range =
            count > 0 && ordinal.checked_add(count).is_some() && first.0.checked_add(count.into()).is_some();
        let sizes = size.map_or_else(|| Sizes::of(sizes), Sizes::Uniform);
        in_range.then_some(Piece { first, index, pushed, ordinal, end, sizes })
    }
}

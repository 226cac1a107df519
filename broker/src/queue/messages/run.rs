//! A run: plain messages with rising ids, kept in few bytes each, whether pushed together or one by one.
//!
//! ```text
//! pieces   | 1 2 3 | 7 8 | 12 13 14 | 20 |     each of one push entry
//!              [-- left -------)               `gone` of them, then `count`
//! ```
//!
//! A run loses messages at its ends only, by moving those: pieces are shared with the runs that a larger one fell into
//! and with copies of the state, and changed by a push behind the last alone.

use std::ops::Range;
use std::sync::Arc;

use queue_protocol::names::MessageId;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::piece::{Piece, PushedRows, StoredPiece};

/// Pieces of one run, at most.
const PIECES_MAX: usize = 64;

/// Consecutive plain messages of one priority.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Run {
    /// How many of the pieces' messages have left before the first that is left.
    gone: u32,
    /// How many are left; at least one.
    count: u32,
    pieces: Arc<Vec<Piece>>,
}

impl Run {
    /// One of these rows; at least one.
    pub(in crate::queue) fn new(first: MessageId, pushed: PushedRows<'_>) -> Self {
        Self { gone: 0, count: pushed.count(), pieces: Arc::new(vec![Piece::new(first, pushed)]) }
    }

    /// Takes over rows with higher ids if there is room for a piece more. Whether there was.
    pub(in crate::queue) fn join(&mut self, first: MessageId, pushed: PushedRows<'_>) -> bool {
        let left = self.pieces_left();
        let Some(count) = self.count.checked_add(pushed.count()) else { return false };
        let pieces = Arc::make_mut(&mut self.pieces);
        // Others may have what it lost at its end.
        pieces.truncate(left.end);
        let before = left.end.checked_sub(2).map_or(0, |k| pieces[k].end);
        let end = self.gone + self.count;
        let last = pieces.last_mut().expect("a run is not empty");
        if last.end > end {
            last.cut(end - before, end);
        }
        if !last.join(end - before, first, pushed) {
            if left.len() >= PIECES_MAX {
                return false;
            }
            if pieces.len() >= PIECES_MAX {
                let base = pieces.drain(..left.start).next_back().map_or(0, |piece| piece.end);
                pieces.iter_mut().for_each(|piece| piece.end -= base);
                self.gone -= base;
            }
            let mut piece = Piece::new(first, pushed);
            piece.end += self.gone + self.count;
            pieces.push(piece);
        }
        self.count = count;
        true
    }

    /// How many messages the run holds.
    pub(in crate::queue) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the contents of all its messages.
    pub(in crate::queue) fn bytes(&self) -> u64 {
        self.left().map(|(piece, which)| piece.bytes(which)).sum()
    }

    /// Id of the `k`-th message that is left.
    pub(in crate::queue) fn id(&self, k: u32) -> MessageId {
        let (piece, k) = self.at(k);
        piece.id(k)
    }

    /// The `k`-th message that is left.
    pub(in crate::queue) fn message(&self, k: u32, priority: u8) -> Message {
        let (piece, k) = self.at(k);
        piece.message(k, priority)
    }

    /// How many messages that are left have a lower id.
    pub(super) fn count_below(&self, id: MessageId) -> u32 {
        let Some(k) = self.pieces.partition_point(|piece| piece.first < id).checked_sub(1) else { return 0 };
        let (piece, begin) = (&self.pieces[k], self.begin(k));
        let within = u32::try_from(id.0 - piece.first.0).unwrap_or(u32::MAX).min(piece.end - begin);
        (begin + within).saturating_sub(self.gone).min(self.count)
    }

    /// Lets go of the first `by` messages, fewer than all.
    pub(super) fn advance(&mut self, by: u32) {
        self.gone += by;
        self.count -= by;
    }

    /// The first `k` messages and those from the `from`-th on.
    pub(in crate::queue) fn apart(self, k: u32, from: u32) -> (Option<Self>, Option<Self>) {
        let mut behind = self.clone();
        let behind = (from < self.count).then(|| {
            behind.advance(from);
            behind
        });
        ((k > 0).then_some(Self { count: k, ..self }), behind)
    }

    /// Raft indices and rows of the bodies.
    pub(in crate::queue) fn rows(&self) -> impl Iterator<Item = (u64, Range<u32>)> + '_ {
        self.left().map(|(piece, which)| piece.rows(which))
    }

    /// Ids of the messages, first and last plus one of each stretch.
    pub(in crate::queue) fn id_ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.left().map(|(piece, which)| (piece.id(which.start).0, piece.id(which.end).0))
    }

    /// Pieces with what is left of each.
    fn left(&self) -> impl Iterator<Item = (&Piece, Range<u32>)> {
        self.pieces_left().map(|k| {
            let (piece, begin) = (&self.pieces[k], self.begin(k));
            let end = piece.end.min(self.gone + self.count);
            (piece, self.gone.saturating_sub(begin)..end - begin)
        })
    }

    /// Which pieces have messages that are left.
    fn pieces_left(&self) -> Range<usize> {
        self.piece_of(self.gone)..self.piece_of(self.gone + self.count - 1) + 1
    }

    /// The piece of the `k`-th message that is left, and which one it is there.
    fn at(&self, k: u32) -> (&Piece, u32) {
        let piece = self.piece_of(self.gone + k);
        (&self.pieces[piece], self.gone + k - self.begin(piece))
    }

    fn piece_of(&self, k: u32) -> usize {
        self.pieces.partition_point(|piece| piece.end <= k)
    }

    /// How many messages stand before a piece.
    fn begin(&self, piece: usize) -> u32 {
        piece.checked_sub(1).map_or(0, |before| self.pieces[before].end)
    }

    /// This run for a snapshot, and the sizes that follow it.
    pub(in crate::queue) fn to_stored(&self) -> (StoredRun, impl Iterator<Item = u32> + '_) {
        let pieces: Vec<StoredPiece> = self.left().map(|(piece, which)| piece.to_stored(which)).collect();
        let differ: Vec<bool> = pieces.iter().map(|piece| piece.sizes_count() > 0).collect();
        let sizes = self.left().zip(differ).filter(|(_, differ)| *differ);
        (StoredRun(pieces), sizes.flat_map(|((piece, which), _)| piece.sizes(which)))
    }
}

/// A run as a snapshot holds it; sizes that differ follow one by one.
#[derive(Serialize, Deserialize)]
pub(in crate::queue) struct StoredRun(Vec<StoredPiece>);

impl StoredRun {
    /// How many sizes follow.
    pub(in crate::queue) fn sizes_count(&self) -> u64 {
        self.0.iter().map(|piece| u64::from(piece.sizes_count())).sum()
    }

    /// The run, with the sizes that followed, unless something is out of range.
    pub(super) fn into_run(self, sizes: Vec<u32>) -> Option<Run> {
        let mut sizes = sizes.into_iter();
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.0.len().min(PIECES_MAX));
        for stored in self.0 {
            let sizes = sizes.by_ref().take(stored.sizes_count() as usize).collect();
            let before = pieces.last().map_or(0, |piece| piece.end);
            let begin = pieces.len().checked_sub(2).map_or(0, |k| pieces[k].end);
            let piece = stored.into_piece(before, sizes)?;
            let rises = pieces.last().is_none_or(|last| last.id(before - begin) <= piece.first);
            if !rises || pieces.len() >= PIECES_MAX {
                return None;
            }
            pieces.push(piece);
        }
        let count = pieces.last()?.end;
        Some(Run { gone: 0, count, pieces: Arc::new(pieces) })
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::content::ContentSpec;

    use super::*;
    use crate::queue::due::clocks::Moment;

    fn rows(sizes: &[u32]) -> Vec<ContentSpec> {
        sizes.iter().map(|size| ContentSpec { size: *size, crc32c: 0 }).collect()
    }

    fn at(ms: u64) -> Moment {
        Moment { wall_ms: ms, elapsed_ms: ms / 2 }
    }

    fn pushed(index: u64, rows: &[ContentSpec]) -> PushedRows<'_> {
        PushedRows { index, ordinal: 3, pushed: at(index * 1_000), rows }
    }

    /// Index, row and size of what is left, by id.
    fn shown(run: &Run) -> Vec<(u64, u64, u32, u32)> {
        let (stored, sizes) = run.to_stored();
        let twin = stored.into_run(sizes.collect()).expect("what was stored");
        let all = |run: &Run| -> Vec<_> {
            let body = |k| run.message(k, 4).body;
            (0..run.count()).map(|k| (run.id(k).0, body(k).index, body(k).ordinal, body(k).size)).collect()
        };
        assert_eq!(all(run), all(&twin));
        assert_eq!(run.bytes(), (0..run.count()).map(|k| run.message(k, 4).size()).sum::<u64>());
        let held: Vec<u64> = all(run).into_iter().map(|(id, ..)| id).collect();
        for id in 0..50 {
            let below = held.iter().filter(|held| **held < id).count();
            assert_eq!(run.count_below(MessageId(id)) as usize, below, "below {id} of {held:?}");
        }
        all(run)
    }

    #[test]
    fn a_run_has_gaps_and_sizes_of_any_kind_and_falls_apart_without_a_copy() {
        let (two, three, one) = (rows(&[10, 10]), rows(&[7, 70_000, 8]), rows(&[9]));
        let mut run = Run::new(MessageId(1), pushed(5, &two));
        assert!(run.join(MessageId(4), pushed(6, &three)));
        assert!(run.join(MessageId(9), pushed(7, &one)));
        let all = [(1, 5, 3, 10), (2, 5, 4, 10), (4, 6, 3, 7), (5, 6, 4, 70_000), (6, 6, 5, 8), (9, 7, 3, 9)];
        assert_eq!(shown(&run), all);
        let (before, behind) = run.clone().apart(3, 4);
        let (mut before, behind) = (before.unwrap(), behind.unwrap());
        assert_eq!((shown(&before), shown(&behind)), (all[..3].to_vec(), all[4..].to_vec()));
        assert!(Arc::ptr_eq(&before.pieces, &behind.pieces));
        // What was lost at the end does not come back with what is pushed behind.
        assert!(before.join(MessageId(20), pushed(8, &one)));
        assert_eq!(shown(&before), [&all[..3], &[(20, 8, 3, 9)]].concat());
        assert_eq!(shown(&behind), all[4..]);
        assert!(run.apart(0, 6).1.is_none());
    }

    #[test]
    fn rows_of_one_entry_pushed_later_keep_their_time() {
        let (two, one) = (rows(&[9, 9]), rows(&[9]));
        let mut run = Run::new(MessageId(1), pushed(5, &two));
        assert!(run.join(MessageId(3), PushedRows { ordinal: 5, pushed: at(9_000), ..pushed(5, &one) }));
        let times: Vec<Moment> = (0..3).map(|k| run.message(k, 4).pushed).collect();
        assert_eq!(times, [at(5_000), at(5_000), at(9_000)]);
        assert_eq!(shown(&run).len(), 3);
    }

    #[test]
    fn a_run_that_is_used_up_and_refilled_stays_as_short_as_what_is_left() {
        let one = rows(&[9]);
        let mut run = Run::new(MessageId(1), pushed(1, &one));
        for index in 2..1_000 {
            assert!(run.join(MessageId(index), pushed(index, &one)));
            run.advance(u32::from(run.count() > 10));
            assert!(run.pieces.len() <= PIECES_MAX);
        }
        assert_eq!(run.id(0), MessageId(990));
        while run.pieces_left().len() < PIECES_MAX {
            let next = 1_000 + u64::from(run.count());
            assert!(run.join(MessageId(next), pushed(next, &one)));
        }
        assert!(!run.join(MessageId(5_000), pushed(5_000, &one)), "it is full");
        run.advance(1);
        assert!(run.join(MessageId(5_000), pushed(5_000, &one)));
    }
}

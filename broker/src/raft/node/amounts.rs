//! How many bytes of entries the log took, and behind which entry: what a report of a disk does not know of yet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::locked::Locked as _;

/// Entries between two marks have about this many bytes together.
const STEP: u64 = 64 << 10;
/// Marks remembered. Of a peer that lacks more it is known that it lacks this much.
const MARKS_MAX: usize = 4_096;

#[derive(Default)]
struct Inner {
    /// An entry, and the total with it; both rise.
    marks: VecDeque<(u64, u64)>,
    /// The newest entry and the total with it.
    newest: (u64, u64),
}

/// Totals since the start of this process.
#[derive(Default)]
pub(crate) struct Amounts {
    inner: Mutex<Inner>,
    written: AtomicU64,
}

impl Amounts {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// The log takes entries up to `index`, of `bytes` together; gives the total with them.
    pub(crate) fn append(&self, index: u64, bytes: u64) -> u64 {
        let mut inner = self.inner();
        let newest = inner.newest;
        // Behind a truncation indices come again.
        while inner.marks.back().is_some_and(|(marked, _)| *marked >= index) {
            inner.marks.pop_back();
        }
        if newest.0 < index && inner.marks.back().is_none_or(|(_, total)| newest.1 >= total + STEP) {
            inner.marks.push_back(newest);
        }
        if inner.marks.len() > MARKS_MAX {
            inner.marks.pop_front();
        }
        inner.newest = (index, newest.1.saturating_add(bytes));
        inner.newest.1
    }

    /// What the log took up to this total is on the disk.
    pub(crate) fn wrote(&self, total: u64) {
        self.written.fetch_max(total, Ordering::Relaxed);
    }

    /// Bytes that the log took.
    pub(crate) fn total(&self) -> u64 {
        self.inner().newest.1
    }

    /// Bytes of those that are on the disk.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes that the log took behind entry `index`; up to a step more, and never less of what is remembered.
    pub(crate) fn behind(&self, index: u64) -> u64 {
        let inner = self.inner();
        let (newest, total) = inner.newest;
        if newest <= index {
            return 0;
        }
        let behind = inner.marks.partition_point(|(marked, _)| *marked <= index);
        let mark = behind.checked_sub(1).or((!inner.marks.is_empty()).then_some(0));
        total - mark.map_or(0, |at| inner.marks[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_an_entry_is_told_to_a_step_and_never_too_low() {
        let amounts = Amounts::default();
        for index in 1..=1_000 {
            assert_eq!(amounts.append(index, 10_000), index * 10_000);
        }
        for index in 0..=1_000 {
            let (behind, exact) = (amounts.behind(index), (1_000 - index) * 10_000);
            assert!((exact..exact + STEP + 20_000).contains(&behind), "{index}: {behind} of {exact}");
        }
        assert_eq!(amounts.behind(2_000), 0);
        amounts.wrote(7);
        amounts.wrote(5);
        assert_eq!((amounts.written(), amounts.total()), (7, 10_000_000));
    }

    #[test]
    fn indices_that_come_again_count_anew_and_old_ones_are_forgotten() {
        let amounts = Amounts::default();
        for index in 1..=10 {
            amounts.append(index, STEP);
        }
        amounts.append(4, STEP);
        assert_eq!((amounts.behind(4), amounts.total()), (0, 11 * STEP));
        assert!(amounts.behind(3) >= STEP);
        for index in 5..10_000 {
            amounts.append(index, STEP);
        }
        assert!(amounts.inner().marks.len() <= MARKS_MAX);
        assert!(amounts.behind(1) >= (MARKS_MAX as u64 - 1) * STEP);
    }
}

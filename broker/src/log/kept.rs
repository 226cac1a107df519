//! How far the log may be purged: counted in the files that the entries lie in, for only whole files give space back.

use std::collections::BTreeSet;

use super::format::file_id::FileId;
use super::index::{Index, Run};

/// The last entry, of those after `purged` and up to `upto`, that must go for no more than `keep` bytes of files to be
/// kept; `None` if all may stay. `size` gives the bytes of a file.
pub(crate) fn purge_bound(
    index: &Index,
    purged: Option<u64>,
    upto: u64,
    keep: u64,
    size: impl Fn(FileId) -> u64,
) -> Option<u64> {
    let from = purged.map_or(0, |purged| purged.saturating_add(1));
    if from > upto {
        return None;
    }
    let runs: Vec<Run> = index.runs.within(from, upto).collect();
    let mut counted = BTreeSet::new();
    let mut kept: u64 = 0;
    for run in runs.iter().rev() {
        if counted.insert(run.file) {
            kept = kept.saturating_add(size(run.file));
        }
        if kept > keep {
            return Some(run.last.min(upto));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three files of 100 bytes, with ten entries each.
    fn index() -> Index {
        let mut index = Index::default();
        for (number, first) in [(1, 1), (2, 11), (3, 21)] {
            let file = FileId::Segment(number);
            index.files.insert(file);
            index.runs.insert(Run { first, last: first + 9, file });
        }
        index
    }

    fn bound(purged: Option<u64>, upto: u64, keep: u64) -> Option<u64> {
        purge_bound(&index(), purged, upto, keep, |_| 100)
    }

    #[test]
    fn whole_files_are_kept_as_far_as_they_fit() {
        assert_eq!(bound(None, 30, 300), None);
        assert_eq!(bound(None, 30, 299), Some(10));
        assert_eq!(bound(None, 30, 200), Some(10));
        assert_eq!(bound(None, 30, 199), Some(20));
        assert_eq!(bound(None, 30, 0), Some(30));
    }

    #[test]
    fn what_is_purged_already_and_what_no_snapshot_covers_is_not_spoken_of() {
        assert_eq!(bound(Some(10), 30, 200), None, "only two files are left");
        assert_eq!(bound(Some(10), 30, 100), Some(20));
        assert_eq!(bound(None, 25, 0), Some(25), "entries above the snapshot stay");
        assert_eq!(bound(Some(25), 25, 0), None);
        assert_eq!(bound(Some(40), 25, 0), None);
    }
}

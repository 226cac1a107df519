//! Which file holds which entry: runs of consecutive indices, a few per file, whatever the number of entries.
//!
//! ```text
//! index     0 …… 99 | 100 … 180 | 181 … 250 | 251 …
//! file      sparse 1 | segment 7 | segment 8 | segment 9 (written)
//! imports   [from, to] → runs in sparse files; hides the runs above from body look-ups until the log is purged
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::format::file_id::FileId;

/// Entries `first ..= last`, as far as `file` holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) file: FileId,
}

/// Runs that do not overlap, by first index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<u64, (u64, FileId)>);

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.0.iter().map(|(first, (last, file))| Run { first: *first, last: *last, file: *file })
    }

    /// The run that covers `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Run> {
        let (first, (last, file)) = self.0.range(..=index).next_back()?;
        (*last >= index).then_some(Run { first: *first, last: *last, file: *file })
    }

    /// The runs that cover any of `from ..= to`.
    pub(crate) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = Run> + '_ {
        let start = self.get(from).map_or(from, |run| run.first);
        let runs = self.0.range(start..=to.max(start));
        runs.map(|(first, (last, file))| Run { first: *first, last: *last, file: *file })
    }

    /// Adds a run in place of what covered its indices.
    pub(crate) fn insert(&mut self, run: Run) {
        self.remove(run.first, run.last);
        if let Some((_, (last, file))) = self.0.range_mut(..run.first).next_back()
            && *file == run.file
            && *last + 1 == run.first
        {
            *last = run.last;
        } else {
            self.0.insert(run.first, (run.last, run.file));
        }
    }

    /// `run` in place of what lies in `files` of its indices. Others between them stay where they are: bodies that a
    /// snapshot brought may fill a gap in an older file.
    pub(crate) fn replace(&mut self, run: Run, files: &BTreeSet<FileId>) {
        let gone = self.within(run.first, run.last).filter(|old| files.contains(&old.file));
        let part = |old: Run| Run { first: old.first.max(run.first), last: old.last.min(run.last), ..run };
        let parts: Vec<Run> = gone.map(part).collect();
        parts.into_iter().for_each(|part| self.insert(part));
    }

    /// Nothing covers `from ..= to` any more.
    pub(crate) fn remove(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        if let Some((first, (last, file))) = self.0.range(..from).next_back().map(|(k, v)| (*k, *v))
            && last >= from
        {
            self.0.insert(first, (from - 1, file));
            if last > to {
                self.0.insert(to + 1, (last, file));
            }
        }
        while let Some((first, (last, file))) = self.0.range(from..=to).next().map(|(k, v)| (*k, *v)) {
            self.0.remove(&first);
            if last > to {
                self.0.insert(to + 1, (last, file));
            }
        }
    }

    fn remove_file(&mut self, file: FileId) {
        self.0.retain(|_, (_, other)| *other != file);
    }
}

/// Bodies of a peer's snapshot, as long as entries they replace may still be log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imported {
    /// First index whose bodies come from `runs` alone.
    pub(crate) from: u64,
    /// Last such index: the last the snapshot covers.
    pub(crate) to: u64,
    pub(crate) runs: Vec<Run>,
}

/// Which files belong to the log, and which entries lie in which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// Every file whose records count, the one being written included.
    pub(crate) files: BTreeSet<FileId>,
    pub(crate) runs: Runs,
    /// Imports of snapshots, the oldest first.
    pub(crate) imports: Vec<Imported>,
}

impl Index {
    /// The file that holds log entry `index`.
    pub(crate) fn entry(&self, index: u64) -> Option<FileId> {
        self.runs.get(index).map(|run| run.file)
    }

    /// The file that holds the bodies of `index`, log or not.
    pub(crate) fn bodies(&self, index: u64) -> Option<FileId> {
        match self.imports.iter().rev().find(|import| (import.from..=import.to).contains(&index)) {
            Some(import) => {
                import.runs.iter().find(|run| run.first <= index && index <= run.last).map(|run| run.file)
            }
            None => self.entry(index),
        }
    }

    /// An import in place of older ones it covers.
    pub(crate) fn import(&mut self, import: Imported) {
        self.files.extend(import.runs.iter().map(|run| run.file));
        self.imports.retain(|old| old.from < import.from || old.to > import.to);
        self.imports.push(import);
    }

    /// Imports of snapshots that end at or above `bound` never happened.
    pub(crate) fn forget_imports(&mut self, bound: u64) {
        self.imports.retain(|import| import.to < bound);
    }

    /// Entries up to `upto` are no longer log, so imports up to there take the place of what they hid.
    pub(crate) fn purge(&mut self, upto: u64) {
        let (ripe, rest) =
            std::mem::take(&mut self.imports).into_iter().partition(|import| import.to <= upto);
        self.imports = rest;
        let ripe: Vec<Imported> = ripe;
        for import in ripe {
            self.runs.remove(import.from, import.to);
            for run in import.runs {
                self.runs.insert(run);
            }
        }
    }

    /// `file` is no longer part of the log.
    pub(crate) fn retire(&mut self, file: FileId) {
        self.files.remove(&file);
        self.runs.remove_file(file);
        for import in &mut self.imports {
            import.runs.retain(|run| run.file != file);
        }
    }

    /// Files with no entry above `bound` and in no import that may still count; never `written`.
    pub(crate) fn closed(&self, bound: Option<u64>, written: FileId) -> BTreeSet<FileId> {
        let mut held = BTreeSet::from([written]);
        held.extend(
            self.runs.iter().filter(|run| bound.is_none_or(|bound| run.last > bound)).map(|run| run.file),
        );
        held.extend(self.imports.iter().flat_map(|import| import.runs.iter().map(|run| run.file)));
        self.files.difference(&held).copied().collect()
    }

    /// What it says that cannot be: runs are in order, apart, and in known files.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let mut end = None;
        for run in self.runs.iter() {
            if run.first > run.last || end.is_some_and(|end| end >= run.first) {
                return Some(format!("runs overlap at {}", run.first));
            }
            if !self.files.contains(&run.file) {
                return Some(format!("a run lies in {}, which is not part of the log", run.file.name()));
            }
            end = Some(run.last);
        }
        for Imported { from, to, runs } in &self.imports {
            let fits = |run: &Run| self.files.contains(&run.file) && run.first >= *from && run.last <= *to;
            if from.saturating_sub(1) > *to || !runs.iter().all(fits) {
                return Some(format!("the import of {from} to {to} contradicts itself"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_agree_with_an_array(ops in proptest::collection::vec((0_u64..40, 0_u64..12, 0_u64..4), 0..40)) {
            let mut runs = Runs::default();
            let mut naive = [None; 64];
            for (first, length, file) in ops {
                let last = first + length;
                let file = (file > 0).then_some(FileId::Segment(file));
                match file {
                    Some(file) => runs.insert(Run { first, last, file }),
                    None => runs.remove(first, last),
                }
                for slot in first..=last {
                    naive[usize::try_from(slot).unwrap()] = file;
                }
                for run in runs.iter() {
                    let touched = Vec::from_iter(runs.within(run.last, run.last + length));
                    let expected = runs.iter().filter(|other| {
                        other.last >= run.last && other.first <= run.last + length
                    });
                    prop_assert_eq!(touched, Vec::from_iter(expected));
                }
                for (slot, file) in (0_u64..).zip(naive) {
                    prop_assert_eq!(runs.get(slot).map(|run| run.file), file);
                }
            }
        }
    }

    #[test]
    fn a_copy_of_what_is_left_of_a_file_takes_nothing_from_files_in_between() {
        let [old, brought, copy] = [1, 2, 3].map(FileId::Sparse);
        let mut runs = Runs::default();
        runs.insert(Run { first: 1, last: 50, file: old });
        runs.insert(Run { first: 21, last: 40, file: brought });
        runs.replace(Run { first: 5, last: 45, file: copy }, &[old].into());
        let found = [4, 5, 20, 21, 40, 41, 45, 46].map(|index| runs.get(index).map(|run| run.file));
        assert_eq!(found, [old, copy, copy, brought, brought, copy, copy, old].map(Some));
    }

    #[test]
    fn an_import_hides_local_bodies_at_once_and_replaces_them_when_purged() {
        let (segment, sparse) = (FileId::Segment(1), FileId::Sparse(1));
        let mut index = Index { files: [segment].into(), ..Index::default() };
        index.runs.insert(Run { first: 1, last: 50, file: segment });
        let run = Run { first: 45, last: 90, file: sparse };
        index.import(Imported { from: 41, to: 100, runs: vec![run] });
        assert_eq!(index.contradiction(), None);
        assert_eq!((index.entry(46), index.bodies(46)), (Some(segment), Some(sparse)));
        assert_eq!((index.bodies(40), index.bodies(42)), (Some(segment), None));
        let mut failed = index.clone();
        failed.forget_imports(100);
        assert_eq!((failed.bodies(46), failed.bodies(42)), (Some(segment), Some(segment)));
        index.purge(100);
        assert_eq!(index.contradiction(), None);
        assert_eq!(
            (index.entry(46), index.bodies(40), index.bodies(42)),
            (Some(sparse), Some(segment), None)
        );
        assert_eq!(Vec::from_iter(index.closed(Some(100), FileId::Segment(2))), [segment, sparse]);
        assert_eq!(Vec::from_iter(index.closed(Some(60), FileId::Segment(2))), [segment]);
    }
}

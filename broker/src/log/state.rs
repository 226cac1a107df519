//! The state of the log after a record: what an opening holds, and what replaying the records after it gives.

use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::peer::{LogId, Vote};

use super::LogState;
use super::format::file_id::FileId;
use super::format::payload::{Compacted, Retired};
use super::index::{Imported, Index, Run};

/// What a peer is known to have had on its disk; below it, it is not the peer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The peer, by number.
    pub node: NodeId,
    /// The data directory of the peer.
    pub store: StoreId,
    /// How often its log had been opened.
    pub epoch: u32,
    /// The random number of the process that opened it then.
    pub boot: u64,
    /// The highest index both acknowledged and committed.
    pub acknowledged: u64,
    /// Term of the highest vote it gave; 0 if none is known.
    pub term: u64,
    /// The node that the vote was for.
    pub voted: NodeId,
    /// It has spoken TLS, and is not dialed in the clear any more.
    pub secured: bool,
}

/// How much time the cluster's elapsed clock showed at a time of one boot of this machine. It goes on as the machine does,
/// so that any pair of the same boot says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The boot, as the system names it.
    pub boot_id: u128,
    /// Milliseconds since that boot.
    pub boot_ms: u64,
    /// What the elapsed clock showed then, in milliseconds.
    pub elapsed_ms: u64,
}

/// All that the records say. Orders: `purged ≤ last`; `committed` may be ahead of `last`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// The last entry, or `purged`.
    pub(crate) last: Option<LogId>,
    /// The highest index that an imported snapshot covered.
    pub(crate) installed: Option<u64>,
    pub(crate) floors: Vec<Floor>,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) index: Index,
}

impl State {
    /// Whether an entry may follow.
    pub(crate) fn follows(&self, id: LogId) -> bool {
        self.last.is_none_or(|last| last.index + 1 == id.index)
    }

    /// An entry that [`State::follows`], in `file`.
    pub(crate) fn append(&mut self, id: LogId, file: FileId) {
        assert!(self.follows(id), "entry {} does not follow {:?}", id.index, self.last);
        self.last = Some(id);
        self.index.runs.insert(Run { first: id.index, last: id.index, file });
    }

    pub(crate) fn truncate_after(&mut self, keep: Option<LogId>) {
        let after = keep.max_by_index(self.purged);
        self.index.runs.remove(after.map_or(0, |id| id.index + 1), u64::MAX);
        self.last = after;
        self.committed = self.for_raft().committed;
    }

    pub(crate) fn purge_upto(&mut self, upto: LogId) {
        self.purged = Some(upto).max_by_index(self.purged);
        self.last = self.last.max_by_index(self.purged);
        self.index.purge(upto.index);
    }

    pub(crate) fn import(&mut self, import: Imported) {
        self.installed = self.installed.max(Some(import.to));
        self.index.import(import);
    }

    pub(crate) fn retire(&mut self, retired: &Retired) {
        if let Some(bound) = retired.imports_from {
            self.index.forget_imports(bound);
            // Without its snapshot an import covers nothing; `bound` is one more than the newest snapshot covers.
            let upto = bound.checked_sub(1);
            self.installed = self.installed.zip(upto).map(|(installed, upto)| installed.min(upto));
        }
        retired.files.iter().for_each(|file| self.index.retire(*file));
    }

    pub(crate) fn compact(&mut self, compacted: &Compacted) {
        let gone = compacted.files.iter().copied().collect();
        for run in &compacted.runs {
            self.index.files.insert(run.file);
            self.index.runs.replace(*run, &gone);
        }
        compacted.files.iter().for_each(|file| self.index.retire(*file));
    }

    /// For openraft: a commit mark is never beyond the last entry.
    pub(crate) fn for_raft(&self) -> LogState {
        let beyond = |mark: &LogId| self.last.is_none_or(|last| last.index < mark.index);
        let committed = if self.committed.as_ref().is_some_and(beyond) { self.last } else { self.committed };
        LogState { vote: self.vote, committed, purged: self.purged, last: self.last }
    }

    /// The highest index the records account for: written here, purged, or covered by an imported snapshot.
    pub(crate) fn covered(&self) -> Option<u64> {
        self.last.map(|last| last.index).max(self.installed)
    }

    /// What it says that cannot be.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let index = |id: Option<LogId>| id.map(|id| id.index);
        if index(self.purged) > index(self.last) {
            return Some("more is purged than there is".to_owned());
        }
        self.index.contradiction().or_else(|| {
            let missing = self.missing()?;
            Some(format!("entry {missing} is in no file"))
        })
    }

    /// The first index that is in a file.
    pub(crate) fn first(&self) -> Option<u64> {
        self.index.runs.iter().next().map(|run| run.first)
    }

    /// The first entry after the purged ones that is in no file.
    fn missing(&self) -> Option<u64> {
        let last = self.last?.index;
        let mut next = match self.purged {
            Some(purged) if purged.index >= last => return None,
            Some(purged) => purged.index + 1,
            None => self.first().unwrap_or(0),
        };
        for run in self.index.runs.within(next, last) {
            if run.first > next {
                break;
            }
            next = run.last.saturating_add(1);
        }
        (next <= last).then_some(next)
    }

    /// Asserts that the records do not contradict each other.
    pub(crate) fn check(&self) {
        let contradiction = self.contradiction();
        assert!(contradiction.is_none(), "{contradiction:?}");
    }
}

/// Log ids by their index alone.
pub(crate) trait MaxByIndex {
    /// The one with the higher index; `self` if they are equal.
    fn max_by_index(self, other: Self) -> Self;
}

impl MaxByIndex for Option<LogId> {
    fn max_by_index(self, other: Self) -> Self {
        if other.map(|id| id.index) > self.map(|id| id.index) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId { term: 1, leader: NodeId(1), index }
    }

    #[test]
    fn truncation_keeps_what_is_purged_and_a_purge_may_go_beyond_the_last() {
        let mut state = State {
            index: Index { files: [FileId::Segment(1)].into(), ..Index::default() },
            ..State::default()
        };
        for index in 0..10 {
            state.append(id(index), FileId::Segment(1));
        }
        state.committed = Some(id(9));
        state.truncate_after(Some(id(4)));
        state.check();
        assert_eq!(state.for_raft().committed, Some(id(4)));
        assert_eq!((state.last, state.index.entry(5)), (Some(id(4)), None));
        state.purge_upto(id(20));
        state.check();
        assert_eq!(
            (state.last, state.purged, state.index.entry(4)),
            (Some(id(20)), Some(id(20)), Some(FileId::Segment(1)))
        );
        assert!(state.follows(id(21)) && !state.follows(id(20)));
        state.truncate_after(None);
        assert_eq!(state.last, Some(id(20)));
    }

    #[test]
    fn an_entry_of_the_log_that_is_in_no_file_is_a_contradiction() {
        let files = [FileId::Segment(1)].into();
        let mut state = State { index: Index { files, ..Index::default() }, ..State::default() };
        // A log may begin anywhere, but goes on from there.
        for index in 7..17 {
            state.append(id(index), FileId::Segment(1));
        }
        assert_eq!((state.contradiction(), state.first()), (None, Some(7)));
        let mut cut = state.clone();
        cut.index.runs.remove(15, 20);
        assert_eq!(cut.contradiction().unwrap(), "entry 15 is in no file");
        state.index.runs.remove(10, 12);
        assert_eq!(state.contradiction().unwrap(), "entry 10 is in no file");
        state.purge_upto(id(12));
        assert_eq!(state.contradiction(), None);
        state.last = Some(id(1 << 40));
        assert_eq!(state.contradiction().unwrap(), "entry 17 is in no file");
    }
}

//! What a record does to the state of the log: one fold for the records that are written and for those that are read back.

use queue_protocol::wire::peer::{LogId, Vote};

use super::format::file_id::FileId;
use super::format::footer::Row;
use super::format::payload::{Compacted, Retired};
use super::index::{Imported, Run};
use super::state::{Anchor, Floor, State};

/// What a record says, in the words of the state.
pub(crate) enum Step<'a> {
    /// An entry, and its row in the table of the file.
    Entry(LogId, Row),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Commit(Option<LogId>),
    Seal,
    Import(&'a Imported),
    Retire(&'a Retired),
    Compact(&'a Compacted),
    Floors(&'a [Floor]),
    Anchor(Anchor),
}

impl Step<'_> {
    /// Applies it to the state, and to the rows of `file`, which holds the record.
    ///
    /// # Errors
    /// It contradicts the records before it.
    pub(crate) fn apply(self, state: &mut State, rows: &mut Vec<Row>, file: FileId) -> Result<(), String> {
        match self {
            Self::Entry(id, row) => {
                if !state.follows(id) {
                    return Err(format!("entry {} does not follow the last", id.index));
                }
                state.append(id, file);
                rows.push(row);
            }
            Self::Vote(vote) => state.vote = Some(vote),
            Self::Truncate(keep) => {
                state.truncate_after(keep);
                let last = state.last.map(|last| last.index);
                while rows.last().is_some_and(|row| Some(row.index) > last) {
                    rows.pop();
                }
            }
            Self::Purge(upto) => state.purge_upto(upto),
            Self::Commit(mark) => state.committed = mark,
            Self::Seal => {}
            Self::Import(import) => {
                let inside = |run: &Run| run.first >= import.from && run.last <= import.to;
                if !import.runs.iter().all(inside) {
                    return Err("an import names entries outside of its range".to_owned());
                }
                state.import(import.clone());
            }
            Self::Retire(retired) => state.retire(retired),
            Self::Compact(compacted) => state.compact(compacted),
            Self::Floors(floors) => state.floors = floors.to_vec(),
            Self::Anchor(anchor) => state.anchor = Some(anchor),
        }
        Ok(())
    }
}

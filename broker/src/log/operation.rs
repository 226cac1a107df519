//! What the log is asked to write, and the record that it becomes.

use std::sync::Arc;

use queue_protocol::wire::peer::{LogId, Vote};

use super::format::file_id::FileId;
use super::format::opening::{put_anchor, put_floors, put_import};
use super::format::payload::{Compacted, Retired, put_compacted, put_files};
use super::format::record::{FLAG_SET, Kind, NO_ID};
use super::index::Imported;
use super::segment::Segment;
use super::state::{Anchor, Floor};
use super::step::Step;
use super::{Done, Entry};

/// Something to be written, in the order it was asked for.
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) what: What,
    pub(crate) done: Option<Done>,
}

impl Operation {
    /// Nobody waits for it.
    pub(crate) fn unasked(number: u64, said: Said) -> Self {
        Self { number, what: What::Said(said), done: None }
    }
}

pub(crate) enum What {
    Entry(Entry),
    Said(Said),
    /// Only to be told when everything before is durable.
    Nothing,
}

impl From<Said> for What {
    fn from(said: Said) -> Self {
        Self::Said(said)
    }
}

/// What a record other than an entry says.
pub(crate) enum Said {
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Commit(Option<LogId>),
    Seal,
    /// With the files that it names.
    Import(Imported, Vec<Arc<Segment>>),
    Retire(Retired),
    /// With the files that take the place of others.
    Compact(Compacted, Vec<Arc<Segment>>),
    Floors(Vec<Floor>),
    Anchor(Anchor),
}

/// A record but for its place in the stream.
pub(crate) struct Unplaced {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    pub(crate) id: LogId,
    pub(crate) payload: Vec<u8>,
}

impl Said {
    /// The record that says it.
    pub(crate) fn record(&self) -> Unplaced {
        let plain = |kind, flags, id| Unplaced { kind, flags, id, payload: Vec::new() };
        let flagged = |kind, id: Option<LogId>| match id {
            Some(id) => plain(kind, FLAG_SET, id),
            None => plain(kind, 0, NO_ID),
        };
        let paid = |kind, put: &dyn Fn(&mut Vec<u8>)| {
            let mut record = plain(kind, 0, NO_ID);
            put(&mut record.payload);
            record
        };
        match self {
            Self::Vote(vote) => {
                let id = LogId { term: vote.term, leader: vote.node, index: 0 };
                plain(Kind::Vote, u16::from(vote.committed), id)
            }
            Self::Truncate(keep) => flagged(Kind::Truncate, *keep),
            Self::Purge(upto) => plain(Kind::Purge, 0, *upto),
            Self::Commit(mark) => flagged(Kind::Commit, *mark),
            Self::Seal => plain(Kind::Seal, 0, NO_ID),
            Self::Import(import, _) => paid(Kind::Import, &|payload| put_import(payload, import)),
            Self::Retire(retired) => {
                let bound = retired.imports_from.map(|index| LogId { index, ..NO_ID });
                let mut record = flagged(Kind::Retire, bound);
                put_files(&mut record.payload, &retired.files);
                record
            }
            Self::Compact(compacted, _) => paid(Kind::Compact, &|payload| put_compacted(payload, compacted)),
            Self::Floors(floors) => paid(Kind::Floors, &|payload| put_floors(payload, floors)),
            Self::Anchor(anchor) => paid(Kind::Anchor, &|payload| put_anchor(payload, anchor)),
        }
    }

    /// What it does to the state.
    pub(crate) fn step(&self) -> Step<'_> {
        match self {
            Self::Vote(vote) => Step::Vote(*vote),
            Self::Truncate(keep) => Step::Truncate(*keep),
            Self::Purge(upto) => Step::Purge(*upto),
            Self::Commit(mark) => Step::Commit(*mark),
            Self::Seal => Step::Seal,
            Self::Import(import, _) => Step::Import(import),
            Self::Retire(retired) => Step::Retire(retired),
            Self::Compact(compacted, _) => Step::Compact(compacted),
            Self::Floors(floors) => Step::Floors(floors),
            Self::Anchor(anchor) => Step::Anchor(*anchor),
        }
    }

    /// Files that are part of the log from then on.
    pub(crate) fn added(&self) -> &[Arc<Segment>] {
        match self {
            Self::Import(_, segments) | Self::Compact(_, segments) => segments,
            _ => &[],
        }
    }

    /// Files that are no longer part of the log.
    pub(crate) fn freed(&self) -> &[FileId] {
        match self {
            Self::Retire(Retired { files, .. }) | Self::Compact(Compacted { files, .. }, _) => files,
            _ => &[],
        }
    }
}

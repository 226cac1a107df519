//! Bytes and indices: what this node must not forget, as one stream of records in segments.

use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::peer::{EntryKind, LogId, Vote};

use crate::fs::{Disk, DiskError};

/// An entry as the log keeps it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: LogId,
    /// What it is.
    pub kind: EntryKind,
    /// The command section; opaque here.
    pub commands: Bytes,
    /// Size and checksum of each content.
    pub table: Arc<[ContentSpec]>,
    /// The contents, one after the other, split anywhere; `None` if read without.
    pub contents: Option<Arc<[Bytes]>>,
}

/// How a log behaves.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of a segment file, header to footer; an entry larger than a segment gets one of its own size.
    pub segment_size: u64,
    /// Zero-filled segments kept ready.
    pub spares: usize,
    /// Bytes of recent entries kept in memory.
    pub tail_size: usize,
    /// Silence after which a seal is written.
    pub seal_after: Duration,
}

/// What openraft wants to know at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogState {
    /// The newest vote.
    pub vote: Option<Vote>,
    /// The newest commit mark, not beyond the last entry.
    pub committed: Option<LogId>,
    /// Entries up to here are no longer log.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` if there is none.
    pub last: Option<LogId>,
}

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Bytes of an unfinished tail that were cut.
    pub torn_bytes: u64,
    /// How often this log has been opened, this time included.
    pub epoch: u32,
}

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that were durable are not what was written.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong, with the Raft index if known.
        what: String,
    },
    /// A content that should be here is not.
    #[error("no body {ordinal} of entry {index}")]
    NoBody {
        /// Raft index.
        index: u64,
        /// Row of its body table.
        ordinal: u32,
    },
}

/// Called once what it was given with is on disk; dropped uncalled if the log fails first.
pub type Done = Box<dyn FnOnce() + Send>;

/// Live bodies: entries in order, with the ordinals that are live, in order and as ranges.
pub type LiveBodies = Vec<(u64, Vec<Range<u32>>)>;

/// The log. Cheap to clone; clones are the same log.
#[derive(Clone)]
pub struct Log;

/// Writes and syncs; one future, driven by a thread of its own in production and by a task in simulation.
pub struct Writer;
impl Writer {
    pub async fn run(self) -> Result<(), LogError> {
        unimplemented!()
    }
}
impl Keeper {
    pub async fn run(self) -> Result<(), LogError> {
        unimplemented!()
    }
}

/// Fills the pool and frees segments; one future, driven like [`Writer`].
pub struct Keeper;

impl Log {
    /// Makes an empty log in `dir`, durable on return.
    pub async fn format(_disk: Arc<dyn Disk>, _dir: &Path, _options: &LogOptions) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Opens and recovers.
    pub async fn open(
        _disk: Arc<dyn Disk>,
        _dir: &Path,
        _options: LogOptions,
    ) -> Result<(Log, Writer, Keeper, Recovered), LogError> {
        unimplemented!()
    }

    /// Vote, marks and bounds, as accepted so far (not all of it durable).
    pub fn state(&self) -> LogState {
        unimplemented!()
    }

    /// Entries, readable when this returns; `done` when durable. Indices follow the last one.
    pub fn append(&self, _entries: Vec<Entry>, _done: Done) {
        unimplemented!()
    }

    /// The newest vote.
    pub fn save_vote(&self, _vote: Vote, _done: Done) {
        unimplemented!()
    }

    /// A commit mark; durable some time later.
    pub fn save_committed(&self, _committed: Option<LogId>) {
        unimplemented!()
    }

    /// Drops all entries after `keep`.
    pub fn truncate_after(&self, _keep: Option<LogId>, _done: Done) {
        unimplemented!()
    }

    /// Entries up to `upto` stop being log; their live bodies stay readable. `upto` may be beyond the last entry.
    pub fn purge_upto(&self, _upto: LogId, _done: Done) {
        unimplemented!()
    }

    /// All entries in `range` that are log, at least one and then until `bytes_max` is reached.
    pub fn read(
        &self,
        _range: Range<u64>,
        _bytes_max: usize,
        _contents: Contents,
    ) -> Result<Vec<Entry>, LogError> {
        unimplemented!()
    }

    /// Log ids without entries: that of `index`, if it is log.
    pub fn id_at(&self, _index: u64) -> Result<Option<LogId>, LogError> {
        unimplemented!()
    }

    /// Contents of one entry by ordinal (rising), verified, purged or not. With the rows of the body table.
    pub fn read_bodies(&self, _index: u64, _ordinals: &[u32]) -> Result<Vec<(ContentSpec, Bytes)>, LogError> {
        unimplemented!()
    }

    /// The log id of an entry whose bodies are here, purged or not.
    pub fn body_id(&self, _index: u64) -> Result<LogId, LogError> {
        unimplemented!()
    }

    /// Free bytes on the disk of the log.
    pub fn free(&self) -> Result<u64, LogError> {
        unimplemented!()
    }

    /// Waits until everything accepted so far is durable.
    pub fn flush(&self) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        async { unimplemented!() }
    }

    /// `live` are the bodies named by the newest durable snapshot, which covers entries up to `upto`: segments
    /// wholly at or below both `upto` and the purge mark that hold none of them are recycled.
    pub fn collect(&self, _live: LiveBodies, _upto: u64) {
        unimplemented!()
    }

    /// Begins to take in bodies of a snapshot from a peer, in rising order of index.
    pub fn import(&self) -> Result<Import, LogError> {
        unimplemented!()
    }

    /// Files and bytes, for people and tests.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
}

/// Whether contents are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Yes.
    With,
    /// No: only commands and table.
    Without,
}

/// Bodies on their way in; dropped unpublished, it leaves nothing behind.
pub struct Import;

impl Import {
    /// Live bodies of one entry, ordinals rising.
    pub fn add(
        &mut self,
        _id: LogId,
        _bodies: &[(u32, ContentSpec)],
        _contents: Bytes,
    ) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Makes them durable and readable. From then on entries in `applied + 1 ..= last` of the local stream
    /// satisfy no reference: only what was imported does.
    pub async fn publish(self, _applied: u64, _last: LogId) -> Result<(), LogError> {
        unimplemented!()
    }
}

/// What lies in the log's directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Segments that hold records.
    pub segments: u64,
    /// Segments ready to be written.
    pub spares: u64,
    /// Bytes of the former.
    pub bytes: u64,
}

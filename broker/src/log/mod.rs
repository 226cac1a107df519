//! Bytes and indices: what this node must not forget, as one stream of records in segments.
//!
//! ```text
//! Log ── pending ──► Writer ── groups ──► segment, segment, …   format/ says what the bytes are
//!  │ tail               └── full ──► Pool ◄── Keeper            spares come from there, freed files go there
//!  └─ reads: tail, else Index ──► Reader ──► file
//! open: recovery (scan, evidence) ──► State, Index
//! ```

mod cache;
mod clean;
mod closed;
mod evidence;
#[cfg(any(test, feature = "sim"))]
pub mod examples;
mod format;
mod group;
mod import;
mod index;
mod keeper;
mod kept;
#[expect(clippy::module_inception, reason = "one looks for `Log` there")]
mod log;
mod operation;
mod pool;
mod reader;
mod recovery;
mod scan;
mod scrub;
mod segment;
mod shared;
mod sparse;
mod state;
mod step;
mod tail;
#[cfg(test)]
mod tests;
mod untouched;
mod verify;
mod writer;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::{EntryKind, LogId, Vote};

use crate::fs::DiskError;
use crate::stages::Stages;

pub use self::log::Log;
pub use clean::Reading;
pub use format::record::Kind;
pub use import::Import;
pub use keeper::Keeper;
pub use state::{Anchor, Floor};
pub use verify::{Dumped, Finding, Report, Then, dump, verify};
pub use writer::Writer;

/// An entry as the log keeps it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term, leader and index.
    pub id: LogId,
    /// What the entry is to Raft.
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
    /// Segments kept ready: if there are fewer, one is made and filled with zeros.
    pub spares: usize,
    /// Segments that may be ready: up to so many are recycled when they are freed.
    pub spares_max: usize,
    /// How long a freed segment waits for room among the spares before it is removed. A snapshot frees what was written
    /// since the one before, all at once; what is removed then would have to be made again before the next.
    pub room_within: Duration,
    /// Bytes of recent entries kept in memory.
    pub tail_size: usize,
    /// Silence after which a seal is written.
    pub seal_after: Duration,
    /// Bytes a second that copying what is left of old segments may read and write.
    pub clean_rate: u64,
    /// The time in which everything that lies still is read and checked once.
    pub scrub_period: Duration,
    /// Files kept open for reading.
    pub open_files_max: usize,
    /// Chosen at random when the store is made, and the same ever after: it tells the records of this log from others.
    pub seed: u64,
    /// The last index covered by the newest snapshot published in this data directory, made here or installed. Looked
    /// at when the log is opened: it is evidence that entries were durable, and an import without it never happened.
    pub snapshot_upto: Option<u64>,
    /// Takes note of how long writing and syncing take.
    pub stages: Stages,
}

impl LogOptions {
    /// What production uses, for a store with this seed and no snapshot.
    pub fn new(seed: u64) -> Self {
        Self {
            segment_size: 64 << 20,
            spares: 3,
            spares_max: 8,
            room_within: Duration::from_secs(5),
            tail_size: 32 << 20,
            seal_after: Duration::from_millis(20),
            clean_rate: 64 << 20,
            scrub_period: Duration::from_secs(7 * 86_400),
            open_files_max: 64,
            seed,
            snapshot_upto: None,
            stages: Stages::default(),
        }
    }
}

/// What openraft wants to know at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogState {
    /// The newest vote that was saved.
    pub vote: Option<Vote>,
    /// The newest commit mark, not beyond the last entry.
    pub committed: Option<LogId>,
    /// Entries up to here are no longer log.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` if there is none.
    pub last: Option<LogId>,
}

/// What recovery found and did.
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
    /// An operation of the disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that were durable are not what was written.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file that is damaged.
        path: PathBuf,
        /// Offset of the damage in bytes.
        offset: u64,
        /// What is wrong, with the Raft index if known.
        what: String,
    },
    /// A record that was durable is of a layout that another program writes, or of a Raft group that is not here.
    #[error(
        "{} holds a record of kind {kind}, version {version}, group {group}, at offset {offset}, which this program \
         does not know",
        path.display()
    )]
    Unknown {
        /// The file that holds the record.
        path: PathBuf,
        /// Offset of the record in bytes.
        offset: u64,
        /// The record's kind, by number.
        kind: u8,
        /// The version of its layout.
        version: u8,
        /// The Raft group that it belongs to.
        group: u32,
    },
    /// A content that should be here is not.
    #[error("no body {ordinal} of entry {index}")]
    NoBody {
        /// Raft index of the entry.
        index: u64,
        /// Row of its body table.
        ordinal: u32,
    },
    /// A content that was handed in is not what its row says, or out of order.
    #[error("body {ordinal} of entry {index} does not match its row")]
    Mismatch {
        /// Raft index of the entry.
        index: u64,
        /// Row of its body table.
        ordinal: u32,
    },
    /// The log was closed before.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// No descriptor was left to open a file with: nothing was done, and a later try may succeed.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_out_of_descriptors())
    }
}

/// Called once what it was given with is on disk; dropped uncalled if the log fails first.
pub type Done = Box<dyn FnOnce() + Send>;

/// Live bodies: entry and ordinals, in order; ranges of one entry do not touch.
pub type LiveBodies = Vec<(u64, Range<u32>)>;

/// Whether contents are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Entries come with their contents.
    With,
    /// No: only commands and table.
    Without,
}

/// What the log lacks to go on as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Room on the disk.
    Room,
    /// File descriptors of the process.
    Descriptors,
}

impl Lack {
    /// What a failed operation lacked.
    pub(crate) fn of(error: &DiskError) -> Self {
        if error.is_out_of_descriptors() { Self::Descriptors } else { Self::Room }
    }
}

/// Room of the disk that is the log's already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ballast {
    /// Bytes of the spares.
    pub bytes: u64,
    /// Bytes of the spares that there should be.
    pub wanted: u64,
    /// Why the last spare could not be made, if there should be more.
    pub short: Option<Lack>,
}

/// What lies in the log's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments that hold records.
    pub segments: u64,
    /// Segments ready to be written.
    pub spares: u64,
    /// Bytes of the former.
    pub bytes: u64,
}

//! The log as the rest of the broker sees it.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::{LogId, Vote};
use tokio::sync::Notify;

use super::clean::Reading;
use super::format::file_id::FileId;
use super::format::footer::reserve;
use super::format::opening::{Opening, size_of_state};
use super::format::payload::Retired;
use super::format::record::{HEADER_SIZE, Kind, NO_ID};
use super::format::{BLOCK_SIZE, block_up, u64_of, usize_of};
use super::group::{Cursor, Group};
use super::import::Import;
use super::keeper::Keeper;
use super::kept::purge_bound;
use super::operation::{Operation, Said, What};
use super::pool::{self, Pool};
use super::recovery;
use super::scan::Expected;
use super::shared::{Phase, Shared};
use super::state::{Anchor, Floor, MaxByIndex, State};
use super::writer::Writer;
use super::{
    Ballast, Contents, Done, Entry, Lack, LiveBodies, LogError, LogOptions, LogState, Recovered, Usage,
};
use crate::fs::{Disk, DiskError, create_dirs};
use crate::stages::Stages;

/// The number of the first segment.
const FIRST: u64 = 1;
/// Offsets of records are u32, and a segment of one entry may be larger than the others.
const SEGMENT_SIZE_MAX: u64 = 1 << 30;

/// The log. Cheap to clone; clones are the same log. Any call returns at once but those that read from disk.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _user: Arc<User>,
}

/// Closes the log when the last [`Log`] is gone.
struct User(Arc<Shared>);

impl Drop for User {
    fn drop(&mut self) {
        close(&self.0);
    }
}

fn close(shared: &Shared) {
    let mut accept = shared.accept();
    if accept.phase == Phase::Open {
        accept.phase = Phase::Closing;
    }
    drop(accept);
    shared.wake.notify_one();
}

fn check_options(options: &LogOptions) {
    let size = options.segment_size;
    assert!(
        size.is_multiple_of(BLOCK_SIZE) && size <= SEGMENT_SIZE_MAX,
        "a segment is 4,096 × n, at most 1 GiB"
    );
    let empty = u64_of(HEADER_SIZE + size_of_state(&State::default()));
    assert!(size >= block_up(empty) + BLOCK_SIZE + reserve(1), "a segment has room for an entry");
}

impl Log {
    /// Makes an empty log in `dir`, durable on return.
    ///
    /// # Errors
    /// The disk; `AlreadyExists` if `dir` holds a log.
    ///
    /// # Panics
    /// If `options.segment_size` is no multiple of 4,096 between 16 KiB and 1 GiB.
    pub async fn format(disk: Arc<dyn Disk>, dir: &Path, options: &LogOptions) -> Result<(), LogError> {
        check_options(options);
        create_dirs(&*disk, dir).await?;
        if !recovery::files(&*disk, dir)?.is_empty() {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(DiskError { op: "format", path: dir.to_owned(), source }.into());
        }
        let id = FileId::Segment(FIRST);
        let mut cursor = Cursor::new(id.salt(options.seed), 0, Expected { sequence: 1, chain: 0 }, 0);
        let mut group = Group::new(0);
        let mut state = State::default();
        state.index.files.insert(id);
        let opening = Opening { file: id, file_size: options.segment_size, zeroed: true, state };
        group.record(&mut cursor, Kind::Opening, 0, NO_ID, &opening.encode());
        let aside = pool::make_aside(&*disk, dir, id, options.segment_size)?;
        group.write(&*aside.file)?;
        Ok(aside.publish(&*disk, dir, id).await?)
    }

    /// Opens and recovers. Nothing else may have the directory open.
    ///
    /// # Errors
    /// The disk; [`LogError::Corrupt`] if something that was durable is not there any more.
    ///
    /// # Panics
    /// As [`Log::format`].
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
    ) -> Result<(Self, Writer, Keeper, Recovered), LogError> {
        check_options(&options);
        let wake = Arc::new(Notify::new());
        let found = recovery::recover(&disk, dir, &options, &wake).await?;
        let epoch = found.cursor.epoch;
        let pool = Pool::new(found.spares, found.spare_next, found.freed, wake);
        let bound = options.snapshot_upto.map_or(0, |upto| upto + 1);
        let imports = &found.located.state.index.imports;
        let imports_from = imports.iter().any(|import| import.to >= bound).then_some(bound);
        let shared = Arc::new(Shared::new(disk, dir.to_owned(), options, epoch, found.located, pool));
        let (file, end) = found.written.unzip();
        let mut writer = Writer::new(Arc::clone(&shared), found.cursor, file, end.unwrap_or(0));
        let mut operations = Vec::new();
        let (raw, committed) = {
            let located = shared.located();
            (located.state.committed, located.state.for_raft().committed)
        };
        if raw != committed {
            // what comes to lie at that index later must not count as committed
            operations.push(Operation::unasked(0, Said::Commit(committed)));
        }
        if imports_from.is_some() {
            let retired = Retired { files: Vec::new(), imports_from };
            operations.push(Operation::unasked(0, Said::Retire(retired)));
        }
        operations.push(Operation::unasked(0, Said::Seal));
        writer.write(operations).await?;
        let log = Self { _user: Arc::new(User(Arc::clone(&shared))), shared: Arc::clone(&shared) };
        Ok((log, writer, Keeper::new(shared), Recovered { torn_bytes: found.torn_bytes, epoch }))
    }

    /// Vote, marks and bounds, as accepted so far (not all of it durable).
    pub fn state(&self) -> LogState {
        let state = self.shared.accept().state;
        let beyond = state.committed.map(|id| id.index) > state.last.map(|id| id.index);
        LogState { committed: if beyond { state.last } else { state.committed }, ..state }
    }

    /// Entries, readable when this returns; `done` when durable. Indices follow the last one.
    ///
    /// # Panics
    /// If they do not, or if an entry's contents are not as large as its table says.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        for entry in &entries {
            let claimed: u64 = entry.table.iter().map(|spec| u64::from(spec.size)).sum();
            let contents = entry.contents.as_deref().unwrap_or_default();
            let given: u64 = contents.iter().map(|bytes| u64_of(bytes.len())).sum();
            assert_eq!(given, claimed, "entry {}: contents and table differ", entry.id.index);
        }
        self.shared.submit(|accept| {
            for entry in entries {
                let follows = accept.state.last.is_none_or(|last| last.index + 1 == entry.id.index);
                assert!(follows, "entry {} does not follow {:?}", entry.id.index, accept.state.last);
                accept.state.last = Some(entry.id);
                accept.push(What::Entry(entry.clone()), None);
                let number = accept.number;
                accept.tail.push(entry, number);
            }
            match accept.pending.last_mut() {
                Some(last) if last.done.is_none() => last.done = Some(done),
                _ => accept.push(What::Nothing, Some(done)),
            }
        });
    }

    /// Keeps a vote; `done` is called when it is durable.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.shared.submit(|accept| {
            accept.state.vote = Some(vote);
            accept.push(Said::Vote(vote), Some(done));
        });
    }

    /// A commit mark; durable some time later.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.shared.submit(|accept| {
            accept.state.committed = committed;
            accept.mark = true;
        });
    }

    /// What peers are known to have had, as it was when this log was opened or later.
    pub fn floors(&self) -> Vec<Floor> {
        self.shared.located().state.floors.clone()
    }

    /// All that is known now of what peers had; durable some time later, with the next commit mark.
    pub fn save_floors(&self, floors: Vec<Floor>) {
        self.shared.submit(|accept| {
            accept.floors = Some(floors);
            accept.mark = true;
        });
    }

    /// How much time had passed at a time of some boot, as it was saved last.
    pub fn anchor(&self) -> Option<Anchor> {
        self.shared.located().state.anchor
    }

    /// How much time has passed; durable some time later, with the next commit mark.
    pub fn save_anchor(&self, anchor: Anchor) {
        self.shared.submit(|accept| {
            accept.anchor = Some(anchor);
            accept.mark = true;
        });
    }

    /// Drops all entries after `keep`; what is purged stays purged.
    pub fn truncate_after(&self, keep: Option<LogId>, done: Done) {
        self.shared.submit(|accept| {
            let keep = keep.max_by_index(accept.state.purged);
            if accept.state.last.is_none_or(|last| keep.is_some_and(|keep| keep.index >= last.index)) {
                return accept.push(What::Nothing, Some(done));
            }
            accept.generation += 1;
            accept.state.last = keep;
            if accept.state.committed.map(|id| id.index) > keep.map(|id| id.index) {
                accept.state.committed = keep;
            }
            accept.tail.truncate_after(keep.map(|keep| keep.index));
            accept.push(Said::Truncate(keep), Some(done));
        });
    }

    /// Entries up to `upto` stop being log; their live bodies stay readable. `upto` may be beyond the last entry.
    pub fn purge_upto(&self, upto: LogId, done: Done) {
        self.shared.submit(|accept| {
            accept.generation += 1;
            accept.state.purged = Some(upto).max_by_index(accept.state.purged);
            accept.state.last = accept.state.last.max_by_index(accept.state.purged);
            accept.push(Said::Purge(upto), Some(done));
        });
    }

    /// All entries in `range` that are log, at least one and then until `bytes_max` is reached.
    ///
    /// # Errors
    /// The disk; [`LogError::Corrupt`] if an entry is not what was written.
    pub fn read(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        contents: Contents,
    ) -> Result<Vec<Entry>, LogError> {
        loop {
            let (generation, range) = self.clip(&range);
            let read = self.read_once(range, bytes_max, contents);
            // what was truncated or purged meanwhile makes a mixture, or a gap
            if self.shared.accept().generation == generation {
                return read;
            }
        }
    }

    /// `range` without what is not log, and the generation that this holds for.
    fn clip(&self, range: &Range<u64>) -> (u64, Range<u64>) {
        let (generation, state, in_memory) = {
            let accept = self.shared.accept();
            (accept.generation, accept.state, accept.tail.first())
        };
        // What was in memory no more is written by now.
        let first = || in_memory.into_iter().chain(self.shared.located().state.first()).min();
        let start =
            state.purged.map_or_else(|| first().unwrap_or(0), |purged| purged.index.saturating_add(1));
        let end = state.last.map_or(0, |last| last.index.saturating_add(1));
        (generation, range.start.max(start)..range.end.min(end))
    }

    fn read_once(
        &self,
        range: Range<u64>,
        bytes_max: usize,
        contents: Contents,
    ) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let mut size = 0;
        for index in range {
            let kept = self.shared.accept().tail.get(index).cloned();
            let entry = match kept {
                Some(entry) if contents == Contents::Without => Entry { contents: None, ..entry },
                Some(entry) => entry,
                None => match self.shared.spot_of_entry(index)? {
                    Some(spot) => self.shared.reader.entry(&spot, contents)?,
                    // Gone in this moment, then the generation tells; or a table contradicts the log.
                    None => {
                        let (path, what) = (self.shared.dir.clone(), format!("entry {index} is in no file"));
                        return Err(LogError::Corrupt { path, offset: 0, what });
                    }
                },
            };
            let bodies: u64 = match contents {
                Contents::With => entry.table.iter().map(|spec| u64::from(spec.size)).sum(),
                Contents::Without => 0,
            };
            size += entry.commands.len() + usize_of(bodies);
            entries.push(entry);
            if size >= bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    /// Log ids without entries: that of `index`, if it is log.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn id_at(&self, index: u64) -> Result<Option<LogId>, LogError> {
        loop {
            let generation = {
                let accept = self.shared.accept();
                let state = accept.state;
                let log = state.purged.is_none_or(|id| id.index < index)
                    && state.last.is_some_and(|id| id.index >= index);
                if !log {
                    return Ok(None);
                }
                if let Some(entry) = accept.tail.get(index) {
                    return Ok(Some(entry.id));
                }
                accept.generation
            };
            let spot = self.shared.spot_of_entry(index);
            let header = spot.and_then(|spot| spot.map(|spot| self.shared.reader.header(&spot)).transpose());
            if self.shared.accept().generation == generation {
                return header.map(|header| header.map(|header| header.id));
            }
        }
    }

    /// The log id of an entry that has bodies here, purged or not.
    ///
    /// # Errors
    /// The disk; [`LogError::NoBody`] if it has none here; [`LogError::Corrupt`].
    pub fn body_id(&self, index: u64) -> Result<LogId, LogError> {
        let (kept, last) = {
            let accept = self.shared.accept();
            (accept.tail.get_bodies(index).map(|entry| entry.id), accept.state.last.map(|last| last.index))
        };
        match kept {
            Some(id) => Ok(id),
            None => match self.shared.spot_of_bodies(index, last)? {
                Some(spot) => self.shared.reader.header(&spot).map(|header| header.id),
                None => Err(LogError::NoBody { index, ordinal: 0 }),
            },
        }
    }

    /// Contents of one entry by ordinal (rising), verified, purged or not. With the rows of the body table.
    ///
    /// # Errors
    /// The disk; [`LogError::NoBody`] if one is not here; [`LogError::Corrupt`] if one is not what was written.
    pub fn read_bodies(&self, index: u64, ordinals: &[u32]) -> Result<Vec<(ContentSpec, Bytes)>, LogError> {
        let (kept, last) = {
            let accept = self.shared.accept();
            (accept.tail.get_bodies(index).cloned(), accept.state.last.map(|last| last.index))
        };
        if let Some(entry) = kept {
            return entry.bodies_in_memory(ordinals);
        }
        match self.shared.spot_of_bodies(index, last)? {
            Some(spot) => self.shared.reader.bodies(&spot, ordinals),
            None => match ordinals.first() {
                Some(ordinal) => Err(LogError::NoBody { index, ordinal: *ordinal }),
                None => Ok(Vec::new()),
            },
        }
    }

    /// What the writer waits for: what is accepted now waits in memory until there is some.
    pub fn stalled(&self) -> Option<Lack> {
        self.shared.accept().stalled
    }

    /// Bytes of a segment, as it was opened.
    pub fn segment_size(&self) -> u64 {
        self.shared.options.segment_size
    }

    /// Room that is set aside: what can be written though the disk is full.
    pub fn ballast(&self) -> Ballast {
        let (bytes, short) = self.shared.pool.ballast();
        let LogOptions { spares, segment_size, .. } = self.shared.options;
        Ballast { bytes, wanted: u64_of(spares).saturating_mul(segment_size), short }
    }

    /// Whether the disk has so little room that no more files are set aside than must be.
    pub fn set_pressed(&self, pressed: bool) {
        if self.shared.pool.set_pressed(pressed) {
            self.shared.pool.wake.notify_one();
        }
    }

    /// Waits until everything accepted so far is durable. If the log fails first, for ever.
    ///
    /// # Errors
    /// [`LogError::Closed`].
    pub fn flush(&self) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        self.shared.durable(|_| What::Nothing)
    }

    /// Lets the writer write what is pending, prove it, and end. Nothing asked for afterwards is done.
    pub fn close(&self) {
        close(&self.shared);
    }

    /// `live` are the bodies named by the newest durable snapshot, which covers entries up to `upto`, and by those
    /// that are being sent. In time, files wholly at or below both `upto` and the purge mark are recycled if they hold
    /// none of them, and what is left of those that hold few is copied together.
    pub fn collect(&self, live: LiveBodies, upto: u64) {
        self.shared.clean.plan(live, upto);
    }

    /// The last entry, at most `upto`, that must be purged for no more than `keep` bytes of files to be kept for those
    /// who read the log late; `None` if all may stay.
    pub fn purge_bound(&self, upto: u64, keep: u64) -> Option<u64> {
        let located = self.shared.located();
        let purged = located.state.purged.map(|id| id.index);
        let written = || located.rows.iter().map(|row| u64::from(row.size)).sum();
        purge_bound(&located.state.index, purged, upto, keep, |file| match located.segments.get(&file) {
            Some(segment) if file != located.written => segment.size,
            _ => written(),
        })
    }

    /// Keeps the bodies of these entries where they can be read, until what this gives is dropped.
    pub fn reading(&self, indices: Vec<u64>) -> Reading {
        Reading::new(Arc::clone(&self.shared), indices)
    }

    /// Begins to take in bodies of a snapshot from a peer, in rising order of index.
    ///
    /// # Errors
    /// None so far: files are made when there is something to write.
    pub fn import(&self) -> Result<Import, LogError> {
        Ok(Import::new(Arc::clone(&self.shared)))
    }

    /// Where the time of writes goes.
    pub fn stages(&self) -> &Stages {
        &self.shared.options.stages
    }

    /// Files and bytes, for people and tests.
    pub fn usage(&self) -> Usage {
        let located = self.shared.located();
        let bytes = located.segments.values().map(|segment| segment.size).sum();
        let segments = u64_of(located.segments.len());
        drop(located);
        Usage { segments, spares: u64_of(self.shared.pool.count()), bytes }
    }
}

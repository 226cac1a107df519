//! The one writer of the stream: group commit, rolling, seals.
//!
//! ```text
//! append … append ─► pending ─► group ─► write ─► sync ─► Done … Done
//!                    gathers while the group before it syncs
//! ```

use std::io::IoSlice;
use std::ops::RangeInclusive;
use std::sync::Arc;

use queue_protocol::peer::LogId;
use queue_protocol::response::WriteStage;
use tokio::time::Instant;

use super::format::file_id::FileId;
use super::format::footer::{Footer, Row, encode_rows, reserve};
use super::format::opening::{
    ANCHOR_SIZE, FLOOR_SIZE, Opening, put_anchor, put_floors, put_import, size_of_state,
};
use super::format::payload::{Compacted, Retired, put_compacted, put_files};
use super::format::record::{FLAG_SET, HEADER_SIZE, Kind, NO_ID};
use super::format::{block_up, record_up, u32_of, u64_of};
use super::group::{Cursor, Group, entry_size};
use super::keeper::RETRY_AFTER;
use super::segment::Segment;
use super::shared::{Operation, Phase, Shared, What};
use super::{Done, Lack, LogError};
use crate::complaint::Complaint;
use crate::fs::{DiskError, File, Open};
use crate::mutants::{self, Mutant};

/// Writes and syncs; one future, driven by a thread of its own in production and by a task in simulation.
pub struct Writer {
    shared: Arc<Shared>,
    cursor: Cursor,
    written: Option<Written>,
    group: Group,
    /// To be called when the group is durable.
    dones: Vec<Done>,
    /// To be handed to the pool when the group is durable.
    freed: Vec<Arc<Segment>>,
    /// The newest operation of the group.
    operation: u64,
    /// The indexes of the entries of the group.
    entries: Option<RangeInclusive<u64>>,
    /// No seal was written since the last record that says something.
    unproven: bool,
}

/// The segment being written.
struct Written {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
}

impl Written {
    /// Whether a record that ends a group at `end` leaves room for a footer of `rows`.
    fn fits(&self, end: u64, rows: usize) -> bool {
        block_up(end) + reserve(rows) <= self.segment.size
    }
}

impl Writer {
    /// A writer that goes on at group boundary `end` of the last segment; at the next segment if there is none.
    pub(crate) fn new(shared: Arc<Shared>, cursor: Cursor, file: Option<Arc<dyn File>>, end: u64) -> Self {
        let written = file.map(|file| {
            let located = shared.located();
            Written { segment: Arc::clone(&located.segments[&located.written]), file }
        });
        let group = Group::new(end);
        Self {
            shared,
            cursor,
            written,
            group,
            dones: Vec::new(),
            freed: Vec::new(),
            operation: 0,
            entries: None,
            unproven: false,
        }
    }

    /// Writes until the log is closed or nobody has it any more.
    ///
    /// # Errors
    /// The first write or sync that fails: nothing is tried again, and nothing that waits is completed.
    pub async fn run(mut self) -> Result<(), LogError> {
        loop {
            let (operations, phase) = self.take(false);
            if !operations.is_empty() {
                self.write(operations).await?;
            } else if phase != Phase::Open {
                self.seal().await?;
                let mut accept = self.shared.accept();
                if accept.pending.is_empty() {
                    accept.phase = Phase::Closed;
                    return Ok(());
                }
            } else if self.unproven || self.shared.accept().mark {
                let silence =
                    tokio::time::timeout(self.shared.options.seal_after, self.shared.wake.notified());
                if silence.await.is_err() {
                    self.seal().await?;
                }
            } else {
                self.shared.wake.notified().await;
            }
        }
    }

    /// What is pending. A commit mark comes behind the entries it may speak of, floors and anchor behind the mark; alone only if
    /// `mark_alone`.
    fn take(&self, mark_alone: bool) -> (Vec<Operation>, Phase) {
        let mut accept = self.shared.accept();
        let mut operations = std::mem::take(&mut accept.pending);
        if accept.mark && (mark_alone || !operations.is_empty()) {
            accept.mark = false;
            let what = What::Commit(accept.state.committed);
            operations.push(Operation { number: accept.number, what, done: None });
            if let Some(floors) = accept.floors.take() {
                operations.push(Operation { number: accept.number, what: What::Floors(floors), done: None });
            }
            if let Some(anchor) = accept.anchor.take() {
                operations.push(Operation { number: accept.number, what: What::Anchor(anchor), done: None });
            }
        }
        (operations, accept.phase)
    }

    /// Writes what is pending, and proves all that was written.
    async fn seal(&mut self) -> Result<(), LogError> {
        let (mut operations, _) = self.take(true);
        if self.unproven || !operations.is_empty() {
            let number = operations.last().map_or(self.operation, |last| last.number);
            operations.push(Operation { number, what: What::Seal, done: None });
            self.write(operations).await?;
        }
        Ok(())
    }

    /// Writes a group, or several if a segment is full.
    pub(crate) async fn write(&mut self, operations: Vec<Operation>) -> Result<(), LogError> {
        for Operation { number, what, done } in operations {
            self.put(&what).await?;
            self.operation = number;
            self.dones.extend(done);
        }
        if cfg!(debug_assertions) {
            self.check();
        }
        self.sync().await
    }

    async fn put(&mut self, what: &What) -> Result<(), LogError> {
        let (size, more_rows) = match what {
            What::Nothing => return Ok(()),
            What::Entry(entry) => (entry_size(entry), 1),
            What::Import(import, _) => (u64_of(HEADER_SIZE + 24 + import.runs.len() * 24), 0),
            What::Retire(retired) => (u64_of(HEADER_SIZE + retired.files.len() * 8), 0),
            What::Compact(compacted, _) => {
                (u64_of(HEADER_SIZE + 8 + compacted.runs.len() * 24 + compacted.files.len() * 8), 0)
            }
            What::Floors(floors) => (u64_of(HEADER_SIZE + floors.len() * FLOOR_SIZE), 0),
            What::Anchor(_) => (u64_of(HEADER_SIZE + ANCHOR_SIZE), 0),
            _ => (u64_of(HEADER_SIZE), 0),
        };
        let rows = self.shared.located().rows.len() + more_rows;
        if !self.written.as_ref().is_some_and(|written| written.fits(self.group.end() + size, rows)) {
            self.roll(size).await?;
        }
        self.unproven |= !matches!(what, What::Seal);
        let (group, cursor) = (&mut self.group, &mut self.cursor);
        let flagged = |id: Option<LogId>| id.map_or((0, NO_ID), |id| (FLAG_SET, id));
        match what {
            What::Nothing => {}
            What::Entry(entry) => {
                let row = group.entry(cursor, entry);
                let first = self.entries.take().map_or(entry.id.index, |entries| *entries.start());
                self.entries = Some(first..=entry.id.index);
                let mut located = self.shared.located();
                let written = located.written;
                located.rows.push(row);
                located.state.append(entry.id, written);
            }
            What::Vote(vote) => {
                let id = LogId { term: vote.term, leader: vote.node, index: 0 };
                group.record(cursor, Kind::Vote, u16::from(vote.committed), id, &[]);
                self.shared.located().state.vote = Some(*vote);
            }
            What::Truncate(keep) => {
                let (flags, id) = flagged(*keep);
                group.record(cursor, Kind::Truncate, flags, id, &[]);
                let mut located = self.shared.located();
                located.state.truncate_after(*keep);
                let last = located.state.last.map(|last| last.index);
                while located.rows.last().is_some_and(|row| Some(row.index) > last) {
                    located.rows.pop();
                }
            }
            What::Purge(upto) => {
                group.record(cursor, Kind::Purge, 0, *upto, &[]);
                self.shared.located().state.purge_upto(*upto);
            }
            What::Commit(committed) => {
                let (flags, id) = flagged(*committed);
                group.record(cursor, Kind::Commit, flags, id, &[]);
                self.shared.located().state.committed = *committed;
            }
            What::Seal => {
                group.record(cursor, Kind::Seal, 0, NO_ID, &[]);
                self.unproven = false;
            }
            What::Import(import, segments) => {
                let mut payload = Vec::new();
                put_import(&mut payload, import);
                group.record(cursor, Kind::Import, 0, NO_ID, &payload);
                let mut located = self.shared.located();
                located.segments.extend(segments.iter().map(|segment| (segment.id, Arc::clone(segment))));
                located.state.import(import.clone());
            }
            What::Retire(retired) => self.retire(retired),
            What::Compact(compacted, segments) => self.compact(compacted, segments),
            What::Floors(floors) => {
                let mut payload = Vec::new();
                put_floors(&mut payload, floors);
                group.record(cursor, Kind::Floors, 0, NO_ID, &payload);
                self.shared.located().state.floors.clone_from(floors);
            }
            What::Anchor(anchor) => {
                let mut payload = Vec::new();
                put_anchor(&mut payload, anchor);
                group.record(cursor, Kind::Anchor, 0, NO_ID, &payload);
                self.shared.located().state.anchor = Some(*anchor);
            }
        }
        Ok(())
    }

    fn retire(&mut self, retired: &Retired) {
        let mut payload = Vec::new();
        put_files(&mut payload, &retired.files);
        let (flags, index) = retired.imports_from.map_or((0, 0), |bound| (FLAG_SET, bound));
        self.group.record(&mut self.cursor, Kind::Retire, flags, LogId { index, ..NO_ID }, &payload);
        let mut located = self.shared.located();
        located.state.retire(retired);
        for file in &retired.files {
            self.freed.extend(located.segments.remove(file));
        }
    }

    fn compact(&mut self, compacted: &Compacted, segments: &[Arc<Segment>]) {
        let mut payload = Vec::new();
        put_compacted(&mut payload, compacted);
        self.group.record(&mut self.cursor, Kind::Compact, 0, NO_ID, &payload);
        let mut located = self.shared.located();
        located.segments.extend(segments.iter().map(|segment| (segment.id, Arc::clone(segment))));
        located.state.compact(compacted);
        for file in &compacted.files {
            self.freed.extend(located.segments.remove(file));
        }
    }

    /// Makes the group durable and tells who waits for it.
    async fn sync(&mut self) -> Result<(), LogError> {
        if !self.group.is_empty() {
            let written = self.written.as_ref().expect("a group lies in a segment");
            let begin = Instant::now();
            self.group.write(&*written.file)?;
            let handed_over = Instant::now();
            if mutants::on(Mutant::AckBeforeSync) {
                self.dones.drain(..).for_each(|done| done());
            }
            let synced = match written.file.sync().await {
                Err(_) if mutants::on(Mutant::SyncRetried) => written.file.sync().await,
                synced => synced,
            };
            synced?;
            let stages = &self.shared.options.stages;
            if let Some(entries) = self.entries.take() {
                stages.record_of(WriteStage::Write, entries.clone(), handed_over - begin);
                stages.record_of(WriteStage::Sync, entries, handed_over.elapsed());
            } else {
                stages.record(WriteStage::Write, handed_over - begin);
                stages.record(WriteStage::Sync, handed_over.elapsed());
            }
            self.cursor.durable = self.cursor.next.sequence - 1;
        }
        let mut accept = self.shared.accept();
        accept.tail.set_durable(self.operation);
        drop(accept);
        if !self.freed.is_empty() {
            let freed = std::mem::take(&mut self.freed);
            freed.iter().for_each(|segment| self.shared.reader.forget(segment.id));
            self.shared.pool.free(freed);
        }
        for done in self.dones.drain(..) {
            done();
        }
        Ok(())
    }

    /// Closes the segment, if there is one, and opens the next, with room for a record of `size` bytes.
    async fn roll(&mut self, size: u64) -> Result<(), LogError> {
        if self.written.is_some() {
            self.sync().await?;
            self.close().await?;
        }
        let options = &self.shared.options;
        let opening = u64_of(HEADER_SIZE + size_of_state(&self.shared.located().state) + size_of::<u64>());
        let needed = block_up(record_up(opening) + size) + reserve(1);
        let (disk, dir) = (&*self.shared.disk, &self.shared.dir);
        let spare = loop {
            match self.shared.pool.take(disk, dir, needed, options.segment_size).await {
                // Nothing of the log was written: it may be tried again.
                Err(error) if may_wait(&self.shared, &error) => wait(&self.shared, &error).await,
                taken => break taken?,
            }
        };
        let id = FileId::Segment(spare.number);
        let path = dir.join(id.name());
        let file = loop {
            match disk.open(&path, Open::WriteBlocks) {
                Err(error) if error.is_out_of_descriptors() && may_wait(&self.shared, &error) => {
                    wait(&self.shared, &error).await;
                }
                opened => break opened?,
            }
        };
        self.shared.accept().stalled = None;
        let wake = Arc::clone(&self.shared.pool.wake);
        let segment = Segment::new(id, path, spare.size, wake);
        let state = {
            let mut located = self.shared.located();
            let rows = std::mem::take(&mut located.rows);
            self.shared.reader.keep_table(located.written, rows);
            located.state.index.files.insert(id);
            located.segments.insert(id, Arc::clone(&segment));
            located.written = id;
            located.state.clone()
        };
        let Cursor { epoch, next, durable, .. } = self.cursor;
        self.cursor = Cursor::new(id.salt(options.seed), epoch, next, durable);
        self.group.restart(0);
        let opening = Opening { file: id, file_size: spare.size, zeroed: spare.zeroed, state };
        self.group.record(&mut self.cursor, Kind::Opening, 0, NO_ID, &opening.encode());
        self.written = Some(Written { segment, file });
        Ok(())
    }

    /// Writes the footer of the segment. The group before it is durable.
    async fn close(&mut self) -> Result<(), LogError> {
        let Some(Written { segment, file }) = self.written.take() else { return Ok(()) };
        assert!(self.group.is_empty(), "the last group is written");
        let rows = self.shared.located().rows.clone();
        write_footer(&*file, segment.id, segment.size, &mut self.cursor, self.group.end(), &rows)?;
        file.sync().await?;
        self.cursor.durable = self.cursor.next.sequence - 1;
        Ok(())
    }

    /// What is written follows what is known of it.
    fn check(&self) {
        assert!(self.cursor.durable < self.cursor.next.sequence);
        self.shared.located().check();
    }
}

/// A later try may succeed, and there is time for it.
fn may_wait(shared: &Shared, error: &DiskError) -> bool {
    error.is_for_now() && shared.accept().phase == Phase::Open
}

/// Said when the log waits.
static WAITS: Complaint = Complaint::new();

/// Waits a while for room or descriptors, and says so.
async fn wait(shared: &Shared, error: &DiskError) {
    let lack = Lack::of(error);
    if shared.accept().stalled.replace(lack) != Some(lack)
        && let Some(again) = WAITS.due()
    {
        match lack {
            Lack::Room => tracing::warn!(%error, again, "the log waits for room on the disk"),
            Lack::Descriptors => tracing::warn!(%error, again, "the log waits for a file descriptor"),
        }
    }
    tokio::time::sleep(RETRY_AFTER).await;
}

/// Writes the table of `rows` at group boundary `end`, and the footer in the last block.
pub(crate) fn write_footer(
    file: &dyn File,
    id: FileId,
    size: u64,
    cursor: &mut Cursor,
    end: u64,
    rows: &[Row],
) -> Result<(), LogError> {
    let table = encode_rows(rows);
    assert!(block_up(end + u64_of(table.len())) + super::format::BLOCK_SIZE <= size, "the footer has room");
    let footer = Footer {
        file: id,
        table_offset: end,
        rows: u32_of(rows.len()),
        table_crc: crc32c::crc32c(&table),
        first: cursor.first,
        records: cursor.records,
        headers: cursor.headers,
        bodies: rows.iter().map(|row| u64::from(row.bodies)).sum(),
        bodies_size: rows.iter().map(|row| u64::from(row.bodies_size)).sum(),
    };
    if !table.is_empty() {
        file.write_at(&[IoSlice::new(&table)], end)?;
    }
    let mut group = Group::new(size - super::format::BLOCK_SIZE);
    group.record(cursor, Kind::Footer, 0, NO_ID, &footer.encode());
    group.write(file)?;
    Ok(())
}

impl Drop for Writer {
    /// A writer that is gone without having closed the log has failed it.
    fn drop(&mut self) {
        let mut accept = self.shared.accept();
        let dropped = std::mem::take(&mut accept.pending);
        if accept.phase != Phase::Closed {
            accept.phase = Phase::Failed;
        }
        drop(accept);
        drop(dropped);
        self.shared.pool.wake.notify_one();
    }
}

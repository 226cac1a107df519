//! The one writer of the stream: group commit, rolling, seals.
//!
//! ```text
//! append … append ─► pending ─► group ─► write ─► sync ─► Done … Done
//!                    gathers while the group before it syncs
//! ```

use std::io::IoSlice;
use std::ops::RangeInclusive;
use std::sync::Arc;

use queue_protocol::wire::response::WriteStage;
use tokio::time::Instant;

use super::format::file_id::FileId;
use super::format::footer::{Footer, Row, encode_rows, reserve};
use super::format::opening::{Opening, size_of_state};
use super::format::record::{HEADER_SIZE, Kind, NO_ID};
use super::format::{block_up, record_up, u32_of, u64_of};
use super::group::{Cursor, Group, entry_size};
use super::keeper::RETRY_AFTER;
use super::operation::{Operation, Said, Unplaced, What};
use super::segment::Segment;
use super::shared::{Located, Phase, Shared};
use super::step::Step;
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
            let marks = [
                Some(Said::Commit(accept.state.committed)),
                accept.floors.take().map(Said::Floors),
                accept.anchor.take().map(Said::Anchor),
            ];
            operations
                .extend(marks.into_iter().flatten().map(|said| Operation::unasked(accept.number, said)));
        }
        (operations, accept.phase)
    }

    /// Writes what is pending, and proves all that was written.
    async fn seal(&mut self) -> Result<(), LogError> {
        let (mut operations, _) = self.take(true);
        if self.unproven || !operations.is_empty() {
            let number = operations.last().map_or(self.operation, |last| last.number);
            operations.push(Operation::unasked(number, Said::Seal));
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
        match what {
            What::Nothing => {}
            What::Entry(entry) => {
                self.make_room(entry_size(entry), 1).await?;
                self.unproven = true;
                let row = self.group.entry(&mut self.cursor, entry);
                let first = self.entries.take().map_or(entry.id.index, |entries| *entries.start());
                self.entries = Some(first..=entry.id.index);
                take_note(&mut self.shared.located(), Step::Entry(entry.id, row));
            }
            What::Said(said) => {
                let Unplaced { kind, flags, id, payload } = said.record();
                self.make_room(u64_of(HEADER_SIZE + payload.len()), 0).await?;
                self.unproven = !matches!(said, Said::Seal);
                self.group.record(&mut self.cursor, kind, flags, id, &payload);
                let mut located = self.shared.located();
                located.segments.extend(said.added().iter().map(|added| (added.id, Arc::clone(added))));
                take_note(&mut located, said.step());
                for file in said.freed() {
                    self.freed.extend(located.segments.remove(file));
                }
            }
        }
        Ok(())
    }

    /// Opens the next segment unless this one has room for a record of `size` bytes, and `more` rows in its footer.
    async fn make_room(&mut self, size: u64, more: usize) -> Result<(), LogError> {
        let rows = self.shared.located().rows.len() + more;
        let end = self.group.end() + size;
        if self.written.as_ref().is_some_and(|written| written.fits(end, rows)) {
            return Ok(());
        }
        self.roll(size).await
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

/// What is written follows what was written before.
fn take_note(located: &mut Located, step: Step<'_>) {
    let Located { state, rows, written, .. } = located;
    step.apply(state, rows, *written).expect("what is asked for was held against the state");
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

//! From files to a state: finds where the stream ends, and decides whether it may end there.
//!
//! ```text
//! sealed … sealed │ last segment: r r r r X ? ? ? │ spare: ? ? ?
//!   footers       │ scanned        the first place without the expected record
//! ```
//!
//! Evidence decides, not position: pages that were not synced reach the disk in any order, so a valid record behind X
//! alone proves nothing; one that was built when what should be at X was already synced does.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use super::evidence::{self, Facts, Verdict};
use super::format::file_id::FileId;
use super::format::footer::{Footer, Row, encode_rows};
use super::format::payload::Payload;
use super::format::record::{HEADER_SIZE, Kind};
use super::format::{BLOCK_SIZE, block_up, u64_of, usize_of};
use super::group::Cursor;
use super::pool::Spare;
use super::scan::{Found, Scan};
use super::segment::Segment;
use super::shared::Located;
use super::state::State;
use super::step::Step;
use super::{LogError, LogOptions};
use crate::fs::{Disk, File, Open};
use crate::mutants::{self, Mutant};

/// Bytes of a segment that are looked at for a record: the groups behind a damaged opening.
const WRITTEN_LOOK_SIZE: u64 = 256 << 10;

/// What the files say.
pub(crate) struct Outcome {
    pub(crate) located: Located,
    pub(crate) cursor: Cursor,
    /// The segment to go on in, and the group boundary; none if the last one is closed.
    pub(crate) written: Option<(Arc<dyn File>, u64)>,
    pub(crate) spares: VecDeque<Spare>,
    pub(crate) spare_next: u64,
    pub(crate) freed: Vec<Arc<Segment>>,
    pub(crate) torn_bytes: u64,
}

/// Files of the log by name, in order.
pub(crate) fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<FileId>, LogError> {
    let mut files: Vec<FileId> = disk.list(dir)?.iter().filter_map(|name| FileId::parse(name)).collect();
    files.sort_unstable();
    Ok(files)
}

/// The last segment with an opening, if any has one.
pub(crate) fn last_opened(
    disk: &dyn Disk,
    dir: &Path,
    files: &[FileId],
    seed: u64,
    how: Open,
) -> Result<Option<(Scan, Found)>, LogError> {
    for id in files.iter().rev().filter(|id| matches!(id, FileId::Segment(_))) {
        let mut scan = Scan::open(disk, dir, *id, seed, how)?;
        if let Some(opening) = scan.opening()? {
            return Ok(Some((scan, opening)));
        }
    }
    Ok(None)
}

/// A segment read to its end.
pub(crate) struct Replayed {
    pub(crate) state: State,
    pub(crate) rows: Vec<Row>,
    pub(crate) cursor: Cursor,
    /// Where the last record ends.
    pub(crate) end: u64,
    pub(crate) footer: Option<Footer>,
    pub(crate) zeroed: bool,
}

/// Replays a segment from its opening up to its footer or the first place without the expected record.
pub(crate) fn replay(scan: &mut Scan, opening: &Found, seed: u64) -> Result<Replayed, LogError> {
    let Payload::Opening(content) = &opening.payload else { unreachable!("an opening was asked for") };
    let header = opening.header;
    let mut cursor = Cursor::new(
        scan.id.salt(seed),
        header.epoch,
        super::scan::Expected { sequence: header.sequence, chain: header.chain },
        header.durable,
    );
    let mut state = content.state.clone();
    if !state.index.files.contains(&scan.id) {
        return Err(scan.corrupt(0, "the opening does not name its own segment"));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut end = opening.end();
    pass(scan, &mut cursor, opening)?;
    let mut closed = None;
    while let Some(found) = scan.next(end, cursor.next)? {
        let records_end = std::mem::replace(&mut end, found.end());
        if let Payload::Footer(footer) = found.payload {
            if (footer.records, footer.headers) != (cursor.records, cursor.headers) {
                return Err(scan.corrupt(found.offset, "the footer does not match the segment's records"));
            }
            // `repair_table` may rewrite the table, so its range must lie before the footer.
            let table_end = footer.table_offset.checked_add(footer.table_size());
            if footer.table_offset < records_end || table_end.is_none_or(|end| end > found.offset) {
                return Err(scan.corrupt(found.offset, "the footer's table does not lie before it"));
            }
            pass(scan, &mut cursor, &found)?;
            closed = Some(footer);
            break;
        }
        pass(scan, &mut cursor, &found)?;
        if let Err(what) = apply(&mut state, &mut rows, scan.id, &found) {
            return Err(scan.corrupt(found.offset, what));
        }
    }
    // Each record is as it was written. What they say together is believed if it can be.
    if let Some(what) = state.contradiction() {
        return Err(scan.corrupt(0, what));
    }
    Ok(Replayed { state, rows, cursor, end, footer: closed, zeroed: content.zeroed })
}

fn pass(scan: &mut Scan, cursor: &mut Cursor, found: &Found) -> Result<(), LogError> {
    let bytes = scan.bytes(found.offset, HEADER_SIZE)?.and_then(|bytes| bytes.first_chunk());
    cursor.pass(bytes.expect("the record was read"), found.next());
    cursor.epoch = found.header.epoch;
    Ok(())
}

/// What a record does to the state. Records are checked before: an error means that they contradict each other.
fn apply(state: &mut State, rows: &mut Vec<Row>, file: FileId, found: &Found) -> Result<(), String> {
    let id = found.header.id;
    let step = match &found.payload {
        Payload::Entry(head) if found.header.kind == Kind::Entry as u8 => {
            let narrow = |size: u64| u32::try_from(size).map_err(|_| "the segment is too large".to_owned());
            let row = Row {
                index: id.index,
                offset: narrow(found.offset)?,
                size: found.header.size,
                bodies: head.rows,
                bodies_size: narrow(head.bodies_size)?,
            };
            Step::Entry(id, row)
        }
        Payload::Vote(vote) => Step::Vote(*vote),
        Payload::Truncate(keep) => Step::Truncate(*keep),
        Payload::Purge(upto) => Step::Purge(*upto),
        Payload::Commit(mark) => Step::Commit(*mark),
        Payload::Seal => Step::Seal,
        Payload::Import(import) => Step::Import(import),
        Payload::Retire(retired) => Step::Retire(retired),
        Payload::Compact(compacted) => Step::Compact(compacted),
        Payload::Floors(floors) => Step::Floors(floors),
        Payload::Anchor(anchor) => Step::Anchor(*anchor),
        Payload::Entry(_) | Payload::Opening(_) | Payload::Footer(_) => {
            return Err("a record that does not belong here".to_owned());
        }
    };
    step.apply(state, rows, file)
}

/// Footer and table share one sync, so a crash may leave the footer alone; the records say what the table was.
async fn repair_table(scan: &mut Scan, footer: &Footer, rows: &[Row]) -> Result<(), LogError> {
    let table = encode_rows(rows);
    if footer.table_size() != u64_of(table.len()) || footer.table_crc != crc32c::crc32c(&table) {
        return Err(scan.corrupt(footer.table_offset, "the footer does not describe the segment's entries"));
    }
    if scan.bytes(footer.table_offset, table.len())? != Some(&table[..]) {
        scan.file.write_at(&[IoSlice::new(&table)], footer.table_offset)?;
        scan.file.sync().await?;
    }
    Ok(())
}

/// Reads all that is there, cuts what is unfinished, and makes it durable. Afterwards nothing is left of it.
pub(crate) async fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &LogOptions,
    wake: &Arc<Notify>,
) -> Result<Outcome, LogError> {
    let (disk, seed) = (&**disk, options.seed);
    let files = made_durable(disk, dir).await?;
    let Some((mut scan, opening)) = last_opened(disk, dir, &files, seed, Open::WriteBlocks)? else {
        return Err(LogError::Corrupt {
            path: dir.to_owned(),
            offset: 0,
            what: "no segment opens".to_owned(),
        });
    };
    let FileId::Segment(number) = scan.id else { unreachable!("only segments were looked at") };
    let replayed = replay(&mut scan, &opening, seed)?;
    let last = scan.id;
    let after = segments_after(dir, &files, last, number)?;
    check_sealed(disk, dir, options, &replayed.state, &opening, last)?;
    if let Some(footer) = &replayed.footer {
        repair_table(&mut scan, footer, &replayed.rows).await?;
    }
    let mut spares = spares(disk, dir, &after)?;
    let torn_bytes = cut_tail(disk, dir, options, &mut scan, &replayed, &after, &mut spares).await?;

    let Replayed { state, rows, mut cursor, end, footer, .. } = replayed;
    let freed = leftovers(disk, dir, &files, &state, last, wake).await?;
    cursor.epoch += 1;
    cursor.durable = cursor.next.sequence - 1;
    let mut segments = std::collections::BTreeMap::new();
    for id in &state.index.files {
        segments.insert(*id, segment(disk, dir, *id, wake)?);
    }
    let sparse_next = state.index.files.iter().filter_map(|id| match id {
        FileId::Sparse(number) => Some(number + 1),
        FileId::Segment(_) => None,
    });
    let sparse_next = sparse_next.max().unwrap_or(1);
    let spare_next = spares.back().map_or(number, |spare| spare.number) + 1;
    Ok(Outcome {
        located: Located { state, segments, written: last, rows, sparse_next },
        cursor,
        written: footer.is_none().then(|| (Arc::clone(&scan.file), block_up(end))),
        spares,
        spare_next,
        freed,
        torn_bytes,
    })
}

/// The files of the log, whose names and bytes are durable from here on; what was left unfinished beside them is removed.
async fn made_durable(disk: &dyn Disk, dir: &Path) -> Result<Vec<FileId>, LogError> {
    // A name that a killed process gave may not be durable yet, and records will be acknowledged under it.
    disk.sync_dir(dir).await?;
    remove(disk, dir, |name| name.ends_with(".tmp")).await?;
    let files = files(disk, dir)?;
    for id in &files {
        let file = disk.open(&dir.join(id.name()), Open::Write)?;
        file.sync().await?;
        file.drop_cache()?;
    }
    Ok(files)
}

/// The prepared segments behind `last`, whose number is `number`.
fn segments_after(dir: &Path, files: &[FileId], last: FileId, number: u64) -> Result<Vec<FileId>, LogError> {
    let after: Vec<FileId> =
        files.iter().copied().filter(|id| matches!(id, FileId::Segment(_)) && *id > last).collect();
    match after.iter().zip(number + 1..).find(|(id, next)| **id != FileId::Segment(*next)) {
        None => Ok(after),
        Some((gap, _)) => Err(LogError::Corrupt {
            path: dir.join(gap.name()),
            offset: 0,
            what: format!("segments between {} and this one are missing", last.name()),
        }),
    }
}

/// Cuts off what is unfinished behind the last record, if nothing proves that it was durable; the bytes of that.
async fn cut_tail(
    disk: &dyn Disk,
    dir: &Path,
    options: &LogOptions,
    scan: &mut Scan,
    replayed: &Replayed,
    after: &[FileId],
    spares: &mut VecDeque<Spare>,
) -> Result<u64, LogError> {
    let Replayed { state, cursor, end, footer, zeroed, .. } = replayed;
    let beyond = options.snapshot_upto > state.covered();
    let closed = footer.is_some();
    let successors = &after[usize::from(closed).min(after.len())..];
    let succeeded = is_written(disk, dir, successors, options.seed)?;
    let mut next = match after.first() {
        Some(id) if closed => Some(Scan::open(disk, dir, *id, options.seed, Open::WriteBlocks)?),
        _ => None,
    };
    let (at_x, x) = match (&mut next, closed) {
        (Some(next), _) => (next, 0),
        (None, false) => (scan, *end),
        (None, true) if !beyond => return Ok(0),
        (None, true) => {
            let facts = Facts { covered: true, ..Facts::default() };
            let Verdict::Corrupt(why) = evidence::judge(facts) else {
                unreachable!("a covered index is evidence")
            };
            return Err(corrupt(scan, *end, state, why));
        }
    };
    let rest = evidence::look(at_x, x, cursor.next.sequence, *zeroed && !closed)?;
    let facts = Facts { proven: rest.proof.is_some(), succeeded, covered: beyond, remains: rest.remains > 0 };
    if let Verdict::Corrupt(why) = evidence::judge(facts) {
        return Err(corrupt(at_x, rest.place, state, why));
    }
    for offset in &rest.blanks {
        at_x.file.write_at(&[IoSlice::new(&[0; 4_096])], *offset)?;
    }
    if !rest.blanks.is_empty() {
        at_x.file.sync().await?;
    }
    if closed && let Some(first) = spares.front_mut() {
        first.zeroed = rest.blank;
    }
    Ok(rest.remains)
}

/// One of these segments was written to, though its opening is not there: everything before it was synced first.
fn is_written(disk: &dyn Disk, dir: &Path, segments: &[FileId], seed: u64) -> Result<bool, LogError> {
    for id in segments {
        let mut scan = Scan::open(disk, dir, *id, seed, Open::Read)?;
        for offset in (0..scan.size.min(WRITTEN_LOOK_SIZE)).step_by(usize_of(BLOCK_SIZE)) {
            if scan.header_at(offset)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn corrupt(scan: &Scan, offset: u64, state: &State, why: &str) -> LogError {
    let next = state.last.map_or(0, |last| last.index + 1);
    scan.corrupt(offset, format!("the record there is lost, entry {next} or one near it: {why}"))
}

/// Every file but the last must be closed: its successor was opened after that.
fn check_sealed(
    disk: &dyn Disk,
    dir: &Path,
    options: &LogOptions,
    state: &State,
    opening: &Found,
    last: FileId,
) -> Result<(), LogError> {
    let mut before = None;
    for id in state.index.files.iter().filter(|id| **id != last) {
        if !disk.exists(&dir.join(id.name()))? {
            let path = dir.join(id.name());
            return Err(LogError::Corrupt { path, offset: 0, what: "the file is missing".to_owned() });
        }
        let mut scan = Scan::open(disk, dir, *id, options.seed, Open::Read)?;
        let offset = scan.footer_offset();
        let Some((found, _)) = scan.footer()? else {
            let facts = Facts { succeeded: true, ..Facts::default() };
            let Verdict::Corrupt(why) = evidence::judge(facts) else {
                unreachable!("a successor is evidence")
            };
            return Err(scan.corrupt(offset, format!("the footer is lost: {why}")));
        };
        if matches!(id, FileId::Segment(_)) {
            before = Some((*id, offset, found.next(), scan));
        }
    }
    if let (Some((FileId::Segment(number), offset, next, scan)), FileId::Segment(last)) = (before, last)
        && number + 1 == last
        && (next.sequence, next.chain) != (opening.header.sequence, opening.header.chain)
        && !mutants::on(Mutant::LastFollowsNothing)
    {
        return Err(scan.corrupt(offset, "the next segment does not follow this one"));
    }
    Ok(())
}

fn spares(disk: &dyn Disk, dir: &Path, after: &[FileId]) -> Result<VecDeque<Spare>, LogError> {
    let mut spares = VecDeque::new();
    for id in after {
        let path = dir.join(id.name());
        let size = disk.open(&path, Open::Read)?.size()?;
        if size < 2 * BLOCK_SIZE || !size.is_multiple_of(BLOCK_SIZE) {
            return Err(LogError::Corrupt {
                path,
                offset: size,
                what: "a prepared file is cut off".to_owned(),
            });
        }
        let FileId::Segment(number) = id else { continue };
        spares.push_back(Spare { number: *number, size, zeroed: false });
    }
    Ok(spares)
}

/// Files that were retired, or never adopted: sparse ones go, segments are free to be recycled.
async fn leftovers(
    disk: &dyn Disk,
    dir: &Path,
    files: &[FileId],
    state: &State,
    last: FileId,
    wake: &Arc<Notify>,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let mut freed = Vec::new();
    for id in files.iter().filter(|id| !state.index.files.contains(id)) {
        match id {
            FileId::Segment(_) if *id < last => freed.push(segment(disk, dir, *id, wake)?),
            FileId::Segment(_) => {}
            FileId::Sparse(_) => remove(disk, dir, |name| name == id.name()).await?,
        }
    }
    Ok(freed)
}

fn segment(disk: &dyn Disk, dir: &Path, id: FileId, wake: &Arc<Notify>) -> Result<Arc<Segment>, LogError> {
    let path = dir.join(id.name());
    let size = disk.open(&path, Open::Read)?.size()?;
    Ok(Segment::new(id, path, size, Arc::clone(wake)))
}

async fn remove(disk: &dyn Disk, dir: &Path, which: impl Fn(&str) -> bool) -> Result<(), LogError> {
    let mut removed = false;
    for name in disk.list(dir)?.iter().filter(|name| which(name)) {
        disk.remove(&dir.join(name))?;
        removed = true;
    }
    if removed {
        disk.sync_dir(dir).await?;
    }
    Ok(())
}

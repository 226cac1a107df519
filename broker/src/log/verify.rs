//! Offline and read-only: every record of every file, read and checked. Nobody may have the log open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use queue_protocol::wire::peer::LogId;

use super::closed::{Closed, note, wrong_table};
use super::evidence::{self, Facts, Verdict};
use super::format::file_id::FileId;
use super::format::footer::Row;
use super::format::payload::{Flaw, Payload};
use super::format::record::{Header, Kind};
use super::format::{BLOCK_SIZE, block_up};
use super::recovery;
use super::scan::{Expected, Found, Scan};
use super::state::State;
use super::untouched::Untouched;
use super::{LogError, LogOptions};
use crate::fs::{Disk, Open};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file that is damaged.
    pub path: PathBuf,
    /// Offset of the damage in bytes.
    pub offset: u64,
    /// The Raft index concerned, if known.
    pub index: Option<u64>,
    /// What is wrong, in words.
    pub what: String,
    /// What a node does about it.
    pub then: Then,
}

/// What a node does about a damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// It does not start.
    #[default]
    Refused,
    /// It starts, and ends when it comes to read what is damaged: when somebody needs it, or within the scrub's period.
    Met,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Empty if all is well.
    pub findings: Vec<Finding>,
    /// What the next start mends, or nothing reads any more: no damage.
    pub mended: Vec<Finding>,
    /// Files that hold records.
    pub files: u64,
    /// How many prepared files there are.
    pub spares: u64,
    /// How many records were read.
    pub records: u64,
    /// Entries among them, whole or sparse.
    pub entries: u64,
    /// How many bodies the entries have.
    pub bodies: u64,
    /// Bytes of all records.
    pub bytes: u64,
    /// Bytes of an unfinished write at the end; no finding.
    pub torn_bytes: u64,
    /// Entries up to here are no longer log, if a node starts.
    pub purged: Option<LogId>,
    /// The last entry of the log.
    pub last: Option<LogId>,
    /// What is known to be committed.
    pub committed: Option<LogId>,
}

/// A record, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The file that holds the record.
    pub path: PathBuf,
    /// Offset of the record in bytes.
    pub offset: u64,
    /// Size of the record in bytes, without padding.
    pub size: u32,
    /// What kind of record it is.
    pub kind: Kind,
    /// Its place in the stream.
    pub sequence: u64,
    /// What was durable when it was built.
    pub durable: u64,
    /// Openings of the log before.
    pub epoch: u32,
    /// Of entries, marks and bounds; of a vote its term and node.
    pub id: Option<LogId>,
    /// Bodies in an entry.
    pub bodies: u32,
    /// Whatever else there is to say.
    pub note: String,
}

/// Checks the log in `dir`, of which `snapshot_upto` is the last entry that the newest snapshot covers. Whether a node
/// starts on it is what [`recovery::recover`] says that will recover it; what it meets later is what the scrub meets.
///
/// # Errors
/// The disk. Damage is no error but a [`Finding`].
pub fn verify(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    seed: u64,
    snapshot_upto: Option<u64>,
) -> Result<Report, LogError> {
    let mut report = Report::default();
    let (_, state) = walk(&**disk, dir, seed, &mut report, &mut |_, _| {})?;
    report.purged = state.as_ref().and_then(|state| state.purged);
    let for_raft = state.as_ref().map(State::for_raft).unwrap_or_default();
    (report.last, report.committed) = (for_raft.last, for_raft.committed);
    let mut found = std::mem::take(&mut report.findings);
    match start(disk, dir, seed, snapshot_upto) {
        Ok(last) => {
            let closed = state.iter().flat_map(|state| &state.index.files).filter(|id| **id != last);
            for id in closed {
                let met = read_closed(&**disk, dir, *id, seed);
                let path = dir.join(id.name());
                let (here, rest) = found.into_iter().partition(|finding| finding.path == path);
                found = rest;
                match met {
                    Ok(()) => report.mended.extend::<Vec<Finding>>(here),
                    Err(error) => push_met(&mut report, here, error)?,
                }
            }
            report.mended.append(&mut found);
        }
        Err(error) => {
            let before = found.len();
            let mut refused = Report { findings: found, ..Report::default() };
            push_error(&mut refused, error)?;
            // What was found on the way says more.
            let said = refused.findings.pop().filter(|said| {
                before == 0 || refused.findings.iter().all(|finding| finding.path != said.path)
            });
            report.findings = refused.findings;
            report.findings.extend(said);
        }
    }
    Ok(report)
}

/// Recovers the log as a start does, and changes nothing; gives the segment that it would go on with.
fn start(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    seed: u64,
    snapshot_upto: Option<u64>,
) -> Result<FileId, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(Untouched(Arc::clone(disk)));
    let options = LogOptions { snapshot_upto, ..LogOptions::new(seed) };
    let recovered = recovery::recover(&disk, dir, &options, &Arc::default()).now_or_never();
    Ok(recovered.expect("nothing is synced, so nothing waits")?.located.written)
}

/// What a node meets in a closed file when it comes to read it.
fn read_closed(disk: &dyn Disk, dir: &Path, id: FileId, seed: u64) -> Result<(), LogError> {
    let mut scan = Scan::open(disk, dir, id, seed, Open::Read)?;
    let mut closed = Closed::begin(&mut scan)?;
    while closed.step(&mut scan)?.is_some() {}
    Ok(())
}

/// Findings in a file that a node starts with and does not get along with.
fn push_met(report: &mut Report, here: Vec<Finding>, error: LogError) -> Result<(), LogError> {
    let mut met = Report { findings: here, ..Report::default() };
    if met.findings.is_empty() {
        push_error(&mut met, error)?;
    }
    let later = |finding| Finding { then: Then::Met, ..finding };
    report.findings.extend(met.findings.into_iter().map(later));
    Ok(())
}

/// All records that are whole, file by file and in order; what is not is in the report.
///
/// # Errors
/// As [`verify`].
pub fn dump(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    seed: u64,
    each: &mut dyn FnMut(Dumped),
) -> Result<Report, LogError> {
    let mut report = Report::default();
    walk(&**disk, dir, seed, &mut report, &mut |path, found| each(dumped(path, found)))?;
    Ok(report)
}

type Each<'a> = &'a mut dyn FnMut(&Path, &Found);

/// Reads every file; gives the last segment and the state after it.
fn walk(
    disk: &dyn Disk,
    dir: &Path,
    seed: u64,
    report: &mut Report,
    each: Each<'_>,
) -> Result<(Option<FileId>, Option<State>), LogError> {
    let files = recovery::files(disk, dir)?;
    let opened = match recovery::last_opened(disk, dir, &files, seed, Open::Read) {
        Ok(opened) => opened,
        Err(error) => {
            push_error(report, error)?;
            None
        }
    };
    let last = opened.as_ref().map(|(scan, _)| scan.id);
    let mut state = None;
    if let Some((mut scan, opening)) = opened {
        match recovery::replay(&mut scan, &opening, seed) {
            Ok(replayed) => state = Some(replayed.state),
            Err(error) => push_error(report, error)?,
        }
    }
    let counts = |id: &FileId| state.as_ref().is_none_or(|state| state.index.files.contains(id));
    let mut before: Option<(FileId, Expected, u64)> = None;
    for id in &files {
        let mut scan = Scan::open(disk, dir, *id, seed, Open::Read)?;
        let is_last = Some(*id) == last;
        let segment = matches!(id, FileId::Segment(_));
        if segment && Some(*id) > last {
            look_at_spare(&mut scan, before, report)?;
            before = None;
            report.spares += 1;
            continue;
        }
        if !counts(id) {
            // retired, or never adopted: whatever is in it counts no more
            continue;
        }
        let end = walk_file(&mut scan, is_last, before, report, each)?;
        before = match (id, end) {
            (FileId::Segment(number), Some(next)) => {
                Some((FileId::Segment(number + 1), next, scan.footer_offset()))
            }
            _ => None,
        };
    }
    Ok((last, state))
}

/// A prepared file must not hold what was durable: an opening that is lost, with records behind it.
fn look_at_spare(
    scan: &mut Scan,
    before: Option<(FileId, Expected, u64)>,
    report: &mut Report,
) -> Result<(), LogError> {
    let Some((_, expected, _)) = before.filter(|(next, ..)| *next == scan.id) else { return Ok(()) };
    let rest = evidence::look(scan, 0, expected.sequence, false)?;
    let facts = Facts { proven: rest.proof.is_some(), ..Facts::default() };
    match evidence::judge(facts) {
        Verdict::Corrupt(why) => report.findings.push(finding(&scan.path, 0, None, why)),
        Verdict::Clean | Verdict::Torn => report.torn_bytes += rest.remains,
    }
    Ok(())
}

/// The opening must follow the file before.
fn misplaced(scan: &Scan, before: Option<(FileId, Expected, u64)>, opening: &Found) -> Option<Finding> {
    let place = Expected { sequence: opening.header.sequence, chain: opening.header.chain };
    let is_wrong = before.is_some_and(|(id, expected, _)| id == scan.id && expected != place);
    is_wrong.then(|| finding(&scan.path, 0, None, "the opening does not follow the segment before"))
}

/// Reads the opening of a file. Gives what the next record must say, if that can be told, and where it may lie; `None` if
/// nothing behind it can be read.
fn walk_opening(
    scan: &mut Scan,
    before: Option<(FileId, Expected, u64)>,
    report: &mut Report,
    each: Each<'_>,
) -> Result<Option<(Option<Expected>, u64)>, LogError> {
    match scan.opening() {
        Ok(Some(opening)) => {
            report.findings.extend(misplaced(scan, before, &opening));
            count(report, scan, &opening, each);
            Ok(Some((Some(opening.next()), opening.end())))
        }
        Ok(None) => {
            report.findings.push(finding(&scan.path, 0, None, "the opening is damaged"));
            Ok(Some((None, 0)))
        }
        Err(error) => push_error(report, error).map(|()| None),
    }
}

/// Reads one file; gives what its successor must say if it is closed.
fn walk_file(
    scan: &mut Scan,
    is_last: bool,
    before: Option<(FileId, Expected, u64)>,
    report: &mut Report,
    each: Each<'_>,
) -> Result<Option<Expected>, LogError> {
    report.files += 1;
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let mut index = None;
    let Some((mut next, mut end)) = walk_opening(scan, before, report, each)? else { return Ok(None) };
    let mut whole = next.is_some();
    loop {
        let found = match next.map(|next| scan.next(end, next)).transpose() {
            Ok(found) => found.flatten(),
            Err(error) => {
                push_error(report, error)?;
                return Ok(None);
            }
        };
        let Some(found) = found else {
            if next.is_some() && !stop(scan, is_last, end, next, index, report)? {
                return Ok(None);
            }
            // go on at the next group that can be read
            whole = false;
            match resume(scan, block_up(end + 1))? {
                Some((at, expected)) => (end, next) = (at, Some(expected)),
                None => return Ok(None),
            }
            continue;
        };
        count(report, scan, &found, each);
        end = found.end();
        next = Some(found.next());
        note(&mut rows, &found);
        match &found.payload {
            Payload::Entry(_) => index = Some(found.header.id.index),
            Payload::Footer(footer) => {
                if let Some(what) = wrong_table(scan, footer, whole.then_some(&rows))? {
                    report.findings.push(finding(&scan.path, footer.table_offset, index, what));
                }
                return Ok(next);
            }
            _ => {}
        }
    }
}

/// Judges the first place without the expected record; false if the file simply ends there.
fn stop(
    scan: &mut Scan,
    is_last: bool,
    end: u64,
    next: Option<Expected>,
    index: Option<u64>,
    report: &mut Report,
) -> Result<bool, LogError> {
    let sequence = next.map_or(0, |next| next.sequence);
    let rest = evidence::look(scan, end, sequence, false)?;
    let facts = Facts { proven: rest.proof.is_some(), succeeded: !is_last, ..Facts::default() };
    let Verdict::Corrupt(why) = evidence::judge(facts) else {
        report.torn_bytes += rest.remains;
        return Ok(false);
    };
    let (offset, what) = flaw_at(scan, end, sequence)?.unwrap_or((rest.place, "no valid record".to_owned()));
    let after = index.map(|index| index + 1);
    report.findings.push(finding(&scan.path, offset, after, &format!("{what}; {why}")));
    Ok(true)
}

/// Where after `end` the expected record lies, and what is wrong with it, if its header is still readable.
fn flaw_at(scan: &mut Scan, end: u64, sequence: u64) -> Result<Option<(u64, String)>, LogError> {
    for offset in scan.places(end) {
        if let Some((header, crc)) = scan.header_at(offset)?.filter(|(header, _)| header.sequence == sequence)
            && let Err(Flaw::Damaged(what)) = scan.record(offset, header, crc)?
        {
            return Ok(Some((offset, describe(&header, what))));
        }
    }
    Ok(None)
}

fn describe(header: &Header, what: &str) -> String {
    match Kind::from_number(header.kind) {
        Some(Kind::Entry | Kind::SparseEntry) => format!("entry {}: {what}", header.id.index),
        _ => what.to_owned(),
    }
}

/// The first group boundary at or after `from` with a valid record.
fn resume(scan: &mut Scan, from: u64) -> Result<Option<(u64, Expected)>, LogError> {
    let mut offset = from;
    while offset + BLOCK_SIZE <= scan.size {
        if let Some((header, crc)) = scan.header_at(offset)?
            && scan.record(offset, header, crc)?.is_ok()
        {
            return Ok(Some((offset, Expected { sequence: header.sequence, chain: header.chain })));
        }
        offset += BLOCK_SIZE;
    }
    Ok(None)
}

fn count(report: &mut Report, scan: &Scan, found: &Found, each: Each<'_>) {
    report.records += 1;
    report.bytes += u64::from(found.header.size);
    if let Payload::Entry(head) = &found.payload {
        report.entries += 1;
        report.bodies += u64::from(head.rows);
    }
    each(&scan.path, found);
}

fn finding(path: &Path, offset: u64, index: Option<u64>, what: &str) -> Finding {
    Finding { path: path.to_owned(), offset, index, what: what.to_owned(), then: Then::Refused }
}

/// Damage becomes a finding, a failing disk stays an error.
fn push_error(report: &mut Report, error: LogError) -> Result<(), LogError> {
    match error {
        LogError::Corrupt { path, offset, what } => {
            report.findings.push(finding(&path, offset, None, &what));
            Ok(())
        }
        LogError::Unknown { path, offset, kind, version, group } => {
            let what = format!(
                "a record of kind {kind}, version {version}, group {group} is not known to this program"
            );
            report.findings.push(finding(&path, offset, None, &what));
            Ok(())
        }
        other => Err(other),
    }
}

fn dumped(path: &Path, found: &Found) -> Dumped {
    let Header { size, sequence, durable, epoch, id, .. } = found.header;
    let kind = Kind::from_number(found.header.kind).expect("the payload was decoded");
    let (bodies, note) = match &found.payload {
        Payload::Entry(head) => {
            let what =
                format!("{:?}, commands {} B, bodies {} B", head.kind, head.commands_size, head.bodies_size);
            (head.rows, what.to_lowercase().replace(" b", " B"))
        }
        Payload::Opening(opening) => (0, format!("{} files", opening.state.index.files.len())),
        Payload::Vote(vote) if vote.committed => (0, "committed".to_owned()),
        Payload::Import(import) => (0, format!("{} to {}", import.from, import.to)),
        Payload::Retire(retired) => {
            (0, retired.files.iter().map(|file| file.name()).collect::<Vec<_>>().join(" "))
        }
        Payload::Footer(footer) => (0, format!("{} records, {} entries", footer.records, footer.rows)),
        _ => (0, String::new()),
    };
    let id = match kind {
        Kind::Entry | Kind::SparseEntry | Kind::Vote | Kind::Purge => Some(id),
        Kind::Truncate | Kind::Commit => found.header.optional_id(),
        _ => None,
    };
    Dumped {
        path: path.to_owned(),
        offset: found.offset,
        size,
        kind,
        sequence,
        durable,
        epoch,
        id,
        bodies,
        note,
    }
}

//! Space comes back: files without a live body are retired, and what is left of those that are mostly dead is copied
//! into sparse files, so that one old message never pins a segment.
//!
//! ```text
//! closed segments   ▓▓░▓░░░░░░ ░░░░░▓░░░░ ░░░░░░░░░░        ▓ live, ░ dead
//!                   kept       copied ─┐  retired
//! sparse file                        ▓▓▓                    one record: it is part of the log, those are not
//! ```
//!
//! A file may go only if its last entry is at or below the durable purge mark and the newest durable snapshot, and no
//! body in it is live in that snapshot (of which the present state, recorded answers included, is a part as far as
//! these entries go), in one that is being sent, or being read ([`Reading`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::format::file_id::FileId;
use super::format::footer::Row;
use super::format::payload::{Compacted, Retired};
use super::format::u64_of;
use super::group::sparse_size;
use super::index::{Index, Run, Runs};
use super::operation::Said;
use super::segment::{Pin, Segment};
use super::shared::Shared;
use super::sparse::{Named, SparseFiles};
use super::{LiveBodies, LogError};
use crate::complaint::Complaint;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// A file is copied if less than one part in so many of it is live.
const SHARE: u64 = 4;
/// Files copied under one record.
const FILES_MAX: usize = 64;
/// Small files of bodies that are all live are copied together only if there are so many of them.
const SMALL_COUNT_MIN: usize = 8;
/// Bodies are read and copied in pieces of about this size.
const PIECE_SIZE: u64 = 1 << 20;

/// Said when nothing can be copied.
static NOT_NOW: Complaint = Complaint::new();

/// What is to be kept, and what is being read.
#[derive(Default)]
pub(crate) struct Clean {
    plan: Mutex<Option<Plan>>,
    /// Raft indices, each with how often it is being read.
    reading: Mutex<BTreeMap<u64, u32>>,
    planned: Notify,
}

#[derive(Clone)]
struct Plan {
    live: Arc<LiveBodies>,
    upto: u64,
}

impl Clean {
    /// A plan in place of the one before.
    pub(crate) fn plan(&self, live: LiveBodies, upto: u64) {
        *self.plan.locked() = Some(Plan { live: Arc::new(live), upto });
        self.planned.notify_one();
    }
}

/// Entries whose bodies are being read, or about to be.
pub struct Reading {
    shared: Arc<Shared>,
    indices: Vec<u64>,
}

impl Reading {
    pub(crate) fn new(shared: Arc<Shared>, indices: Vec<u64>) -> Self {
        let mut reading = shared.clean.reading.locked();
        indices.iter().for_each(|index| *reading.entry(*index).or_default() += 1);
        drop(reading);
        Self { shared, indices }
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reading({:?})", self.indices)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reading = self.shared.clean.reading.locked();
        for index in &self.indices {
            if let Some(count) = reading.get_mut(index) {
                *count -= 1;
                if *count == 0 {
                    reading.remove(index);
                }
            }
        }
    }
}

/// Follows one plan after the other. Ends only by failing.
pub(crate) async fn run(shared: &Arc<Shared>) -> LogError {
    loop {
        let next = shared.clean.plan.locked().take();
        let Some(plan) = next else {
            shared.clean.planned.notified().await;
            continue;
        };
        match follow(shared, &plan).await {
            Ok(()) => {}
            // The writer has ended in order; so will the keeper.
            Err(LogError::Closed) => std::future::pending().await,
            // What was begun is removed, and what was to be copied is where it was; the next plan tries again.
            Err(LogError::Disk(error)) if error.is_for_now() => {
                if let Some(again) = NOT_NOW.due() {
                    tracing::warn!(%error, again, "what is left of mostly settled segments is not copied together now");
                }
            }
            Err(error) => return error,
        }
    }
}

/// Retires and copies until nothing is left to do, or there is a newer plan.
async fn follow(shared: &Arc<Shared>, plan: &Plan) -> Result<(), LogError> {
    loop {
        let survey = Survey::of(shared, plan);
        if !survey.dead.is_empty() {
            let retired = Retired { files: survey.dead.clone(), imports_from: None };
            shared.submit(|accept| accept.push(Said::Retire(retired), None));
        }
        let chosen = survey.choose(shared)?;
        if chosen.is_empty() {
            return Ok(());
        }
        copy(shared, &plan.live, chosen).await?;
        if shared.clean.plan.locked().is_some() {
            return Ok(());
        }
    }
}

/// A closed file with the live bodies in it, as places in the plan.
struct Left {
    pin: Pin,
    live: Vec<Range<usize>>,
}

/// What the closed files hold.
struct Survey<'a> {
    plan: &'a Plan,
    dead: Vec<FileId>,
    left: Vec<Left>,
}

/// The live bodies of each file, as ranges of places in `live`.
fn by_file(index: &Index, live: &LiveBodies) -> BTreeMap<FileId, Vec<Range<usize>>> {
    let mut files: BTreeMap<FileId, Vec<Range<usize>>> = BTreeMap::new();
    for (place, (entry, ordinals)) in live.iter().enumerate() {
        let Some(file) = index.bodies(*entry).filter(|_| !ordinals.is_empty()) else { continue };
        let places = files.entry(file).or_default();
        match places.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => places.push(place..place + 1),
        }
    }
    files
}

impl<'a> Survey<'a> {
    fn of(shared: &Shared, plan: &'a Plan) -> Self {
        let (index, bound, written) = {
            let located = shared.located();
            let bound = located.state.purged.map(|purged| purged.index.min(plan.upto));
            (located.state.index.clone(), bound, located.written)
        };
        let reading: BTreeSet<FileId> =
            shared.clean.reading.locked().keys().filter_map(|entry| index.bodies(*entry)).collect();
        let mut live = by_file(&index, &plan.live);
        let (mut dead, mut left) = (Vec::new(), Vec::new());
        for file in index.closed(bound, written).difference(&reading) {
            match live.remove(file) {
                None => dead.push(*file),
                Some(live) => {
                    let segment = shared.located().segments.get(file).map(Segment::pin);
                    left.extend(segment.map(|pin| Left { pin, live }));
                }
            }
        }
        Self { plan, dead, left }
    }

    /// Files to be copied together: mostly dead ones, and small ones if there are many.
    fn choose(self, shared: &Shared) -> Result<Vec<Left>, LogError> {
        let (mut chosen, mut small, mut size) = (Vec::new(), Vec::new(), 0);
        let segment_size = shared.options.segment_size;
        for left in self.left {
            let Worth { live_size, held, is_small } = left.worth(shared, &self.plan.live)?;
            let room = size + live_size <= segment_size / 2 && chosen.len() < FILES_MAX;
            if live_size * SHARE < held && room {
                size += live_size;
                chosen.push(left);
            } else if is_small {
                small.push(left);
            }
        }
        if chosen.is_empty() && small.len() >= SMALL_COUNT_MIN {
            small.truncate(FILES_MAX);
            chosen = small;
        }
        Ok(chosen)
    }
}

/// What a file is worth.
struct Worth {
    /// Bytes of it that what is live takes.
    live_size: u64,
    /// Bytes of live bodies that the file holds.
    held: u64,
    /// It would be a part of a file of copies.
    is_small: bool,
}

impl Left {
    fn worth(&self, shared: &Shared, live: &LiveBodies) -> Result<Worth, LogError> {
        let rows = shared.reader.table(&self.pin)?;
        let live = self.live.iter().cloned().flatten().map(|place| &live[place]);
        if matches!(self.pin.id, FileId::Segment(_)) {
            let live_size = live_size(&rows, live, |row| row.bodies_size);
            return Ok(Worth { live_size, held: self.pin.size, is_small: false });
        }
        let sum = |size: fn(&Row) -> u32| rows.iter().map(|row| u64::from(size(row))).sum::<u64>();
        let (bodies, held) = (sum(|row| row.bodies_size), sum(|row| row.size));
        let segment_size = shared.options.segment_size;
        // The smallest bodies fill a file with what is around them: that is full, and stays so when copied.
        let is_full = held * 2 >= segment_size;
        let is_small = bodies * SHARE < segment_size && !is_full;
        Ok(Worth { live_size: live_size(&rows, live, |row| row.size), held, is_small })
    }
}

/// About how many bytes of the files what is live takes, where a row takes `size`: the bodies of one entry count alike.
fn live_size<'a>(
    rows: &[Row],
    live: impl Iterator<Item = &'a (u64, Range<u32>)>,
    size: impl Fn(&Row) -> u32,
) -> u64 {
    let of_entry = |(entry, ordinals): &(u64, Range<u32>)| {
        let row = rows.binary_search_by_key(entry, |row| row.index).ok().map(|place| rows[place]);
        row.map_or(0, |row| u64_of(ordinals.len()) * u64::from(size(&row)) / u64::from(row.bodies.max(1)))
    };
    live.map(of_entry).sum()
}

/// Copies the live bodies of `chosen` and puts the copies in their place.
async fn copy(shared: &Arc<Shared>, live: &LiveBodies, chosen: Vec<Left>) -> Result<(), LogError> {
    let mut files = SparseFiles::new(Arc::clone(shared));
    let mut budget = Budget::new(shared.options.clean_rate);
    let mut places: Vec<(usize, &Pin)> = Vec::new();
    for left in &chosen {
        places.extend(left.live.iter().cloned().flatten().map(|place| (place, &left.pin)));
    }
    places.sort_unstable_by_key(|(place, _)| *place);
    for (place, pin) in places {
        let (entry, ordinals) = &live[place];
        copy_bodies(shared, &mut files, &mut budget, pin, *entry, ordinals.clone()).await?;
    }
    let named = files.name().await?;
    let gone: BTreeSet<FileId> = chosen.iter().map(|left| left.pin.id).collect();
    let runs = {
        let located = shared.located();
        named.iter().flat_map(|named| runs_of(named, &located.state.index.runs, &gone)).collect()
    };
    let compacted = Compacted { runs, files: gone.into_iter().collect() };
    let segments: Vec<_> = named.into_iter().map(|named| named.segment).collect();
    files.adopt();
    shared.durable(|_| Said::Compact(compacted, segments)).await
}

/// Runs of a new file: entries with nothing between them but what lay in files that are `gone` are one.
fn runs_of(named: &Named, before: &Runs, gone: &BTreeSet<FileId>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in &named.rows {
        match runs.last_mut() {
            Some(run) if before.within(run.last, row.index).all(|other| gone.contains(&other.file)) => {
                run.last = row.index;
            }
            _ => runs.push(Run { first: row.index, last: row.index, file: named.segment.id }),
        }
    }
    runs
}

async fn copy_bodies(
    shared: &Shared,
    files: &mut SparseFiles,
    budget: &mut Budget,
    pin: &Pin,
    entry: u64,
    ordinals: Range<u32>,
) -> Result<(), LogError> {
    let missing = LogError::NoBody { index: entry, ordinal: ordinals.start };
    let Some(spot) = shared.reader.locate(pin.again(), entry)? else { return Err(missing) };
    let id = shared.reader.header(&spot)?.id;
    let average = u64::from(spot.row.bodies_size) / u64::from(spot.row.bodies.max(1));
    let step = usize::try_from(PIECE_SIZE / average.max(1)).unwrap_or(usize::MAX).max(1);
    let ordinals: Vec<u32> = ordinals.collect();
    for piece in ordinals.chunks(step) {
        let is_last = piece.last() == ordinals.last() && ordinals.len() > step;
        if mutants::on(Mutant::LastPieceDropped) && is_last && piece.len() == 1 {
            continue;
        }
        let bodies = shared.reader.bodies(&spot, piece)?;
        let mut contents = BytesMut::new();
        let mut rows = Vec::with_capacity(bodies.len());
        for (ordinal, (spec, body)) in piece.iter().zip(bodies) {
            contents.extend_from_slice(&body);
            rows.push((*ordinal, spec));
        }
        budget.spend(2 * sparse_size(&rows)).await;
        files.add(id, &rows, contents.freeze()).await?;
    }
    Ok(())
}

/// So many bytes a second, spent in pieces.
pub(crate) struct Budget {
    rate: u64,
    spent: u64,
}

impl Budget {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, spent: 0 }
    }

    /// Waits as long as the bytes take at the rate; small sums are saved up.
    pub(crate) async fn spend(&mut self, bytes: u64) {
        self.spent += bytes;
        if self.spent >= PIECE_SIZE {
            let spent = std::mem::take(&mut self.spent);
            let micros = spent.saturating_mul(1_000_000) / self.rate.max(1);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_bodies_are_found_where_they_lie() {
        let (a, b) = (FileId::Segment(1), FileId::Segment(2));
        let mut index = Index { files: [a, b].into(), ..Index::default() };
        index.runs.insert(Run { first: 1, last: 10, file: a });
        index.runs.insert(Run { first: 11, last: 20, file: b });
        let live: LiveBodies = vec![(2, 0..1), (2, 3..4), (9, 0..0), (10, 5..9), (12, 0..1), (40, 0..1)];
        let found = by_file(&index, &live);
        assert_eq!(found, BTreeMap::from([(a, vec![0..2, 3..4]), (b, vec![4..5])]));
    }

    #[test]
    fn bodies_of_one_entry_count_alike() {
        let rows = [Row { index: 7, offset: 0, size: 1_500, bodies: 10, bodies_size: 1_000 }];
        let live = [(7, 0..3), (7, 8..9), (8, 0..5)];
        assert_eq!(live_size(&rows, live.iter(), |row| row.bodies_size), 400);
        assert_eq!(live_size(&rows, live.iter(), |row| row.size), 600);
    }
}

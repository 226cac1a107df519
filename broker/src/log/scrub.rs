//! Reads everything that lies still, slowly and over and over: damage is found while the other nodes still have the
//! data, not when somebody needs it.

use std::sync::Arc;

use super::LogError;
use super::clean::Budget;
use super::closed::Closed;
use super::format::file_id::FileId;
use super::format::{u64_of, usize_of};
use super::scan::Scan;
use super::segment::{Pin, Segment};
use super::shared::Shared;
use crate::fs::Open;
use crate::mutants::{self, Mutant};

/// Bytes a second while a file is read: far below what a disk gives.
const RATE: u64 = 32 << 20;

/// Reads one closed file after the other, all of them once in a period. Ends only by finding damage.
pub(crate) async fn run(shared: &Arc<Shared>) -> LogError {
    let mut before = somewhere(shared);
    loop {
        let count = u32::try_from(shared.located().segments.len()).unwrap_or(u32::MAX).max(1);
        tokio::time::sleep(shared.options.scrub_period / count).await;
        let Some(pin) = next(shared, before) else { continue };
        match read(shared, &pin).await {
            // Its turn comes again.
            Err(error) if error.is_out_of_descriptors() => {}
            Err(error) => return error,
            Ok(()) => before = Some(pin.id),
        }
    }
}

/// Where to begin: each start somewhere else, so that every file has its turn on a node that never runs for long.
fn somewhere(shared: &Shared) -> Option<FileId> {
    let located = shared.located();
    // The golden ratio: the places of any number of starts lie evenly apart.
    let part = u64::from(shared.epoch.wrapping_mul(0x9e37_79b9));
    let place = (part * u64_of(located.segments.len())) >> 32;
    located.segments.keys().nth(usize_of(place)).copied()
}

/// The closed file after `before`, the first one behind the last.
fn next(shared: &Shared, before: Option<FileId>) -> Option<Pin> {
    let located = shared.located();
    let skipped = |id: FileId| mutants::on(Mutant::CopiesNotScrubbed) && matches!(id, FileId::Sparse(_));
    let closed = || located.segments.iter().filter(|(id, _)| **id != located.written && !skipped(**id));
    let after = closed().find(|(id, _)| before.is_none_or(|before| **id > before));
    after.or_else(|| closed().next()).map(|(_, segment)| Segment::pin(segment))
}

/// Reads all of a closed file: headers, commands, tables and bodies.
async fn read(shared: &Shared, pin: &Pin) -> Result<(), LogError> {
    let mut scan = Scan::open(&*shared.disk, &shared.dir, pin.id, shared.options.seed, Open::Read)?;
    scan.file.drop_cache()?;
    let mut budget = Budget::new(RATE);
    let mut closed = Closed::begin(&mut scan)?;
    while let Some(bytes) = closed.step(&mut scan)? {
        budget.spend(bytes).await;
    }
    Ok(())
}

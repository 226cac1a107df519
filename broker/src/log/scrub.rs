//! Reads everything that lies still, slowly and over and over: damage is found while the other nodes still have the
//! data, not when somebody needs it.

use std::sync::Arc;

use super::LogError;
use super::clean::Budget;
use super::format::file_id::FileId;
use super::format::payload::Payload;
use super::format::{u64_of, usize_of};
use super::scan::{Expected, Scan};
use super::segment::{Pin, Segment};
use super::shared::Shared;
use crate::fs::Open;

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
    let closed = || located.segments.iter().filter(|(id, _)| **id != located.written);
    let after = closed().find(|(id, _)| before.is_none_or(|before| **id > before));
    after.or_else(|| closed().next()).map(|(_, segment)| Segment::pin(segment))
}

/// Reads every record of a closed file: headers, commands, tables and bodies.
async fn read(shared: &Shared, pin: &Pin) -> Result<(), LogError> {
    let mut scan = Scan::open(&*shared.disk, &shared.dir, pin.id, shared.options.seed, Open::Read)?;
    scan.file.drop_cache()?;
    let mut budget = Budget::new(RATE);
    let opening = scan.opening()?.ok_or_else(|| scan.corrupt(0, "the opening is damaged"))?;
    let (mut end, mut expected): (u64, Expected) = (opening.end(), opening.next());
    loop {
        let Some(found) = scan.next(end, expected)? else {
            return Err(
                scan.corrupt(end, "the record there is damaged: it was whole when the file was closed")
            );
        };
        budget.spend(u64::from(found.header.size)).await;
        if matches!(found.payload, Payload::Footer(_)) {
            return Ok(());
        }
        (end, expected) = (found.end(), found.next());
    }
}

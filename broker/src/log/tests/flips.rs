//! Every bit of every file: refused, harmless, or (only in the last group, unsealed) a cut tail; never wrong data.

use super::*;
use crate::fs::Disk;
use crate::log::{Report, Then, verify};

/// Each so-manyth bit.
fn stride() -> usize {
    std::env::var("LOG_FLIPS_STRIDE").ok().and_then(|stride| stride.parse().ok()).unwrap_or(331)
}

/// What reading all of a log gives.
#[derive(Debug, PartialEq)]
struct All {
    state: crate::log::LogState,
    entries: Vec<Entry>,
    bodies: Vec<(ContentSpec, Bytes)>,
}

/// Outside: whether it opens.
async fn read(disk: &SimDisk, options: LogOptions) -> Result<Result<All, LogError>, LogError> {
    let store = Store::open_with(disk, options).await?;
    let log = &store.log;
    let read = || {
        let entries = log.read(0..u64::MAX, usize::MAX, Contents::With)?;
        let mut bodies = Vec::new();
        for index in [1, 2, 3, 11, 77] {
            bodies.extend(log.read_bodies(index, &[0])?);
        }
        Ok(All { state: log.state(), entries: entries.iter().map(joined).collect(), bodies })
    };
    let read = read();
    store.kill(disk);
    Ok(read)
}

/// A log with all kinds of records and files; sealed or not.
async fn example(sealed: bool) -> (SimDisk, LogOptions) {
    let disk = formatted().await;
    let small = || LogOptions { spares: 1, snapshot_upto: Some(90), ..options() };
    let store = Store::open_with(&disk, small()).await.map(|_| ()).err();
    assert!(store.is_some(), "a snapshot beyond the log");
    let store = Store::open_with(&disk, LogOptions { spares: 1, ..options() }).await.unwrap();
    store.append((0..9).map(|index| entry(index, 1))).await;
    store.log.save_vote(vote(3), nothing());
    store.log.save_committed(Some(id(4, 1)));
    store.log.truncate_after(Some(id(6, 1)), nothing());
    store.append((7..20).map(|index| entry(index, 2))).await;
    let mut import = store.log.import().unwrap();
    let imported = entry_of(77, 3, &[500]);
    let (spec, bytes) = body(&imported, 0);
    import.add(imported.id, &[(0, spec)], bytes).await.unwrap();
    import.publish(60, id(90, 3)).await.unwrap();
    store.append((20..30).map(|index| entry(index, 2))).await;
    store.log.purge_upto(id(17, 2), nothing());
    store.log.collect(live([1, 2, 3, 11]), 0);
    store.flush().await;
    store.append((30..33).map(|index| entry(index, 4))).await;
    if sealed {
        store.close().await;
    } else {
        settle().await;
        store.kill(&disk);
    }
    (disk, small())
}

async fn flip_all(sealed: bool) {
    let (disk, options) = example(sealed).await;
    let image = disk.image();
    let intact = read(&disk, options.clone()).await.expect("it opens").expect("nothing is flipped");
    assert_eq!(intact.entries.len(), 15);
    disk.restore(&image);
    let all_files: Vec<PathBuf> = files(&disk, "log").into_iter().chain(files(&disk, "import")).collect();
    let (mut refused, mut harmless, mut cut, mut found) = (0, 0, 0, 0);
    for file in all_files {
        disk.restore(&image);
        let bytes = disk.bytes(&file).unwrap();
        let used = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(place, _)| place);
        let mut bits: Vec<usize> =
            used.flat_map(|place| (0..8).map(move |bit| place * 8 + bit)).step_by(stride()).collect();
        bits.extend((0..bytes.len() * 8).step_by(stride() * 29));
        for bit in bits {
            disk.restore(&image);
            disk.flip(&file, bit as u64).unwrap();
            let report =
                verify(&(disk.boot() as Arc<dyn Disk>), dir(), options.seed, options.snapshot_upto).unwrap();
            found += u64::from(!report.findings.is_empty());
            let place = format!("{} bit {bit}, byte {}", file.display(), bit / 8);
            let opened = read(&disk, options.clone()).await;
            let refuses = report.findings.iter().any(|finding| finding.then == Then::Refused);
            assert_eq!(opened.is_err(), refuses, "{place}: {opened:?}, and verify says {report:?}");
            match opened.and_then(|read| read) {
                Ok(all) if all == intact => harmless += 1,
                Ok(all) => {
                    assert!(!sealed, "{place}: silently different");
                    assert!(all.entries.len() < intact.entries.len(), "{place}");
                    assert_eq!(all.entries, intact.entries[..all.entries.len()], "{place}");
                    assert!(all.entries.len() >= 12, "{place}: more than the last group is cut");
                    cut += 1;
                }
                Err(LogError::Corrupt { path, .. }) => {
                    assert!(
                        path.ends_with(file.file_name().unwrap()) || path == dir(),
                        "{place}: {}",
                        path.display()
                    );
                    assert!(!report.findings.is_empty(), "{place}: refused, but verify finds nothing");
                    refused += 1;
                }
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
    assert!(
        refused > 20 && harmless > 5 && found >= refused,
        "{refused} refused, {harmless} harmless, {found} found"
    );
    assert_eq!(cut > 0, !sealed, "{cut} cut");
}

#[test]
fn no_flipped_bit_of_a_sealed_log_goes_unnoticed() {
    run(flip_all(true));
}

#[test]
fn a_flipped_bit_of_an_unsealed_log_cuts_at_most_the_last_group() {
    run(flip_all(false));
}

#[test]
fn verify_counts_what_is_there_and_dump_shows_it() {
    run(async {
        let (disk, options) = example(true).await;
        let disk: Arc<dyn Disk> = disk.boot();
        let mut kinds = std::collections::BTreeSet::new();
        let mut entries = 0;
        let dumped = crate::log::dump(&disk, dir(), options.seed, &mut |record| {
            kinds.insert(record.kind);
            entries += u64::from(record.kind == crate::log::Kind::Entry);
        });
        let report = verify(&disk, dir(), options.seed, options.snapshot_upto).unwrap();
        assert_eq!(dumped.unwrap(), Report { purged: None, last: None, committed: None, ..report.clone() });
        assert_eq!(report.findings, []);
        assert_eq!((entries, report.entries), (report.entries - 1, report.entries));
        assert!(kinds.len() >= 10, "{kinds:?}");
    });
}

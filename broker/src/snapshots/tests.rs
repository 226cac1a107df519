//! Snapshots: what is published is whole, at every crash, and what is not whole is never served.

use std::collections::BTreeSet;
use std::future::Future;

use futures_util::FutureExt as _;
use queue_protocol::names::NodeId;

use super::format::OPENING_SIZE;
use super::*;
use crate::fs::Open;
use crate::fs::os::OsDisk;
use crate::fs::rng::Rng;
use crate::fs::sim::{Bias, Fault, Injection, Latency, Op, SimDisk, SimOptions, Unit};

const DIR: &str = "snapshots";

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("without latency nothing waits")
}

fn id(index: u64) -> LogId {
    LogId { term: 2, leader: NodeId(3), index }
}

/// A state that tells its index and length apart from all others.
fn state(index: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::new(index);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn meta(index: u64) -> Vec<u8> {
    format!("meta of {index}").into_bytes()
}

/// Hands a state over in pieces of uneven sizes, empty ones among them.
fn pieces(state: &[u8]) -> impl FnOnce(Sink<'_>) + Send {
    move |sink| {
        let (mut rest, mut size) = (state, 0);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(size));
            sink(piece);
            rest = later;
            size = size * 5 % 99_991 + 1;
        }
    }
}

fn publish(store: &Snapshots, index: u64, size: usize) -> Result<SnapshotFile, SnapshotError> {
    now(store.publish(id(index), &meta(index), pieces(&state(index, size))))
}

fn open(disk: &SimDisk) -> Result<Snapshots, SnapshotError> {
    now(Snapshots::open(disk.boot(), Path::new(DIR))).map(|(store, _)| store)
}

fn formatted(options: SimOptions) -> (SimDisk, Snapshots) {
    let disk = SimDisk::new(options);
    now(Snapshots::format(&disk, Path::new(DIR))).unwrap();
    let store = open(&disk).unwrap();
    (disk, store)
}

fn is_whole(file: &SnapshotFile, size: usize) -> bool {
    file.meta == meta(file.last.index) && file.read_state().unwrap() == state(file.last.index, size)
}

fn files(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap()
}

#[test]
fn a_small_snapshot_has_these_bytes() {
    let (disk, store) = formatted(SimOptions::default());
    let last = LogId { term: 5, leader: NodeId(7), index: 300 };
    let file = now(store.publish(last, b"meta", |sink| sink(b"state"))).unwrap();
    assert_eq!(file.path(), Path::new("snapshots/00000000000000000300.snapshot"));
    let expected = [
        &b"QUEUESNP\x01\0\0\0\0\0\x04\0"[..],
        b"state",
        &[0xdf, 0x68, 0xdb, 0x66],
        b"meta",
        b"\x2c\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0",
        b"\x05\0\0\0\0\0\0\0\x5d\0\0\0\0\0\0\0\x04\0\0\0",
        &[0x95, 0x10, 0x07, 0x1b],
        &[0xd1, 0x20, 0xb4, 0x7c],
        &[0x33, 0x96, 0x54, 0x2b],
        &[0; 4],
        &[0xb6, 0x5b, 0x51, 0x67],
    ];
    assert_eq!(disk.bytes(&file.path()).unwrap(), expected.concat());
}

#[test]
fn states_of_all_sizes_come_back_from_a_real_disk_in_parts_and_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join(DIR);
    now(Snapshots::format(&OsDisk, &dir)).unwrap();
    let sizes = [0, 1, PART_SIZE - 1, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE, 3 * PART_SIZE + 77];
    for (index, size) in (1u64..).zip(sizes) {
        let (store, removed) = now(Snapshots::open(Arc::new(OsDisk), &dir)).unwrap();
        assert_eq!(removed, [""; 0]);
        assert_eq!(
            store.newest().map(|file| file.last),
            index.checked_sub(1).filter(|last| *last > 0).map(id)
        );
        let written = publish(&store, index, size).unwrap();
        let (store, _) = now(Snapshots::open(Arc::new(OsDisk), &dir)).unwrap();
        for file in [written, store.newest().unwrap()] {
            assert_eq!((file.last, file.state_size), (id(index), size as u64));
            assert!(is_whole(&file, size));
            let (mut all, mut part) = (Vec::new(), vec![1, 2, 3]);
            while !part.is_empty() {
                file.read_part(all.len() as u64, &mut part).unwrap();
                assert!(part.len() <= PART_SIZE);
                all.append(&mut part.clone());
            }
            assert_eq!(all, state(index, size));
            file.read_part(size as u64 / 2, &mut part).unwrap();
            assert!(state(index, size)[size / 2..].starts_with(&part) && part.is_empty() == (size == 0));
        }
        assert_eq!(OsDisk.list(&dir).unwrap(), [name(index)]);
    }
}

#[test]
fn the_futures_can_move_between_threads() {
    fn sendable(_: &impl Send) {}
    let (_disk, store) = formatted(SimOptions::default());
    sendable(&store.publish(id(1), b"", pieces(b"x")));
    sendable(&Snapshots::open(Arc::new(OsDisk), Path::new(DIR)));
    sendable(&store.stage(id(1), 0).unwrap().finish().unwrap().publish(b""));
}

#[test]
fn an_older_snapshot_stays_readable_for_who_holds_it() {
    let (disk, store) = formatted(SimOptions::default());
    let old = publish(&store, 1, 2 * PART_SIZE).unwrap();
    publish(&store, 2, 10).unwrap();
    assert_eq!(files(&disk), [name(2)]);
    assert!(is_whole(&old, 2 * PART_SIZE));
    assert_eq!(store.newest().unwrap().last, id(2));
}

#[test]
fn a_snapshot_that_comes_late_does_not_replace_a_newer_one() {
    let (disk, store) = formatted(SimOptions::default());
    publish(&store, 5, 10).unwrap();
    assert_eq!(publish(&store, 4, 10).unwrap().last, id(5));
    assert_eq!(publish(&store, 5, 10).unwrap().last, id(5));
    assert_eq!(files(&disk), [name(5)]);
    assert!(is_whole(&open(&disk).unwrap().newest().unwrap(), 10));
}

#[tokio::test(start_paused = true)]
async fn of_two_published_at_once_the_newer_one_stays_whoever_is_quicker() {
    let mut orders = BTreeSet::new();
    for seed in 0..50 {
        let (disk, store) = formatted(SimOptions { seed, ..SimOptions::default() });
        let spread = std::time::Duration::from_millis(10);
        disk.set_latency(Latency { max: spread, ..Latency::default() });
        let (old_state, new_state) = (state(1, 100), state(2, 100));
        let (old_meta, new_meta) = (meta(1), meta(2));
        let started = tokio::time::Instant::now();
        let timed = async |last, meta: &[u8], state: &[u8]| {
            let file = store.publish(last, meta, pieces(state)).await.unwrap();
            (file.last, started.elapsed())
        };
        let (old, new) =
            tokio::join!(timed(id(1), &old_meta, &old_state), timed(id(2), &new_meta, &new_state));
        assert_eq!(new.0, id(2));
        assert!(is_whole(&store.newest().unwrap(), 100) && store.newest().unwrap().last == id(2));
        orders.insert((old.0.index, old.1 < new.1));
        disk.set_latency(Latency::default());
        disk.crash(seed);
        let again = open(&disk).unwrap();
        assert!(is_whole(&again.newest().unwrap(), 100) && again.newest().unwrap().last == id(2));
        assert_eq!(files(&disk), [name(2)]);
    }
    assert!(orders.len() > 2, "{orders:?}");
}

#[test]
fn every_flipped_bit_is_an_error_that_names_the_file_and_the_place() {
    let (disk, store) = formatted(SimOptions::default());
    publish(&store, 1, 10).unwrap();
    let path = publish(&store, 2, 20).unwrap().path();
    let bytes = disk.bytes(&path).unwrap();
    for bit in 0..bytes.len() as u64 * 8 {
        disk.flip(&path, bit).unwrap();
        match open(&disk).err() {
            Some(SnapshotError::Corrupt { path: found, offset, .. }) => {
                assert!(found == path && offset <= bytes.len() as u64);
            }
            other => panic!("bit {bit}: {other:?}"),
        }
        assert_eq!(files(&disk), [name(2)], "nothing is cleaned up");
        disk.flip(&path, bit).unwrap();
    }
}

#[test]
fn rot_after_the_start_is_found_by_the_read_that_meets_it() {
    let (disk, store) = formatted(SimOptions::default());
    let file = publish(&store, 2, 2 * PART_SIZE + 5).unwrap();
    disk.flip(&file.path(), (OPENING_SIZE + PART_SIZE + 9) as u64 * 8).unwrap();
    let mut part = Vec::new();
    file.read_part(0, &mut part).unwrap();
    let expected = "snapshots/00000000000000000002.snapshot is corrupt at offset 262160: the checksum of a part does not match";
    assert_eq!(file.read_part(PART_SIZE as u64, &mut part).unwrap_err().to_string(), expected);
    assert!(part.is_empty() && file.read_state().is_err());
    file.read_part(2 * PART_SIZE as u64, &mut part).unwrap();
    assert_eq!(part.len(), 5);
}

#[test]
fn every_truncation_is_corrupt_and_so_is_a_file_under_another_name() {
    let (disk, store) = formatted(SimOptions::default());
    let path = publish(&store, 2, 20).unwrap().path();
    let size = disk.bytes(&path).unwrap().len() as u64;
    disk.rename(&path, &Path::new(DIR).join(name(3))).unwrap();
    let error = open(&disk).err().unwrap().to_string();
    assert!(
        error.ends_with("0003.snapshot is corrupt at offset 0: it covers another index than its name says")
    );
    disk.rename(&Path::new(DIR).join(name(3)), &path).unwrap();
    for size in (0..size).rev() {
        disk.open(&path, Open::Write).unwrap().set_size(size).unwrap();
        assert!(matches!(open(&disk).err(), Some(SnapshotError::Corrupt { .. })), "{size} bytes");
    }
}

#[test]
fn a_format_of_tomorrow_is_named_as_such() {
    let (disk, store) = formatted(SimOptions::default());
    let path = publish(&store, 2, 20).unwrap().path();
    // Format 3 in the opening, and an end that this version does not understand.
    disk.flip(&path, 8 * 8 + 1).unwrap();
    disk.open(&path, Open::Write).unwrap().set_size(100).unwrap();
    assert!(matches!(open(&disk).err(), Some(SnapshotError::Format { found: 3, .. })));
}

#[test]
fn at_every_crash_point_the_newest_is_the_old_one_or_the_new_one_and_whole() {
    let sizes = [0, 3_000, PART_SIZE + 700];
    let mut seen = BTreeSet::new();
    for (k, seed) in (0..=9).flat_map(|k| (0..48).map(move |seed| (k, seed))) {
        let unit = if seed % 2 == 0 { Unit::Sector } else { Unit::Page };
        let size = sizes[usize::try_from(seed).unwrap() % sizes.len()];
        let (disk, store) = formatted(SimOptions { seed, unit, ..SimOptions::default() });
        if seed % 3 > 0 {
            publish(&store, 1, size).unwrap();
        }
        disk.off_after(k);
        let done = publish(&store, 2, size).is_ok();
        disk.crash(seed);
        // Another crash, while it is being opened.
        disk.off_after(seed % 4);
        let during = open(&disk).is_ok();
        disk.crash(seed + 1);
        let store = open(&disk).unwrap_or_else(|error| panic!("after {k}, seed {seed}: {error}"));
        let newest = store.newest();
        let found = newest.as_ref().map(|file| file.last.index);
        let before = (seed % 3 > 0).then_some(1);
        assert!(found == Some(2) || (found == before && !done), "after {k}, seed {seed}: {found:?}");
        assert!(newest.iter().all(|file| is_whole(file, size)));
        assert_eq!(files(&disk), Vec::from_iter(found.map(name)), "no other file is left");
        assert!(is_whole(&publish(&store, 3, size).unwrap(), size));
        seen.insert((found, done, during));
    }
    let expected = [(None, false), (Some(1), false), (Some(2), false), (Some(2), true)];
    for (found, done) in expected {
        assert!(seen.contains(&(found, done, true)) && seen.contains(&(found, done, false)), "{seen:?}");
    }
}

#[test]
fn what_an_opened_store_calls_newest_stays_so_through_a_power_loss() {
    for k in 0..9 {
        let (disk, store) = formatted(SimOptions::default());
        publish(&store, 1, 10).unwrap();
        disk.off_after(k);
        let _killed = publish(&store, 2, 10);
        // The process dies, not the machine: a name may be in the cache only.
        disk.off_after(u64::MAX);
        disk.kill();
        let newest = open(&disk).unwrap().newest().unwrap().last;
        disk.crash_with(k, Bias::None);
        assert_eq!(open(&disk).unwrap().newest().unwrap().last, newest, "after {k}");
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_a_failed_sync_ends_the_use_of_the_store() {
    for (op, usable) in
        [(Op::Create, true), (Op::Write, true), (Op::Rename, true), (Op::Sync, false), (Op::SyncDir, false)]
    {
        let (disk, store) = formatted(SimOptions::default());
        publish(&store, 1, 10).unwrap();
        disk.inject(Injection { op, path: DIR.to_owned(), nth: 1, fault: Fault::Io });
        assert!(matches!(publish(&store, 2, 10), Err(SnapshotError::Disk(_))), "{op:?}");
        assert_eq!(store.newest().unwrap().last, id(1), "{op:?}");
        assert!(op == Op::SyncDir || files(&disk) == [name(1)], "{op:?}");
        match publish(&store, 3, 10) {
            Ok(file) => assert!(usable && is_whole(&file, 10), "{op:?}"),
            Err(error) => assert!(!usable && matches!(error, SnapshotError::Unusable), "{op:?}: {error}"),
        }
        disk.crash(1);
        let store = open(&disk).unwrap();
        assert!(is_whole(&store.newest().unwrap(), 10), "{op:?}");
    }
    let (disk, store) = formatted(SimOptions { capacity: 10_000, ..SimOptions::default() });
    publish(&store, 1, 9_000).unwrap();
    let full = publish(&store, 2, 9_000).err();
    assert!(
        matches!(full, Some(SnapshotError::Disk(error)) if error.kind() == std::io::ErrorKind::StorageFull)
    );
    assert_eq!(files(&disk), [name(1)], "the room is free again");
    assert!(is_whole(&publish(&store, 2, 100).unwrap(), 100));
}

#[test]
fn an_unreadable_snapshot_is_an_error_of_the_disk_and_is_kept() {
    let (disk, store) = formatted(SimOptions::default());
    publish(&store, 1, 10).unwrap();
    for nth in 1..=5 {
        disk.fail(Op::Read, nth, Fault::Io);
        assert!(
            matches!(open(&disk).err(), Some(SnapshotError::Disk(error)) if error.op == "pread"),
            "{nth}"
        );
    }
    assert!(is_whole(&open(&disk).unwrap().newest().unwrap(), 10));
    let missing = now(Snapshots::open(disk.boot(), Path::new("nowhere"))).err();
    assert!(
        matches!(missing, Some(SnapshotError::Disk(error)) if error.kind() == std::io::ErrorKind::NotFound)
    );
}

#[test]
fn tmp_files_are_removed_unread_and_other_names_are_left_alone() {
    let (disk, store) = formatted(SimOptions::default());
    publish(&store, 1, 10).unwrap();
    let foreign = ["2.snapshot", "00000000000000000009.snapshot.bak", "note"];
    for name in foreign.iter().chain(&["x.tmp", "00000000000000000009.snapshot.tmp"]) {
        disk.open(&Path::new(DIR).join(name), Open::Create).unwrap();
    }
    let (store, removed) = now(Snapshots::open(disk.boot(), Path::new(DIR))).unwrap();
    assert_eq!(removed, ["00000000000000000009.snapshot.tmp", "x.tmp"]);
    assert_eq!(store.newest().unwrap().last, id(1));
    let mut left = vec![name(1)];
    left.extend(foreign.map(str::to_owned));
    left.sort();
    assert_eq!(files(&disk), left);
}

#[test]
fn a_staged_snapshot_is_read_before_it_is_published() {
    let (disk, store) = formatted(SimOptions::default());
    publish(&store, 1, 10).unwrap();
    let bytes = state(9, 2 * PART_SIZE + 3);
    let mut stage = store.stage(id(9), bytes.len() as u64).unwrap();
    for part in bytes.chunks(100_000) {
        stage.add(part).unwrap();
    }
    assert_eq!(stage.received(), bytes.len() as u64);
    assert_eq!(store.newest().unwrap().last, id(1));
    let staged = stage.finish().unwrap();
    assert_eq!((staged.last(), staged.state_size()), (id(9), bytes.len() as u64));
    assert_eq!(staged.read_state().unwrap(), bytes);
    let file = now(staged.publish(&meta(9))).unwrap();
    assert!(is_whole(&file, bytes.len()));
    disk.crash_with(1, Bias::None);
    assert!(is_whole(&open(&disk).unwrap().newest().unwrap(), bytes.len()));
    assert_eq!(files(&disk), [name(9)]);
}

#[test]
fn a_stage_takes_what_was_announced_and_leaves_nothing_if_dropped() {
    let (disk, store) = formatted(SimOptions::default());
    let mut stage = store.stage(id(9), 10).unwrap();
    stage.add(&[1; 4]).unwrap();
    assert!(matches!(stage.add(&[2; 7]), Err(SnapshotError::Size { expected: 10, found: 11 })));
    assert_eq!(stage.received(), 4);
    let other = store.stage(id(9), 0).unwrap();
    assert_eq!(files(&disk).len(), 2, "each has a file of its own");
    assert!(matches!(stage.finish().err(), Some(SnapshotError::Size { expected: 10, found: 4 })));
    drop(other);
    assert_eq!(files(&disk), [""; 0]);
    let staged = store.stage(id(9), 0).unwrap().finish().unwrap();
    let large = now(staged.publish(&vec![0; META_SIZE_MAX + 1])).err();
    assert!(matches!(large, Some(SnapshotError::MetaTooLarge { .. })));
    assert_eq!(files(&disk), [""; 0]);
    let largest = vec![7; META_SIZE_MAX];
    now(store.publish(id(9), &largest, |_| {})).unwrap();
    assert_eq!(open(&disk).unwrap().newest().unwrap().meta, largest);
}

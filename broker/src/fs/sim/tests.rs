//! What the simulated disk promises, one test each.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::fs::{Disk, File, Open, Syncing, create_dirs, remove_tmp};

const SEEDS: std::ops::Range<u64> = 0..200;

fn sectors() -> SimDisk {
    SimDisk::new(SimOptions { unit: Unit::Sector, ..SimOptions::default() })
}

fn now(syncing: Syncing<'_>) -> DiskResult<()> {
    syncing.now_or_never().expect("without latency a sync is ready at the first poll")
}

fn write(file: &Arc<dyn File>, bytes: &[u8], offset: u64) {
    file.write_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// A file with durable contents and a durable name.
fn durable(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), Open::Create).unwrap();
    write(&file, bytes, 0);
    now(file.sync()).unwrap();
    now(disk.sync_dir(Path::new(""))).unwrap();
    file
}

fn bytes(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.bytes(Path::new(path)).ok()
}

#[test]
fn what_is_synced_survives_every_crash_and_what_is_not_is_gone() {
    for seed in SEEDS {
        let disk = sectors();
        let file = durable(&disk, "f", &[1; 2000]);
        disk.crash(seed);
        assert_eq!(bytes(&disk, "f").unwrap(), [1; 2000]);
        assert!(file.read_at(&mut [0], 0).is_err(), "a file opened before the crash is dead");
        write(&disk.open(Path::new("f"), Open::Write).unwrap(), &[2; 2000], 0);
        disk.crash_with(seed, Bias::None);
        assert_eq!(bytes(&disk, "f").unwrap(), [1; 2000]);
        write(&disk.open(Path::new("f"), Open::Write).unwrap(), &[2; 2000], 0);
        disk.crash_with(seed, Bias::All);
        assert_eq!(bytes(&disk, "f").unwrap(), [2; 2000]);
    }
}

#[test]
fn unsynced_units_survive_in_every_combination_and_never_torn_inside() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = sectors();
        let file = durable(&disk, "f", &[1; 3 * 512]);
        write(&file, &[2; 3 * 512], 0);
        disk.crash(seed);
        let found = bytes(&disk, "f").unwrap();
        let units: Vec<u8> = found.chunks(512).map(|unit| unit[0]).collect();
        assert!(found.chunks(512).all(|unit| unit.iter().all(|byte| *byte == unit[0])));
        seen.insert(units);
    }
    assert_eq!(seen.len(), 8, "all of them: {seen:?}");
}

#[test]
fn a_page_survives_whole() {
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions::default());
        let file = durable(&disk, "f", &[1; 4096]);
        write(&file, &[2; 4096], 0);
        disk.crash(seed);
        let found = bytes(&disk, "f").unwrap();
        assert!(found == [1; 4096] || found == [2; 4096]);
    }
}

#[test]
fn a_unit_written_twice_may_be_left_as_of_the_first_time() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
        let file = durable(&disk, "f", &[1; 10]);
        write(&file, &[2; 10], 0);
        write(&file, &[3; 10], 0);
        disk.crash(seed);
        seen.insert(bytes(&disk, "f").unwrap()[0]);
    }
    assert_eq!(Vec::from_iter(seen), [1, 2, 3]);
}

#[test]
fn length_and_contents_survive_independently() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = sectors();
        let file = durable(&disk, "f", &[1; 512]);
        write(&file, &[2; 512], 512);
        disk.crash(seed);
        let found = bytes(&disk, "f").unwrap();
        assert_eq!(found[..512], [1; 512]);
        seen.insert((found.len(), found.last().copied()));
    }
    // Lost, long and empty, whole.
    assert_eq!(Vec::from_iter(seen), [(512, Some(1)), (1024, Some(0)), (1024, Some(2))]);
}

#[test]
fn a_cut_that_is_lost_shows_the_old_bytes_again() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = sectors();
        let file = durable(&disk, "f", &[1; 1024]);
        file.set_size(512).unwrap();
        assert_eq!(bytes(&disk, "f").unwrap().len(), 512);
        file.set_size(1024).unwrap();
        assert_eq!(bytes(&disk, "f").unwrap()[512..], [0; 512]);
        disk.crash(seed);
        seen.insert(bytes(&disk, "f").unwrap().get(512).copied());
    }
    assert_eq!(Vec::from_iter(seen), [None, Some(0), Some(1)]);
    let disk = sectors();
    let file = durable(&disk, "f", &[1; 1024]);
    file.set_size(100).unwrap();
    file.set_size(1024).unwrap();
    now(file.sync()).unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(bytes(&disk, "f").unwrap(), [&[1u8; 100][..], &[0; 924]].concat());
}

#[test]
fn a_sync_of_a_file_saves_no_name_and_a_sync_of_names_no_contents() {
    let disk = sectors();
    let file = disk.open(Path::new("f"), Open::Create).unwrap();
    write(&file, b"x", 0);
    now(file.sync()).unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(bytes(&disk, "f"), None);

    let file = disk.open(Path::new("f"), Open::Create).unwrap();
    write(&file, b"x", 0);
    now(disk.sync_dir(Path::new("."))).unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(bytes(&disk, "f").unwrap(), b"");
}

#[test]
fn a_rename_is_whole_or_not_at_all_and_keeps_what_it_replaced_until_synced() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = sectors();
        durable(&disk, "f", b"old");
        durable(&disk, "f.tmp", b"new");
        disk.rename(Path::new("f.tmp"), Path::new("f")).unwrap();
        assert_eq!((bytes(&disk, "f.tmp"), bytes(&disk, "f").unwrap()), (None, b"new".to_vec()));
        disk.crash(seed);
        seen.insert((bytes(&disk, "f.tmp").is_some(), bytes(&disk, "f").unwrap()));
    }
    assert_eq!(Vec::from_iter(seen), [(false, b"new".to_vec()), (true, b"old".to_vec())]);
}

#[test]
fn names_survive_independently_until_their_directory_is_synced() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = sectors();
        durable(&disk, "gone", b"");
        disk.open(Path::new("a"), Open::Create).unwrap();
        disk.open(Path::new("b"), Open::Create).unwrap();
        disk.remove(Path::new("gone")).unwrap();
        disk.crash(seed);
        seen.insert(disk.list(Path::new("")).unwrap());
        now(disk.sync_dir(Path::new(""))).unwrap();
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_directory_that_is_not_durable_takes_along_what_is_in_it() {
    let disk = sectors();
    disk.create_dir_all(Path::new("/d/e")).unwrap();
    let file = disk.open(Path::new("/d/e/f"), Open::Create).unwrap();
    now(file.sync()).unwrap();
    now(disk.sync_dir(Path::new("/d/e"))).unwrap();
    now(disk.sync_dir(Path::new("/d"))).unwrap();
    let before = disk.image();
    disk.crash_with(1, Bias::None);
    assert!(disk.files().is_empty() && !disk.exists(Path::new("d")).unwrap());

    // Back on the old platter nothing is pending any more: the directory never got there.
    disk.restore(&before);
    assert!(disk.exists(Path::new("/d/e/f")).unwrap());

    disk.restore(&Image::default());
    create_dirs(&disk, Path::new("/d/e")).now_or_never().unwrap().unwrap();
    disk.open(Path::new("/d/e/f.tmp"), Open::Create).unwrap();
    now(disk.sync_dir(Path::new("/d/e"))).unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(disk.list(Path::new("d/e")).unwrap(), ["f.tmp"]);
    assert_eq!(remove_tmp(&disk, Path::new("d/e")).now_or_never().unwrap().unwrap(), ["f.tmp"]);
    disk.crash_with(1, Bias::None);
    assert!(disk.files().is_empty());
}

#[test]
fn a_failed_sync_loses_pages_that_the_cache_still_shows_and_the_next_sync_does_not_save() {
    let mut lost = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions { seed, unit: Unit::Sector, ..SimOptions::default() });
        let file = durable(&disk, "f", &[1; 1024]);
        write(&file, &[2; 1024], 0);
        disk.fail(Op::Sync, 1, Fault::Io);
        assert_eq!(now(file.sync()).unwrap_err().op, "fdatasync");
        now(file.sync()).expect("the retry lies");
        assert_eq!(bytes(&disk, "f").unwrap(), [2; 1024]);
        if seed % 2 == 0 {
            disk.crash_with(seed, Bias::All);
        } else {
            file.drop_cache().unwrap();
        }
        let found = bytes(&disk, "f").unwrap();
        lost.insert((found[0], found[512]));
    }
    assert_eq!(Vec::from_iter(lost), [(1, 1), (1, 2), (2, 1), (2, 2)]);
}

#[test]
fn a_failed_sync_of_names_loses_names_that_are_still_listed() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
        disk.open(Path::new("f"), Open::Create).unwrap();
        disk.fail(Op::SyncDir, 1, Fault::Io);
        assert!(now(disk.sync_dir(Path::new(""))).is_err());
        now(disk.sync_dir(Path::new(""))).unwrap();
        assert_eq!(disk.list(Path::new("")).unwrap(), ["f"]);
        disk.crash_with(seed, Bias::All);
        seen.insert(disk.exists(Path::new("f")).unwrap());
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn dropping_the_cache_keeps_what_is_dirty() {
    let disk = sectors();
    let file = durable(&disk, "f", &[1; 1024]);
    write(&file, &[2; 10], 600);
    file.drop_cache().unwrap();
    let found = bytes(&disk, "f").unwrap();
    assert_eq!((found[599], found[600], found[609], found[610]), (1, 2, 2, 1));
}

#[test]
fn a_misdirected_unit_is_missing_here_and_too_much_there() {
    let mut hit = 0;
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions { seed, unit: Unit::Sector, ..SimOptions::default() });
        let file = durable(&disk, "f", &[[1; 512], [2; 512], [3; 512]].concat());
        write(&file, &[9; 512], 512);
        disk.fail(Op::Sync, 1, Fault::Misdirect);
        now(file.sync()).expect("nobody notices");
        assert_eq!(bytes(&disk, "f").unwrap()[512], 9, "the cache is right");
        disk.crash(seed);
        let found = bytes(&disk, "f").unwrap();
        let units = (found[0], found[512], found[1024]);
        assert!(units == (9, 2, 3) || units == (1, 2, 9), "{units:?}");
        hit += u32::from(units.0 == 9);
    }
    assert!((50..150).contains(&hit));
}

#[test]
fn space_ends_where_the_budget_does() {
    let disk = SimDisk::new(SimOptions { capacity: 1_000, ..SimOptions::default() });
    let file = durable(&disk, "f", &[1; 600]);
    assert_eq!(disk.space(Path::new("")).unwrap().free, 400);
    let failed = file.write_at(&[IoSlice::new(&[2; 500])], 600).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::StorageFull);
    assert_eq!(file.size().unwrap(), 1_000, "what fits was written");
    write(&file, &[3; 600], 0);
    let other = disk.open(Path::new("g"), Open::Create).unwrap();
    assert_eq!(other.set_size(1).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.remove(Path::new("f")).unwrap();
    other.set_size(1_000).unwrap();
    disk.set_capacity(2_000);
    assert_eq!(disk.space(Path::new("")).unwrap().free, 1_000);
}

#[test]
fn a_fault_hits_the_chosen_operation_on_the_chosen_path_once() {
    let disk = sectors();
    let f = durable(&disk, "d.log", b"x");
    let g = durable(&disk, "g", b"x");
    disk.inject(Injection { op: Op::Read, path: ".log".to_owned(), nth: 2, fault: Fault::Io });
    let read = |file: &Arc<dyn File>| file.read_at(&mut [0], 0).is_ok();
    assert_eq!([read(&f), read(&g), read(&g), read(&f), read(&f)], [true, true, true, false, true]);
    for (op, name) in
        [(Op::Open, "open"), (Op::Rename, "rename"), (Op::Remove, "unlink"), (Op::List, "readdir")]
    {
        disk.fail(op, 1, Fault::Io);
        let failed = match op {
            Op::Open => disk.open(Path::new("g"), Open::Read).map(drop),
            Op::Rename => disk.rename(Path::new("g"), Path::new("h")),
            Op::Remove => disk.remove(Path::new("g")),
            _ => disk.list(Path::new("")).map(drop),
        };
        assert_eq!(failed.unwrap_err().op, name);
    }
    assert_eq!(disk.list(Path::new("")).unwrap(), ["d.log", "g"]);
    disk.fail(Op::Write, 7, Fault::NoSpace);
    assert_eq!((disk.clear_faults(), disk.clear_faults()), (1, 0));
}

#[test]
fn a_failed_write_leaves_a_beginning() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions { seed, unit: Unit::Sector, ..SimOptions::default() });
        let file = durable(&disk, "f", &[1; 1024]);
        disk.fail(Op::Write, 1, Fault::Io);
        assert!(file.write_at(&[IoSlice::new(&[2; 1024])], 0).is_err());
        seen.insert(bytes(&disk, "f").unwrap().iter().filter(|byte| **byte == 2).count());
    }
    assert_eq!(Vec::from_iter(seen), [0, 512, 1024]);
}

#[test]
fn the_machine_goes_off_behind_the_chosen_operation() {
    let script = |disk: &SimDisk| -> DiskResult<()> {
        let file = disk.open(Path::new("f"), Open::Create)?;
        file.write_at(&[IoSlice::new(b"x")], 0)?;
        now(file.sync())?;
        now(disk.sync_dir(Path::new("")))
    };
    let whole = sectors();
    script(&whole).unwrap();
    assert_eq!(whole.operations(), 4);
    for k in 0..=4 {
        let disk = sectors();
        disk.off_after(k);
        assert_eq!(script(&disk).is_ok(), k == 4);
        assert!(disk.is_off() && disk.exists(Path::new("f")).is_err());
        assert_eq!(disk.operations(), k);
        disk.crash_with(1, Bias::None);
        assert_eq!(bytes(&disk, "f"), (k == 4).then(|| b"x".to_vec()));
        assert!(script(&disk).is_ok() || k == 4, "the power is back");
    }
}

#[test]
fn killing_the_process_keeps_the_cache_and_ends_files_locks_and_boots() {
    let disk = sectors();
    let boot = disk.boot();
    let file = boot.open(Path::new("f"), Open::Create).unwrap();
    write(&file, b"x", 0);
    let guard = disk.lock(Path::new("LOCK")).unwrap();
    assert_eq!(disk.lock(Path::new("LOCK")).err().unwrap().kind(), ErrorKind::WouldBlock);
    disk.kill();
    assert!(file.size().is_err() && now(file.sync()).is_err() && boot.list(Path::new("")).is_err());
    assert_eq!(bytes(&disk, "f").unwrap(), b"x");
    let second = disk.boot().lock(Path::new("./LOCK")).unwrap();
    drop(guard);
    assert!(disk.lock(Path::new("LOCK")).is_err(), "the guard of a dead process frees nothing");
    drop(second);
    assert!(disk.lock(Path::new("LOCK")).is_ok());
}

#[test]
fn a_flipped_bit_is_seen_and_stays() {
    let disk = sectors();
    let file = durable(&disk, "f", &[0; 3]);
    disk.flip(Path::new("f"), 17).unwrap();
    assert_eq!(bytes(&disk, "f").unwrap(), [0, 0, 2]);
    file.drop_cache().unwrap();
    disk.crash(1);
    assert_eq!(bytes(&disk, "f").unwrap(), [0, 0, 2]);
    assert!(disk.flip(Path::new("f"), 24).is_err() && disk.flip(Path::new("g"), 0).is_err());
}

#[test]
fn a_removed_file_stays_readable_where_it_is_open() {
    let disk = sectors();
    let file = durable(&disk, "f", b"x");
    disk.remove(Path::new("f")).unwrap();
    now(disk.sync_dir(Path::new(""))).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, *b"x");
    drop(file);
    assert!(disk.state().contents.is_empty());
}

#[test]
fn open_and_names_mind_what_exists_as_the_real_disk_does() {
    let disk = sectors();
    let kind = |path: &str, how| disk.open(Path::new(path), how).err().map(|error| error.kind());
    assert_eq!(kind("f", Open::Read), Some(ErrorKind::NotFound));
    assert_eq!(kind("d/f", Open::Create), Some(ErrorKind::NotFound));
    assert_eq!(kind("f", Open::Create), None);
    assert_eq!(kind("f", Open::Create), Some(ErrorKind::AlreadyExists));
    let reader = disk.open(Path::new("f"), Open::Read).unwrap();
    assert!(reader.write_at(&[IoSlice::new(b"x")], 0).is_err() && reader.set_size(1).is_err());
    assert_eq!(reader.read_at(&mut [0], 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(disk.create_dir_all(Path::new("f/x")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.list(Path::new("x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(now(disk.sync_dir(Path::new("x"))).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename(Path::new("x"), Path::new("y")).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Syncs that take time, and what happens meanwhile.
#[tokio::test(start_paused = true)]
async fn what_is_written_while_a_sync_runs_is_not_covered_by_it() {
    let slow = Latency { min: Duration::from_millis(5), max: Duration::from_millis(5), ..Latency::default() };
    let disk = SimDisk::new(SimOptions { latency: slow, ..SimOptions::default() });
    let file = disk.open(Path::new("f"), Open::Create).unwrap();
    disk.sync_dir(Path::new("")).await.unwrap();
    write(&file, b"1", 0);
    let late = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        write(&file, b"2", 0);
        // Begun later and done later; a third one is overtaken by nobody.
        file.sync().await.unwrap();
        write(&file, b"3", 0);
    };
    let (first, ()) = tokio::join!(file.sync(), late);
    first.unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(bytes(&disk, "f").unwrap(), b"2");
}

#[tokio::test(start_paused = true)]
async fn a_slow_sync_does_not_undo_a_quick_one_that_began_later() {
    let disk = SimDisk::new(SimOptions::default());
    let file = durable(&disk, "f", b"0");
    write(&file, b"1", 0);
    disk.set_latency(Latency {
        min: Duration::from_secs(1),
        max: Duration::from_secs(1),
        ..Latency::default()
    });
    let slow = file.sync();
    let quick = async {
        disk.set_latency(Latency::default());
        write(&file, b"2", 0);
        file.sync().await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, quick);
    slow.unwrap();
    disk.crash_with(1, Bias::None);
    assert_eq!(bytes(&disk, "f").unwrap(), b"2");
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_a_crash_or_the_switch_interrupts_fails_and_may_have_saved_something() {
    let slow = Latency { min: Duration::from_millis(5), max: Duration::from_millis(5), ..Latency::default() };
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let disk = SimDisk::new(SimOptions::default());
        let file = durable(&disk, "f", b"0");
        write(&file, b"1", 0);
        disk.set_latency(slow);
        let crash = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if seed % 2 == 0 {
                disk.off_after(1);
                write(&file, b"1", 0);
            } else {
                disk.crash(seed);
            }
        };
        let (interrupted, ()) = tokio::join!(file.sync(), crash);
        assert!(interrupted.is_err());
        disk.crash(seed);
        seen.insert(bytes(&disk, "f").unwrap());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn syncs_take_the_time_they_are_told_to_and_some_stall() {
    let latency = Latency {
        min: Duration::from_millis(1),
        max: Duration::from_millis(3),
        stalls_per_mille: 100,
        stall: Duration::from_secs(1),
    };
    let disk = SimDisk::new(SimOptions { latency, ..SimOptions::default() });
    let file = disk.open(Path::new("f"), Open::Create).unwrap();
    let mut stalls = 0;
    for _ in 0..500 {
        let before = tokio::time::Instant::now();
        file.sync().await.unwrap();
        let taken = before.elapsed();
        assert!(taken >= latency.min && taken <= latency.max + latency.stall + Duration::from_millis(1));
        stalls += u32::from(taken > Duration::from_millis(10));
    }
    assert!((25..100).contains(&stalls), "{stalls}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let disk = SimDisk::new(SimOptions { seed, unit: Unit::Sector, ..SimOptions::default() });
        disk.record();
        let mut rng = Rng::new(seed);
        for round in 0..5u8 {
            for name in ["a", "b", "c"] {
                let path = Path::new(name);
                let file = disk.open(path, Open::Write).or_else(|_| disk.open(path, Open::Create)).unwrap();
                write(&file, &vec![round; pages::small(rng.below(5_000))], rng.below(5_000));
                if rng.chance(1, 3) {
                    disk.fail(Op::Sync, 1, Fault::Io);
                }
                let _failed = now(file.sync());
            }
            disk.rename(Path::new("a"), Path::new("b")).unwrap();
            disk.crash(rng.next_u64());
        }
        let image = disk.image();
        (disk.recorded(), image.names, image.contents)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).2, run(2).2);
    let line = &run(1).0[2];
    assert!(line.starts_with("2 pwritev a "), "{line}");
}

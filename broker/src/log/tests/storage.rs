//! What is written is read: entries, votes, marks, across groups, segments and restarts.

use super::*;
use crate::fs::Disk as _;
use crate::fs::sim::{Bias, Fault, Injection, Latency, Op};
use crate::log::{Ballast, Lack, LogState};

#[test]
fn what_was_appended_is_read_before_and_after_a_restart() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        assert_eq!(store.recovered.epoch, 1);
        let entries: Vec<Entry> = (0..60).map(|index| entry(index, 1)).collect();
        let expected: Vec<Entry> = entries.iter().map(joined).collect();
        store.append(entries.clone()).await;
        assert!(store.log.usage().segments > 2, "{:?}", store.log.usage());
        assert_eq!(store.read_all(), expected);
        store.close().await;
        let store = Store::open(&disk).await;
        assert_eq!((store.recovered.epoch, store.recovered.torn_bytes), (2, 0));
        assert_eq!(store.read_all(), expected);
        for entry in &entries {
            let index = entry.id.index;
            assert_eq!(store.log.id_at(index).unwrap(), Some(entry.id));
            let ordinals: Vec<u32> = (0..u32::try_from(entry.table.len()).unwrap()).collect();
            let bodies: Vec<_> = ordinals.iter().map(|ordinal| body(entry, *ordinal)).collect();
            assert_eq!(store.log.read_bodies(index, &ordinals).unwrap(), bodies);
            if let Some(last) = ordinals.last() {
                assert_eq!(store.log.read_bodies(index, &[*last]).unwrap(), [body(entry, *last)]);
            }
            let without = store.log.read(index..index + 1, 0, Contents::Without).unwrap();
            assert_eq!(without, [Entry { contents: None, ..entry.clone() }]);
        }
        assert!(matches!(store.log.read_bodies(1, &[3]), Err(LogError::NoBody { index: 1, ordinal: 3 })));
        assert!(matches!(store.log.read_bodies(60, &[0]), Err(LogError::NoBody { index: 60, ordinal: 0 })));
        assert_eq!(store.log.id_at(60).unwrap(), None);
    });
}

#[test]
fn entries_are_readable_before_they_are_durable_and_done_waits_for_the_sync() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let second = Duration::from_secs(1);
        disk.set_latency(Latency { min: second, max: second, ..Latency::default() });
        let (done, mut waiting) = signal();
        store.log.append(vec![entry(0, 1), entry(1, 1)], done);
        assert_eq!(store.read_all(), [joined(&entry(0, 1)), joined(&entry(1, 1))]);
        assert_eq!(store.log.read_bodies(1, &[2]).unwrap(), [body(&entry(1, 1), 2)]);
        tokio::time::sleep(second / 2).await;
        assert!(waiting.try_recv().is_err(), "the sync takes a second");
        let image = disk.image();
        tokio::time::sleep(second).await;
        waiting.try_recv().expect("the sync is done");
        store.kill(&disk);
        let durable = disk.image();
        for (image, last) in [(image, None), (durable, Some(id(1, 1)))] {
            disk.restore(&image);
            assert_eq!(Store::open(&disk).await.log.state().last, last);
        }
    });
}

#[test]
fn while_one_group_syncs_the_next_gathers() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let millis = Duration::from_millis(10);
        disk.set_latency(Latency { min: millis, max: millis, ..Latency::default() });
        disk.record();
        store.log.append(vec![entry(0, 1)], nothing());
        settle().await;
        for index in 1..10 {
            store.log.append(vec![entry_of(index, 1, &[1])], nothing());
            store.log.save_committed(Some(id(index - 1, 1)));
        }
        store.flush().await;
        let syncs = disk
            .recorded()
            .iter()
            .filter(|line| line.contains("fdatasync") && line.ends_with(".log"))
            .count();
        let one_segment = store.log.usage().segments == 1;
        assert!(one_segment, "a roll has syncs of its own");
        assert_eq!(syncs, 2, "{:?}", disk.recorded());
    });
}

#[test]
fn a_failed_sync_ends_the_writer_and_nothing_completes_afterwards() {
    for op in [Op::Write, Op::Sync] {
        run(async {
            let disk = formatted().await;
            let store = Store::open(&disk).await;
            store.append([entry(0, 1)]).await;
            settle().await;
            disk.fail(op, 1, Fault::Io);
            let (done, waiting) = signal();
            store.log.append(vec![entry(1, 1)], done);
            let error = store.writer.await.unwrap().expect_err("the disk fails");
            assert!(matches!(error, LogError::Disk(_)), "{error}");
            waiting.await.expect_err("dropped uncalled");
            let (done, waiting) = signal();
            store.log.save_vote(vote(9), done);
            waiting.await.expect_err("dropped uncalled");
            let flushed = tokio::time::timeout(Duration::from_secs(60), store.log.flush()).await;
            assert!(flushed.is_err(), "a flush never completes");
            assert!(store.keeper.await.unwrap().is_ok());
        });
    }
}

#[test]
fn votes_and_marks_come_back() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        assert_eq!(store.log.state(), LogState::default());
        store.append((0..4).map(|index| entry(index, 1))).await;
        store.log.save_vote(vote(7), nothing());
        store.log.save_vote(vote(8), nothing());
        store.log.save_committed(Some(id(2, 1)));
        store.close().await;
        let store = Store::open(&disk).await;
        let state =
            LogState { vote: Some(vote(8)), committed: Some(id(2, 1)), purged: None, last: Some(id(3, 1)) };
        assert_eq!(store.log.state(), state);
        store.log.save_committed(Some(id(9, 1)));
        assert_eq!(store.log.state().committed, Some(id(3, 1)), "never beyond the last entry");
        store.close().await;
        assert_eq!(Store::open(&disk).await.log.state().committed, Some(id(3, 1)));
    });
}

#[test]
fn a_mark_rides_along_and_silence_is_sealed() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append([entry(0, 1)]).await;
        disk.record();
        store.log.save_committed(Some(id(0, 1)));
        settle().await;
        let syncs = || {
            disk.recorded().iter().filter(|line| line.contains("fdatasync") && line.ends_with(".log")).count()
        };
        assert_eq!(syncs(), 0, "a mark has no sync of its own");
        tokio::time::sleep(Duration::from_millis(21)).await;
        settle().await;
        assert_eq!(syncs(), 1, "the seal");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(syncs(), 1, "one seal is enough");
        store.kill(&disk);
        assert_eq!(Store::open(&disk).await.log.state().committed, Some(id(0, 1)));
    });
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own_size() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let large = [entry_of(0, 1, &[10]), entry_of(1, 1, &[40_000, 1, 70_000]), entry_of(2, 1, &[100_000])];
        store.append(large.clone()).await;
        store.append([entry(3, 1)]).await;
        let expected: Vec<Entry> = large.iter().chain([&entry(3, 1)]).map(joined).collect();
        assert_eq!(store.read_all(), expected);
        store.close().await;
        let store = Store::open(&disk).await;
        assert_eq!(store.read_all(), expected);
        assert_eq!(store.log.read_bodies(1, &[1]).unwrap(), [body(&large[1], 1)]);
        assert_eq!(store.log.usage().bytes % 4_096, 0);
    });
}

#[test]
fn reads_stop_at_the_limit_but_give_at_least_one() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..30).map(|index| entry_of(index, 1, &[1_000]))).await;
        for contents in [Contents::With, Contents::Without] {
            assert_eq!(store.log.read(3..30, 0, contents).unwrap().len(), 1);
            assert_eq!(store.log.read(3..3, 0, contents).unwrap().len(), 0);
            assert_eq!(store.log.read(30..90, 0, contents).unwrap().len(), 0);
        }
        assert_eq!(store.log.read(3..30, 5_000, Contents::With).unwrap().len(), 5);
        assert_eq!(store.log.read(3..30, 5_000, Contents::Without).unwrap().len(), 27);
    });
}

#[test]
fn a_closed_log_is_sealed_and_says_so() {
    run(async {
        let disk = formatted().await;
        let Store { log, writer, .. } = Store::open(&disk).await;
        let (done, waiting) = signal();
        log.append(vec![entry(0, 1)], done);
        let other = log.clone();
        drop(log);
        settle().await;
        assert!(!writer.is_finished(), "somebody has the log");
        other.close();
        writer.await.unwrap().unwrap();
        waiting.await.expect("what was accepted before is written");
        assert!(matches!(other.flush().await, Err(LogError::Closed)));
        let before = disk.image();
        let store = Store::open(&disk).await;
        drop(store.log);
        store.writer.await.unwrap().expect("the last handle closes the log");
        disk.restore(&before);
        // one byte of the sealed entry changed: nothing of it may be taken for an unfinished write
        disk.flip(&files(&disk, "log")[0], (2 * 4_096 + 70) * 8).unwrap();
        let error =
            Store::open_with(&disk, options()).await.map(drop).expect_err("the seal proves the entry");
        assert!(matches!(error, LogError::Corrupt { offset: 8_192, .. }), "{error}");
    });
}

#[test]
fn format_refuses_a_log() {
    run(async {
        let disk = formatted().await;
        let error = Log::format(disk.boot(), dir(), &options()).await.expect_err("there is one");
        assert!(
            matches!(&error, LogError::Disk(disk) if disk.kind() == std::io::ErrorKind::AlreadyExists),
            "{error}"
        );
        assert!(
            Store::open_with(&disk, LogOptions { seed: 1, ..options() }).await.is_err(),
            "another store's log"
        );
    });
}

#[test]
fn on_a_full_disk_the_log_waits_for_room_and_goes_on() {
    run(async {
        let disk = formatted().await;
        let store = Store::open_with(&disk, LogOptions { spares: 0, ..options() }).await.unwrap();
        disk.set_capacity(40 << 10);
        let (done, mut waiting) = signal();
        store.log.append((0..60).map(|index| entry(index, 1)).collect(), done);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(
            waiting.try_recv().is_err() && !store.writer.is_finished(),
            "there is no room for a second segment"
        );
        assert!(files(&disk, "tmp").is_empty(), "what was begun does not stay");
        disk.set_capacity(1 << 30);
        waiting.await.expect("there is room again");
        store.close().await;
        assert_eq!(Store::open(&disk).await.read_all().len(), 60);
    });
}

#[test]
fn what_is_set_aside_is_written_on_a_full_disk_and_is_set_aside_again() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        settle().await;
        let ballast = store.log.ballast();
        assert_eq!(
            ballast,
            Ballast { bytes: 2 * options().segment_size, wanted: 2 * options().segment_size, short: None }
        );
        let space = disk.space(dir()).unwrap();
        disk.set_capacity(space.total - space.free);
        let spares = store.log.usage().spares;
        let mut index = 0;
        while store.log.usage().spares == spares {
            store.append([entry(index, 1)]).await;
            index += 1;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(
            store.log.ballast().short == Some(Lack::Room) && store.log.stalled().is_none(),
            "{:?}",
            store.log.ballast()
        );
        disk.set_capacity(space.total);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(store.log.ballast(), ballast);
        store.close().await;
    });
}

#[test]
fn a_spare_whose_sync_fails_ends_the_keeper_and_one_without_room_does_not() {
    for (fault, ends) in [(Fault::Io, true), (Fault::NoSpace, false)] {
        run(async {
            let disk = formatted().await;
            disk.inject(Injection { op: Op::Sync, path: ".tmp".into(), nth: 1, fault });
            let store = Store::open_with(&disk, LogOptions { spares: 5, ..options() }).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(store.keeper.is_finished(), ends, "{fault:?}");
            assert_eq!(store.log.usage().spares == 5, !ends, "{fault:?}");
        });
    }
}

#[test]
fn an_unfinished_tail_is_cut_and_counted() {
    run(async {
        let mut torn = 0;
        for seed in 0..20 {
            let disk = formatted().await;
            let store = Store::open(&disk).await;
            store.append([entry(0, 1)]).await;
            let minute = Duration::from_secs(60);
            disk.set_latency(Latency { min: minute, max: minute, ..Latency::default() });
            store.log.append(vec![entry_of(1, 1, &[9_000])], nothing());
            settle().await;
            store.writer.abort();
            store.keeper.abort();
            disk.crash_with(seed, Bias::Half);
            disk.set_latency(Latency::default());
            let store = Store::open(&disk).await;
            let torn_bytes = store.recovered.torn_bytes;
            match store.log.state().last {
                Some(last) if last == id(1, 1) => assert_eq!(torn_bytes, 0),
                last => assert_eq!(last, Some(id(0, 1))),
            }
            assert!(torn_bytes < 4 * 4_096);
            torn += u64::from(torn_bytes > 0);
            store.kill(&disk);
            let again = Store::open(&disk).await;
            assert_eq!(again.recovered.torn_bytes, 0, "what was cut is gone");
        }
        assert!(torn > 5, "{torn} of 20");
    });
}

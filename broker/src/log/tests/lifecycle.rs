//! Heads dropped, tails cut, files recycled, bodies taken in.

use super::*;
use crate::log::Import;

/// Sixty entries of more than 1,000 bytes, purged up to the last but one.
async fn purged(disk: &SimDisk) -> Store {
    let store = Store::open(disk).await;
    store.append((0..60).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
    store.purge(id(58, 1)).await;
    store
}

fn check_bodies(store: &Store, indices: impl IntoIterator<Item = u64>) {
    for index in indices {
        let expected = entry_of(index, 1, &[1_000, 10]);
        let found = store.log.read_bodies(index, &[0, 1]).unwrap();
        assert_eq!(found, [body(&expected, 0), body(&expected, 1)], "{index}");
    }
}

#[test]
fn what_is_purged_is_no_longer_log_but_its_bodies_stay() {
    run(async {
        let disk = formatted().await;
        let mut store = purged(&disk).await;
        for _ in 0..2 {
            let state = store.log.state();
            assert_eq!((state.purged, state.last), (Some(id(58, 1)), Some(id(59, 1))));
            assert_eq!(store.log.read(0..100, usize::MAX, Contents::With).unwrap().len(), 1);
            assert_eq!(store.log.id_at(58).unwrap(), None);
            assert_eq!(store.log.body_id(58).unwrap(), id(58, 1));
            check_bodies(&store, 0..60);
            store.close().await;
            store = Store::open(&disk).await;
        }
    });
}

#[test]
fn dead_segments_are_recycled_and_live_ones_stay() {
    run(async {
        let disk = formatted().await;
        let store = purged(&disk).await;
        let before = store.log.usage().segments;
        store.log.collect(vec![(3, 0..2)], 58);
        cleaned(&store).await;
        let usage = store.log.usage();
        assert!(usage.segments < before, "{usage:?}, {before} before");
        assert_eq!(usage.spares, 2);
        let (segments, sparse) = (files(&disk, "log"), files(&disk, "import"));
        assert_eq!(sparse.len(), 1, "what is left of the first segment is copied: {sparse:?}");
        let count = (segments.len() + sparse.len()) as u64;
        assert_eq!(count, usage.segments + usage.spares, "the rest is removed: {segments:?} {sparse:?}");
        check_bodies(&store, [3, 59]);
        assert!(matches!(store.log.read_bodies(30, &[0]), Err(LogError::NoBody { index: 30, ordinal: 0 })));
        store.close().await;
        let store = Store::open(&disk).await;
        check_bodies(&store, [3, 59]);
        assert_eq!(store.log.usage().segments, usage.segments);
    });
}

/// Bodies of every tenth entry, a small part of each file, outlive all others.
#[test]
fn what_is_left_of_mostly_dead_segments_is_copied_together() {
    run(async {
        let disk = formatted().await;
        let mut store = Store::open(&disk).await;
        store.append((0..300).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        store.purge(id(299, 1)).await;
        let before = store.log.usage();
        let few: Vec<u64> = (0..290).step_by(10).collect();
        let live: LiveBodies = few.iter().map(|index| (*index, 1..2)).collect();
        for round in 0..2 {
            store.log.collect(live.clone(), 299);
            cleaned(&store).await;
            for index in &few {
                let expected = body(&entry_of(*index, 1, &[1_000, 10]), 1);
                assert_eq!(store.log.read_bodies(*index, &[1]).unwrap(), [expected], "{index}");
                assert_eq!(store.log.body_id(*index).unwrap(), id(*index, 1));
                assert!(matches!(store.log.read_bodies(*index, &[0]), Err(LogError::NoBody { .. })));
            }
            let usage = store.log.usage();
            assert!(usage.bytes * 4 < before.bytes, "{usage:?}, {before:?} before");
            assert_eq!(files(&disk, "import").len(), 1, "they fit into one file, and it is left alone");
            if round == 0 {
                store.close().await;
                store = Store::open(&disk).await;
            }
        }
    });
}

#[test]
fn many_small_files_become_one_and_no_old_message_pins_a_segment() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let mut live = LiveBodies::new();
        for round in 0..40_u64 {
            let first = round * 30;
            store.append((first..first + 30).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
            store.purge(id(first + 29, 1)).await;
            live.push((first, 0..1));
            store.log.collect(live.clone(), first + 29);
            cleaned(&store).await;
            assert!(files(&disk, "import").len() <= 10, "{:?}", files(&disk, "import"));
        }
        assert!(store.log.usage().segments < 16, "{:?}", store.log.usage());
        for (index, _) in &live {
            let expected = body(&entry_of(*index, 1, &[1_000, 10]), 0);
            assert_eq!(store.log.read_bodies(*index, &[0]).unwrap(), [expected], "{index}");
        }
    });
}

/// Copied together are the files around one that is mostly live; then most of the copies die, and are copied again.
#[test]
fn what_is_copied_twice_leaves_alone_what_lies_between() {
    run(async {
        let disk = formatted().await;
        let mut store = Store::open(&disk).await;
        store.append((0..150).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        store.purge(id(149, 1)).await;
        let between = 40..70_u64;
        let around: [(&[u64], &[u64]); 2] = [(&[0, 1, 2, 3, 4], &[100, 101, 102, 103, 104]), (&[0], &[104])];
        for (before, after) in around {
            let named = before.iter().copied().chain(between.clone()).chain(after.iter().copied());
            let live: LiveBodies = named.map(|index| (index, 0..2)).collect();
            store.log.collect(live.clone(), 149);
            cleaned(&store).await;
            check_bodies(&store, live.iter().map(|(index, _)| *index));
            assert!(store.log.read_bodies(20, &[0]).is_err() && store.log.read_bodies(90, &[0]).is_err());
            store.close().await;
            store = Store::open(&disk).await;
            check_bodies(&store, live.iter().map(|(index, _)| *index));
        }
        assert!(store.log.read_bodies(1, &[0]).is_err(), "the copies were copied again");
    });
}

#[test]
fn what_is_being_read_stays() {
    run(async {
        let disk = formatted().await;
        let store = purged(&disk).await;
        let reading = store.log.reading(vec![3]);
        store.log.collect(LiveBodies::new(), 58);
        cleaned(&store).await;
        check_bodies(&store, [3]);
        assert!(store.log.read_bodies(50, &[0]).is_err());
        drop(reading);
        store.log.collect(LiveBodies::new(), 58);
        cleaned(&store).await;
        assert!(store.log.read_bodies(3, &[0]).is_err());
    });
}

#[test]
fn damage_is_found_before_anybody_needs_what_is_damaged() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..100).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        let first = files(&disk, "log")[0].clone();
        // In the middle of the file, where one body follows the other.
        disk.flip(&first, 8 * 16_000).unwrap();
        let read_twice = tokio::time::timeout(2 * options().scrub_period, store.keeper).await;
        let found = read_twice.expect("it is found").expect("the keeper runs").expect_err("it is damage");
        let name = first.file_name().unwrap();
        assert!(matches!(&found, LogError::Corrupt { path, .. } if path.ends_with(name)), "{found}");
    });
}

/// Between two starts there is time for a quarter of the files.
#[test]
fn damage_is_found_on_a_node_that_is_started_again_and_again() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..300).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        let closed = usize::try_from(store.log.usage().segments).unwrap() - 1;
        store.close().await;
        let segments = files(&disk, "log");
        assert!(closed >= 8, "{segments:?}");
        let image = disk.image();
        for damaged in &segments[..closed] {
            disk.restore(&image);
            disk.flip(damaged, 8 * 16_000).unwrap();
            let mut found = false;
            for _ in 0..24 {
                let mut store = Store::open(&disk).await;
                let kept = tokio::time::timeout(options().scrub_period / 4, &mut store.keeper).await;
                found = kept.is_ok();
                store.kill(&disk);
                if found {
                    break;
                }
            }
            assert!(found, "{} was never read", damaged.display());
        }
    });
}

#[test]
fn nothing_above_the_purge_mark_or_the_snapshot_is_collected() {
    run(async {
        let disk = formatted().await;
        let store = purged(&disk).await;
        store.log.collect(Vec::new(), 0);
        store.flush().await;
        check_bodies(&store, 1..60);
        store.kill(&disk);
        let store = Store::open(&disk).await;
        store.append((60..90).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        store.log.collect(Vec::new(), 80);
        store.flush().await;
        check_bodies(&store, 59..90);
    });
}

#[test]
fn recycled_files_never_show_what_they_held() {
    run(async {
        let disk = formatted().await;
        let mut next = 0;
        for _round in 0..12 {
            let store = Store::open(&disk).await;
            assert_eq!(store.log.state().last.map_or(0, |last| last.index + 1), next);
            assert_eq!(store.recovered.torn_bytes, 0);
            store.append((next..next + 25).map(|index| entry(index, 1))).await;
            next += 25;
            let expected: Vec<Entry> = (next - 25..next).map(|index| joined(&entry(index, 1))).collect();
            assert_eq!(store.read_all(), expected);
            store.purge(id(next - 1, 1)).await;
            store.log.collect(Vec::new(), next - 1);
            store.flush().await;
            settle().await;
            assert!(files(&disk, "log").len() <= 4, "{:?}", files(&disk, "log"));
            store.kill(&disk);
        }
    });
}

#[test]
fn truncated_entries_are_replaced() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..40).map(|index| entry(index, 1))).await;
        store.log.truncate_after(Some(id(9, 1)), nothing());
        assert_eq!(store.log.state().last, Some(id(9, 1)));
        assert_eq!(store.read_all().len(), 10);
        assert!(store.log.read_bodies(11, &[0]).is_err(), "dropped, though not written yet");
        store.append((10..25).map(|index| entry(index, 2))).await;
        let expected: Vec<Entry> = (0..10)
            .map(|index| entry(index, 1))
            .chain((10..25).map(|index| entry(index, 2)))
            .map(|e| joined(&e))
            .collect();
        assert_eq!(store.read_all(), expected);
        store.close().await;
        let store = Store::open(&disk).await;
        assert_eq!(store.read_all(), expected);
        assert_eq!(store.log.read_bodies(11, &[0]).unwrap(), [body(&entry(11, 2), 0)]);
        store.log.truncate_after(None, nothing());
        store.flush().await;
        assert_eq!(store.read_all(), []);
        store.append([entry(0, 3)]).await;
        store.close().await;
        assert_eq!(Store::open(&disk).await.read_all(), [joined(&entry(0, 3))]);
    });
}

#[test]
fn a_purge_beyond_the_last_entry_leaves_an_empty_log_there() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..10).map(|index| entry(index, 1))).await;
        store.purge(id(100, 2)).await;
        store.close().await;
        let store = Store::open(&disk).await;
        let state = store.log.state();
        assert_eq!((state.purged, state.last), (Some(id(100, 2)), Some(id(100, 2))));
        assert_eq!(store.read_all(), []);
        assert_eq!(store.log.read_bodies(2, &[0]).unwrap(), [body(&entry(2, 1), 0)]);
        store.append([entry(101, 2)]).await;
        assert_eq!(store.read_all(), [joined(&entry(101, 2))]);
    });
}

/// Takes in body 1 of every entry in `indices`, as another node has them.
async fn take_in(import: &mut Import, indices: impl IntoIterator<Item = u64>) {
    for index in indices {
        let (spec, bytes) = body(&entry_of(index, 2, &[1_000, 2_000]), 1);
        import.add(id(index, 2), &[(1, spec)], bytes).await.unwrap();
    }
}

#[test]
fn imported_bodies_hide_local_ones_once_their_snapshot_is_published() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..50).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
        let mut import = store.log.import().unwrap();
        take_in(&mut import, (45..90).step_by(2)).await;
        check_bodies(&store, 0..50);
        import.publish(40, id(100, 2)).await.unwrap();
        let check = |store: &Store| {
            check_bodies(store, 0..41);
            for index in (45..90).step_by(2) {
                let expected = body(&entry_of(index, 2, &[1_000, 2_000]), 1);
                assert_eq!(store.log.read_bodies(index, &[1]).unwrap(), [expected]);
                assert_eq!(store.log.body_id(index).unwrap(), id(index, 2));
                assert!(matches!(store.log.read_bodies(index, &[0]), Err(LogError::NoBody { .. })));
            }
            for index in [41, 44, 46, 49, 90] {
                assert!(
                    matches!(store.log.read_bodies(index, &[0]), Err(LogError::NoBody { .. })),
                    "{index}"
                );
            }
        };
        check(&store);
        assert_eq!(store.read_all().len(), 50, "what is log stays log");
        store.close().await;
        let image = disk.image();

        let store = Store::open(&disk).await;
        check_bodies(&store, 0..50);
        assert!(store.log.read_bodies(45, &[1]).unwrap() == [body(&entry_of(45, 1, &[1_000, 10]), 1)]);
        store.close().await;

        disk.restore(&image);
        let published = || LogOptions { snapshot_upto: Some(100), ..options() };
        let store = Store::open_with(&disk, published()).await.unwrap();
        check(&store);
        store.purge(id(100, 2)).await;
        check(&store);
        store.append((101..140).map(|index| entry(index, 2))).await;
        store.close().await;
        let store = Store::open_with(&disk, published()).await.unwrap();
        check(&store);
        let imported = files(&disk, "import");
        store.log.collect(vec![(3, 0..2)], 100);
        cleaned(&store).await;
        assert!(imported.iter().all(|file| !files(&disk, "import").contains(file)), "{imported:?}");
        check_bodies(&store, [3]);
        assert!(store.log.read_bodies(45, &[1]).is_err());
    });
}

#[test]
fn a_dropped_import_leaves_nothing_and_a_wrong_body_is_refused() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let mut import = store.log.import().unwrap();
        take_in(&mut import, 0..40).await;
        let (spec, bytes) = body(&entry_of(50, 2, &[1_000]), 0);
        let wrong = ContentSpec { crc32c: !spec.crc32c, ..spec };
        assert!(matches!(
            import.add(id(50, 2), &[(0, wrong)], bytes.clone()).await,
            Err(LogError::Mismatch { index: 50, .. })
        ));
        assert!(matches!(
            import.add(id(20, 2), &[(9, spec)], bytes.clone()).await,
            Err(LogError::Mismatch { index: 20, .. })
        ));
        assert!(import.add(id(50, 2), &[(0, spec)], bytes.slice(1..)).await.is_err(), "too short");
        assert!(
            import.add(id(50, 2), &[(0, spec)], [bytes.clone(), bytes].concat().into()).await.is_err(),
            "too long"
        );
        assert!(!files(&disk, "tmp").is_empty());
        drop(import);
        assert!(files(&disk, "tmp").is_empty() && files(&disk, "import").is_empty());
    });
}

#[test]
fn the_bodies_of_one_entry_may_come_in_parts() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let whole = entry_of(7, 2, &[10, 20, 30]);
        let mut import = store.log.import().unwrap();
        for ordinal in [0, 2] {
            let (spec, bytes) = body(&whole, ordinal);
            import.add(whole.id, &[(ordinal, spec)], bytes).await.unwrap();
        }
        import.publish(0, id(9, 2)).await.unwrap();
        assert_eq!(store.log.read_bodies(7, &[0, 2]).unwrap(), [body(&whole, 0), body(&whole, 2)]);
    });
}

#[test]
fn what_should_be_there_and_is_not_is_corruption() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..60).map(|index| entry(index, 1))).await;
        store.close().await;
        let image = disk.image();
        let open = async |options: LogOptions| Store::open_with(&disk, options).await.map(drop);
        let error =
            open(LogOptions { snapshot_upto: Some(60), ..options() }).await.expect_err("59 is the last");
        assert!(error.to_string().contains("snapshot"), "{error}");
        disk.restore(&image);
        open(LogOptions { snapshot_upto: Some(59), ..options() }).await.expect("all there");
        for gone in &files(&disk, "log")[..3] {
            disk.restore(&image);
            crate::fs::Disk::remove(&*disk.boot(), &Path::new("/").join(gone)).unwrap();
            let error = open(options()).await.expect_err("a segment is missing");
            assert!(matches!(&error, LogError::Corrupt { .. }), "{error}");
        }
    });
}

#[test]
fn a_record_in_a_segment_that_lost_its_opening_proves_all_before_it() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        // Each a group of its own, so that there are some behind the opening's.
        let mut written = Vec::new();
        for index in 0.. {
            store.append([entry(index, 1)]).await;
            written = files(&disk, "log");
            written.retain(|path| disk.bytes(path).unwrap()[8_192..8_200] != [0; 8]);
            if written.len() == 3 {
                break;
            }
        }
        store.kill(&disk);
        disk.flip(&written[1], (options().segment_size - 4_096) * 8).unwrap();
        disk.flip(&written[2], 0).unwrap();
        let error = Store::open_with(&disk, options()).await.map(drop).expect_err("entries are gone");
        assert!(error.to_string().contains("a later segment proves"), "{error}");
    });
}

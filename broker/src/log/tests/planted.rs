//! Bugs that were planted in the log and lived until there was a test for each.

use super::*;

const MIB: usize = 1 << 20;

/// Two of the bodies of an entry that outlive their segment are copied in pieces of their own.
#[test]
fn bodies_that_take_a_piece_each_are_all_copied() {
    run(async {
        let disk = SimDisk::new(SimOptions::default());
        let options = LogOptions { segment_size: 8 << 20, tail_size: 0, ..options() };
        Log::format(disk.boot(), dir(), &options).await.expect("the disk is empty");
        let store = Store::open_with(&disk, options.clone()).await.expect("it was just made");
        let large = 6 * MIB / 10;
        let sizes = [large, large, large, MIB, MIB, MIB, MIB, MIB];
        store.append([entry_of(1, 1, &sizes), entry_of(2, 1, &[MIB]), entry_of(3, 1, &[MIB])]).await;
        store.append((4..12).map(|index| entry_of(index, 1, &[MIB]))).await;
        store.purge(id(11, 1)).await;
        store.log.collect(vec![(1, 0..2)], 11);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cleaned(&store).await;
        assert_eq!(files(&disk, "import").len(), 1, "they were copied: {:?}", disk.files());
        let whole = entry_of(1, 1, &sizes);
        let found = store.log.read_bodies(1, &[0, 1]).expect("both are live");
        assert_eq!(found, [0, 1].map(|ordinal| body(&whole, ordinal)));
    });
}

/// Two histories of one log have segments of the same numbers; what one left behind is no successor of the other's.
#[test]
fn the_last_segment_follows_the_one_before() {
    run(async {
        let histories = [1_000, 1_008].map(|size| (size, size + 8));
        let mut lasts = Vec::new();
        for (first, second) in histories {
            let disk = formatted().await;
            let store = Store::open(&disk).await;
            let mut index = 0;
            while store.log.usage().segments < 2 {
                store.append([entry_of(index, 1, &[if index < 3 { first } else { second }])]).await;
                index += 1;
            }
            store.close().await;
            let last = files(&disk, "log").into_iter().nth(1).expect("it has two segments");
            lasts.push((disk.bytes(&last).expect("it is there"), disk, last));
        }
        let (foreign, ..) = lasts.pop().expect("two");
        let (own, disk, last) = lasts.pop().expect("two");
        assert_eq!(foreign.len(), own.len());
        let file = crate::fs::Disk::open(&*disk.boot(), &last, crate::fs::Open::Write).expect("it is there");
        file.write_at(&[std::io::IoSlice::new(&foreign)], 0).expect("no fault is planned");
        file.sync().await.expect("no fault is planned");
        let refused = Store::open_with(&disk, options()).await.map(|_| ()).expect_err("it is another log's");
        assert!(refused.to_string().contains("does not follow"), "{refused}");
    });
}

#[test]
fn damage_in_what_was_copied_together_is_found_by_the_scrub() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..60).map(|index| entry_of(index, 1, &[2_000, 10]))).await;
        store.purge(id(58, 1)).await;
        store.log.collect((0..60).step_by(9).map(|index| (index, 0..1)).collect(), 58);
        cleaned(&store).await;
        let copies = files(&disk, "import");
        let copied = copies.first().expect("something was copied");
        disk.flip(copied, 8 * 6_000).expect("it is there");
        let read_twice = tokio::time::timeout(2 * options().scrub_period, store.keeper).await;
        let found = read_twice.expect("it is found").expect("the keeper runs").expect_err("it is damage");
        let name = copied.file_name().expect("it has one");
        assert!(matches!(&found, LogError::Corrupt { path, .. } if path.ends_with(name)), "{found}");
    });
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_of_the_log_are_caught() {
    use crate::mutants::{Mutant, is_caught_by};

    for (test, mutant) in [
        ("flips::a_flipped_bit_of_an_unsealed_log_cuts_at_most_the_last_group", Mutant::CutAtAnyDamage),
        ("planted::bodies_that_take_a_piece_each_are_all_copied", Mutant::LastPieceDropped),
        ("planted::the_last_segment_follows_the_one_before", Mutant::LastFollowsNothing),
        ("planted::damage_in_what_was_copied_together_is_found_by_the_scrub", Mutant::CopiesNotScrubbed),
    ] {
        assert!(is_caught_by(&format!("log::tests::{test}"), mutant), "{test} does not notice");
    }
}

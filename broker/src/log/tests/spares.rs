//! What is freed becomes spare, as far as there is room.

use super::*;

/// Each round writes four segments or more, all of which are freed at its end.
#[test]
fn what_is_freed_at_once_is_kept_until_more_is_freed() {
    run(async {
        let disk = formatted().await;
        let options = LogOptions { spares: 1, spares_max: 8, ..options() };
        let store = Store::open_with(&disk, options).await.unwrap();
        disk.record();
        for round in 0..10_u64 {
            let first = round * 100;
            store.append((first..first + 100).map(|index| entry_of(index, 1, &[1_000, 10]))).await;
            settle().await;
            store.purge(id(first + 99, 1)).await;
            store.log.collect(Vec::new(), first + 99);
            cleaned(&store).await;
        }
        let is_made = |line: &&String| line.contains(" open data/log/") && line.ends_with(".log.tmp");
        let made = disk.recorded().iter().filter(is_made).count();
        assert!((4..10).contains(&made), "{made} segments were made in all");
    });
}

/// A round frees more than there is room for; the next one takes it back nevertheless, and without one it goes.
#[test]
fn what_is_freed_waits_for_room() {
    run(async {
        let disk = formatted().await;
        let room_within = Duration::from_secs(5);
        let options = LogOptions { spares: 1, spares_max: 2, room_within, ..options() };
        let store = Store::open_with(&disk, options).await.unwrap();
        let mut made = Vec::new();
        for round in 0..6_u64 {
            disk.record();
            let first = round * 100;
            for index in first..first + 100 {
                store.append([entry_of(index, 1, &[1_000, 10])]).await;
                settle().await;
            }
            let is_made = |line: &&String| line.contains(" open data/log/") && line.ends_with(".log.tmp");
            made.push(disk.recorded().iter().filter(is_made).count());
            store.purge(id(first + 99, 1)).await;
            store.log.collect(Vec::new(), first + 99);
            cleaned(&store).await;
        }
        assert!(made[0] > 3 && made[2..].iter().sum::<usize>() <= 2, "{made:?} segments were made");
        let waiting = files(&disk, "log").len();
        tokio::time::sleep(room_within).await;
        settle().await;
        let left = files(&disk, "log").len();
        assert!(left <= 4 && left + 2 <= waiting, "{left} of {waiting} files are left");
    });
}

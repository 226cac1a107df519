//! Bodies so small that what is around them fills a file.

use super::*;

/// Bodies of a byte or none, one an entry: what is around them fills a file, and a full file is no small one.
#[test]
fn files_that_small_bodies_fill_are_copied_once() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        let sizes = |index: u64| if index.is_multiple_of(2) { &[1, 800] } else { &[0, 800] };
        for first in (0..8_000).step_by(50) {
            store.append((first..first + 50).map(|index| entry_of(index, 1, sizes(index)))).await;
        }
        store.purge(id(7_999, 1)).await;
        let few: LiveBodies = (0..7_900).map(|index| (index, 0..1)).collect();
        store.log.collect(few.clone(), 7_999);
        let copied = until_it_rests(&store, &disk).await;
        assert!(copied.len() > 8, "they fill some files: {copied:?}");
        for index in [0, 1, 2_000, 2_001, 7_899] {
            let expected = body(&entry_of(index, 1, sizes(index)), 0);
            assert_eq!(store.log.read_bodies(index, &[0]).unwrap(), [expected], "{index}");
        }
        // One in ten is left, half of them of no size: they are copied together.
        store.log.collect(few.into_iter().filter(|(index, _)| index % 20 < 2).collect(), 7_999);
        let left = until_it_rests(&store, &disk).await;
        assert!(left.len() * 2 < copied.len(), "{left:?} of {copied:?}");
    });
}

/// The sparse files when none comes any more.
async fn until_it_rests(store: &Store, disk: &SimDisk) -> Vec<PathBuf> {
    let mut before = files(disk, "import");
    for _ in 0..4 {
        cleaned(store).await;
        let now = files(disk, "import");
        if !now.is_empty() && now == before {
            return now;
        }
        before = now;
    }
    panic!("files are copied again and again: {before:?}");
}

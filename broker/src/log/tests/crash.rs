//! The power goes after every operation on the disk: what was acknowledged is there, and nothing else was made up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::fs::sim::{Bias, Latency, Unit};

/// What the log must say after some number of operations.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl View {
    fn of(store: &Store) -> Self {
        let state = store.log.state();
        let entries = store.read_all().into_iter().map(|entry| (entry.id.index, entry)).collect();
        Self { vote: state.vote, purged: state.purged, last: state.last, entries }
    }
}

/// A workload and what it was told.
struct Script {
    store: Store,
    /// After each record asked for; the first is the empty log.
    views: Vec<View>,
    /// The view that was last reported durable.
    durable: Arc<AtomicUsize>,
}

impl Script {
    fn done(&self) -> Done {
        let (durable, mine) = (Arc::clone(&self.durable), self.views.len());
        Box::new(move || {
            let before = durable.swap(mine, Ordering::Relaxed);
            assert!(before < mine, "waiters are completed in order");
        })
    }

    fn ask(&mut self, change: impl FnOnce(&mut View), ask: impl FnOnce(&Log, Done)) {
        let mut view = self.views.last().expect("there is the empty one").clone();
        change(&mut view);
        ask(&self.store.log, self.done());
        self.views.push(view);
    }

    /// Entries of one call are not one operation: the first of them may be there alone.
    fn append(&mut self, count: u64, term: u64) {
        let mut view = self.views[self.views.len() - 1].clone();
        let first = view.last.map_or(0, |last| last.index + 1);
        let entries: Vec<Entry> = (first..first + count).map(|index| entry(index, term)).collect();
        let (last, others) = entries.split_last().expect("count is not zero");
        for entry in others {
            view.last = Some(entry.id);
            view.entries.insert(entry.id.index, joined(entry));
            self.views.push(view.clone());
        }
        let last = last.clone();
        self.ask(
            |view| {
                view.last = Some(last.id);
                view.entries.insert(last.id.index, joined(&last));
            },
            |log, done| log.append(entries, done),
        );
    }

    fn vote(&mut self, term: u64) {
        self.ask(|view| view.vote = Some(vote(term)), |log, done| log.save_vote(vote(term), done));
    }

    fn truncate(&mut self, keep: LogId) {
        let change = |view: &mut View| {
            view.last = Some(keep);
            view.entries.retain(|index, _| *index <= keep.index);
        };
        self.ask(change, |log, done| log.truncate_after(Some(keep), done));
    }

    fn purge(&mut self, upto: LogId) {
        let change = |view: &mut View| {
            view.purged = Some(upto);
            view.last = view.last.filter(|last| last.index >= upto.index).or(Some(upto));
            view.entries.retain(|index, _| *index > upto.index);
        };
        self.ask(change, |log, done| log.purge_upto(upto, done));
    }

    /// Everything the log does, some of it at once, some after silence.
    async fn run(&mut self) {
        self.vote(1);
        settle().await;
        self.append(3, 1);
        self.append(6, 1);
        settle().await;
        self.store.log.save_committed(Some(id(4, 1)));
        self.append(1, 1);
        self.vote(2);
        self.append(8, 1);
        settle().await;
        self.truncate(id(10, 1));
        self.append(5, 3);
        settle().await;
        tokio::time::sleep(Duration::from_millis(25)).await;
        self.append(12, 3);
        self.append(12, 3);
        settle().await;
        self.purge(id(20, 3));
        settle().await;
        self.store.log.collect(live([2]), 20);
        settle().await;
        self.append(20, 3);
        settle().await;
        self.vote(4);
        self.append(9, 5);
        settle().await;
        self.purge(id(100, 6));
        self.append(9, 6);
        settle().await;
        self.store.log.collect(live([2]), 100);
        settle().await;
        tokio::time::sleep(Duration::from_millis(25)).await;
        self.append(2, 6);
        settle().await;
    }
}

/// Runs the script until the power goes after `after` operations; gives what was asked for and how much was durable.
async fn interrupted(disk: &SimDisk, after: u64) -> (Vec<View>, usize) {
    let store = Store::open(disk).await;
    let mut script = Script { store, views: vec![View::default()], durable: Arc::new(AtomicUsize::new(0)) };
    disk.off_after(after);
    script.run().await;
    let durable = script.durable.load(Ordering::Relaxed);
    script.store.writer.abort();
    script.store.keeper.abort();
    (script.views, durable)
}

/// What is there after the crash is what was asked for up to some operation, none of the durable ones missing.
async fn check(disk: &SimDisk, views: &[View], durable: usize, place: &str) -> bool {
    let store = match Store::open_with(disk, options()).await {
        Ok(store) => store,
        Err(error) => panic!("{place}: {error}"),
    };
    let view = View::of(&store);
    // the latest that looks like this: a repeated vote changes nothing
    let found = views.iter().rposition(|asked| *asked == view);
    assert!(found.is_some_and(|found| found >= durable), "{place}: {found:?} of {durable} durable");
    if view.last.is_some_and(|last| last.index > 2) {
        assert_eq!(store.log.read_bodies(2, &[0]).unwrap(), [body(&entry(2, 1), 0)], "{place}");
    }
    let torn = store.recovered.torn_bytes > 0;
    store.kill(disk);
    torn
}

fn long() -> u64 {
    std::env::var("LOG_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}

/// All three in long runs, else one after the other.
fn biases(seed: u64, after: u64) -> Vec<Bias> {
    let all = [Bias::Half, Bias::AlmostAll, Bias::AlmostNone];
    match (seed + after) % 3 {
        _ if long() > 1 => all.to_vec(),
        0 => vec![all[0]],
        1 => vec![all[1]],
        _ => vec![all[2]],
    }
}

async fn enumerate(unit: Unit) {
    let fresh = formatted_with(SimOptions { unit, ..SimOptions::default() }).await;
    let image = fresh.image();
    let disk = SimDisk::new(SimOptions { unit, ..SimOptions::default() });
    let (mut torn, mut recoveries, mut after) = (0, 0, 0);
    loop {
        let mut finished = false;
        for seed in 0..long() {
            for bias in biases(seed, after) {
                let place = format!("{unit:?} after {after} operations, seed {seed}, {bias:?}");
                disk.restore(&image);
                let (views, durable) = interrupted(&disk, after).await;
                finished = !disk.is_off();
                disk.crash_with(seed << 32 | after, bias);
                let crashed = disk.image();
                let was_torn = check(&disk, &views, durable, &place).await;
                torn += u64::from(was_torn);
                recoveries += 1;

                // a second crash, inside the recovery
                disk.restore(&crashed);
                disk.off_after(after % 5);
                let interrupted = Store::open_with(&disk, options()).await;
                if let Ok(store) = interrupted {
                    store.writer.abort();
                    store.keeper.abort();
                }
                disk.crash_with(seed << 32 | after | 1 << 63, bias);
                check(&disk, &views, durable, &format!("{place}, twice")).await;
                recoveries += 1;

                // what is written after a recovery outlives the next crash
                let store = Store::open(&disk).await;
                let next = store.log.state().last.map_or(0, |last| last.index + 1);
                store.append([entry(next, 9)]).await;
                let view = View::of(&store);
                store.kill(&disk);
                disk.crash_with(after, Bias::None);
                // everything, read from the files alone
                let store = Store::open(&disk).await;
                assert_eq!(store.log.state().last, Some(id(next, 9)), "{place}");
                assert_eq!(View::of(&store), view, "{place}");
                store.kill(&disk);
                recoveries += 1;
            }
        }
        after += 1;
        if finished {
            break;
        }
    }
    assert!(after > 70 && recoveries >= 3 * after, "{after} crash points, {recoveries} recoveries");
    assert!(torn > 0, "{torn} torn tails");
}

#[test]
fn every_crash_point_with_pages() {
    run(enumerate(Unit::Page));
}

#[test]
fn every_crash_point_with_sectors() {
    run(enumerate(Unit::Sector));
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

//! The power goes after every operation on the disk: what was acknowledged is there, and nothing else was made up.

use std::time::Duration;

use queue_broker::fs::sim::{Bias, Image, SimDisk, SimOptions, Unit};

use crate::store::{Kept, Script, Store, View, format, identity};
use crate::{run, setting, tell};

/// What a script asked for, and was told, before the power went.
pub(crate) struct Asked {
    views: Vec<View>,
    durable: usize,
    kept: Vec<Kept>,
    published: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) recoveries: u64,
    points: u64,
    torn: u64,
    installed: u64,
    copied: u64,
}

async fn interrupted(disk: &SimDisk, seed: u64, after: u64) -> Asked {
    let store = Store::open(disk).await.expect("a store that was just made");
    let mut script = Script::new(store, seed);
    disk.off_after(after);
    // A log that failed answers nobody: without power nothing happens any more, and virtual time runs on.
    let _done_or_off = tokio::time::timeout(Duration::from_secs(600), script.run()).await;
    Asked::of(script)
}

impl Asked {
    pub(crate) fn of(script: Script) -> Self {
        let (views, durable, kept, published) = script.end();
        Self { views, durable, kept, published }
    }

    /// What is there is what was asked for up to some operation, none of those missing that were acknowledged.
    pub(crate) async fn check(&self, disk: &SimDisk, place: &str, totals: &mut Totals) {
        let store = Store::open(disk).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        totals.recoveries += 1;
        totals.torn += u64::from(store.recovered.torn_bytes > 0);
        assert_eq!(store.identity, identity(), "{place}");
        let view = View::of(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
        // The latest that looks like this: a repeated vote changes nothing.
        let found = self.views.iter().rposition(|asked| *asked == view);
        assert!(
            found.is_some_and(|found| found >= self.durable),
            "{place}: {found:?} of {} durable",
            self.durable
        );
        match store.snapshots.newest() {
            None => assert_eq!(self.published, 0, "{place}: a snapshot is lost"),
            Some(file) => {
                let found = self.kept.iter().rposition(|kept| kept.last == file.last);
                assert!(found.is_some_and(|found| found + 1 >= self.published), "{place}: {found:?}");
                let kept = &self.kept[found.expect("checked")];
                assert_eq!(file.read_state().expect("it was verified"), kept.state, "{place}");
                kept.check(&store.log).unwrap_or_else(|error| panic!("{place}: {error}"));
                totals.installed += u64::from(kept.last.index == 300);
            }
        }
        let is_copy = |path: &std::path::PathBuf| path.extension().is_some_and(|kind| kind == "import");
        totals.copied += u64::from(disk.files().iter().any(is_copy));
        store.kill(disk);
    }
}

/// The power goes once more inside the recovery; and what is written after a recovery outlives the next crash.
async fn again(
    asked: &Asked,
    disk: &SimDisk,
    crashed: &Image,
    after: u64,
    bias: Bias,
    place: &str,
    totals: &mut Totals,
) {
    disk.restore(crashed);
    disk.off_after(after % 7);
    if let Ok(store) = Store::open(disk).await {
        store.kill(disk);
    }
    disk.crash_with(after | 1 << 63, bias);
    asked.check(disk, &format!("{place}, twice"), totals).await;

    let store = Store::open(disk).await.unwrap_or_else(|error| panic!("{place}: {error}"));
    let next = store.append(9).await;
    let view = View::of(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
    store.kill(disk);
    disk.crash_with(after, Bias::None);
    let store = Store::open(disk).await.unwrap_or_else(|error| panic!("{place}, after it: {error}"));
    assert_eq!(store.log.state().last, Some(next), "{place}");
    assert_eq!(View::of(&store).expect("it opened"), view, "{place}");
    store.kill(disk);
    totals.recoveries += 2;
}

/// Every `step`-th crash point of one workload, from a place that depends on the seed.
async fn enumerate(unit: Unit, seed: u64, step: u64, biases: &[Bias], totals: &mut Totals) {
    let fresh = SimDisk::new(SimOptions { unit, ..SimOptions::default() });
    format(&fresh).await;
    let image = fresh.image();
    let disk = SimDisk::new(SimOptions { unit, ..SimOptions::default() });
    let mut after = seed % step;
    loop {
        let mut finished = false;
        for bias in biases {
            let place = format!("{unit:?}, workload {seed}, after {after} operations, {bias:?}");
            disk.restore(&image);
            let asked = interrupted(&disk, seed, after).await;
            finished = !disk.is_off();
            disk.crash_with(seed << 32 | after, *bias);
            let crashed = disk.image();
            asked.check(&disk, &place, totals).await;
            again(&asked, &disk, &crashed, after, *bias, &place, totals).await;
        }
        totals.points += 1;
        after += step;
        if finished {
            return;
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a long run shows where it is")]
fn every_crash_point_keeps_what_was_acknowledged_and_invents_nothing() {
    let long = setting("RECOVERY_SEEDS", 0);
    let first = setting("RECOVERY_FIRST", 0);
    let all = [Bias::Half, Bias::AlmostAll, Bias::AlmostNone];
    let mut totals = Totals::default();
    run(async {
        if long == 0 {
            for (unit, seed) in [(Unit::Page, 1), (Unit::Sector, 2), (Unit::Page, 3)] {
                let bias = &all[usize::try_from(seed % 3).expect("small")..][..1];
                enumerate(unit, seed, 1, bias, &mut totals).await;
            }
        }
        for seed in first..first + long {
            for unit in [Unit::Page, Unit::Sector] {
                enumerate(unit, seed, 1, &all, &mut totals).await;
            }
            println!("workload {seed}: {totals:?}");
        }
    });
    assert!(totals.points > 100, "the workload is long: {totals:?}");
    assert!(totals.torn > 0 && totals.installed > 0 && totals.copied > 0, "it meets everything: {totals:?}");
    tell("recovery", totals.recoveries, "recoveries, nothing acknowledged lost, nothing invented");
}

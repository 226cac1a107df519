//! A sync fails: what it covered may be gone, whatever the next one says. The node ends, answers nobody after it, and
//! comes back with everything that was acknowledged before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use queue_broker::fs::sim::{Bias, Fault, Op, SimDisk, SimOptions, Unit};

use crate::crash::{Asked, Totals};
use crate::store::{Script, Store, format, settle};
use crate::{run, setting, tell};

/// The `nth` sync of a workload fails; whether it had so many.
async fn fail(op: Op, nth: u64, seed: u64, totals: &mut Totals) -> bool {
    let place = format!("{op:?} {nth} of workload {seed} fails");
    let disk = SimDisk::new(SimOptions { seed, unit: Unit::Page, ..SimOptions::default() });
    format(&disk).await;
    let store = Store::open(&disk).await.expect("a store that was just made");
    let mut failure = store.failure.clone();
    let mut script = Script::new(store, seed);
    disk.fail(op, nth, Fault::Io);
    let dead = tokio::select! {
        biased;
        _ = failure.wait_for(Option::is_some) => true,
        ran = tokio::time::timeout(Duration::from_secs(600), script.run()) => ran != Ok(Some(())),
    };
    if disk.clear_faults() > 0 {
        return false;
    }
    assert!(dead, "{place}: the node goes on");
    let counted = script.durable();
    let before = counted.load(Ordering::Relaxed);
    settle().await;
    assert_eq!(counted.load(Ordering::Relaxed), before, "{place}: an answer after it");
    let asked = Asked::of(script);
    disk.crash_with(seed << 32 | nth, Bias::AlmostNone);
    asked.check(&disk, &place, totals).await;
    true
}

#[test]
fn a_node_whose_sync_fails_is_dead_and_has_lost_nothing() {
    let wanted = setting("RECOVERY_SYNCS", 60);
    let mut totals = Totals::default();
    let mut dirs = 0;
    run(async {
        for seed in 1.. {
            let mut nth = 1;
            while totals.recoveries < wanted && fail(Op::Sync, nth, seed, &mut totals).await {
                nth += 1;
            }
            let mut nth = 1;
            while dirs < wanted / 4 && fail(Op::SyncDir, nth, seed, &mut totals).await {
                nth += 1;
                dirs += 1;
            }
            if totals.recoveries >= wanted {
                break;
            }
        }
    });
    assert!(dirs > 0, "directories are synced");
    tell("failing-sync", totals.recoveries, "nodes dead at it, no answer after");
}

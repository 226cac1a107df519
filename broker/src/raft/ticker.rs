//! What happens by itself: ticks while something is due or leased, what schedules say when their time has come, and
//! snapshots when enough has been written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Consensus;
use super::times::{Correction, Look};
use crate::queue::command::{Fire, Op};
use crate::queue::reply::{Outcome, Refusal};
use crate::queue::{NextDue, NextFire};
use crate::recurrence;

/// While a lease is outstanding the clocks are committed at least so often, so that a leader change loses no more.
const LEASED_TICK_MS: u64 = 10_000;
/// How often the disk is asked for segments that nothing needs any more.
const COLLECT_EVERY: Duration = Duration::from_secs(5);

/// Milliseconds until the next tick is due at this leader; `None` if nothing is due and nothing leased: no entry.
fn wait_ms(due: NextDue, wall_ms: u64, lease_clock_ms: u64, pending_ms: u64) -> Option<u64> {
    let wall = due.wall_ms.map(|at| at.saturating_sub(wall_ms));
    let lease = due.lease_ms.map(|at| at.saturating_sub(lease_clock_ms + pending_ms));
    let leased = (due.leases > 0).then(|| LEASED_TICK_MS.saturating_sub(pending_ms));
    [wall, lease, leased].into_iter().flatten().min()
}

/// How often a node looks at what clocks show.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What this leader has to propose of itself, or how long it may wait.
enum Task {
    Tick,
    Fire(NextFire),
    /// So long at most; or until a quorum confirms more time, if that may end a lease.
    Wait {
        at_most: Duration,
        confirmed: bool,
    },
}

/// What is due first: of schedules, of deadlines. Clocks may be confirmed late or jump, and leadership comes without an
/// entry of ours: it is looked at again at every heartbeat at the latest.
fn next_task(consensus: &Consensus) -> Task {
    let heartbeat = consensus.options.heartbeat;
    let own_ms = consensus.times.now().wall_ms;
    let (pending, ahead_ms) = (consensus.seat.pending_ms(), consensus.seat.ahead_ms());
    let looked = consensus.seat.leadership().map(|_| {
        consensus.read(|state, _| {
            let (wall_ms, due, clock_ms) =
                (own_ms.max(state.wall_ms()), state.next_due(), state.lease_clock_ms());
            let over = due.lease_ms.is_some_and(|at| at <= clock_ms + ahead_ms);
            (state.next_fire(), wait_ms(due, wall_ms, clock_ms, pending), over)
        })
    });
    let (fire, tick, over) = looked.unwrap_or_default();
    match (fire, tick) {
        (Some(fire), _) if fire.due_ms <= own_ms => Task::Fire(fire),
        (_, Some(0)) => Task::Tick,
        (fire, tick) => {
            let waits = [fire.map(|fire| fire.due_ms - own_ms), tick];
            let first = waits.into_iter().flatten().min().map(Duration::from_millis);
            let at_most = first.map_or(heartbeat, |first| first.min(heartbeat));
            Task::Wait { at_most, confirmed: over }
        }
    }
}

/// Proposes ticks, and what schedules say, while this node leads. Ends with the node.
pub(crate) async fn run(consensus: Weak<Consensus>) {
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let applied = this.applied.notified();
        let proposed = match next_task(&this) {
            Task::Tick => this.ask_state(Op::Tick).await,
            Task::Fire(next) => fire(&this, next).await,
            Task::Wait { at_most, confirmed } => {
                let changed = async {
                    tokio::select! {
                        biased;
                        () = applied => {}
                        () = this.seat.confirmed.notified(), if confirmed => {}
                    }
                };
                let _ = tokio::time::timeout(at_most, changed).await;
                // Many applies in a row are one look.
                tokio::task::yield_now().await;
                continue;
            }
        };
        if proposed.is_none() {
            tokio::time::sleep(this.options.heartbeat).await;
        }
    }
}

/// One time of one schedule; what follows it is computed here.
async fn fire(consensus: &Consensus, next: NextFire) -> Option<Result<Outcome, Refusal>> {
    let NextFire { name, due_ms, when, missed } = next;
    let recurrence::Due { count, next_ms } =
        recurrence::due(&when, missed, due_ms, consensus.times.now().wall_ms);
    consensus.ask_state(Op::Fire(Box::new(Fire { name, due_ms, count, next_ms }))).await
}

/// Looks at what clocks show, and lets the state follow the time of day that is believed. Ends with the node.
pub(crate) async fn watch_clocks(consensus: Weak<Consensus>) {
    while let Some(this) = consensus.upgrade() {
        let Look { correct, anchor } = this.times.look();
        if let Some(anchor) = anchor {
            this.log.save_anchor(anchor);
        }
        if let Some(correction) = correct {
            let op = match correction {
                Correction::Forward => Op::Tick,
                Correction::Back { from_ms, to_ms } => Op::SetWall { from_ms, to_ms },
            };
            tracing::info!(?correction, "the cluster's time of day is corrected");
            let _ = this.ask_state(op).await;
        }
        drop(this);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Builds snapshots when they are due, and gives segments back that nothing needs. Ends with the node.
pub(crate) async fn keep_snapshots(consensus: Weak<Consensus>) {
    let mut purged = None;
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let machine = Arc::clone(&this.machine);
        drop(this);
        if tokio::time::timeout(COLLECT_EVERY, machine.due.notified()).await.is_ok() {
            let Some(this) = consensus.upgrade() else { return };
            if this.raft.trigger().snapshot().await.is_err() {
                return;
            }
            tokio::time::sleep(this.options.heartbeat).await;
        } else if let Some(this) = consensus.upgrade() {
            let now = this.log.state().purged;
            if now != purged {
                purged = now;
                machine.collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_due_and_nothing_leased_asks_for_no_tick() {
        assert_eq!(wait_ms(NextDue { wall_ms: None, lease_ms: None, leases: 0 }, 5, 5, 5), None);
    }

    #[test]
    fn the_earliest_of_wall_and_lease_deadlines_counts() {
        let due = NextDue { wall_ms: Some(1_000), lease_ms: Some(500), leases: 1 };
        assert_eq!(wait_ms(due, 400, 100, 0), Some(400));
        assert_eq!(wait_ms(due, 900, 100, 0), Some(100));
        assert_eq!(wait_ms(due, 2_000, 100, 0), Some(0));
        assert_eq!(wait_ms(due, 0, 100, 400), Some(0));
    }

    #[test]
    fn a_lease_that_is_far_from_its_end_still_asks_for_a_tick_every_ten_seconds() {
        let due = NextDue { wall_ms: None, lease_ms: Some(3_600_000), leases: 1 };
        assert_eq!(wait_ms(due, 0, 0, 0), Some(10_000));
        assert_eq!(wait_ms(due, 0, 0, 9_999), Some(1));
        assert_eq!(wait_ms(due, 0, 0, 10_001), Some(0));
    }
}

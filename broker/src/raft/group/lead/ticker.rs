//! What happens by itself: ticks while something is due or leased, and what schedules say when their time has come.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use crate::mutants::{self, Mutant};
use crate::queue::command::{Fire, Op};
use crate::queue::reply::{Outcome, Refusal};
use crate::queue::{Moment, NextDue, NextFire};
use crate::raft::Consensus;
use crate::raft::group::times::{Correction, Look};
use crate::raft::node::pulse::LOOK_EVERY;
use crate::recurrence;

/// While a lease is outstanding the clocks are committed at least so often, so that a leader change loses no more.
const LEASED_TICK_MS: u64 = 10_000;

/// Milliseconds until the next tick is due at this leader; `None` if nothing is due and nothing leased: no entry.
fn wait_ms(due: NextDue, now: Moment, lease_clock_ms: u64, pending_ms: u64) -> Option<u64> {
    let wall = due.wall_ms.map(|at| at.saturating_sub(now.wall_ms));
    let elapsed = due.elapsed_ms.map(|at| at.saturating_sub(now.elapsed_ms));
    let lease = due.lease_ms.map(|at| at.saturating_sub(lease_clock_ms + pending_ms));
    let leased = (due.leases > 0).then(|| LEASED_TICK_MS.saturating_sub(pending_ms));
    [wall, elapsed, lease, leased].into_iter().flatten().min()
}

/// What this leader has to propose of itself, or how long it may wait.
enum Task {
    Tick,
    Fire(NextFire),
    /// Until then at most; or until a quorum confirms more time, if that may end a lease.
    Wait {
        until: Instant,
        confirmed: bool,
    },
}

/// What is due first: of schedules, of deadlines. Clocks may be confirmed late or jump, and leadership comes without an
/// entry of ours: it is looked at again at every heartbeat at the latest, and now and then while another leads.
fn next_task(consensus: &Consensus) -> Task {
    let own = consensus.now();
    let (pending, ahead_ms) = (consensus.seat.pending_ms(), consensus.seat.ahead_ms());
    let looked = consensus.seat.leadership().map(|_| {
        consensus.read(|state, _| {
            let wall_ms = own.wall_ms.max(state.wall_ms());
            let now = Moment { wall_ms, elapsed_ms: own.elapsed_ms.max(state.elapsed_ms()) };
            // A pattern does not follow the state's wall clock, which may have to be set back.
            let fires = state.next_fires().into_iter().flatten().map(|fire| {
                let now = Moment { wall_ms: own.wall_ms, ..now };
                let due_ms = if fire.recount { 0 } else { fire.due_ms.unwrap_or(u64::MAX) };
                (due_ms.saturating_sub(recurrence::on_its_clock(&fire.when, now)), fire)
            });
            let first = fires.min_by_key(|(wait_ms, _)| *wait_ms);
            let (due, clock_ms) = (state.next_due(), state.lease_clock_ms());
            let over = due.lease_ms.is_some_and(|at| at <= clock_ms + ahead_ms);
            (first, wait_ms(due, now, clock_ms, pending), over)
        })
    });
    let looked_as_leader = looked.is_some();
    let (fire, tick, over) = looked.unwrap_or_default();
    match (fire, tick) {
        (Some((0, fire)), _) => Task::Fire(fire),
        (_, Some(0)) => Task::Tick,
        (fire, tick) => {
            let waits = [fire.map(|(wait_ms, _)| wait_ms), tick];
            let first = waits.into_iter().flatten().min().map(Duration::from_millis);
            let every = if looked_as_leader { consensus.options.heartbeat } else { LOOK_EVERY };
            let again = consensus.pulse.next(every);
            let until = first.map_or(again, |first| again.min(Instant::now() + first));
            Task::Wait { until, confirmed: over }
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
            Task::Wait { until, confirmed } => {
                let changed = async {
                    tokio::select! {
                        biased;
                        () = applied => {}
                        () = this.seat.confirmed.notified(), if confirmed => {}
                    }
                };
                let _ = tokio::time::timeout_at(until, changed).await;
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
    let elapsed_ms = consensus.read(|state, _| state.elapsed_ms());
    let own = consensus.now();
    let fire = fired(next, Moment { elapsed_ms: own.elapsed_ms.max(elapsed_ms), ..own });
    consensus.ask_state(Op::Fire(Box::new(fire))).await
}

fn fired(next: NextFire, now: Moment) -> Fire {
    let NextFire { name, due_ms, recount, pushed_ms, when, missed } = next;
    let pushed_ms = pushed_ms.filter(|_| !mutants::on(Mutant::OccurrenceTwice));
    let recurrence::Due { count, next_ms, pushed_ms } = match due_ms.filter(|_| !recount) {
        Some(due_ms) => recurrence::due(&when, missed, due_ms, now),
        None => {
            recurrence::Due { count: 0, next_ms: recurrence::anew(&when, pushed_ms, now), pushed_ms: None }
        }
    };
    let pushed_ms = pushed_ms.filter(|_| !mutants::on(Mutant::OccurrenceTwice));
    Fire { name, due_ms, recount, pushed_ms, count, next_ms }
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
        let pulse = this.pulse;
        drop(this);
        pulse.beat(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::content::ContentSpec;
    use queue_protocol::names::QueueName;
    use queue_protocol::wire::bounded::{Bounded, Text};
    use queue_protocol::wire::request::PushOptions;
    use queue_protocol::wire::schedule::{Missed, When};

    use super::*;
    use crate::queue::State;
    use crate::queue::command::{Batch, Command, SetSchedule, Stamps};

    fn at(wall_ms: u64, elapsed_ms: u64) -> Moment {
        Moment { wall_ms, elapsed_ms }
    }

    #[test]
    fn nothing_due_and_nothing_leased_asks_for_no_tick() {
        assert_eq!(wait_ms(NextDue::default(), at(5, 5), 5, 5), None);
    }

    #[test]
    fn the_earliest_deadline_of_any_clock_counts() {
        let due = NextDue { wall_ms: Some(1_000), elapsed_ms: Some(700), lease_ms: Some(500), leases: 1 };
        assert_eq!(wait_ms(due, at(700, 100), 100, 0), Some(300));
        assert_eq!(wait_ms(due, at(900, 0), 100, 0), Some(100));
        assert_eq!(wait_ms(due, at(2_000, 0), 100, 0), Some(0));
        assert_eq!(wait_ms(due, at(0, 0), 100, 400), Some(0));
        assert_eq!(wait_ms(due, at(0, 650), 100, 0), Some(50));
    }

    #[test]
    fn a_lease_that_is_far_from_its_end_still_asks_for_a_tick_every_ten_seconds() {
        let due = NextDue { lease_ms: Some(3_600_000), leases: 1, ..NextDue::default() };
        assert_eq!(wait_ms(due, at(0, 0), 0, 0), Some(10_000));
        assert_eq!(wait_ms(due, at(0, 0), 0, 9_999), Some(1));
        assert_eq!(wait_ms(due, at(0, 0), 0, 10_001), Some(0));
    }

    /// What a leader pushes by itself whose wall clock shows `wall_ms`, until there is nothing more to do then.
    fn fire_all(state: &mut State, index: &mut u64, wall_ms: u64) {
        let elapsed_ms = state.elapsed_ms();
        while let Some(next) = state.next_fires().into_iter().flatten().next() {
            if !next.recount && next.due_ms.is_none_or(|due_ms| due_ms > wall_ms) {
                return;
            }
            let op = Op::Fire(Box::new(fired(next, at(wall_ms, elapsed_ms))));
            apply(state, index, wall_ms, op, 0);
        }
    }

    fn apply(state: &mut State, index: &mut u64, wall_ms: u64, op: Op, rows: usize) {
        *index += 1;
        let commands = Bounded::new(vec![Command { session: None, op }]).expect("one");
        let stamps = Stamps { elapsed_ms: *index, ..Stamps::of(wall_ms, 0) };
        let applied =
            state.apply(*index, &Batch { stamps, commands }, &vec![ContentSpec { size: 1, crc32c: 0 }; rows]);
        assert!(applied.replies[0].result.is_ok(), "{:?}", applied.replies);
    }

    #[test]
    fn each_time_of_a_pattern_is_pushed_once_when_the_wall_clock_is_set_back() {
        const HOUR_MS: u64 = 3_600_000;
        // At half past some hour.
        let begin_ms = 500_000 * HOUR_MS + HOUR_MS / 2;
        let hourly = When::Cron { pattern: Text::cut("0 * * * *"), zone: Text::cut("UTC") };
        for (missed, stored) in [(Missed::Once, 1), (Missed::CatchUp(5), 3), (Missed::Skip, 0)] {
            let (mut state, mut index) = (State::new(), 0);
            let queue: QueueName = "jobs".parse().expect("a name");
            let create =
                Op::CreateQueue { queue: queue.clone(), settings: Box::default(), if_not_exists: false };
            apply(&mut state, &mut index, begin_ms, create, 0);
            let next_ms = recurrence::first_ms(&hourly, missed, at(begin_ms, 0)).ok();
            let set = SetSchedule {
                name: "s".parse().expect("a key"),
                replace: false,
                queue,
                when: hourly.clone(),
                missed,
                options: PushOptions::default(),
                next_ms,
            };
            apply(&mut state, &mut index, begin_ms, Op::SetSchedule(Box::new(set)), 1);
            let view = |state: &State| state.schedules(None, 1).remove(0);
            fire_all(&mut state, &mut index, begin_ms);
            assert_eq!(view(&state).stored, 0);
            // Three hours ahead, then right again.
            let wrong_ms = begin_ms + 3 * HOUR_MS;
            fire_all(&mut state, &mut index, wrong_ms);
            assert_eq!(view(&state).stored, stored, "{missed:?}");
            let back = Op::SetWall { from_ms: wrong_ms, to_ms: begin_ms + 1_000 };
            apply(&mut state, &mut index, begin_ms + 1_000, back, 0);
            for minutes in 1..=4 * 60 {
                fire_all(&mut state, &mut index, begin_ms + minutes * HOUR_MS / 60);
            }
            // There were four hours, whatever the clock showed.
            assert_eq!(view(&state).stored, 4, "{missed:?}");
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_time_that_is_pushed_twice_is_noticed() {
        let test = "raft::group::lead::ticker::tests::each_time_of_a_pattern_is_pushed_once_when_the_wall_clock_is_set_back";
        assert!(mutants::is_caught_by(test, Mutant::OccurrenceTwice));
    }
}

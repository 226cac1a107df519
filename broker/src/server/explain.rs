//! Explanations: what the state says of itself, who waits here, and what this node refuses.

use queue_protocol::health::Refusal;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::explain::{Explain, Explained, Hold};
use queue_protocol::wire::response::Answer;

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;

impl Dispatch {
    /// Why a queue or a message is not delivered now.
    pub(super) fn explain(&self, explain: &Explain) -> Finished {
        // Outside of the state's lock: the parked leases look at the state inside of theirs.
        let waiting = u32::try_from(self.waiters.count(Some(&explain.queue))).unwrap_or(u32::MAX);
        let clock_off_ms = self.consensus.clock_off_ms();
        let lag_ms = self.consensus.lease_clock_lag_ms();
        let everywhere = self.consensus.refuse_push();
        self.consensus.read_now(|state, index| match state.explain(&explain.queue, explain.id) {
            Ok((holds, ahead)) => {
                let holds = holds.into_iter().map(|hold| self.hold(hold, lag_ms)).collect::<Vec<_>>();
                let holds = Bounded::new(holds).expect("no more are told");
                let refusals = state.push_refusals(&explain.queue);
                let refusals = everywhere.iter().cloned().chain(refusals.iter().map(error));
                let refusals = refusals.map(|error| Refusal::from(&error)).collect();
                let refusals = Bounded::new(refusals).expect("three at most");
                let answer = Answer::Explained(Explained { holds, ahead, waiting, clock_off_ms, refusals });
                Finished::read(index, answer)
            }
            Err(refusal) => Finished::Failed(error(&refusal)),
        })
    }
}

impl Dispatch {
    fn hold(&self, hold: Hold, lag_ms: u64) -> Hold {
        let mut hold = sooner(hold, lag_ms);
        if let Hold::Active { session, .. } = &mut hold {
            *session = self.shown(*session);
        }
        hold
    }
}

/// A hold as it is when the state's lease clock lags behind by `lag_ms`.
fn sooner(mut hold: Hold, lag_ms: u64) -> Hold {
    match &mut hold {
        Hold::Leased { left_ms, .. }
        | Hold::Active { left_ms, .. }
        | Hold::GroupLeased { left_ms: Some(left_ms), .. } => *left_ms = left_ms.saturating_sub(lag_ms),
        _ => {}
    }
    hold
}

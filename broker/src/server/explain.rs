//! Explanations: what the state says of itself, and who waits here.

use queue_protocol::bounded::Bounded;
use queue_protocol::explain::{Explain, Explained};
use queue_protocol::response::Answer;

use super::answer::error;
use super::dispatch::Dispatch;
use super::reply_to::Finished;

impl Dispatch {
    /// Why a queue or a message is not delivered now.
    pub(super) fn explain(&self, explain: &Explain) -> Finished {
        // Outside of the state's lock: the parked leases look at the state inside of theirs.
        let waiting = u32::try_from(self.waiters.count(Some(&explain.queue))).unwrap_or(u32::MAX);
        let clock_off_ms = self.consensus.clock_off_ms();
        self.consensus.read(|state, index| match state.explain(&explain.queue, explain.id) {
            Ok((holds, ahead)) => {
                let holds = Bounded::new(holds).expect("no more are told");
                Finished::read(
                    state,
                    index,
                    Answer::Explained(Explained { holds, ahead, waiting, clock_off_ms }),
                )
            }
            Err(refusal) => Finished::Failed(error(&refusal)),
        })
    }
}

//! Schedules whose time has come: this leader computes what follows and proposes it.

use std::sync::Weak;
use std::time::Duration;

use super::{Consensus, Proposal};
use crate::queue::NextFire;
use crate::queue::command::{Command, Fire, Op};
use crate::recurrence;

/// Proposes what schedules say while this node leads. Ends with the node.
pub(crate) async fn run(consensus: Weak<Consensus>) {
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let applied = this.applied.notified();
        let heartbeat = this.options.heartbeat;
        let next = this.seat.leadership().and_then(|_| this.read(|state, _| state.next_fire()));
        let now_ms = this.seat.wall_ms();
        match next {
            Some(next) if next.due_ms <= now_ms => {
                if !fire(&this, next, now_ms).await {
                    tokio::time::sleep(heartbeat).await;
                }
            }
            // Clocks may jump: look again at every heartbeat while something is to come.
            Some(next) => {
                let wait = Duration::from_millis(next.due_ms - now_ms).min(heartbeat);
                let _ = tokio::time::timeout(wait, applied).await;
                tokio::task::yield_now().await;
            }
            // Leadership comes without an entry of ours.
            None => {
                let _ = tokio::time::timeout(heartbeat, applied).await;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// One time of one schedule. Whether it was committed.
async fn fire(consensus: &Consensus, next: NextFire, now_ms: u64) -> bool {
    let NextFire { name, due_ms, when, missed } = next;
    let recurrence::Due { count, next_ms } = recurrence::due(&when, missed, due_ms, now_ms);
    let (done, wait) = tokio::sync::oneshot::channel();
    consensus.propose(Proposal {
        command: Command { session: None, op: Op::Fire(Box::new(Fire { name, due_ms, count, next_ms })) },
        table: Vec::new(),
        contents: Vec::new(),
        done: Box::new(move |result| {
            let _ = done.send(result.is_ok());
        }),
    });
    matches!(wait.await, Ok(true))
}

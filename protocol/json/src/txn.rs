//! Steps of a transaction that was done.

use queue_protocol::wire::response::PushOutcome;
use queue_protocol::wire::txn::StepDone;
use serde_json::{Value, json};

/// Ids of these runs, and whether the message was there before.
pub fn ids(runs: &[PushOutcome]) -> Vec<(u64, bool)> {
    let of_run = |run: &PushOutcome| match *run {
        PushOutcome::Stored { first_id, count } => {
            (first_id.0..first_id.0 + u64::from(count)).map(|id| (id, false)).collect()
        }
        PushOutcome::Duplicate { id } => vec![(id.0, true)],
        PushOutcome::Refused { .. } => Vec::new(),
    };
    runs.iter().flat_map(of_run).collect()
}

/// What became of one step.
pub fn step(step: &StepDone) -> Value {
    match step {
        StepDone::Pushed(runs) => {
            let ids = ids(runs);
            let known = ids.iter().filter(|(_, known)| *known).count();
            let ids: Vec<String> = ids.into_iter().map(|(id, _)| id.to_string()).collect();
            json!({"ids": ids, "deduplicated": known})
        }
        StepDone::Extended(deadline_ms) => json!({"lease_clock_deadline_ms": deadline_ms}),
        StepDone::Done => json!({}),
    }
}

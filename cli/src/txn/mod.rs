//! `txn`: several things or nothing, as a file says.

mod file;

use queue_protocol::names::QueueName;
use queue_protocol::requests::ask;
use queue_protocol::response::PushOutcome;
use queue_protocol::txn::{StepDone, TxnOutcome, TxnPart};
use serde_json::{Value, json};

use crate::errors::{Done, Failure};
use crate::exit::Exit;
use crate::grammar::TxnArgs;
use crate::render;
use crate::shell::Shell;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: TxnArgs) -> Done {
    let (txn, contents) = file::read(&args.file)?;
    let queues: Vec<Option<QueueName>> = txn.steps.iter().map(file::pushed_to).collect();
    let answered = shell.client.ask_with(ask::Txn(txn), contents).await;
    match answered.map_err(|error| Failure::of(error, None))?.answer {
        TxnOutcome::Done(steps) => {
            if shell.settings.json {
                let steps: Vec<Value> = steps.iter().map(document).collect();
                shell.out.document(&json!({"schema": "txn/v1", "steps": steps}));
            }
            let pushed = steps.iter().zip(&queues).filter_map(|(step, queue)| {
                let StepDone::Pushed(runs) = step else { return None };
                let ids: Vec<String> = ids(runs).into_iter().map(|(id, _)| id.to_string()).collect();
                Some(format!("; {} is {}", queue.as_ref()?, ids.join(" ")))
            });
            let pushed: String = pushed.collect();
            let count = render::count(steps.len() as u64);
            let steps = if steps.len() == 1 { "step" } else { "steps" };
            shell.success(&format!("done, {count} {steps}{pushed}"));
            Ok(Exit::Done)
        }
        TxnOutcome::Failed { at, code } => {
            // As the code alone would end.
            let error = queue_protocol::error::Error::refused(code, what(at, code.as_str()));
            let failure = Failure::of(queue_protocol::client::ClientError::Refused(error), None);
            let (part, number) = match at {
                TxnPart::Condition(k) => ("condition", k),
                TxnPart::Step(k) => ("step", k),
            };
            Err(failure.fact("nothing was done").detail(part, number + 1).into())
        }
    }
}

/// Counted from 1, as people do.
fn what(at: TxnPart, code: &str) -> String {
    match at {
        TxnPart::Condition(k) => format!("condition {} does not hold", k + 1),
        TxnPart::Step(k) => format!("step {} cannot be done: {}", k + 1, code.replace('_', " ")),
    }
}

/// Ids, and whether the message was there before.
fn ids(runs: &[PushOutcome]) -> Vec<(u64, bool)> {
    let of_run = |run: &PushOutcome| match *run {
        PushOutcome::Stored { first_id, count } => {
            (first_id.0..first_id.0 + u64::from(count)).map(|id| (id, false)).collect()
        }
        PushOutcome::Duplicate { id } => vec![(id.0, true)],
        PushOutcome::Refused { .. } => Vec::new(),
    };
    runs.iter().flat_map(of_run).collect()
}

fn document(step: &StepDone) -> Value {
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

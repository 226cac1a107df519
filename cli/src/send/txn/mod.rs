//! `txn`: several things or nothing, as a file says.

mod file;

use queue_protocol::names::QueueName;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::txn::{StepDone, TxnOutcome, TxnPart};
use serde_json::{Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::TxnArgs;
use crate::shell::Shell;
use crate::show::render;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, args: TxnArgs) -> Done {
    let (txn, contents) = file::read(&args.file)?;
    let queues: Vec<Option<QueueName>> = txn.steps.iter().map(file::pushed_to).collect();
    let answered = shell.client.ask_with(ask::Txn(txn), contents).await;
    match answered.map_err(|error| Failure::of(error, None))?.answer {
        TxnOutcome::Done(steps) => {
            if shell.settings.json {
                let steps: Vec<Value> = steps.iter().map(queue_json::txn::step).collect();
                shell.out.document(&json!({"schema": "txn/v1", "steps": steps}));
            }
            let pushed = steps.iter().zip(&queues).filter_map(|(step, queue)| {
                let StepDone::Pushed(runs) = step else { return None };
                let ids: Vec<String> =
                    queue_json::txn::ids(runs).into_iter().map(|(id, _)| id.to_string()).collect();
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

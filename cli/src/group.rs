//! `group`: what is said of the groups of a queue.

use queue_protocol::request::WeighGroup;
use serde_json::json;

use crate::errors::{Done, Failure};
use crate::exit::Exit;
use crate::grammar::{GroupCmd, Weight};
use crate::shell::Shell;

/// Runs a `group` command.
pub(crate) async fn run(shell: &mut Shell, cmd: GroupCmd) -> Done {
    let GroupCmd::Weight { queue, group, weight: Weight(weight) } = cmd;
    let weigh = WeighGroup { queue: queue.clone(), group: group.clone(), weight };
    let answered = shell.client.weigh_group(weigh).await;
    let before = answered.map_err(|error| Failure::of(error, Some(&queue)))?.answer;
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "group_weight/v1",
            "queue": queue.as_str(),
            "group": group.as_str(),
            "weight": weight,
            "weight_before": before,
        }));
    }
    shell.success(&match weight {
        Some(weight) => format!("group {group} of {queue} weighs {weight}"),
        None => format!("group {group} of {queue} weighs what the queue says"),
    });
    Ok(Exit::Done)
}

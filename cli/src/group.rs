//! `group`: what is said of the groups of a queue.

use queue_protocol::group::{GroupHeld, GroupView, Groups};
use queue_protocol::limits::GROUPS_LISTED_MAX;
use queue_protocol::names::{Key, QueueName};
use queue_protocol::request::{Consistency, WeighGroup};
use serde_json::{Value, json};

use crate::errors::{Done, Failure};
use crate::exit::Exit;
use crate::grammar::{GroupCmd, Weight};
use crate::render::{self, Align};
use crate::shell::{Shell, all_pages};

/// Runs a `group` command.
pub(crate) async fn run(shell: &mut Shell, cmd: GroupCmd) -> Done {
    match cmd {
        GroupCmd::Ls { queue } => ls(shell, &queue).await,
        GroupCmd::Weight { queue, group, weight: Weight(weight) } => weigh(shell, queue, group, weight).await,
    }
}

async fn weigh(shell: &mut Shell, queue: QueueName, group: Key, weight: Option<u32>) -> Done {
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

async fn ls(shell: &mut Shell, queue: &QueueName) -> Done {
    let page = async |last: Option<&GroupView>| {
        let after = last.map(|view| view.group.clone());
        let page = Groups { queue: queue.clone(), after, consistency: Consistency::Linearizable };
        Ok(shell.client.groups(page).await?.answer)
    };
    let all = all_pages(GROUPS_LISTED_MAX, page).await.map_err(|error| Failure::of(error, Some(queue)))?;
    if shell.settings.json {
        let groups: Vec<Value> = all.iter().map(document).collect();
        shell.out.document(&json!({"schema": "group_list/v1", "queue": queue.as_str(), "groups": groups}));
    } else if all.is_empty() {
        shell.remark(&format!("{queue} has no groups"));
    } else {
        shell.out.add(table(&all).as_bytes());
    }
    Ok(Exit::Done)
}

fn table(all: &[GroupView]) -> String {
    let columns = [
        ("GROUP", Align::Left),
        ("WEIGHT", Align::Right),
        ("READY", Align::Right),
        ("LEASED", Align::Right),
        ("WAITING", Align::Right),
        ("DEAD", Align::Right),
        ("STATE", Align::Left),
    ];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|view| {
            let counts = [view.ready, view.leased, view.waiting, view.dead];
            let weight = render::count(view.weight.into());
            let first = [view.group.to_string(), if view.own_weight { weight + "*" } else { weight }];
            let state = view.held.map_or("ok", |held| words(held).1).to_owned();
            first.into_iter().chain(counts.map(render::count)).chain([state]).collect()
        })
        .collect();
    render::table(&columns, &rows)
}

/// For programs and for people.
fn words(held: GroupHeld) -> (&'static str, &'static str) {
    match held {
        GroupHeld::Leased => ("leased", "one is leased"),
        GroupHeld::Waits => ("waits", "one waits to be tried again"),
        GroupHeld::Blocked => ("blocked", "blocked by a dead one"),
        GroupHeld::Parked => ("parked", "follows a dead one"),
        GroupHeld::Full => ("full", "as many are leased as may be"),
        GroupHeld::Rate => ("rate", "its rate is used up"),
    }
}

fn document(view: &GroupView) -> Value {
    json!({
        "group": view.group.as_str(),
        "weight": view.weight,
        "own_weight": view.own_weight,
        "ready": view.ready,
        "leased": view.leased,
        "waiting": view.waiting,
        "dead": view.dead,
        "held": view.held.map(|held| words(held).0),
    })
}

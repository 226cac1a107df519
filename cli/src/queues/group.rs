//! `group`: what is said of the groups of a queue.

use queue_protocol::limits::GROUPS_LISTED_MAX;
use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::group::{GroupHeld, GroupView, Groups};
use queue_protocol::wire::request::{Consistency, WeighGroup};
use queue_protocol::wire::requests::ask;
use serde_json::json;

use crate::failure::Done;
use crate::failure::exit::Exit;
use crate::grammar::{GroupCmd, Part, Weight};
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs a `group` command.
pub(crate) async fn run(shell: &mut Shell, cmd: GroupCmd) -> Done {
    match cmd {
        GroupCmd::Ls { queue, part, after } => ls(shell, &queue, part, after).await,
        GroupCmd::Weight { queue, group, weight: Weight(weight) } => weigh(shell, queue, group, weight).await,
    }
}

async fn weigh(shell: &mut Shell, queue: QueueName, group: Key, weight: Option<u32>) -> Done {
    let weigh = WeighGroup { queue: queue.clone(), group: group.clone(), weight };
    let before = shell.ask(ask::WeighGroup(weigh), Some(&queue)).await?;
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

/// Page by page: a queue may have more groups than fit in memory.
async fn ls(shell: &mut Shell, queue: &QueueName, part: Part, mut after: Option<Key>) -> Done {
    let json = shell.settings.json;
    let mut table = Table::new(&COLUMNS, &DROPS, shell.out.width());
    let (mut left, mut shown) = (part.limit.unwrap_or(u64::MAX), 0_u64);
    if json {
        let head = json!({"schema": "group_list/v1", "queue": queue.as_str()}).to_string();
        shell.out.add(format!("{},\"groups\":[", head.trim_end_matches('}')).as_bytes());
    }
    let next = loop {
        let groups = Groups { queue: queue.clone(), after, consistency: Consistency::Linearizable };
        let mut page = shell.ask(ask::Groups(groups), Some(queue)).await?.into_vec();
        let is_last = page.len() < GROUPS_LISTED_MAX;
        let is_cut = Part { limit: Some(left) }.cut(&mut page);
        after = page.last().map(|view| view.group.clone());
        left -= page.len() as u64;
        if json {
            let separator = |at: usize| if shown > 0 || at > 0 { "," } else { "" };
            let documents = page.iter().map(queue_json::group::row).enumerate();
            let text: String = documents.map(|(at, view)| format!("{}{view}", separator(at))).collect();
            shell.out.add(text.as_bytes());
        } else if !page.is_empty() {
            let rows: Vec<Vec<String>> = page.iter().map(row).collect();
            shell.out.add(table.page(&rows).as_bytes());
        }
        shown += page.len() as u64;
        shell.out.flush().await?;
        if is_cut || left == 0 || is_last {
            break after.filter(|_| is_cut || !is_last);
        }
    };
    if json {
        let next = next.map(|next| format!(",\"next\":{}", json!(next.as_str()))).unwrap_or_default();
        shell.out.add(format!("]{next}}}\n").as_bytes());
    } else if shown == 0 {
        shell.remark(&format!("{queue} has no groups"));
    }
    Ok(Exit::Done)
}

const COLUMNS: [(&str, Align); 7] = [
    ("GROUP", Align::Left),
    ("WEIGHT", Align::Right),
    ("READY", Align::Right),
    ("LEASED", Align::Right),
    ("WAITING", Align::Right),
    ("DEAD", Align::Right),
    ("STATE", Align::Left),
];
/// What gives way first where there is little room.
const DROPS: [&str; 3] = ["WAITING", "WEIGHT", "DEAD"];

/// Groups as a table.
pub(crate) fn table(groups: &[GroupView], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    Table::new(&COLUMNS, &DROPS, width).page(&rows)
}

fn row(view: &GroupView) -> Vec<String> {
    let counts = [view.ready, view.leased, view.waiting, view.dead];
    let weight = render::count(view.weight.into());
    let group = render::preview(view.group.as_str().as_bytes(), 40);
    let first = [group, if view.own_weight { weight + "*" } else { weight }];
    let state = view.held.map_or("ok", words).to_owned();
    first.into_iter().chain(counts.map(render::count)).chain([state]).collect()
}

/// For people.
fn words(held: GroupHeld) -> &'static str {
    match held {
        GroupHeld::Leased => "one is leased",
        GroupHeld::Waits => "one waits to be tried again",
        GroupHeld::Blocked => "blocked by a dead one",
        GroupHeld::Parked => "follows a dead one",
        GroupHeld::Full => "as many are leased as may be",
        GroupHeld::Rate => "its rate is used up",
    }
}

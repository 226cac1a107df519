//! `cluster log`: which log lines a node writes, for a while. `slow`: the requests that took nodes long.

use std::time::Duration;

use futures_util::future::join_all;
use queue_protocol::client::ClientError;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::LOG_MS_MAX;
use queue_protocol::names::{NodeId, QueueName};
use queue_protocol::values::milliseconds;
use queue_protocol::wire::logs::{LogChoice, LogView, SlowList, SlowRequest};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::MemberView;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{LogArgs, LogWord, SlowArgs};
use crate::nodes::cluster::{find, gather};
use crate::nodes::{Nodes, reason};
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;
use crate::show::table::{Align, Table};

/// How long one node may take.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long another level counts if nothing is said.
const FOR_DEFAULT: Duration = Duration::from_secs(600);

fn member(nodes: &Nodes, node: NodeId) -> Result<MemberView, End> {
    let found = nodes.members().into_iter().find(|member| member.node == node);
    found.ok_or_else(|| Failure::new("node_not_found", Exit::NotFound, "the node is gone").into())
}

/// Runs `cluster log`.
pub(crate) async fn choose(shell: &mut Shell, args: LogArgs) -> Done {
    let nodes = gather(shell).await?;
    let member = member(&nodes, find(&nodes, &args.node)?)?;
    let length = args.length.unwrap_or(FOR_DEFAULT);
    let choice = match args.level {
        LogWord::Settings => None,
        LogWord::Level(level) => Some(LogChoice { level, for_ms: milliseconds(length) }),
    };
    if choice.is_some_and(|choice| !(1..=LOG_MS_MAX).contains(&choice.for_ms)) {
        return Err(Failure::new("usage", Exit::Usage, "--for is 1ms to 1d").into());
    }
    let asked = shell.client.ask_node(&member.address, ask::SetLog(choice)).await;
    let view = asked.map_err(|error| unreached(&member, error))?.answer;
    if shell.settings.json {
        let mut document = queue_json::logs::log(&view);
        document["schema"] = "log/v1".into();
        document["node"] = (*member.name).into();
        shell.out.document(&document);
    } else {
        shell.success(&format!("{} logs {}", member.name, said(&view)));
    }
    Ok(Exit::Done)
}

fn unreached(member: &MemberView, error: ClientError) -> End {
    match error {
        ClientError::Refused(_) => Failure::of(error, None).into(),
        other => {
            let what = format!("{}: {}", member.name, reason(&member.address, &other));
            Failure::new("unreachable", Exit::Unreachable, what).into()
        }
    }
}

/// `debug for another 9m 58s, then info`
pub(crate) fn said(view: &LogView) -> String {
    let LogView { level, settings, left_ms } = view;
    match left_ms {
        None => level.as_str().to_owned(),
        Some(left_ms) => {
            format!("{} for another {}, then {}", level.as_str(), render::age(*left_ms), settings.as_str())
        }
    }
}

/// Runs `slow`: of one node, or of all.
pub(crate) async fn slow(shell: &mut Shell, args: SlowArgs) -> Done {
    let nodes = gather(shell).await?;
    let only = args.node.as_deref().map(|word| find(&nodes, word)).transpose()?;
    let members = nodes.members();
    let asked = members.iter().filter(|member| only.is_none_or(|only| member.node == only));
    let limit = shell.timeout().min(NODE_TIMEOUT);
    let client = &shell.client;
    let all = join_all(asked.map(async |member| {
        let list = match timeout(limit, client.ask_node(&member.address, ask::Slow)).await {
            Ok(Ok(answered)) => Ok(answered.answer),
            Ok(Err(error)) => Err(reason(&member.address, &error)),
            Err(_) => Err(format!("timed out after {}", humantime::format_duration(limit))),
        };
        (member.name.to_string(), list)
    }))
    .await;
    if shell.settings.json {
        let nodes: Vec<Value> = all.iter().map(|(node, list)| document(node, list)).collect();
        shell.out.document(&json!({"schema": "slow/v1", "nodes": nodes}));
    } else {
        show(shell, &all);
    }
    Ok(if all.iter().all(|(_, list)| list.is_ok()) { Exit::Done } else { Exit::Part })
}

fn document(node: &str, list: &Result<SlowList, String>) -> Value {
    match list {
        Ok(list) => {
            let mut document = queue_json::logs::slow(list);
            document["node"] = node.into();
            document["reachable"] = true.into();
            document
        }
        Err(why) => json!({"node": node, "reachable": false, "error": why}),
    }
}

fn show(shell: &mut Shell, all: &[(String, Result<SlowList, String>)]) {
    let mut slow: Vec<(&str, &SlowRequest)> = Vec::new();
    let mut total = 0;
    for (node, list) in all {
        match list {
            Ok(list) => {
                total += list.total;
                slow.extend(list.requests.iter().map(|one| (node.as_str(), one)));
            }
            Err(why) => shell.remark(&format!("{node}: {why}")),
        }
    }
    slow.sort_by_key(|(_, one)| std::cmp::Reverse(one.at_ms));
    let columns = [
        ("AT", Align::Left),
        ("NODE", Align::Left),
        ("REQUEST", Align::Left),
        ("QUEUE", Align::Left),
        ("TOOK", Align::Right),
        ("STAGES", Align::Left),
        ("CODE", Align::Left),
        ("CLIENT", Align::Left),
    ];
    let rows: Vec<Vec<String>> = slow.iter().map(|(node, one)| row(node, one)).collect();
    let drops = ["CLIENT", "CODE", "NODE", "AT", "QUEUE"];
    let table = Table::new(&columns, &drops, shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
    let threshold = all.iter().find_map(|(_, list)| Some(list.as_ref().ok()?.threshold_ms));
    if let Some(threshold) = threshold {
        shell.remark(&format!("{total} requests took longer than {threshold} ms since the nodes started"));
    }
}

fn row(node: &str, one: &SlowRequest) -> Vec<String> {
    // The longest first: that is where to look.
    let mut stages = one.stages.to_vec();
    stages.sort_by_key(|took| std::cmp::Reverse(took.us));
    let stages = stages.iter().take(3).filter(|took| took.us >= 1_000);
    let stages: Vec<String> = stages.map(|took| format!("{} {}", took.stage.as_str(), ms(took.us))).collect();
    vec![
        clock::rfc3339(one.at_ms),
        node.to_owned(),
        one.request.to_lowercase(),
        one.queue.as_ref().map_or("-", QueueName::as_str).to_owned(),
        ms(one.took_us),
        if stages.is_empty() { "-".to_owned() } else { stages.join(", ") },
        one.code.map_or("-", ErrorCode::as_str).to_owned(),
        one.client.to_string(),
    ]
}

fn ms(us: u64) -> String {
    format!("{} ms", us / 1_000)
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::{Bounded, Text};
    use queue_protocol::wire::logs::{LogLevel, StageTook};
    use queue_protocol::wire::response::WriteStage;

    use super::*;

    #[test]
    fn the_longest_stages_stand_first_and_short_ones_are_left_out() {
        let took = |stage, us| StageTook { stage, us };
        let stages =
            vec![took(WriteStage::Wait, 2_000), took(WriteStage::Encode, 9), took(WriteStage::Sync, 300_400)];
        let one = SlowRequest {
            at_ms: 0,
            request: Text::cut("Push"),
            queue: None,
            client: Text::cut("c/1"),
            took_us: 312_000,
            code: None,
            stages: Bounded::new(stages).expect("they are few"),
        };
        let row = row("n1", &one);
        assert_eq!(row[2..7], ["push", "-", "312 ms", "sync 300 ms, wait 2 ms", "-"]);
    }

    #[test]
    fn a_choice_is_told_with_its_end() {
        let view = LogView { level: LogLevel::Debug, settings: LogLevel::Info, left_ms: Some(65_000) };
        assert_eq!(said(&view), "debug for another 1m 5s, then info");
        assert_eq!(said(&LogView { left_ms: None, level: LogLevel::Info, ..view }), "info");
    }
}

//! `cluster`: every node in one table, unreachable ones too; waiting for a state; moving leadership.

use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::requests::ask;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{ClusterCmd, WaitFor};
use crate::nodes::clients;
use crate::nodes::logs;
use crate::nodes::members;
use crate::nodes::secret;
use crate::nodes::{self, Nodes};
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// How long `wait` waits if it is not told.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// How often `wait` looks.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// Runs a `cluster` command.
pub(crate) async fn run(shell: &mut Shell, cmd: ClusterCmd) -> Done {
    match cmd {
        ClusterCmd::Status => status(shell).await,
        ClusterCmd::Members => list(shell).await,
        ClusterCmd::Clients(args) => clients::run(shell, args).await,
        ClusterCmd::Wait { what } => wait(shell, what).await,
        ClusterCmd::Transfer { node } => transfer(shell, node).await,
        ClusterCmd::Add { address, learner } => members::add(shell, &address, learner).await,
        ClusterCmd::Promote { node } => members::promote(shell, &node).await,
        ClusterCmd::Remove { node, force, rotate } => members::remove(shell, &node, force, rotate).await,
        ClusterCmd::Replace { old, address } => members::replace(shell, &old, &address).await,
        ClusterCmd::SetAddress { node, address } => members::set_address(shell, &node, &address).await,
        ClusterCmd::Drain { node, undo } => members::drain(shell, &node, undo).await,
        ClusterCmd::RotateSecret { force } => secret::rotate(shell, force).await,
        ClusterCmd::TlsForget { node } => secret::tls_forget(shell, &node).await,
        ClusterCmd::Log(args) => logs::choose(shell, args).await,
        ClusterCmd::Upgrade { level } => upgrade(shell, level).await,
        ClusterCmd::SafeToStop { node } => members::safe_to_stop(shell, &node).await,
    }
}

pub(crate) async fn gather(shell: &Shell) -> Result<Nodes, End> {
    Ok(nodes::gather(&shell.client, &shell.reach.servers, shell.timeout()).await?)
}

/// Runs `cluster status`: 0 if a push would be stored, unless its queue is against it; else 1.
pub(crate) async fn status(shell: &mut Shell) -> Done {
    let nodes = gather(shell).await?;
    let judged = nodes.judge();
    if shell.settings.json {
        shell.out.document(&nodes.document());
    } else {
        let table = nodes.table(shell.out.width());
        shell.out.add(table.as_bytes());
        let verdict = std::iter::once(judged.verdict()).chain(judged.troubles()).chain(judged.remarks());
        let rest = nodes.rotation().into_iter().chain(nodes.clocks()).chain(nodes.log_choices());
        for line in verdict.chain([nodes.feature_level()]).chain(rest) {
            shell.out.add(format!("{line}\n").as_bytes());
        }
        for line in nodes.warnings() {
            shell.out.add(format!("warning: {line}\n").as_bytes());
        }
    }
    Ok(if judged.is_writable() { Exit::Done } else { Exit::No })
}

async fn list(shell: &mut Shell) -> Done {
    let nodes = gather(shell).await?;
    let members = nodes.members();
    if shell.settings.json {
        let members: Vec<_> = members
            .iter()
            .map(|member| {
                json!({
                    "id": member.node.to_string(),
                    "name": &*member.name,
                    "address": &*member.address,
                    "voter": member.voter,
                    "matched": member.matched_index.map(|index| index.to_string()),
                })
            })
            .collect();
        shell.out.document(&json!({"schema": "members/v1", "members": members}));
        return Ok(Exit::Done);
    }
    let columns = [
        ("NODE", Align::Left),
        ("ID", Align::Right),
        ("ADDRESS", Align::Left),
        ("VOTE", Align::Left),
        ("MATCHED", Align::Right),
    ];
    let rows: Vec<Vec<String>> = members
        .iter()
        .map(|member| {
            vec![
                member.name.to_string(),
                member.node.to_string(),
                member.address.to_string(),
                if member.voter { "voter" } else { "learner" }.to_owned(),
                member.matched_index.map_or_else(|| "?".into(), render::count),
            ]
        })
        .collect();
    let table = Table::new(&columns, &["MATCHED", "ID"], shell.out.width()).page(&rows);
    shell.out.add(table.as_bytes());
    Ok(Exit::Done)
}

async fn wait(shell: &mut Shell, what: WaitFor) -> Done {
    let limit = shell.settings.timeout.unwrap_or(WAIT_DEFAULT);
    let deadline = Instant::now() + limit;
    let mut last = Failure::new("unreachable", Exit::Unreachable, "no server answered");
    loop {
        let gathered = nodes::gather(&shell.client, &shell.reach.servers, limit);
        match timeout_at(deadline, gathered).await {
            Ok(Ok(nodes)) if nodes.is(what) => {
                if shell.settings.json {
                    let waited = render::elapsed_ms(shell.started.elapsed());
                    let judged = nodes.judge();
                    let (have, _, of) = judged.quorum();
                    shell.out.document(&json!({
                        "schema": "wait/v1",
                        "leader": judged.leader.as_ref().map(|leader| leader.name.to_string()),
                        "members": nodes.members().len(),
                        "heard": judged.heard.len(),
                        "voters": {"counting": have, "of": of},
                        "writable": judged.is_writable(),
                        "elapsed_ms": waited,
                    }));
                } else {
                    let text =
                        format!("ready: {} ({})", nodes.summary(), render::took(shell.started.elapsed()));
                    shell.success(&text);
                }
                return Ok(Exit::Done);
            }
            Ok(Ok(nodes)) => {
                let failure =
                    Failure::new("timed_out", Exit::Retry, format!("not ready: {}", nodes.summary()));
                let troubles = nodes.judge().troubles().into_iter();
                last = troubles.fold(failure, Failure::fact).hint("`queuectl cluster status`");
            }
            Ok(Err(failure)) => last = failure,
            Err(_) => {}
        }
        if Instant::now() + WAIT_STEP >= deadline {
            return Err(last.fact(format!("waited {}", render::took(shell.started.elapsed()))).into());
        }
        shell.talk.status(Some(&format!("waiting… {}", last.message)));
        sleep(WAIT_STEP).await;
    }
}

async fn transfer(shell: &mut Shell, to: Option<String>) -> Done {
    let to = match to {
        Some(name) => Some(find(&gather(shell).await?, &name)?),
        None => None,
    };
    let leader = shell.ask(ask::TransferLeader(to), None).await?;
    let elapsed = shell.started.elapsed();
    if shell.settings.json {
        shell.out.document(&json!({
            "schema": "transfer/v1",
            "leader": &*leader.name,
            "term": leader.term.to_string(),
            "elapsed_ms": render::elapsed_ms(elapsed),
        }));
    }
    let took = if shell.is_interactive() { String::new() } else { format!(", {}", render::took(elapsed)) };
    shell.success(&format!("leader is {} (term {}{took})", leader.name, leader.term));
    Ok(Exit::Done)
}

/// Raises the cluster's feature level.
async fn upgrade(shell: &mut Shell, level: Option<u32>) -> Done {
    let level = shell.ask(ask::RaiseLevel(level.map(Level)), None).await?;
    if shell.settings.json {
        let elapsed_ms = render::elapsed_ms(shell.started.elapsed());
        shell.out.document(
            &json!({"schema": "cluster_upgraded/v1", "feature_level": level.0, "elapsed_ms": elapsed_ms}),
        );
    } else {
        shell.success(&format!("the cluster is at feature level {level}"));
    }
    Ok(Exit::Done)
}

/// A member by name or number.
pub(crate) fn find(nodes: &Nodes, word: &str) -> Result<NodeId, End> {
    let number = word.parse::<u64>().ok();
    let members = nodes.members();
    let found = members
        .iter()
        .find(|member| &*member.name == word)
        .or_else(|| members.iter().find(|member| Some(member.node.0) == number));
    found.map(|member| member.node).ok_or_else(|| {
        Failure::new("node_not_found", Exit::NotFound, format!("no member named \"{word}\""))
            .hint("`queuectl cluster members`")
            .into()
    })
}

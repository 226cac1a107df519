//! `dead`: list dead messages, look at them, put them back, delete them.

use futures_util::StreamExt;
use futures_util::stream;
use queue_json::words;
use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Action, Consistency, Cursor, MessageState, Peek, Select, Sweep};
use queue_protocol::wire::response::{DeadReason, Swept};
use serde_json::json;

use crate::failure::exit::Exit;
use crate::failure::{Done, End, Failure};
use crate::grammar::{DeadArgs, DeadCmd, Part};
use crate::messages::Seen;
use crate::messages::edit;
use crate::messages::peek;
use crate::queues;
use crate::queues::sweep::{self, Consent, Plan};
use crate::shell::Shell;
use crate::show::render;
use crate::show::table::{Align, Table};

/// Runs a `dead` command.
pub(crate) async fn run(shell: &mut Shell, cmd: DeadCmd) -> Done {
    match cmd {
        DeadCmd::Ls { queue, part, after } => ls(shell, queue, part, after).await,
        DeadCmd::Show { queue, id } => edit::show(shell, &queue, id).await,
        DeadCmd::Retry { which, to } => {
            let queue = &which.queue;
            let into = to.clone().unwrap_or_else(|| queue.clone());
            let flag = to.as_ref().map_or_else(String::new, |to| format!(" --to {to}"));
            let words = Words {
                schema: "dead_retry/v1",
                done: "moved",
                place: format!("to {into}"),
                consent: Consent {
                    question: Box::new(move |count| {
                        let go = if count == 1 { "goes" } else { "go" };
                        format!("{} {go} back to {into} with failures reset", render::messages(count))
                    }),
                    command: format!("dead retry {queue} --all{flag}{}", sweep::options(&which.filter)),
                },
            };
            some(shell, which, Action::Redrive { to }, words).await
        }
        DeadCmd::Rm(which) => {
            let queue = which.queue.clone();
            let words = Words {
                schema: "dead_rm/v1",
                done: "removed",
                place: format!("from {queue}"),
                consent: Consent {
                    command: format!("dead rm {queue} --all{}", sweep::options(&which.filter)),
                    question: Box::new(move |count| {
                        format!(
                            "this removes {} that are dead from {queue} for good",
                            render::messages(count)
                        )
                    }),
                },
            };
            some(shell, which, Action::Delete, words).await
        }
    }
}

/// What to call an action.
struct Words {
    schema: &'static str,
    done: &'static str,
    place: String,
    consent: Consent,
}

/// Those named, or those that the filter chooses.
async fn some(shell: &mut Shell, which: DeadArgs, action: Action, words: Words) -> Done {
    let Words { schema, done, place, consent } = words;
    if which.all {
        let (state, consent) = (Some(MessageState::Dead), Some(consent));
        let (queue, filter) = (which.queue, which.filter);
        return sweep::run(shell, Plan { queue, state, filter, action, schema, done, place, consent }).await;
    }
    if action == Action::Delete {
        let ids: Vec<String> = which.ids.iter().map(ToString::to_string).collect();
        let command = format!("dead rm {} {}", which.queue, ids.join(" "));
        shell.confirm(&(consent.question)(ids.len() as u64), &command).await?;
    }
    each(shell, &which.queue, which.ids, &action, (schema, done, &place)).await
}

/// All of them, page by page.
async fn ls(shell: &mut Shell, only: Option<QueueName>, part: Part, after: Option<Cursor>) -> Done {
    let names: Vec<QueueName> = match &only {
        Some(name) => vec![name.clone()],
        None => {
            queues::all(shell).await?.into_iter().filter(|view| view.dead > 0).map(|view| view.name).collect()
        }
    };
    let columns = columns(only.is_none());
    let mut table = Table::new(&columns, &["ATTEMPTS", "DIED", "REASON"], shell.out.width());
    let mut left = part.limit.unwrap_or(u64::MAX);
    let is_whole = left == u64::MAX;
    for (at, name) in names.iter().enumerate() {
        let mut after = after;
        loop {
            let peek = Peek {
                queue: name.clone(),
                state: Some(MessageState::Dead),
                id: None,
                max_messages: u16::try_from(left.min(LEASE_COUNT_MAX as u64)).expect("the limit is small"),
                max_bytes: peek::ANSWER_SIZE_MAX,
                after,
                consistency: Consistency::Linearizable,
            };
            let page = peek::page(shell, peek).await?;
            left -= page.seen.len() as u64;
            let is_end = left == 0 && (page.next.is_some() || at + 1 < names.len());
            if shell.settings.json {
                for (row, seen) in page.seen.iter().enumerate() {
                    let mut document = seen.document();
                    if is_end && row + 1 == page.seen.len() {
                        queues::add_next(&mut document, page.next.map(|next| next.to_string()));
                    }
                    shell.out.document(&document);
                }
            } else if !page.seen.is_empty() {
                let rows: Vec<Vec<String>> = page.seen.iter().map(|seen| row(seen, only.is_none())).collect();
                shell.out.add(table.page(&rows).as_bytes());
            }
            shell.out.flush().await?;
            if is_end {
                if let Some(next) = page.next {
                    shell.remark(&format!("there are more: `queuectl dead ls {name} --after {next}`"));
                }
                return Ok(Exit::Done);
            }
            match page.next {
                Some(_) if left > 0 => after = page.next,
                _ => break,
            }
        }
    }
    if table.is_empty() && is_whole && !shell.settings.json {
        shell.remark("no dead messages");
    }
    Ok(Exit::Done)
}

fn columns(with_queue: bool) -> Vec<(&'static str, Align)> {
    let queue = with_queue.then_some(("QUEUE", Align::Left));
    let rest = [
        ("ID", Align::Right),
        ("ATTEMPTS", Align::Right),
        ("DIED", Align::Left),
        ("REASON", Align::Left),
        ("LAST ERROR", Align::Left),
        ("BODY", Align::Left),
    ];
    queue.into_iter().chain(rest).collect()
}

fn row(seen: &Seen, with_queue: bool) -> Vec<String> {
    let view = &seen.view;
    let none = || "-".to_owned();
    let mut row = if with_queue { vec![seen.queue.to_string()] } else { Vec::new() };
    row.push(view.id.to_string());
    row.push(render::count(view.attempts.into()));
    row.push(view.dead_ms.map_or_else(none, |ms| format!("{} ago", render::age(ms))));
    row.push(view.dead.map_or_else(none, |reason| match reason {
        DeadReason::MaxFailures => "failures".to_owned(),
        reason => words::dead_reason(reason).to_owned(),
    }));
    let error = view.last_error.as_deref().filter(|error| !error.is_empty());
    row.push(error.map_or_else(none, |error| render::preview(error.as_bytes(), 40)));
    row.push(render::preview(&seen.body, 40));
    row
}

/// One request for each message, so that each one's fate is known.
async fn each(
    shell: &mut Shell,
    queue: &QueueName,
    mut ids: Vec<u64>,
    action: &Action,
    (schema, verb, place): (&str, &str, &str),
) -> Done {
    const AT_ONCE: usize = 16;
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    let asked = ids.len() as u64;
    let shared: &Shell = shell;
    let results: Vec<(u64, Result<Swept, End>)> = stream::iter(ids)
        .map(|id| async move { (id, one(shared, queue, MessageId(id), action).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let swept = || results.iter().filter_map(|(_, result)| result.as_ref().ok());
    let done: u64 = swept().map(|swept| swept.count).sum();
    let skipped: u64 = swept().map(|swept| swept.skipped).sum();
    if done > 0 {
        if shell.settings.json {
            let elapsed = render::elapsed_ms(shell.started.elapsed());
            let document = json!({"schema": schema, "queue": queue.as_str(), "messages": done, "skipped": skipped, "elapsed_ms": elapsed});
            shell.out.document(&document);
        }
        shell.success(&format!("{verb} {} {place}", render::messages(done)));
    }
    let mut facts = Vec::new();
    let mut worst: Option<Failure> = None;
    for (id, result) in results {
        match result {
            Ok(Swept { count: 1.., .. }) => {}
            Ok(Swept { skipped: 1.., .. }) => {
                facts.push(format!("{id}  another message holds its unique key"));
            }
            Ok(_) => facts.push(format!("{id}  no dead message of that id")),
            Err(End::Quiet(exit)) => return Err(End::Quiet(exit)),
            Err(End::Failed(failure)) => {
                facts.push(format!("{id}  {}", failure.message));
                if worst.as_ref().is_none_or(|worst| worst.exit != Exit::Unknown) {
                    worst = Some(*failure);
                }
            }
        }
    }
    if facts.is_empty() {
        return Ok(Exit::Done);
    }
    let count = format!("{} of {asked} were not {verb}", facts.len());
    let mut failure = match worst {
        Some(failure) if done == 0 || failure.exit == Exit::Unknown => failure,
        _ if done == 0 && skipped == asked => {
            let message = format!("nothing was {verb}: other messages of the queue hold the unique keys");
            Failure::new("unique_held", Exit::Conflict, message)
        }
        _ if done == 0 => {
            let message = format!("{queue} has no dead message {}", facts_ids(&facts));
            return Err(Failure::new("message_not_found", Exit::NotFound, message)
                .hint(format!("`queuectl dead ls {queue}`"))
                .into());
        }
        _ => Failure::new("part_done", Exit::Part, count),
    };
    if asked > 1 {
        failure.facts.extend(facts);
    }
    Err(failure.into())
}

fn facts_ids(facts: &[String]) -> String {
    let ids: Vec<&str> = facts.iter().filter_map(|fact| fact.split_whitespace().next()).collect();
    ids.join(", ")
}

async fn one(shell: &Shell, queue: &QueueName, id: MessageId, action: &Action) -> Result<Swept, End> {
    let ids = Some(Bounded::new(vec![id]).expect("one is within the limit"));
    let select = Select { ids, state: Some(MessageState::Dead), ..Select::default() };
    match shell.sweep(Sweep::all(queue.clone(), select, action.clone())).await {
        Ok(swept) => Ok(swept),
        Err(End::Failed(failure)) if failure.code == "message_not_found" => {
            Ok(Swept { count: 0, next: None, skipped: 0 })
        }
        Err(end) => Err(end),
    }
}

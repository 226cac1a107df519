//! `message`: what is done to single messages by their ids, and what is known of one.

use queue_json::words;
use queue_protocol::client::ClientError;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Change, Edit};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Edited, EventKind};
use serde_json::{Value, json};

use crate::failure::exit::Exit;
use crate::failure::{Done, Failure};
use crate::grammar::{MessageCmd, Messages};
use crate::messages::explain;
use crate::messages::history;
use crate::messages::holder;
use crate::messages::peek;
use crate::messages::{self, Seen};
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;

/// Runs a `message` command.
pub(crate) async fn run(shell: &mut Shell, cmd: MessageCmd) -> Done {
    let (messages, change, done, place) = match cmd {
        MessageCmd::Show { queue, id } => return show(shell, &queue, id).await,
        MessageCmd::History { queue, id } => return history::run(shell, &queue, id).await,
        MessageCmd::Position { queue, id } => return explain::position(shell, &queue, id).await,
        MessageCmd::Kick(messages) => (messages, Change::Kick, "kicked", String::new()),
        MessageCmd::Cancel(messages) => (messages, Change::Cancel, "cancelled", String::new()),
        MessageCmd::Rm(messages) => {
            let what = format!(
                "this removes {} from {} for good",
                render::messages(messages.ids.len() as u64),
                messages.queue
            );
            let ids: Vec<String> = messages.ids.iter().map(ToString::to_string).collect();
            let command = format!("message rm {} {}", messages.queue, ids.join(" "));
            shell.confirm(&what, &command).await?;
            (messages, Change::Delete, "removed", String::new())
        }
        MessageCmd::Edit { messages, priority } => {
            (messages, Change::Priority(priority), "changed", format!(" to priority {priority}"))
        }
        MessageCmd::Move { messages, to } => {
            let place = format!(" to {to}");
            (messages, Change::Move(to), "moved", place)
        }
    };
    edit(shell, messages, change, done, &place).await
}

async fn edit(shell: &mut Shell, messages: Messages, change: Change, done: &str, place: &str) -> Done {
    let queue = messages.queue;
    let ids: Vec<MessageId> = messages.ids.iter().copied().map(MessageId).collect();
    let ids = Bounded::new(ids).map_err(|error| {
        let error = Error::refused(ErrorCode::BadRequest, error.to_string());
        Failure::of(ClientError::Refused(error), Some(&queue))
    })?;
    let edit = Edit { queue: queue.clone(), ids, change };
    let results = shell.ask(ask::Edit(edit), Some(&queue)).await?.into_vec();
    let count = results.iter().filter(|result| **result == Edited::Done).count();
    if shell.settings.json {
        let rows: Vec<Value> = messages
            .ids
            .iter()
            .zip(&results)
            .map(|(id, result)| json!({"id": id.to_string(), "result": words::edited(*result)}))
            .collect();
        let elapsed = render::elapsed_ms(shell.started.elapsed());
        let document = json!({"schema": "message_edit/v1", "queue": queue.as_str(), "messages": rows, "elapsed_ms": elapsed});
        shell.out.document(&document);
    }
    match (messages.ids.as_slice(), count) {
        (_, 0) => {}
        ([id], 1) => shell.success(&format!("{done} {id}{place}")),
        _ => shell.success(&format!("{done} {}{place}", render::messages(count as u64))),
    }
    let failed = messages.ids.iter().zip(&results).filter(|(_, result)| **result != Edited::Done);
    let facts: Vec<String> = failed.clone().map(|(id, result)| format!("{id}  {}", why(*result))).collect();
    let Some((id, first)) = failed.clone().next() else { return Ok(Exit::Done) };
    let failure = if count > 0 {
        let what = format!("{} of {} were not {done}", facts.len(), results.len());
        Failure::new("part_done", Exit::Part, what)
    } else {
        let (code, exit) = match first {
            Edited::Leased => ("message_leased", Exit::Conflict),
            Edited::AlreadyReady => ("already_ready", Exit::Conflict),
            Edited::KeyHeld => ("unique_held", Exit::Conflict),
            Edited::Done | Edited::Gone => ("message_not_found", Exit::NotFound),
        };
        let what = if results.len() == 1 {
            format!("message {id} of {queue} was not {done}: {}", why(*first))
        } else {
            format!("no message was {done}")
        };
        Failure::new(code, exit, what)
    };
    let failure = if results.len() > 1 { facts.into_iter().fold(failure, Failure::fact) } else { failure };
    Err(failure.hint(format!("look at one: `queuectl message show {queue} {id}`")).into())
}

fn why(result: Edited) -> &'static str {
    match result {
        Edited::Done => "done",
        Edited::Gone => "there is none",
        Edited::Leased => "it is leased",
        Edited::AlreadyReady => "it is delayed no more",
        Edited::KeyHeld => "another message holds its unique key",
    }
}

/// Runs `message show`.
pub(crate) async fn show(shell: &mut Shell, queue: &QueueName, id: u64) -> Done {
    let seen = peek::look(shell, queue, None, Some(MessageId(id)), 1).await?;
    let Some(seen) = seen.first() else {
        let message = format!("no message {id} in {queue}");
        return Err(Failure::new("message_not_found", Exit::NotFound, message)
            .hint(format!("`queuectl peek {queue}`"))
            .into());
    };
    if shell.settings.json {
        shell.out.document(&seen.document());
    } else {
        shell.out.add(text(seen).as_bytes());
    }
    Ok(Exit::Done)
}

fn text(seen: &Seen) -> String {
    let view = &seen.view;
    let mut fields = vec![
        ("message", format!("{} of {}", view.id, seen.queue)),
        ("state", messages::where_it_stands(view)),
        ("priority", view.priority.to_string()),
        ("pushed", format!("{} ({} ago)", clock::rfc3339(view.pushed_at_ms), render::age(view.age_ms))),
        ("attempts", render::count(view.attempts.into())),
        ("failures", render::count(view.failures.into())),
        ("releases", render::count(view.releases.into())),
    ];
    if let Some(holder) = &view.holder {
        fields.push(("held by", holder::holds(holder)));
    }
    if let Some(group) = &view.group {
        fields.push(("group", render::preview(group.as_str().as_bytes(), 200)));
    }
    if let Some(at) = view.expires_at_ms {
        fields.push(("expires", clock::rfc3339(at)));
    }
    if let Some(size) = view.checkpoint_size {
        fields.push(("checkpoint", render::size(size.into())));
    }
    if let Some(error) = view.last_error.as_deref().filter(|error| !error.is_empty()) {
        fields.push(("last error", render::preview(error.as_bytes(), 1_000)));
    }
    for (name, value) in seen.headers.iter() {
        fields.push(("header", render::preview(format!("{name}={value}").as_bytes(), 200)));
    }
    for event in view.history.iter() {
        let at = clock::rfc3339(event.at_ms);
        fields.push(("history", format!("{at}  attempt {}  {}", event.attempts, happened(&event.kind))));
    }
    fields.push(("size", render::size(seen.body.len() as u64)));
    fields.push(("body", render::preview(&seen.body, 200)));
    render::fields(&fields)
}

/// What happened, for people.
pub(crate) fn happened(kind: &EventKind) -> String {
    match kind {
        EventKind::Failed => "failed".to_owned(),
        EventKind::LeaseEnded => "its lease ended".to_owned(),
        EventKind::Released => "given back".to_owned(),
        EventKind::Died(reason) => format!("died: {}", words::dead_reason(*reason)),
        EventKind::Redriven => "put back".to_owned(),
        EventKind::Moved(queue) => format!("came from {queue}"),
    }
}

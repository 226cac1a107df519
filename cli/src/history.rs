//! `message history`: what happened to a message, also when it is gone.

use queue_protocol::history::{Fate, GoneHow, History, HistoryView};
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::request::Consistency;
use queue_protocol::requests::ask;
use serde_json::{Value, json};

use crate::clock;
use crate::edit::happened;
use crate::errors::Done;
use crate::exit::Exit;
use crate::message;
use crate::render;
use crate::shell::Shell;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, queue: &QueueName, id: u64) -> Done {
    let consistency = Consistency::Linearizable;
    let history = History { queue: queue.clone(), id: MessageId(id), consistency };
    let view = shell.ask(ask::History(history), Some(queue)).await?;
    if shell.settings.json {
        shell.out.document(&document(queue, id, &view));
    } else {
        shell.out.add(text(queue, id, &view).as_bytes());
    }
    Ok(Exit::Done)
}

fn how(how: GoneHow) -> &'static str {
    match how {
        GoneHow::Acked => "acked",
        GoneHow::Popped => "popped",
        GoneHow::Expired => "expired",
        GoneHow::Deleted => "deleted",
        GoneHow::Replaced => "replaced",
        GoneHow::Forgotten => "forgotten",
    }
}

fn text(queue: &QueueName, id: u64, view: &HistoryView) -> String {
    let mut fields = vec![("message", format!("{id} of {queue}"))];
    match &view.fate {
        Fate::Live(state) => fields.push(("state", message::name(*state).to_owned())),
        Fate::Gone(gone) => {
            fields.push(("state", "gone".to_owned()));
            fields.push(("pushed", clock::rfc3339(gone.pushed_at_ms)));
            fields.push(("attempts", render::count(gone.attempts.into())));
            fields.push(("failures", render::count(gone.failures.into())));
            fields.push(("releases", render::count(gone.releases.into())));
        }
    }
    for event in view.events.iter() {
        let at = clock::rfc3339(event.at_ms);
        fields.push(("history", format!("{at}  attempt {}  {}", event.attempts, happened(&event.kind))));
    }
    if let Fate::Gone(gone) = &view.fate {
        fields.push((how(gone.how), clock::rfc3339(gone.at_ms)));
    }
    render::fields(&fields)
}

fn document(queue: &QueueName, id: u64, view: &HistoryView) -> Value {
    let events: Vec<Value> = view.events.iter().map(message::event).collect();
    let mut document = json!({
        "schema": "history/v1",
        "queue": queue.as_str(),
        "id": id.to_string(),
        "history": events,
        "complete_since": clock::rfc3339(view.complete_since_ms),
    });
    match &view.fate {
        Fate::Live(state) => document["state"] = message::name(*state).into(),
        Fate::Gone(gone) => {
            document["state"] = "gone".into();
            document["gone"] = json!({
                "how": how(gone.how),
                "at": clock::rfc3339(gone.at_ms),
                "enqueued_at": clock::rfc3339(gone.pushed_at_ms),
                "attempts": gone.attempts,
                "failures": gone.failures,
                "releases": gone.releases,
            });
        }
    }
    document
}

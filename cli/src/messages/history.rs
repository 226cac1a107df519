//! `message history`: what happened to a message, also when it is gone.

use queue_json::words;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::history::{Fate, History, HistoryView};
use queue_protocol::wire::request::Consistency;
use queue_protocol::wire::requests::ask;

use crate::failure::Done;
use crate::failure::exit::Exit;
use crate::messages::edit::happened;
use crate::shell::Shell;
use crate::show::clock;
use crate::show::render;

/// Runs the command.
pub(crate) async fn run(shell: &mut Shell, queue: &QueueName, id: u64) -> Done {
    let consistency = Consistency::Linearizable;
    let history = History { queue: queue.clone(), id: MessageId(id), consistency };
    let view = shell.ask(ask::History(history), Some(queue)).await?;
    if shell.settings.json {
        shell.out.document(&queue_json::history::document(queue, id, &view));
    } else {
        shell.out.add(text(queue, id, &view).as_bytes());
    }
    Ok(Exit::Done)
}

fn text(queue: &QueueName, id: u64, view: &HistoryView) -> String {
    let mut fields = vec![("message", format!("{id} of {queue}"))];
    match &view.fate {
        Fate::Live(state) => fields.push(("state", words::state(*state).to_owned())),
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
        fields.push((words::gone(gone.how), clock::rfc3339(gone.at_ms)));
    }
    render::fields(&fields)
}

//! What happened to a message, also when it is gone.

use queue_protocol::names::QueueName;
use queue_protocol::wire::history::{Fate, HistoryView};
use serde_json::{Value, json};

use crate::message;
use crate::time::rfc3339;
use crate::words;

/// `history/v1`.
pub fn document(queue: &QueueName, id: u64, view: &HistoryView) -> Value {
    let mut document = json!({
        "schema": "history/v1",
        "queue": queue.as_str(),
        "id": id.to_string(),
        "history": view.events.iter().map(message::event).collect::<Vec<_>>(),
        "complete_since": rfc3339(view.complete_since_ms),
    });
    match &view.fate {
        Fate::Live(state) => document["state"] = words::state(*state).into(),
        Fate::Gone(gone) => {
            document["state"] = "gone".into();
            document["gone"] = json!({
                "how": words::gone(gone.how),
                "at": rfc3339(gone.at_ms),
                "enqueued_at": rfc3339(gone.pushed_at_ms),
                "attempts": gone.attempts,
                "failures": gone.failures,
                "releases": gone.releases,
            });
        }
    }
    document
}

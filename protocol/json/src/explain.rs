//! What holds a queue or a message back.

use queue_protocol::health::Refusal;
use queue_protocol::names::{Key, MessageId, QueueName};
use queue_protocol::wire::explain::{Explained, Hold};
use serde_json::{Value, json};

use crate::time::rfc3339;
use crate::words;

/// `explain/v1` of a queue, or of one message of it.
pub fn document(queue: &QueueName, id: Option<u64>, explained: &Explained) -> Value {
    json!({
        "schema": "explain/v1",
        "queue": queue.as_str(),
        "id": id.map(|id| id.to_string()),
        "holds": holds(&explained.holds),
        "ahead": explained.ahead,
        "waiting": explained.waiting,
        "clock_off_ms": explained.clock_off_ms,
        "push_refusals": explained.refusals.iter().map(refusal).collect::<Vec<_>>(),
    })
}

/// Why something is refused.
pub fn refusal(refusal: &Refusal) -> Value {
    json!({"code": refusal.code.as_str(), "message": &*refusal.message})
}

/// Everything that holds it back, the first cause first.
pub fn holds(holds: &[Hold]) -> Vec<Value> {
    holds.iter().map(hold).collect()
}

fn hold(hold: &Hold) -> Value {
    let of_group = |what: &str, group: &Key, id: Option<MessageId>| json!({"hold": what, "group": group.as_str(), "id": id.map(|id| id.to_string())});
    let with = |mut document: Value, name: &str, value: Value| {
        document[name] = value;
        document
    };
    match hold {
        Hold::Paused => json!({"hold": "paused"}),
        Hold::Empty => json!({"hold": "empty"}),
        Hold::Leased { id, left_ms } => {
            json!({"hold": "leased", "id": id.to_string(), "lease_left_ms": left_ms})
        }
        Hold::Delayed { id, due_at_ms, left_ms } => json!({
            "hold": "delayed",
            "id": id.to_string(),
            "ready_at": rfc3339(*due_at_ms),
            "due_in_ms": left_ms,
        }),
        Hold::Dead { id, reason } => {
            json!({"hold": "dead", "id": id.to_string(), "reason": words::dead_reason(*reason)})
        }
        Hold::GroupLeased { group, id, left_ms } => {
            with(of_group("group_leased", group, *id), "lease_left_ms", (*left_ms).into())
        }
        Hold::GroupWaits { group, id, due_at_ms, left_ms } => {
            let waits = with(of_group("group_waits", group, *id), "ready_at", due_at_ms.map(rfc3339).into());
            with(waits, "due_in_ms", (*left_ms).into())
        }
        Hold::GroupBlocked { group, id } => of_group("group_blocked", group, *id),
        Hold::GroupParked { group } => of_group("group_parked", group, None),
        Hold::GroupFull { group } => of_group("group_full", group, None),
        Hold::Active { session, epoch, left_ms } => json!({
            "hold": "active",
            "session": session.to_string(),
            "epoch": epoch.to_string(),
            "left_ms": left_ms,
        }),
        Hold::Rate { wait_ms } => json!({"hold": "rate", "next_in_ms": wait_ms}),
        Hold::GroupRate { group, wait_ms } => {
            with(of_group("group_rate", group, None), "next_in_ms", (*wait_ms).into())
        }
    }
}

//! Messages: handed out, looked at, and what happened to them.

use queue_protocol::content::Headers;
use queue_protocol::names::{Key, QueueName, Receipt};
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::{Delivery, Event, EventKind, MessageView};
use serde_json::{Map, Value, json};

use crate::fields::{add_bytes, base64};
use crate::time::rfc3339;
use crate::words;

fn object(document: Value) -> Map<String, Value> {
    let Value::Object(fields) = document else { unreachable!("built as an object") };
    fields
}

fn add_group(document: &mut Map<String, Value>, group: Option<&Key>) {
    if let Some(group) = group {
        document.insert("group".into(), group.as_str().into());
    }
}

/// Headers, and the body as text, or in base64 if it is none.
fn add_content(document: &mut Map<String, Value>, headers: &Headers, body: &[u8]) {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), Value::from(&**value)));
    document.insert("headers".into(), Value::Object(headers.collect()));
    add_bytes(document, "body", body);
}

/// The right to settle a delivery.
pub fn receipt(delivery: &Delivery) -> Receipt {
    Receipt { queue: delivery.queue.clone(), id: delivery.id, token: delivery.token }
}

/// As HTTP hands it out: with its receipt, if it was not popped.
pub fn delivered(delivery: &Delivery, headers: &Headers, body: &[u8]) -> Value {
    let mut message = object(json!({
        "id": delivery.id.to_string(),
        "attempt": delivery.attempt,
        "failures": delivery.failures,
        "priority": delivery.priority,
        "group": delivery.group.as_ref().map(Key::as_str),
        "pushed_at_ms": delivery.pushed_at_ms,
    }));
    if delivery.lease_ms > 0 {
        message.insert("receipt".into(), receipt(delivery).to_string().into());
        message.insert("lease_ms".into(), delivery.lease_ms.into());
    }
    add_content(&mut message, headers, body);
    message.into()
}

/// As HTTP shows what is looked at.
pub fn peeked(view: &MessageView, headers: &Headers, body: &[u8]) -> Value {
    let mut message = object(json!({
        "id": view.id.to_string(),
        "state": words::state(view.state),
        "attempts": view.attempts,
        "failures": view.failures,
        "priority": view.priority,
        "group": view.group.as_ref().map(Key::as_str),
        "pushed_at_ms": view.pushed_at_ms,
        "age_ms": view.age_ms,
        "last_error": view.last_error.as_deref(),
    }));
    add_content(&mut message, headers, body);
    message.into()
}

/// `message/v1` of a leased message; `expires_at_ms` is Unix milliseconds of the clock of whoever shows it.
pub fn leased(delivery: &Delivery, headers: &Headers, body: &[u8], expires_at_ms: u64) -> Value {
    let mut document = object(json!({
        "schema": "message/v1",
        "queue": delivery.queue.as_str(),
        "id": delivery.id.to_string(),
        "state": words::state(MessageState::Leased),
        "receipt": receipt(delivery).to_string(),
        "attempt": delivery.attempt,
        "failures": delivery.failures,
        "priority": delivery.priority,
        "enqueued_at": rfc3339(delivery.pushed_at_ms),
        "lease_expires_at": rfc3339(expires_at_ms),
    }));
    if let Some(checkpoint) = &delivery.checkpoint {
        match std::str::from_utf8(checkpoint.as_bytes()) {
            Ok(text) => document.insert("checkpoint".into(), text.into()),
            Err(_) => document.insert("checkpoint_base64".into(), base64(checkpoint.as_bytes()).into()),
        };
    }
    if delivery.epoch > 0 {
        document.insert("epoch".into(), delivery.epoch.to_string().into());
    }
    add_group(&mut document, delivery.group.as_ref());
    add_content(&mut document, headers, body);
    document.into()
}

/// `message/v1` of a message that is taken for good: it has no state and no receipt any more.
pub fn popped(delivery: &Delivery, headers: &Headers, body: &[u8]) -> Value {
    let gone = ["state", "receipt", "lease_expires_at"];
    let fields = object(leased(delivery, headers, body, 0)).into_iter();
    fields.filter(|(name, _)| !gone.contains(&name.as_str())).collect::<Map<_, _>>().into()
}

/// `message/v1` of a message that was looked at; `holder` is who has it, as it is shown.
pub fn seen(
    queue: &QueueName,
    view: &MessageView,
    holder: Option<Value>,
    headers: &Headers,
    body: &[u8],
) -> Value {
    let mut document = object(json!({
        "schema": "message/v1",
        "queue": queue.as_str(),
        "id": view.id.to_string(),
        "state": words::state(view.state),
        "attempts": view.attempts,
        "failures": view.failures,
        "releases": view.releases,
        "priority": view.priority,
        "enqueued_at": rfc3339(view.pushed_at_ms),
    }));
    add_group(&mut document, view.group.as_ref());
    let (at, left) = match view.state {
        MessageState::Ready => (None, None),
        MessageState::Delayed => (view.until_ms.map(|until| ("ready_at", until)), None),
        MessageState::Leased => (None, view.until_ms.map(|left| ("lease_left_ms", left))),
        MessageState::Dead => (view.until_ms.map(|at| ("died_at", at)), None),
    };
    let due_in = view.left_ms.filter(|_| view.state == MessageState::Delayed && at.is_some());
    let history: Vec<Value> = view.history.iter().map(event).collect();
    let more: [Option<(&str, Value)>; 9] = [
        at.map(|(name, at_ms)| (name, rfc3339(at_ms).into())),
        due_in.map(|left_ms| ("due_in_ms", left_ms.into())),
        left.map(|(name, left_ms)| (name, left_ms.into())),
        view.expires_at_ms.map(|at_ms| ("expires_at", rfc3339(at_ms).into())),
        (!history.is_empty()).then(|| ("history", history.into())),
        holder.map(|holder| ("holder", holder)),
        view.token.map(|token| ("token", token.to_string().into())),
        view.dead.map(|reason| ("reason", words::dead_reason(reason).into())),
        view.last_error.as_ref().map(|error| ("last_error", error.to_string().into())),
    ];
    document.extend(more.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)));
    add_content(&mut document, headers, body);
    document.into()
}

/// Something that happened to a message.
pub fn event(event: &Event) -> Value {
    let mut document = object(json!({"at": rfc3339(event.at_ms), "attempts": event.attempts}));
    let what = match &event.kind {
        EventKind::Failed => "failed",
        EventKind::LeaseEnded => "lease_ended",
        EventKind::Released => "released",
        EventKind::Died(reason) => {
            document.insert("reason".into(), words::dead_reason(*reason).into());
            "died"
        }
        EventKind::Redriven => "redriven",
        EventKind::Moved(queue) => {
            document.insert("from".into(), queue.as_str().into());
            "moved"
        }
    };
    document.insert("what".into(), what.into());
    document.into()
}

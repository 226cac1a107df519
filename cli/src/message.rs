//! A message as it is shown: one line for people, the document `message/v1` for scripts.

use bytes::Bytes;
use queue_protocol::content::{self, Headers};
use queue_protocol::names::{Key, QueueName, Receipt};
use queue_protocol::request::MessageState;
use queue_protocol::response::{DeadReason, Delivery, Event, EventKind, MessageView};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::clients;
use crate::clock;
use crate::errors::{End, Failure};
use crate::exit::Exit;
use crate::render;

/// A message that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// What the leader says of it.
    pub(crate) delivery: Delivery,
    /// Its headers.
    pub(crate) headers: Headers,
    /// Its body.
    pub(crate) body: Bytes,
    /// When its lease ends, or later.
    pub(crate) until: Instant,
}

impl Taken {
    /// The right to settle it.
    pub(crate) fn receipt(&self) -> Receipt {
        Receipt { queue: self.delivery.queue.clone(), id: self.delivery.id, token: self.delivery.token }
    }

    /// The document of a message that is taken for good: it has no state and no receipt any more.
    pub(crate) fn popped(&self) -> Value {
        let mut document = self.document(0);
        let fields = document.as_object_mut().expect("built as an object");
        ["state", "receipt", "lease_expires_at"].into_iter().for_each(|gone| drop(fields.shift_remove(gone)));
        document
    }

    /// The document; `expires_at_ms` is Unix milliseconds of this machine's clock.
    pub(crate) fn document(&self, expires_at_ms: u64) -> Value {
        let delivery = &self.delivery;
        let mut document = json!({
            "schema": "message/v1",
            "queue": delivery.queue.as_str(),
            "id": delivery.id.to_string(),
            "state": name(MessageState::Leased),
            "receipt": self.receipt().to_string(),
            "attempt": delivery.attempt,
            "failures": delivery.failures,
            "priority": delivery.priority,
            "enqueued_at": clock::rfc3339(delivery.pushed_at_ms),
            "lease_expires_at": clock::rfc3339(expires_at_ms),
        });
        if let Some(checkpoint) = &delivery.checkpoint {
            match std::str::from_utf8(checkpoint.as_bytes()) {
                Ok(text) => document["checkpoint"] = text.into(),
                Err(_) => document["checkpoint_base64"] = render::base64(checkpoint.as_bytes()).into(),
            }
        }
        if delivery.epoch > 0 {
            document["epoch"] = delivery.epoch.to_string().into();
        }
        add_group(&mut document, delivery.group.as_ref());
        add_content(&mut document, &self.headers, &self.body);
        document
    }
}

/// A message that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Where it lies.
    pub(crate) queue: QueueName,
    /// What the leader says of it.
    pub(crate) view: MessageView,
    /// Its headers.
    pub(crate) headers: Headers,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Seen {
    /// The document.
    pub(crate) fn document(&self) -> Value {
        let view = &self.view;
        let mut document = json!({
            "schema": "message/v1",
            "queue": self.queue.as_str(),
            "id": view.id.to_string(),
            "state": name(view.state),
            "attempts": view.attempts,
            "failures": view.failures,
            "releases": view.releases,
            "priority": view.priority,
            "enqueued_at": clock::rfc3339(view.pushed_at_ms),
        });
        add_group(&mut document, view.group.as_ref());
        let fields = document.as_object_mut().expect("built as an object");
        match (view.state, view.until_ms) {
            (MessageState::Delayed, Some(until)) => {
                fields.insert("ready_at".into(), clock::rfc3339(until).into());
                if let Some(left) = view.left_ms {
                    fields.insert("due_in_ms".into(), left.into());
                }
            }
            (MessageState::Leased, Some(left)) => {
                fields.insert("lease_left_ms".into(), left.into());
            }
            (MessageState::Dead, Some(at)) => {
                fields.insert("died_at".into(), clock::rfc3339(at).into());
            }
            _ => {}
        }
        if let Some(at) = view.expires_at_ms {
            fields.insert("expires_at".into(), clock::rfc3339(at).into());
        }
        if !view.history.is_empty() {
            let events: Vec<Value> = view.history.iter().map(event).collect();
            fields.insert("history".into(), events.into());
        }
        if let Some(holder) = &view.holder {
            fields.insert("holder".into(), clients::holder(holder));
        }
        if let Some(token) = view.token {
            fields.insert("token".into(), token.to_string().into());
        }
        if let Some(reason) = view.dead {
            fields.insert("reason".into(), reason_name(reason).into());
        }
        if let Some(error) = &view.last_error {
            fields.insert("last_error".into(), error.to_string().into());
        }
        add_content(&mut document, &self.headers, &self.body);
        document
    }
}

/// Something that happened, for scripts.
pub(crate) fn event(event: &Event) -> Value {
    let mut document = json!({"at": clock::rfc3339(event.at_ms), "attempts": event.attempts});
    let fields = document.as_object_mut().expect("built as an object");
    let what = match &event.kind {
        EventKind::Failed => "failed",
        EventKind::LeaseEnded => "lease_ended",
        EventKind::Released => "released",
        EventKind::Died(reason) => {
            fields.insert("reason".into(), reason_name(*reason).into());
            "died"
        }
        EventKind::Redriven => "redriven",
        EventKind::Moved(queue) => {
            fields.insert("from".into(), queue.as_str().into());
            "moved"
        }
    };
    fields.insert("what".into(), what.into());
    document
}

/// When a delayed message expires, if it is not due before.
pub(crate) fn expires_first(view: &MessageView) -> Option<u64> {
    let until = view.until_ms.filter(|_| view.state == MessageState::Delayed)?;
    view.expires_at_ms.filter(|at| *at <= until)
}

/// The state of a message and since or until when.
pub(crate) fn where_it_stands(view: &MessageView) -> String {
    let state = name(view.state);
    match (view.state, view.until_ms) {
        (MessageState::Leased, Some(left)) => format!("{state}, {} left", render::age(left)),
        (MessageState::Delayed, Some(until)) => {
            let expires = expires_first(view).map(|_| ", but it expires first").unwrap_or_default();
            match view.left_ms {
                Some(left) => format!("{state}, due in {}{expires}", render::age(left)),
                None => format!("{state} until {}{expires}", clock::rfc3339(until)),
            }
        }
        (MessageState::Dead, Some(at)) => {
            let reason = view.dead.map_or("?", reason_name);
            format!("{state} since {}: {reason}", clock::rfc3339(at))
        }
        _ => state.to_owned(),
    }
}

fn add_group(document: &mut Value, group: Option<&Key>) {
    if let Some(group) = group {
        document.as_object_mut().expect("built as an object").insert("group".into(), group.as_str().into());
    }
}

fn add_content(document: &mut Value, headers: &Headers, body: &[u8]) {
    let fields = document.as_object_mut().expect("built as an object");
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_string().into())).collect();
    fields.insert("headers".into(), headers.into());
    match std::str::from_utf8(body) {
        Ok(text) => fields.insert("body".into(), text.into()),
        Err(_) => fields.insert("body_base64".into(), render::base64(body).into()),
    };
}

/// A state in lower case.
pub(crate) fn name(state: MessageState) -> &'static str {
    match state {
        MessageState::Ready => "ready",
        MessageState::Leased => "leased",
        MessageState::Delayed => "delayed",
        MessageState::Dead => "dead",
    }
}

/// Why a message is dead, in one word.
pub(crate) fn reason_name(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::MaxFailures => "max_failures",
        DeadReason::Rejected => "rejected",
        DeadReason::Expired => "expired",
        DeadReason::Overflow => "overflow",
        DeadReason::Admin => "admin",
    }
}

/// Splits a content that came with message `id`.
///
/// # Errors
/// `content_corrupt` if its headers do not decode: some client pushed it so.
pub(crate) fn split(content: &Bytes, receipt: &str) -> Result<(Headers, Bytes), End> {
    content::decode(content)
        .map_err(|error| Failure::new("content_corrupt", Exit::BadData, format!("{receipt}: {error}")).into())
}

#[cfg(test)]
mod tests {
    use queue_protocol::bounded::Text;
    use queue_protocol::content::ContentSpec;
    use queue_protocol::names::{LeaseToken, MessageId};

    use super::*;

    fn taken(body: &'static [u8]) -> Taken {
        Taken {
            delivery: Delivery {
                queue: "jobs".parse().unwrap(),
                id: MessageId(4812),
                token: LeaseToken(9071),
                attempt: 1,
                failures: 0,
                priority: 4,
                group: None,
                pushed_at_ms: 1_795_442_602_118,
                lease_ms: 30_000,
                epoch: 0,
                checkpoint: None,
                deadline_ms: 30_000,
                content: ContentSpec::of(body),
            },
            headers: Headers::new(vec![(Text::cut("type"), Text::cut("png"))]).unwrap(),
            body: Bytes::from_static(body),
            until: Instant::now(),
        }
    }

    #[test]
    fn a_leased_message_is_the_document_of_the_manual() {
        assert_eq!(
            taken(b"resize 31.png").document(1_795_442_632_118).to_string(),
            r#"{"schema":"message/v1","queue":"jobs","id":"4812","state":"leased","receipt":"jobs/4812/9071","#
                .to_owned()
                + r#""attempt":1,"failures":0,"priority":4,"enqueued_at":"2026-11-23T14:03:22.118Z","#
                + r#""lease_expires_at":"2026-11-23T14:03:52.118Z","headers":{"type":"png"},"body":"resize 31.png"}"#
        );
    }

    #[test]
    fn a_message_that_was_popped_has_no_state_and_no_receipt() {
        assert_eq!(
            taken(b"x").popped().to_string(),
            r#"{"schema":"message/v1","queue":"jobs","id":"4812","attempt":1,"failures":0,"priority":4,"#
                .to_owned()
                + r#""enqueued_at":"2026-11-23T14:03:22.118Z","headers":{"type":"png"},"body":"x"}"#
        );
    }

    #[test]
    fn a_body_that_is_no_text_goes_as_base64() {
        let document = taken(b"\x89PNG").document(0);
        assert_eq!((document.get("body"), &document["body_base64"]), (None, &json!("iVBORw==")));
    }
}

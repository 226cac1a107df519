//! A message as it is shown: one line for people, the document `message/v1` for scripts.

pub(crate) mod dead;
pub(crate) mod edit;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod holder;
pub(crate) mod peek;

use bytes::Bytes;
use queue_json::words;
use queue_protocol::content::{self, Headers};
use queue_protocol::names::{QueueName, Receipt};
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::{Delivery, MessageView};
use serde_json::Value;
use tokio::time::Instant;

use crate::failure::exit::Exit;
use crate::failure::{End, Failure};
use crate::show::clock;
use crate::show::render;

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
        queue_json::message::receipt(&self.delivery)
    }

    /// The document of a message that is taken for good: it has no state and no receipt any more.
    pub(crate) fn popped(&self) -> Value {
        queue_json::message::popped(&self.delivery, &self.headers, &self.body)
    }

    /// The document; `expires_at_ms` is Unix milliseconds of this machine's clock.
    pub(crate) fn document(&self, expires_at_ms: u64) -> Value {
        queue_json::message::leased(&self.delivery, &self.headers, &self.body, expires_at_ms)
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
        let holder = self.view.holder.as_ref().map(holder::holder);
        queue_json::message::seen(&self.queue, &self.view, holder, &self.headers, &self.body)
    }
}

/// When a delayed message expires, if it is not due before.
pub(crate) fn expires_first(view: &MessageView) -> Option<u64> {
    let until = view.until_ms.filter(|_| view.state == MessageState::Delayed)?;
    view.expires_at_ms.filter(|at| *at <= until)
}

/// The state of a message and since or until when.
pub(crate) fn where_it_stands(view: &MessageView) -> String {
    let state = words::state(view.state);
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
            let reason = view.dead.map_or("?", words::dead_reason);
            format!("{state} since {}: {reason}", clock::rfc3339(at))
        }
        _ => state.to_owned(),
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
    use queue_protocol::content::ContentSpec;
    use queue_protocol::names::{LeaseToken, MessageId};
    use queue_protocol::wire::bounded::Text;
    use serde_json::json;

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

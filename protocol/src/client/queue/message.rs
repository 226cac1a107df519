//! A message to be pushed: a body, headers, and how it is to be treated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Error;
use crate::client::NewMessage;
use crate::content;
use crate::limits::{HEADERS_COUNT_MAX, HEADERS_SIZE_MAX};
use crate::names::Key;
use crate::values;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::request::{Due, PushOptions, Unique, UniqueHeld};

/// A message to be pushed. Anything that is bytes or text becomes one: `queue.push("body")`; batches and transactions take
/// them with options: `Message::new("body").priority(9)`.
#[derive(Clone, Debug)]
pub struct Message {
    body: Bytes,
    headers: Vec<(String, String)>,
    options: PushOptions,
    /// The first thing that is wrong with it.
    invalid: Option<String>,
}

impl Message {
    /// A message with this body, no headers, of default priority, ready at once. Body and headers together are at most 1 MiB
    /// unless the cluster is configured otherwise.
    pub fn new(body: impl Into<Message>) -> Self {
        body.into()
    }

    fn of(body: Bytes) -> Self {
        Self { body, headers: Vec::new(), options: PushOptions::default(), invalid: None }
    }

    fn key(&mut self, what: &str, key: &str) -> Option<Key> {
        let parsed = key.parse::<Key>();
        parsed.map_err(|error| self.invalid = Some(format!("invalid {what} {key:?}: {error}"))).ok()
    }

    /// As it is sent.
    pub(super) fn finish(self) -> Result<NewMessage, Error> {
        if let Some(invalid) = self.invalid {
            return Err(Error::Invalid(invalid));
        }
        if let Some(name) = values::repeated(&self.headers) {
            return Err(Error::Invalid(format!("the header {name:?} is given twice")));
        }
        let pair = |(name, value)| Ok((Text::new(name)?, Text::new(value)?));
        let headers = self.headers.into_iter().map(pair).collect::<Result<Vec<_>, _>>();
        let content = headers.and_then(Bounded::new).map_err(drop);
        let content = content.and_then(|headers| content::encode(&headers, &self.body).map_err(drop));
        let content = content.map_err(|()| {
            Error::Invalid(format!(
                "too many headers: at most {HEADERS_COUNT_MAX}, of {HEADERS_SIZE_MAX} bytes together"
            ))
        })?;
        Ok(NewMessage { content, options: self.options })
    }
}

macro_rules! bodies {
    ($($type:ty: $body:ident => $bytes:expr;)*) => {
        $(impl From<$type> for Message {
            fn from($body: $type) -> Self {
                Self::of($bytes)
            }
        })*
    };
}

bodies! {
    Bytes: body => body;
    Vec<u8>: body => body.into();
    String: body => body.into();
    &[u8]: body => Bytes::copy_from_slice(body);
    &str: body => Bytes::copy_from_slice(body.as_bytes());
    &String: body => Bytes::copy_from_slice(body.as_bytes());
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(body: &[u8; N]) -> Self {
        Self::of(Bytes::copy_from_slice(body))
    }
}

/// Written once, for a message and for what pushes one.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident($self:ident $(, $value:ident: $type:ty)*) $then:block)*) => {
        impl Message {
            $($(#[$doc])* #[must_use] pub fn $name(mut $self $(, $value: $type)*) -> Self { $then $self })*
        }

        impl super::PushBuilder {
            $($(#[$doc])* pub fn $name(mut self $(, $value: $type)*) -> Self {
                self.message = self.message.$name($($value),*);
                self
            })*
        }
    };
}

options! {
    /// Ready after this time, at most 366 days; until then it is delayed.
    delay(self, delay: Duration) { self.options.due = Due::AfterMs(super::milliseconds(delay)); }

    /// Ready at this time of day of the cluster; at once if it has passed.
    not_before(self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.options.due = Due::AtMs(super::milliseconds(since));
    }

    /// Expires this long after the push unless it was settled before. Default: as the queue is set.
    ttl(self, ttl: Duration) { self.options.ttl_ms = Some(super::milliseconds(ttl)); }

    /// 0 to 31, higher is delivered first. Default: 4.
    priority(self, priority: u8) { self.options.priority = priority; }

    /// The group that it belongs to, 1 to 128 bytes: in an ordered queue the messages of a group are handled one after the
    /// other, in a fair queue groups are served in turn.
    group(self, group: impl AsRef<str>) { self.options.group = self.key("group", group.as_ref()); }

    /// Not stored again if a message with this key, 1 to 128 bytes, was pushed within the queue's dedup window (10 min by
    /// default): the answer names the one that is there. Makes it safe to push again after [`Error::Unknown`].
    dedup(self, key: impl AsRef<str>) { self.options.dedup_key = self.key("dedup key", key.as_ref()); }

    /// Refused with [`Error::UniqueHeld`] while another message with this key, 1 to 128 bytes, is ready, leased or delayed.
    unique(self, key: impl AsRef<str>) {
        let key = self.key("unique key", key.as_ref());
        self.options.unique = key.map(|key| Unique { key, held: UniqueHeld::Reject });
    }

    /// As `unique`, but says what to do if a message holds the key: replace it, or keep it and answer with its id.
    unique_or(self, key: impl AsRef<str>, held: UniqueHeld) {
        let key = self.key("unique key", key.as_ref());
        self.options.unique = key.map(|key| Unique { key, held });
    }

    /// A header; names are given once. At most 32, 4 KiB together.
    header(self, name: impl Into<String>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reaches_the_wire() {
        let message = Message::new("body")
            .delay(Duration::from_secs(2))
            .ttl(Duration::from_secs(60))
            .priority(9)
            .group("g")
            .dedup("d")
            .unique_or("u", UniqueHeld::Keep)
            .header("type", "png");
        let sent = message.finish().expect("it is valid");
        let key = |text: &str| Some(text.parse::<Key>().expect("a key"));
        let unique = key("u").map(|key| Unique { key, held: UniqueHeld::Keep });
        let options = PushOptions {
            priority: 9,
            due: Due::AfterMs(2_000),
            ttl_ms: Some(60_000),
            dedup_key: key("d"),
            unique,
            group: key("g"),
        };
        assert_eq!(sent.options, options);
        let (headers, body) = content::decode(&sent.content).expect("it is one");
        assert_eq!(
            (&body[..], &*headers[0].0, &*headers[0].1, headers.len()),
            (&b"body"[..], "type", "png", 1)
        );
        let later = UNIX_EPOCH + Duration::from_millis(1_234);
        let sent = Message::new(b"x").not_before(later).unique("u").finish().expect("it is valid");
        assert_eq!(sent.options.due, Due::AtMs(1_234));
        assert_eq!(sent.options.unique.map(|unique| unique.held), Some(UniqueHeld::Reject));
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let long = "x".repeat(129);
        let many = (0..33).fold(Message::new("x"), |message, at| message.header(at.to_string(), ""));
        for (message, why) in [
            (Message::new("x").group(""), "invalid group \"\": a key has 1 to 128 bytes, not 0"),
            (Message::new("x").dedup(&long), "invalid dedup key"),
            (Message::new("x").unique(&long), "invalid unique key"),
            (Message::new("x").header("a", "1").header("a", "2"), "the header \"a\" is given twice"),
            (Message::new("x").header("a", "x".repeat(4_097)), "too many headers"),
            (Message::new("x").header("a", "x".repeat(4_096)), "too many headers"),
            (many, "too many headers"),
        ] {
            let refused = message.finish().expect_err(why);
            assert!(matches!(&refused, Error::Invalid(text) if text.contains(why)), "{refused}");
        }
    }
}

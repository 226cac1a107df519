//! The names of things: queues, messages, leases, sessions, nodes. No behaviour beyond reading and writing them.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{KEY_SIZE_MAX, QUEUE_NAME_SIZE_MAX};

/// A queue's name: 1 to 128 of `[A-Za-z0-9._-]`, not beginning with `-`. Never used as a file name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

/// Why a text is not a queue's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid queue name {name:?}: use 1 to {QUEUE_NAME_SIZE_MAX} of A-Z a-z 0-9 . _ -, not beginning with -"
)]
pub struct BadQueueName {
    /// What was given.
    pub name: String,
}

impl QueueName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn valid(name: &str) -> bool {
        (1..=QUEUE_NAME_SIZE_MAX).contains(&name.len())
            && crate::values::may_begin_name(name)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }
}

thread_local! {
    /// The last name that was read. The commands of an entry mostly name one queue: they share it.
    static LAST: RefCell<Option<QueueName>> = const { RefCell::new(None) };
}

impl FromStr for QueueName {
    type Err = BadQueueName;
    fn from_str(name: &str) -> Result<Self, BadQueueName> {
        LAST.with_borrow_mut(|last| match last {
            Some(last) if *last.0 == *name => Ok(last.clone()),
            _ if Self::valid(name) => Ok(last.insert(Self(name.into())).clone()),
            _ => Err(BadQueueName { name: name.to_owned() }),
        })
    }
}

/// A user's key or group of messages: 1 to 128 bytes of text. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {KEY_SIZE_MAX} bytes, not {size}")]
pub struct BadKey {
    /// Bytes given.
    pub size: usize,
}

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = BadKey;
    fn from_str(key: &str) -> Result<Self, BadKey> {
        let fits = (1..=KEY_SIZE_MAX).contains(&key.len());
        if fits { Ok(Self(key.into())) } else { Err(BadKey { size: key.len() }) }
    }
}

macro_rules! text {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Parsed;
                impl serde::de::Visitor<'_> for Parsed {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(|_| E::custom(concat!("bad ", $what)))
                    }
                }
                deserializer.deserialize_str(Parsed)
            }
        }
    };
}

text!(QueueName, "queue name");
text!(Key, "key");

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        $(#[$doc])*
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// A message, for ever: given by the state machine, consecutive in commit order, never reused.
    MessageId(u64), "{}"
);
number!(
    /// One lease of one message: strictly increasing over the cluster, so it fences out older holders.
    LeaseToken(u64), "{}"
);
number!(
    /// What every node remembers of a client so that a retry counts once. Chosen at random by the client.
    SessionId(u128), "{:032x}"
);
number!(
    /// A broker process as Raft numbers it; given by the log, never reused. Below 2^32: a larger one does not decode.
    #[serde(try_from = "u64")]
    NodeId(u64), "{}"
);

/// A number that no node has: records of the log keep 4 bytes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the number of a node: these are below 2^32")]
pub struct BadNodeId(pub u64);

impl TryFrom<u64> for NodeId {
    type Error = BadNodeId;
    fn try_from(number: u64) -> Result<Self, BadNodeId> {
        u32::try_from(number).map(|_| Self(number)).map_err(|_| BadNodeId(number))
    }
}
number!(
    /// A cluster, chosen at random by `queued init`.
    ClusterId(u128), "{:032x}"
);
number!(
    /// One formatted data directory; a wiped node comes back under another.
    StoreId(u128), "{:032x}"
);

/// The right to settle one lease, in text `queue/id/token`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The queue that was leased from.
    pub queue: QueueName,
    /// The message.
    pub id: MessageId,
    /// The lease.
    pub token: LeaseToken,
}

/// Why a text is not a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no receipt: expected QUEUE/ID/TOKEN, as `lease` prints it")]
pub struct BadReceipt {
    /// What was given.
    pub text: String,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.queue, self.id, self.token)
    }
}

impl FromStr for Receipt {
    type Err = BadReceipt;
    fn from_str(text: &str) -> Result<Self, BadReceipt> {
        let parse = || {
            let mut parts = text.split('/');
            let receipt = Receipt {
                queue: parts.next()?.parse().ok()?,
                id: MessageId(parts.next()?.parse().ok()?),
                token: LeaseToken(parts.next()?.parse().ok()?),
            };
            parts.next().is_none().then_some(receipt)
        };
        parse().ok_or_else(|| BadReceipt { text: text.to_owned() })
    }
}

//! Checkpoints: how far the work on a message has come, kept with the message for its next attempt.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::CHECKPOINT_SIZE_MAX;
use crate::names::{LeaseToken, MessageId, QueueName};
use crate::wire::bounded::TooMany;

/// At most 4 KiB that mean something to the user. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint(Bytes);

/// Let a lease end `lease_ms` from now, and keep a checkpoint with its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveCheckpoint {
    /// Where the message was leased.
    pub queue: QueueName,
    /// The message.
    pub id: MessageId,
    /// Its newest lease.
    pub token: LeaseToken,
    /// As [`crate::wire::request::Extend`] has it.
    pub lease_ms: u64,
    /// In the place of the one before.
    pub checkpoint: Checkpoint,
}

impl Checkpoint {
    /// Takes bytes over.
    ///
    /// # Errors
    /// [`TooMany`] if there are more than 4,096.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, TooMany> {
        let bytes = bytes.into();
        let (len, max) = (bytes.len(), CHECKPOINT_SIZE_MAX);
        if len > max { Err(TooMany { len, max }) } else { Ok(Self(bytes)) }
    }

    /// What it is.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parsed;
        impl serde::de::Visitor<'_> for Parsed {
            type Value = Checkpoint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a checkpoint")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Checkpoint, E> {
                Checkpoint::new(Bytes::copy_from_slice(bytes)).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Parsed)
    }
}

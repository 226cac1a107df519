//! The journal of administrative changes as it is asked for and shown. Each record is chained to the one before, so that
//! one that was edited, left out or put in shows.
//!
//! ```text
//! hash of a record = SHA-256(hash of the record before ‖ postcard of the record without its hash)
//! ```
//!
//! Before the first record there ever was stand 32 zeros.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::{Key, QueueName};
use crate::wire::auth::{KeyId, NOTE_SIZE_MAX, PrincipalName};
use crate::wire::bounded::{Bounded, Text};
use crate::wire::request::Consistency;

/// Records in one answer, at most.
pub const AUDIT_LISTED_MAX: usize = 200;
/// Longest text of what was done, in bytes.
pub const DETAIL_SIZE_MAX: usize = 512;

/// Read the journal of administrative changes, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Records behind this number; 0 begins.
    pub after: u64,
    /// Only those that are not older than this, Unix milliseconds.
    pub since_ms: u64,
    /// Only what this principal did.
    pub by: Option<PrincipalName>,
    /// Only what was done to this queue.
    pub queue: Option<QueueName>,
    /// How fresh it has to be.
    pub consistency: Consistency,
}

/// A part of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    /// Those that were asked for, rising.
    pub records: Bounded<AuditRecord, AUDIT_LISTED_MAX>,
    /// Everything up to this number was looked at; more is to be had behind it if it is below `last`.
    pub upto: u64,
    /// The number of the newest record; 0 if there was none yet.
    pub last: u64,
    /// The number of the oldest record that is kept.
    pub first: u64,
    /// The hash of the record before that one.
    pub before: [u8; 32],
    /// Records that were forgotten for want of room before their time.
    pub cut: u64,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// The nodes by themselves.
    Nodes,
    /// Somebody who was not logged in.
    Anybody,
    /// Whoever proved the cluster's secret.
    Secret,
    /// A principal.
    Principal {
        /// As it was called then.
        name: PrincipalName,
        /// The key that it came with.
        key: KeyId,
    },
}

/// One administrative change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Rises by one.
    pub number: u64,
    /// The entry of the log that made the change.
    pub index: u64,
    /// When, on the replicated wall clock, Unix milliseconds.
    pub at_ms: u64,
    /// Who did it.
    pub actor: Actor,
    /// From where: an IPv4 address as mapped to IPv6, or the upper half of an IPv6 address. `None` of what the nodes do.
    pub source: Option<[u8; 16]>,
    /// What was done, in one word, as `remove_queue`.
    pub act: Text<32>,
    /// To which queue.
    pub queue: Option<QueueName>,
    /// To what else: a schedule, a group, a principal or key.
    pub subject: Option<Key>,
    /// How.
    pub detail: Text<DETAIL_SIZE_MAX>,
    /// Why, as it was said.
    pub because: Text<NOTE_SIZE_MAX>,
    /// Of the record and all before it.
    pub hash: [u8; 32],
}

impl AuditRecord {
    /// The hash that it must have behind a record with the hash `before`.
    pub fn hash_behind(&self, before: &[u8; 32]) -> [u8; 32] {
        let Self { number, index, at_ms, actor, source, act, queue, subject, detail, because, hash: _ } =
            self;
        let record = (number, index, at_ms, actor, source, act, queue, subject, detail, because);
        let bytes = postcard::to_allocvec(&record).expect("plain values always encode");
        Sha256::new().chain_update(before).chain_update(&bytes).finalize().into()
    }

    /// Whether it stands behind a record of this number with this hash.
    pub fn follows(&self, number: u64, hash: &[u8; 32]) -> bool {
        self.number == number + 1 && self.hash == self.hash_behind(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AuditRecord {
        let record = AuditRecord {
            number: 1,
            index: 7,
            at_ms: 1_800_000_000_000,
            actor: Actor::Principal { name: Text::cut("ann"), key: KeyId(*b"0123456789") },
            source: Some([1; 16]),
            act: Text::cut("remove_queue"),
            queue: Some("jobs".parse().expect("a name")),
            subject: None,
            detail: Text::cut("3 messages"),
            because: Text::cut("moved"),
            hash: [0; 32],
        };
        AuditRecord { hash: record.hash_behind(&[0; 32]), ..record }
    }

    #[test]
    fn every_field_of_a_record_is_in_its_hash() {
        let told = record();
        assert!(told.follows(0, &[0; 32]));
        assert!(!told.follows(1, &[0; 32]) && !told.follows(0, &[1; 32]));
        let edits: [fn(&mut AuditRecord); 11] = [
            |it| it.number += 1,
            |it| it.index += 1,
            |it| it.at_ms += 1,
            |it| it.actor = Actor::Anybody,
            |it| it.source = None,
            |it| it.act = Text::cut("create_queue"),
            |it| it.queue = None,
            |it| it.subject = Some("x".parse().expect("a key")),
            |it| it.detail = Text::cut("4 messages"),
            |it| it.because = Text::cut(""),
            |it| it.hash[0] ^= 1,
        ];
        for (at, edit) in edits.iter().enumerate() {
            let mut edited = told.clone();
            edit(&mut edited);
            assert!(!edited.follows(0, &[0; 32]), "edit {at}");
        }
    }
}

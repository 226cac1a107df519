//! The journal of administrative changes: who changed what, from where, when and why. It is a part of the state, so it is
//! the same on every node, comes with every snapshot, and its newest hash is folded into the state hash.
//!
//! ```text
//! entry ─► command ─► done ─► Deed ─► record n, hash n = SHA-256(hash n-1 ‖ record n)
//! ```
//!
//! What the load does is not in it, and so cannot push anything out of it. A record is forgotten after 400 days, or when
//! there are 8 MiB of younger ones; how many went so, before their time, is counted.

mod deed;
mod show;

use std::sync::Arc;

use imbl::OrdMap;
use queue_protocol::wire::audit::{Actor, AuditRecord};
use serde::{Deserialize, Serialize};

use super::command::Source;
use super::state::State;
pub(super) use deed::Deed;

/// Bytes of all records, at most.
const SIZE_MAX: u64 = 8 << 20;
/// How long a record is kept, in milliseconds: 400 days.
const KEPT_MS: u64 = 400 * 86_400_000;
/// No counter gets here.
const NUMBER_MAX: u64 = 1 << 62;

/// Records, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Journal {
    head: Head,
    size: u64,
    records: OrdMap<u64, Arc<AuditRecord>>,
}

/// What is kept beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Head {
    /// The number of the record before the first that is kept; 0 if there is none.
    behind: u64,
    /// Its hash.
    before: [u8; 32],
    /// Records that were forgotten before their time.
    cut: u64,
}

fn size(record: &AuditRecord) -> u64 {
    postcard::to_allocvec(record).expect("plain values always encode").len() as u64
}

impl Journal {
    /// One without records, to be restored.
    pub(in crate::queue) fn going_on(head: Head) -> Self {
        Self { head, ..Self::default() }
    }

    pub(in crate::queue) fn head(&self) -> Head {
        self.head
    }

    pub(in crate::queue) fn len(&self) -> usize {
        self.records.len()
    }

    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = &AuditRecord> {
        self.records.values().map(|record| &**record)
    }

    /// Number and hash of the newest record.
    fn last(&self) -> (u64, [u8; 32]) {
        let newest = self.records.get_max().map(|(_, record)| (record.number, record.hash));
        newest.unwrap_or((self.head.behind, self.head.before))
    }

    /// Puts back a record that was kept; `None` if it does not stand behind the last. Whether its hash is right is not asked: one
    /// that was edited is to be named by who reads it, and the node to go on.
    pub(in crate::queue) fn restore(&mut self, record: AuditRecord) -> Option<()> {
        let (last, _) = self.last();
        if last.checked_add(1) != Some(record.number) {
            return None;
        }
        self.size = self.size.saturating_add(size(&record));
        self.records.insert(record.number, Arc::new(record));
        Some(())
    }

    /// Whether it can have come about, its hashes aside.
    pub(in crate::queue) fn is_sound(&self) -> bool {
        self.last().0 <= NUMBER_MAX && self.head.cut <= self.head.behind && self.size <= SIZE_MAX
    }

    /// Adds a record whose number and hash are still to be given.
    fn add(&mut self, record: AuditRecord) {
        let (last, before) = self.last();
        let record = AuditRecord { number: last + 1, ..record };
        let record = AuditRecord { hash: record.hash_behind(&before), ..record };
        let now_ms = record.at_ms;
        self.size += size(&record);
        self.records.insert(record.number, Arc::new(record));
        while let Some((_, oldest)) = self.records.get_min() {
            let is_old = oldest.at_ms.saturating_add(KEPT_MS) <= now_ms;
            if !is_old && self.size <= SIZE_MAX {
                break;
            }
            let oldest = Arc::clone(oldest);
            self.head.cut += u64::from(!is_old);
            (self.head.behind, self.head.before) = (oldest.number, oldest.hash);
            self.size -= size(&oldest);
            self.records.remove(&oldest.number);
        }
    }

    /// What is folded into the state hash: two journals that differ in any record differ here.
    pub(in crate::queue) fn count(&self) -> u64 {
        let (last, hash) = self.last();
        let (first, _) = hash.split_first_chunk().expect("32 bytes are more than eight");
        u64::from_le_bytes(*first) ^ last
    }

    /// Asserts that what is kept twice agrees.
    pub(in crate::queue) fn check(&self) {
        assert!(self.is_sound(), "the journal");
        assert_eq!(self.size, self.iter().map(size).sum::<u64>(), "its size");
        assert!(self.iter().map(|record| record.number).eq(self.head.behind + 1..=self.last().0), "numbers");
    }
}

impl State {
    /// Tells the journal of what the entry `index` did.
    pub(super) fn tell(&mut self, index: u64, actor: Actor, from: Option<Source>, deed: Deed) {
        let record = deed.record(index, self.wall_ms(), actor, from);
        self.journal_mut().add(record);
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn record(at_ms: u64, detail: &str) -> AuditRecord {
        AuditRecord {
            number: 0,
            index: 1,
            at_ms,
            actor: Actor::Nodes,
            source: None,
            act: Text::cut("set_wall"),
            queue: None,
            subject: None,
            detail: Text::cut(detail),
            because: Text::default(),
            hash: [0; 32],
        }
    }

    #[test]
    fn what_is_old_goes_and_the_chain_goes_on() {
        let mut journal = Journal::default();
        journal.add(record(1, "first"));
        journal.add(record(KEPT_MS, "second"));
        assert_eq!((journal.len(), journal.head().cut), (2, 0));
        let first = journal.iter().next().expect("two").clone();
        journal.add(record(KEPT_MS + 1, "third"));
        journal.check();
        assert_eq!(journal.iter().map(|record| record.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(journal.head(), Head { behind: 1, before: first.hash, cut: 0 });
        let mut before = (1, first.hash);
        for record in journal.iter() {
            assert!(record.follows(before.0, &before.1));
            before = (record.number, record.hash);
        }
    }

    #[test]
    fn what_goes_for_want_of_room_is_counted() {
        let mut journal = Journal::default();
        let long = "x".repeat(500);
        while journal.head().cut < 3 {
            journal.add(record(7, &long));
        }
        journal.check();
        assert_eq!(journal.head().behind, 3);
        assert!(journal.size > SIZE_MAX - 1_000);
    }
}

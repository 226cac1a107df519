//! The journal as it is read.

use queue_protocol::wire::audit::{AUDIT_LISTED_MAX, Actor, Audit, AuditList, AuditRecord};
use queue_protocol::wire::bounded::Bounded;

use crate::queue::state::State;

/// Records that are looked at for one answer, at most.
const LOOKED_AT_MAX: usize = 4_096;

fn is_wanted(asked: &Audit, record: &AuditRecord) -> bool {
    let by = |wanted| matches!(&record.actor, Actor::Principal { name, .. } if name == wanted);
    record.at_ms >= asked.since_ms
        && asked.by.as_ref().is_none_or(by)
        && asked.queue.as_ref().is_none_or(|queue| record.queue.as_ref() == Some(queue))
}

impl State {
    /// How many records there ever were, and how many of them were forgotten before their time.
    pub fn audited(&self) -> (u64, u64) {
        let journal = self.journal();
        (journal.last().0, journal.head().cut)
    }

    /// When something was changed last by the cluster's secret, in Unix milliseconds, as far as the newest records tell.
    pub fn changed_by_secret_ms(&self) -> Option<u64> {
        let newest = self.journal().records.values().rev().take(LOOKED_AT_MAX);
        newest.map(|record| &**record).find(|record| record.actor == Actor::Secret).map(|record| record.at_ms)
    }

    /// The part of the journal that was asked for, as much as fits an answer.
    pub fn audit(&self, asked: &Audit) -> AuditList {
        let journal = self.journal();
        let head = journal.head();
        let (last, _) = journal.last();
        let (mut upto, mut records) = (asked.after.max(head.behind), Vec::new());
        for (_, record) in journal.records.range(upto.saturating_add(1)..).take(LOOKED_AT_MAX) {
            if records.len() == AUDIT_LISTED_MAX {
                break;
            }
            upto = record.number;
            if is_wanted(asked, record) {
                records.push(AuditRecord::clone(record));
            }
        }
        AuditList {
            records: Bounded::new(records).expect("counted"),
            upto,
            last,
            first: head.behind + 1,
            before: head.before,
            cut: head.cut,
        }
    }
}

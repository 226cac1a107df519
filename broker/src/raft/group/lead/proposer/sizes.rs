//! What a proposal may take in an entry, so that no entry exceeds what a peer accepts.

use queue_protocol::request::PushOptions;

use super::{ENTRY_SIZE_MAX, Proposal};
use crate::queue::RELEASED_COUNT_MAX;
use crate::queue::command::{Op, Push, Step};

impl Proposal {
    /// Bytes this may take in an entry, never fewer than it does: an entry must fit what a peer accepts.
    pub(super) fn size(&self) -> usize {
        let named = match &self.command.op {
            Op::Ack(receipts) | Op::Extend { leases: Some(receipts), .. } => 20 * receipts.receipts.len(),
            Op::Nack { leases, .. } => 1_100 + 20 * leases.receipts.len(),
            // These not for their bytes: an entry is to take no longer to apply than two sweeps.
            Op::Edit { ids, .. } => 100 * ids.len(),
            Op::ReleaseAbsent(_) => 100 * RELEASED_COUNT_MAX,
            Op::Sweep(_) => ENTRY_SIZE_MAX / 2,
            Op::Lease(lease) | Op::Pop(lease) => 130 * lease.queues.len(),
            Op::Push(push) => push_size(push),
            Op::SaveCheckpoint(save) => 256 + save.checkpoint.as_bytes().len(),
            // As with an edit. A nack brings its text.
            Op::Txn(txn) => {
                let pushes = self.command.op.pushes().map(push_size).sum::<usize>();
                let texts = txn.steps.iter().filter(|step| matches!(step, Step::Nack { .. })).count() * 1_100;
                512 * (txn.conditions.len() + txn.steps.len()) + 100 * txn.items() + pushes + texts
            }
            Op::CreateQueue { .. } | Op::AlterQueue { .. } | Op::WeighGroup(_) => 512,
            Op::SetSchedule(_) => 1_024,
            _ => 0,
        };
        256 + named + self.table.iter().map(|spec| spec.size as usize + 8).sum::<usize>()
    }
}

/// Bytes of what a push says of its messages, at most.
fn push_size(push: &Push) -> usize {
    let keys = |(_, options): &(u32, PushOptions)| {
        let unique = options.unique.as_ref().map(|unique| &unique.key);
        let keys = [options.dedup_key.as_ref(), unique, options.group.as_ref()];
        keys.into_iter().flatten().map(|key| key.as_str().len()).sum::<usize>()
    };
    push.special.iter().map(|special| 48 + keys(special)).sum()
}

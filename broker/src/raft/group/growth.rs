//! What was written and settled since the last snapshot: when the next one is due, and how large it may be by now.

use crate::raft::openraft::types::Batch;

/// When a snapshot is due: after this many entries, or bytes written and settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotEvery {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// Counts since the state was last frozen for a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    entries: u64,
    /// Bytes of entries, and of bodies that were settled: the space of both comes back with a snapshot.
    bytes: u64,
    /// Bytes of commands and body tables: the state has not grown by more than about that.
    state: u64,
}

impl Growth {
    /// An entry was applied that settled `freed` bytes of bodies. Whether a snapshot is due now.
    pub(crate) fn add(&mut self, batch: &Batch, freed: u64, every: SnapshotEvery) -> bool {
        let rows = 8 * batch.table.len() as u64;
        let bodies: u64 = batch.table.iter().map(|spec| u64::from(spec.size)).sum();
        self.entries += 1;
        self.state += batch.commands.len() as u64 + rows;
        self.bytes += freed + batch.commands.len() as u64 + rows + bodies;
        self.is_due(every)
    }

    /// Whether a snapshot is due.
    pub(crate) fn is_due(self, every: SnapshotEvery) -> bool {
        self.entries >= every.entries || self.bytes >= every.bytes
    }

    /// Bytes of the log and of bodies that a snapshot now could give back.
    pub(crate) fn bytes(self) -> u64 {
        self.bytes
    }

    /// Bytes that a snapshot is larger by than the one before, about and at most.
    pub(crate) fn state(self) -> u64 {
        self.state
    }
}

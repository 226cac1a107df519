//! The snapshot of a peer, taken in part by part, looked at, and only then published.

use queue_protocol::wire::peer::LogId;

use super::draft::Draft;
use super::{SnapshotError, SnapshotFile};

/// A snapshot that is coming in. Dropped, it leaves nothing behind.
pub struct Stage {
    draft: Draft,
    last: LogId,
    state_size: u64,
}

/// A snapshot that is here, and that nobody has published yet. Dropped, it leaves nothing behind.
pub struct Staged {
    draft: Draft,
    last: LogId,
}

impl Stage {
    pub(super) fn new(draft: Draft, last: LogId, state_size: u64) -> Self {
        Self { draft, last, state_size }
    }

    /// Takes the next bytes of the state.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Size`] if they are more than was announced, none of them taken; or the disk failed, and this
    /// is to be dropped.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let found = self.received().saturating_add(bytes.len() as u64);
        if found > self.state_size {
            return Err(SnapshotError::Size { expected: self.state_size, found });
        }
        self.draft.add(bytes)
    }

    /// Bytes of state announced.
    pub fn size(&self) -> u64 {
        self.state_size
    }

    /// Bytes of state taken so far.
    pub fn received(&self) -> u64 {
        self.draft.size()
    }

    /// Ends the taking in.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Size`] if less came than was announced; or the disk failed.
    pub fn finish(mut self) -> Result<Staged, SnapshotError> {
        let found = self.received();
        if found != self.state_size {
            return Err(SnapshotError::Size { expected: self.state_size, found });
        }
        self.draft.flush()?;
        Ok(Staged { draft: self.draft, last: self.last })
    }
}

impl Staged {
    /// The last entry it covers.
    pub fn last(&self) -> LogId {
        self.last
    }

    /// Bytes of state.
    pub fn state_size(&self) -> u64 {
        self.draft.size()
    }

    /// All of the state, for being understood before it is published.
    ///
    /// # Errors
    ///
    /// The disk failed, or gave back something else than was written.
    pub fn read_state(&self) -> Result<Vec<u8>, SnapshotError> {
        self.draft.state().read_all()
    }

    /// Publishes it, as [`super::Snapshots::publish`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn publish(self, meta: &[u8]) -> Result<SnapshotFile, SnapshotError> {
        self.draft.publish(self.last, meta).await
    }
}

//! Bodies of a peer's snapshot, on their way into sparse files.

use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::LogId;

use super::LogError;
use super::index::{Imported, Run};
use super::operation::Said;
use super::shared::Shared;
use super::sparse::SparseFiles;

/// Bodies on their way in; dropped unpublished, it leaves nothing behind.
pub struct Import {
    shared: Arc<Shared>,
    files: SparseFiles,
}

impl Import {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { files: SparseFiles::new(Arc::clone(&shared)), shared }
    }

    /// Live bodies of one entry, ordinals rising; `contents` are the bodies, one after the other. Entries come by
    /// rising index; the bodies of one may come in several calls.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] if a body does not match its row, or comes out of order; else the disk.
    pub async fn add(
        &mut self,
        id: LogId,
        bodies: &[(u32, ContentSpec)],
        contents: Bytes,
    ) -> Result<(), LogError> {
        self.files.add(id, bodies, contents).await
    }

    /// Makes them durable and readable. From then on entries in `applied + 1 ..= last` of the local stream satisfy no
    /// reference: only what was imported does. It stands only if a snapshot that covers `last` is published before the
    /// log is opened again ([`LogOptions::snapshot_upto`](super::LogOptions)).
    ///
    /// # Errors
    /// The disk; [`LogError::Closed`] if the log is. Nothing is readable then.
    pub async fn publish(mut self, applied: u64, last: LogId) -> Result<(), LogError> {
        let (mut runs, mut segments) = (Vec::new(), Vec::new());
        for named in self.files.name().await? {
            let (first, end) = (named.rows.first(), named.rows.last());
            if let (Some(first), Some(end)) = (first, end) {
                runs.push(Run { first: first.index, last: end.index, file: named.segment.id });
            }
            segments.push(named.segment);
        }
        let import = Imported { from: applied.min(last.index) + 1, to: last.index, runs };
        for run in &import.runs {
            if run.first < import.from || run.last > import.to {
                return Err(LogError::Mismatch { index: run.last, ordinal: 0 });
            }
        }
        let durable = self.shared.durable(|accept| {
            accept.tail.hide(import.from, import.to);
            Said::Import(import, segments)
        });
        self.files.adopt();
        durable.await
    }
}

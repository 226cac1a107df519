//! A file of the log and who reads it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::format::file_id::FileId;

/// A file whose records count. It is recycled only when it is no longer part of the log and nobody has it pinned.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: FileId,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pins: AtomicUsize,
    unpinned: Arc<Notify>,
}

impl Segment {
    /// `unpinned` is told whenever the last pin goes.
    pub(crate) fn new(id: FileId, path: PathBuf, size: u64, unpinned: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { id, path, size, pins: AtomicUsize::new(0), unpinned })
    }

    /// Keeps the file as it is until the pin is dropped. Only while it is part of the log.
    pub(crate) fn pin(self: &Arc<Self>) -> Pin {
        self.pins.fetch_add(1, Ordering::Relaxed);
        Pin(Arc::clone(self))
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }
}

/// A read in flight.
#[derive(Debug)]
pub(crate) struct Pin(Arc<Segment>);

impl Pin {
    /// Another pin of the same file.
    pub(crate) fn again(&self) -> Self {
        self.0.pin()
    }
}

impl std::ops::Deref for Pin {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.0.pins.fetch_sub(1, Ordering::Release) == 1 {
            self.0.unpinned.notify_one();
        }
    }
}

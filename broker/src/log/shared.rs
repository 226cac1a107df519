//! What the log, its writer and its keeper have in common.
//!
//! ```text
//! Accept   what has been asked for: marks, pending operations, the tail      written by callers
//! Located  what has been written, and where                                  written by the writer
//! ```
//!
//! `durable ≤ located ≤ accepted`. The two locks are never held together.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::wire::peer::LogId;
use tokio::sync::{Notify, oneshot};

use super::clean::Clean;
use super::format::file_id::FileId;
use super::format::footer::Row;
use super::operation::{Operation, What};
use super::pool::Pool;
use super::reader::{Reader, Spot};
use super::segment::Segment;
use super::state::{Anchor, Floor, State};
use super::tail::Tail;
use super::{Done, Lack, LogError, LogOptions, LogState};
use crate::fs::Disk;
use crate::locked::Locked as _;

/// How far the log's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// The writer writes what is pending and ends.
    Closing,
    /// The writer has ended, everything accepted before is durable.
    Closed,
    /// The writer failed or was dropped: nothing completes any more.
    Failed,
}

pub(crate) struct Accept {
    pub(crate) state: LogState,
    pub(crate) tail: Tail,
    pub(crate) pending: Vec<Operation>,
    /// `state.committed` has not been handed to the writer.
    pub(crate) mark: bool,
    /// Floors that have not been handed to the writer.
    pub(crate) floors: Option<Vec<Floor>>,
    /// An anchor that has not been handed to the writer.
    pub(crate) anchor: Option<Anchor>,
    /// The number of the newest operation.
    pub(crate) number: u64,
    /// Counts truncations and purges, which make a read begin again.
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
    /// What the writer waits for before it can go on.
    pub(crate) stalled: Option<Lack>,
}

impl Accept {
    pub(crate) fn push(&mut self, what: impl Into<What>, done: Option<Done>) {
        self.number += 1;
        self.pending.push(Operation { number: self.number, what: what.into(), done });
    }

    /// `purged ≤ last`, and the tail is in order.
    pub(crate) fn check(&self) {
        let index = |id: Option<LogId>| id.map(|id| id.index);
        assert!(index(self.state.purged) <= index(self.state.last), "purged beyond the last entry");
        self.tail.check();
    }
}

pub(crate) struct Located {
    pub(crate) state: State,
    pub(crate) segments: BTreeMap<FileId, Arc<Segment>>,
    /// The file being written.
    pub(crate) written: FileId,
    /// Rows of the entries in the file being written.
    pub(crate) rows: Vec<Row>,
    /// The number the next sparse file gets.
    pub(crate) sparse_next: u64,
}

impl Located {
    pub(crate) fn check(&self) {
        self.state.check();
        assert!(self.state.index.files.iter().eq(self.segments.keys()), "files and segments differ");
        let recent = &self.rows[self.rows.len().saturating_sub(64)..];
        assert!(recent.is_sorted_by(|a, b| a.index < b.index), "rows are out of order");
    }
}

pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) epoch: u32,
    accept: Mutex<Accept>,
    located: Mutex<Located>,
    pub(crate) reader: Reader,
    pub(crate) pool: Pool,
    pub(crate) clean: Clean,
    /// There is something to write.
    pub(crate) wake: Notify,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: LogOptions,
        epoch: u32,
        located: Located,
        pool: Pool,
    ) -> Self {
        let accept = Accept {
            state: located.state.for_raft(),
            tail: Tail::new(options.tail_size),
            pending: Vec::new(),
            mark: false,
            floors: None,
            anchor: None,
            number: 0,
            generation: 0,
            phase: Phase::Open,
            stalled: None,
        };
        let reader = Reader::new(Arc::clone(&disk), dir.clone(), options.seed, options.open_files_max);
        Self {
            disk,
            dir,
            options,
            epoch,
            accept: Mutex::new(accept),
            located: Mutex::new(located),
            reader,
            pool,
            clean: Clean::default(),
            wake: Notify::new(),
        }
    }

    pub(crate) fn accept(&self) -> MutexGuard<'_, Accept> {
        self.accept.locked()
    }

    pub(crate) fn located(&self) -> MutexGuard<'_, Located> {
        self.located.locked()
    }

    /// Accepts an operation; what it gives is ready when that is durable.
    pub(crate) fn durable<W: Into<What>, F: FnOnce(&mut Accept) -> W>(
        self: &Arc<Self>,
        what: F,
    ) -> impl Future<Output = Result<(), LogError>> + Send + use<W, F> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move || {
            let _nobody_waits = sender.send(());
        });
        self.submit(|accept| {
            let what = what(accept);
            accept.push(what, Some(done));
        });
        let shared = Arc::clone(self);
        async move {
            if receiver.await.is_err() {
                if shared.accept().phase == Phase::Failed {
                    std::future::pending::<()>().await;
                }
                return Err(LogError::Closed);
            }
            Ok(())
        }
    }

    /// Changes what is accepted and wakes the writer; once it is closing or gone, what was to be done is dropped.
    pub(crate) fn submit(&self, change: impl FnOnce(&mut Accept)) {
        let mut accept = self.accept();
        if accept.phase == Phase::Open {
            change(&mut accept);
            if cfg!(debug_assertions) {
                accept.check();
            }
            drop(accept);
            self.wake.notify_one();
        }
    }

    /// Where log entry `index` was written.
    pub(crate) fn spot_of_entry(&self, index: u64) -> Result<Option<Spot>, LogError> {
        let located = self.located();
        let file = located.state.index.entry(index);
        self.spot(located, file, index)
    }

    /// Where the bodies of `index` were written. A local entry above `last` was dropped, though that is not written yet.
    pub(crate) fn spot_of_bodies(&self, index: u64, last: Option<u64>) -> Result<Option<Spot>, LogError> {
        let located = self.located();
        let dropped = last.is_none_or(|last| index > last);
        let file = located.state.index.bodies(index);
        let file = file.filter(|file| !dropped || matches!(file, FileId::Sparse(_)));
        self.spot(located, file, index)
    }

    fn spot(
        &self,
        located: MutexGuard<'_, Located>,
        file: Option<FileId>,
        index: u64,
    ) -> Result<Option<Spot>, LogError> {
        let Some(segment) = file.and_then(|file| located.segments.get(&file)) else { return Ok(None) };
        let pin = segment.pin();
        if segment.id == located.written {
            let place = located.rows.binary_search_by_key(&index, |row| row.index);
            return Ok(place.ok().map(|place| Spot { pin, row: located.rows[place] }));
        }
        drop(located);
        self.reader.locate(pin, index)
    }
}

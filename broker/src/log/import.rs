//! Bodies of a peer's snapshot, on their way into sparse files.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::peer::LogId;

use super::LogError;
use super::format::file_id::FileId;
use super::format::footer::{Row, reserve};
use super::format::opening::Opening;
use super::format::record::{Kind, NO_ID};
use super::format::{block_up, usize_of};
use super::group::{Cursor, Group, sparse_size};
use super::index::{Imported, Run};
use super::scan::Expected;
use super::segment::Segment;
use super::shared::{Shared, What};
use super::state::State;
use super::writer::write_footer;
use crate::fs::{File, Open};

/// Bytes gathered before they are written.
const GROUP_SIZE: u64 = 1 << 20;

/// Bodies on their way in; dropped unpublished, it leaves nothing behind.
pub struct Import {
    shared: Arc<Shared>,
    /// Bodies of the newest entry: more may come.
    entry: Option<Gathered>,
    writing: Option<Sparse>,
    written: Vec<Sparse>,
    published: bool,
}

struct Gathered {
    id: LogId,
    rows: Vec<(u32, ContentSpec)>,
    contents: Vec<Bytes>,
}

/// A sparse file under its temporary name.
struct Sparse {
    id: FileId,
    aside: PathBuf,
    file: Arc<dyn File>,
    cursor: Cursor,
    group: Group,
    rows: Vec<Row>,
    size: u64,
}

impl Import {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entry: None, writing: None, written: Vec::new(), published: false }
    }

    /// Live bodies of one entry, ordinals rising; `contents` are the bodies, one after the other. Entries come by
    /// rising index; the bodies of one may come in several calls.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] if a body does not match its row, or comes out of order; else the disk.
    pub fn add(&mut self, id: LogId, bodies: &[(u32, ContentSpec)], contents: Bytes) -> Result<(), LogError> {
        let mut rest = contents;
        for (ordinal, spec) in bodies {
            let mismatch = LogError::Mismatch { index: id.index, ordinal: *ordinal };
            let size = usize_of(u64::from(spec.size));
            if size > rest.len() || !self.in_order(id.index, *ordinal) {
                return Err(mismatch);
            }
            let body = rest.split_to(size);
            if spec.verify(&body).is_err() {
                return Err(mismatch);
            }
            if self.entry.as_ref().is_none_or(|entry| entry.id.index < id.index) {
                self.put_entry()?;
                self.entry = Some(Gathered { id, rows: Vec::new(), contents: Vec::new() });
            }
            let entry = self.entry.as_mut().expect("just made");
            entry.rows.push((*ordinal, *spec));
            entry.contents.push(body);
        }
        match bodies.last() {
            Some((ordinal, _)) if !rest.is_empty() => {
                Err(LogError::Mismatch { index: id.index, ordinal: *ordinal })
            }
            _ => Ok(()),
        }
    }

    fn in_order(&self, index: u64, ordinal: u32) -> bool {
        self.entry.as_ref().is_none_or(|entry| {
            let last = entry.rows.last().map(|(ordinal, _)| *ordinal);
            entry.id.index < index || entry.id.index == index && last < Some(ordinal)
        })
    }

    fn put_entry(&mut self) -> Result<(), LogError> {
        let Some(Gathered { id, rows, contents }) = self.entry.take() else { return Ok(()) };
        let size = sparse_size(&rows);
        let segment_size = self.shared.options.segment_size;
        if let Some(writing) = &self.writing
            && block_up(writing.group.end() + size) + reserve(writing.rows.len() + 1) > segment_size
        {
            self.finish()?;
        }
        if self.writing.is_none() {
            self.writing = Some(Sparse::create(&self.shared)?);
        }
        let writing = self.writing.as_mut().expect("just made");
        let row = writing.group.sparse(&mut writing.cursor, id, &rows, &contents);
        writing.rows.push(row);
        writing.flush_above(GROUP_SIZE)
    }

    /// Closes the file being written.
    fn finish(&mut self) -> Result<(), LogError> {
        let Some(mut writing) = self.writing.take() else { return Ok(()) };
        let closed = writing.close();
        self.written.push(writing);
        closed
    }

    /// Makes them durable and readable. From then on entries in `applied + 1 ..= last` of the local stream satisfy no
    /// reference: only what was imported does. It stands only if a snapshot that covers `last` is published before the
    /// log is opened again ([`LogOptions::snapshot_upto`](super::LogOptions)).
    ///
    /// # Errors
    /// The disk; [`LogError::Closed`] if the log is. Nothing is readable then.
    pub async fn publish(mut self, applied: u64, last: LogId) -> Result<(), LogError> {
        self.put_entry()?;
        self.finish()?;
        let Shared { disk, dir, pool, .. } = &*self.shared;
        let (mut runs, mut segments) = (Vec::new(), Vec::new());
        for sparse in &self.written {
            sparse.file.sync().await?;
            let path = dir.join(sparse.id.name());
            disk.rename(&sparse.aside, &path)?;
            segments.push(Segment::new(sparse.id, path, sparse.size, Arc::clone(&pool.wake)));
            let (first, end) = (sparse.rows.first(), sparse.rows.last());
            let (Some(first), Some(end)) = (first, end) else { continue };
            runs.push(Run { first: first.index, last: end.index, file: sparse.id });
        }
        disk.sync_dir(dir).await?;
        let import = Imported { from: applied.min(last.index) + 1, to: last.index, runs };
        for run in &import.runs {
            if run.first < import.from || run.last > import.to {
                return Err(LogError::Mismatch { index: run.last, ordinal: 0 });
            }
        }
        let durable = self.shared.durable(|accept| {
            accept.tail.hide(import.from, import.to);
            What::Import(import, segments)
        });
        self.published = true;
        durable.await
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let Shared { disk, dir, .. } = &*self.shared;
        for sparse in self.written.iter().chain(&self.writing) {
            for path in [&sparse.aside, &dir.join(sparse.id.name())] {
                if let Err(error) =
                    disk.exists(path).and_then(|there| if there { disk.remove(path) } else { Ok(()) })
                {
                    tracing::warn!(%error, "an unpublished import stays until the next start");
                }
            }
        }
    }
}

impl Sparse {
    fn create(shared: &Shared) -> Result<Self, LogError> {
        let id = {
            let mut located = shared.located();
            located.sparse_next += 1;
            FileId::Sparse(located.sparse_next - 1)
        };
        let aside = shared.dir.join(format!("{}.tmp", id.name()));
        let file = shared.disk.open(&aside, Open::Create)?;
        let first = Expected { sequence: 1, chain: 0 };
        let mut cursor = Cursor::new(id.salt(shared.options.seed), shared.epoch, first, 0);
        let mut group = Group::new(0);
        let opening = Opening { file: id, file_size: 0, zeroed: true, state: State::default() };
        group.record(&mut cursor, Kind::Opening, 0, NO_ID, &opening.encode());
        Ok(Self { id, aside, file, cursor, group, rows: Vec::new(), size: 0 })
    }

    fn flush_above(&mut self, size: u64) -> Result<(), LogError> {
        if self.group.size() > size {
            self.group.write(&*self.file)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.flush_above(0)?;
        let end = self.group.end();
        self.size = end + reserve(self.rows.len());
        write_footer(&*self.file, self.id, self.size, &mut self.cursor, end, &self.rows)?;
        Ok(())
    }
}

//! Bodies on their way into sparse files, by rising index: those of a peer's snapshot, and those that outlive their
//! segment.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::LogId;

use super::LogError;
use super::format::file_id::FileId;
use super::format::footer::{Row, reserve};
use super::format::opening::Opening;
use super::format::record::{Kind, NO_ID};
use super::format::{block_up, usize_of};
use super::group::{Cursor, Group, sparse_size};
use super::scan::Expected;
use super::segment::Segment;
use super::shared::Shared;
use super::state::State;
use super::writer::write_footer;
use crate::fs::{File, Open};

/// Finished files kept open at a time; of more, the one finished first is synced and closed.
const OPEN_FILES_MAX: usize = 8;
/// Bytes gathered before they are written.
const GROUP_SIZE: u64 = 1 << 20;

/// Sparse files being written; dropped before they are part of the log, they leave nothing behind.
pub(crate) struct SparseFiles {
    shared: Arc<Shared>,
    /// Bodies of the newest entry: more may come.
    entry: Option<Gathered>,
    writing: Option<Sparse>,
    written: Vec<Sparse>,
    adopted: bool,
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
    /// `None` once it is durable under its temporary name.
    file: Option<Arc<dyn File>>,
    cursor: Cursor,
    group: Group,
    rows: Vec<Row>,
    size: u64,
}

/// A file that has its name, durably, and its entries.
pub(crate) struct Named {
    pub(crate) segment: Arc<Segment>,
    pub(crate) rows: Vec<Row>,
}

impl SparseFiles {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entry: None, writing: None, written: Vec::new(), adopted: false }
    }

    /// Some bodies of one entry, ordinals rising; `contents` are the bodies, one after the other. Entries come by
    /// rising index; the bodies of one may come in several calls.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] if a body does not match its row, or comes out of order; else the disk.
    pub(crate) async fn add(
        &mut self,
        id: LogId,
        bodies: &[(u32, ContentSpec)],
        contents: Bytes,
    ) -> Result<(), LogError> {
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
                self.put_entry().await?;
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

    async fn put_entry(&mut self) -> Result<(), LogError> {
        let Some(Gathered { id, rows, contents }) = self.entry.take() else { return Ok(()) };
        let size = sparse_size(&rows);
        let segment_size = self.shared.options.segment_size;
        if let Some(writing) = &self.writing
            && block_up(writing.group.end() + size) + reserve(writing.rows.len() + 1) > segment_size
        {
            self.finish().await?;
        }
        if self.writing.is_none() {
            self.writing = Some(Sparse::create(&self.shared)?);
        }
        let writing = self.writing.as_mut().expect("just made");
        let row = writing.group.sparse(&mut writing.cursor, id, &rows, &contents);
        writing.rows.push(row);
        writing.flush_above(GROUP_SIZE)
    }

    /// Ends the file being written. However many there are, few of them stay open.
    async fn finish(&mut self) -> Result<(), LogError> {
        let Some(mut writing) = self.writing.take() else { return Ok(()) };
        let ended = writing.end();
        self.written.push(writing);
        ended?;
        let open = self.written.len().saturating_sub(OPEN_FILES_MAX);
        match open.checked_sub(1).map(|oldest| &mut self.written[oldest]) {
            Some(oldest) => oldest.sync().await,
            None => Ok(()),
        }
    }

    /// Makes them durable under their names. They are part of the log only once a record says so: until
    /// [`SparseFiles::adopt`] they go when this is dropped, and when the log is opened.
    pub(crate) async fn name(&mut self) -> Result<Vec<Named>, LogError> {
        self.put_entry().await?;
        self.finish().await?;
        let Shared { disk, dir, pool, .. } = &*self.shared;
        let mut named = Vec::new();
        for sparse in &mut self.written {
            sparse.sync().await?;
            let path = dir.join(sparse.id.name());
            disk.rename(&sparse.aside, &path)?;
            let segment = Segment::new(sparse.id, path, sparse.size, Arc::clone(&pool.wake));
            named.push(Named { segment, rows: sparse.rows.clone() });
        }
        disk.sync_dir(dir).await?;
        Ok(named)
    }

    /// A record that makes them part of the log is on its way.
    pub(crate) fn adopt(&mut self) {
        self.adopted = true;
    }
}

impl Drop for SparseFiles {
    fn drop(&mut self) {
        if self.adopted {
            return;
        }
        let Shared { disk, dir, .. } = &*self.shared;
        for sparse in self.written.iter().chain(&self.writing) {
            for path in [&sparse.aside, &dir.join(sparse.id.name())] {
                if let Err(error) =
                    disk.exists(path).and_then(|there| if there { disk.remove(path) } else { Ok(()) })
                {
                    tracing::warn!(%error, "an unfinished file stays until the next start");
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
        let file = shared.disk.open(&aside, Open::CreateBlocks)?;
        let first = Expected { sequence: 1, chain: 0 };
        let mut cursor = Cursor::new(id.salt(shared.options.seed), shared.epoch, first, 0);
        let mut group = Group::new(0);
        let opening = Opening { file: id, file_size: 0, zeroed: true, state: State::default() };
        group.record(&mut cursor, Kind::Opening, 0, NO_ID, &opening.encode());
        Ok(Self { id, aside, file: Some(file), cursor, group, rows: Vec::new(), size: 0 })
    }

    fn flush_above(&mut self, size: u64) -> Result<(), LogError> {
        if self.group.size() > size {
            self.group.write(&**self.file.as_ref().expect("it is being written"))?;
        }
        Ok(())
    }

    /// Makes it durable under its temporary name, and closes it.
    async fn sync(&mut self) -> Result<(), LogError> {
        match self.file.take() {
            Some(file) => Ok(file.sync().await?),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), LogError> {
        self.flush_above(0)?;
        let end = self.group.end();
        self.size = end + reserve(self.rows.len());
        let file = self.file.as_ref().expect("it is being written");
        write_footer(&**file, self.id, self.size, &mut self.cursor, end, &self.rows)?;
        Ok(())
    }
}

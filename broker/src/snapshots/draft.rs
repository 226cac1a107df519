//! A snapshot on its way to the disk: parts go into a `*.tmp`, and nothing has that name once it is dropped.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use queue_protocol::wire::peer::LogId;

use super::file::State;
use super::format::{META_SIZE_MAX, OPENING_SIZE, PART_SIZE, ROW_SIZE, Trailer, opening};
use super::{SnapshotError, SnapshotFile, Snapshots};
use crate::fs::{File, Open};
use crate::mutants::{self, Mutant};

/// State as it comes, whole parts written.
pub(super) struct Draft {
    store: Snapshots,
    tmp: PathBuf,
    file: Arc<dyn File>,
    /// What is not yet a whole part.
    part: Vec<u8>,
    table: Vec<u32>,
    /// Bytes of state taken, written or not.
    size: u64,
    published: bool,
}

impl Draft {
    pub(super) fn create(store: &Snapshots) -> Result<Self, SnapshotError> {
        let tmp = store.tmp_path()?;
        let file = store.disk.open(&tmp, Open::Create)?;
        let (part, table) = (Vec::new(), Vec::new());
        let draft = Self { store: store.clone(), tmp, file, part, table, size: 0, published: false };
        draft.file.write_at(&[IoSlice::new(&opening())], 0)?;
        Ok(draft)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_SIZE - self.part.len()));
            self.part.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = later;
            if self.part.len() == PART_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the part at hand, which is the last one unless it is full.
    pub(super) fn flush(&mut self) -> Result<(), SnapshotError> {
        if self.part.is_empty() {
            return Ok(());
        }
        let at = OPENING_SIZE as u64 + self.size - self.part.len() as u64;
        self.file.write_at(&[IoSlice::new(&self.part)], at)?;
        self.table.push(crc32c::crc32c(&self.part));
        self.part.clear();
        Ok(())
    }

    /// What has been flushed, for reading.
    pub(super) fn state(&self) -> State {
        let (file, path) = (Arc::clone(&self.file), self.tmp.as_path().into());
        State { file, path, table: self.table.as_slice().into(), size: self.size }
    }

    /// Completes the file, makes it durable and gives it its name.
    pub(super) async fn publish(mut self, last: LogId, meta: &[u8]) -> Result<SnapshotFile, SnapshotError> {
        let too_large = SnapshotError::MetaTooLarge { size: meta.len() };
        if meta.len() > META_SIZE_MAX {
            return Err(too_large);
        }
        self.flush()?;
        let mut table = Vec::with_capacity(self.table.len() * ROW_SIZE);
        for row in &self.table {
            table.extend_from_slice(&row.to_le_bytes());
        }
        let trailer = Trailer {
            last,
            state_size: self.size,
            meta_size: u32::try_from(meta.len()).map_err(|_| too_large)?,
            meta_checksum: crc32c::crc32c(meta),
            table_checksum: crc32c::crc32c(&table),
        };
        let end = trailer.encode();
        let slices = [IoSlice::new(&table), IoSlice::new(meta), IoSlice::new(&end)];
        self.file.write_at(&slices, trailer.table_at())?;
        if !mutants::on(Mutant::PurgeBeforeSnapshotIsDurable) {
            self.store.synced(self.file.sync().await)?;
        }

        let path = self.store.path(last.index);
        let state = State { path: path.as_path().into(), ..self.state() };
        let file = SnapshotFile::new(state, last, meta.to_vec().into());
        let named = self.store.rename(&self.tmp, &path, file)?;
        self.published = named.path() == path;
        self.store.synced(self.store.disk.sync_dir(&self.store.dir).await)?;
        Ok(self.store.settle(named))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // If this fails too, the next start removes it.
            let _gone = self.store.disk.remove(&self.tmp);
        }
    }
}

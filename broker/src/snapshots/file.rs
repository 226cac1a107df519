//! A published snapshot, open for reading. Nothing is handed out that was not verified just then.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use queue_protocol::wire::peer::LogId;

use super::SnapshotError;
use super::format::{OPENING_SIZE, PART_SIZE, ROW_SIZE, TRAILER_SIZE, Trailer, Wrong, parts};
use crate::fs::{Disk, File, Open};

/// A snapshot. Cheap to clone; it stays readable while a clone is held, though a newer one was published and its
/// name is gone.
#[derive(Clone)]
pub struct SnapshotFile {
    /// The last entry it covers.
    pub last: LogId,
    /// What was given at its publication.
    pub meta: Bytes,
    /// Bytes of state.
    pub state_size: u64,
    state: State,
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, meta, state_size, state } = self;
        write!(f, "SnapshotFile({}, {last:?}, {} + {state_size} bytes)", state.path.display(), meta.len())
    }
}

/// The state in a file, published or about to be, and the checksums of its parts.
#[derive(Clone)]
pub(super) struct State {
    pub(super) file: Arc<dyn File>,
    pub(super) path: Arc<Path>,
    pub(super) table: Arc<[u32]>,
    pub(super) size: u64,
}

impl State {
    fn corrupt(&self, offset: u64, what: &'static str) -> SnapshotError {
        SnapshotError::Corrupt { path: self.path.to_path_buf(), offset, what }
    }

    pub(super) fn read_part(&self, offset: u64, buffer: &mut Vec<u8>) -> Result<(), SnapshotError> {
        buffer.clear();
        if offset >= self.size {
            return Ok(());
        }
        let part = offset / PART_SIZE as u64;
        let start = part * PART_SIZE as u64;
        let size = (self.size - start).min(PART_SIZE as u64);
        buffer.resize(usize::try_from(size).expect("a part is small"), 0);
        let at = OPENING_SIZE as u64 + start;
        self.file.read_at(buffer, at)?;
        let expected = usize::try_from(part).ok().and_then(|part| self.table.get(part).copied());
        if expected != Some(crc32c::crc32c(buffer)) {
            buffer.clear();
            return Err(self.corrupt(at, "the checksum of a part does not match"));
        }
        buffer.drain(..usize::try_from(offset - start).expect("within a part"));
        Ok(())
    }

    pub(super) fn read_all(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut all = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        let mut part = Vec::new();
        self.each_part(&mut part, |part| all.extend_from_slice(part))?;
        Ok(all)
    }

    fn each_part(&self, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> Result<(), SnapshotError> {
        for part in 0..parts(self.size) {
            self.read_part(part * PART_SIZE as u64, buffer)?;
            each(buffer);
        }
        Ok(())
    }
}

impl SnapshotFile {
    pub(super) fn new(state: State, last: LogId, meta: Bytes) -> Self {
        Self { last, meta, state_size: state.size, state }
    }

    /// Opens and verifies all of a file.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, SnapshotError> {
        let corrupt = |offset, what| SnapshotError::Corrupt { path: path.to_owned(), offset, what };
        let file = disk.open(path, Open::Read)?;
        file.drop_cache()?;
        let file_size = file.size()?;
        let (mut opening, mut end) = ([0; OPENING_SIZE], [0; TRAILER_SIZE]);
        let Some(trailer_at) =
            file_size.checked_sub(TRAILER_SIZE as u64).filter(|at| *at >= OPENING_SIZE as u64)
        else {
            return Err(corrupt(file_size, "the file is shorter than any snapshot"));
        };
        file.read_at(&mut opening, 0)?;
        file.read_at(&mut end, trailer_at)?;
        let trailer = Trailer::decode(&opening, &end, file_size).map_err(|wrong| match wrong {
            Wrong::Corrupt { offset, what } => corrupt(offset, what),
            Wrong::Format { found } => SnapshotError::Format { path: path.to_owned(), found },
        })?;

        let within = |size: u64| usize::try_from(size).map_err(|_| corrupt(trailer_at, "larger than memory"));
        let mut table = vec![0; within(trailer.meta_at() - trailer.table_at())?];
        file.read_at(&mut table, trailer.table_at())?;
        if crc32c::crc32c(&table) != trailer.table_checksum {
            return Err(corrupt(trailer.table_at(), "the checksum of the table does not match"));
        }
        let mut meta = vec![0; within(trailer.trailer_at() - trailer.meta_at())?];
        file.read_at(&mut meta, trailer.meta_at())?;
        if crc32c::crc32c(&meta) != trailer.meta_checksum {
            return Err(corrupt(trailer.meta_at(), "the checksum of the meta does not match"));
        }
        let (rows, _) = table.as_chunks::<ROW_SIZE>();
        let table = rows.iter().map(|row| u32::from_le_bytes(*row)).collect();
        let state = State { file, path: path.into(), table, size: trailer.state_size };
        state.each_part(&mut Vec::new(), |_| {})?;
        Ok(Self::new(state, trailer.last, meta.into()))
    }

    /// Replaces `buffer` by the state from `offset` to the end of the part of [`super::PART_SIZE`] bytes that holds
    /// it; empty at the end of the state. So `offset += buffer.len()` walks through all of it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Corrupt`] if the part is not what was written, [`SnapshotError::Disk`] if it cannot be read.
    pub fn read_part(&self, offset: u64, buffer: &mut Vec<u8>) -> Result<(), SnapshotError> {
        self.state.read_part(offset, buffer)
    }

    /// All of the state.
    ///
    /// # Errors
    ///
    /// As [`SnapshotFile::read_part`].
    pub fn read_state(&self) -> Result<Vec<u8>, SnapshotError> {
        self.state.read_all()
    }

    /// Where it lies, or lay.
    pub fn path(&self) -> PathBuf {
        self.state.path.to_path_buf()
    }
}

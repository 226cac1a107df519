//! The one way to the disk. Everything above sees [`Disk`] and [`File`]; [`os`] is the real one, `sim` one that
//! forgets, tears and fails.
//!
//! Reads, writes and names are plain calls; only a sync is awaited, because under the simulator it takes
//! simulated time. In production it is ready when it returns, so the log writer's thread simply blocks in it.

use std::future::Future;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

/// A failed operation: which, on what, and why. Whoever gets it adds nothing.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct DiskError {
    /// The operation, as the system calls it.
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// What a disk operation gives.
pub type DiskResult<T> = Result<T, DiskError>;

/// A sync that may take (simulated) time.
pub type Syncing<'a> = Pin<Box<dyn Future<Output = DiskResult<()>> + Send + 'a>>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist; read only.
    Read,
    /// It must exist; read and write.
    Write,
    /// It must not exist; read and write.
    Create,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> DiskResult<Arc<dyn File>>;
    /// Makes a directory and its parents; done if it exists.
    fn create_dir_all(&self, path: &Path) -> DiskResult<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> DiskResult<Vec<String>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> DiskResult<bool>;
    /// Renames, replacing what is there. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> DiskResult<()>;
    /// Makes the names of a directory durable.
    fn sync_dir<'a>(&'a self, path: &'a Path) -> Syncing<'a>;
    /// Takes the lock file, held until the guard is dropped or the process ends.
    /// The error's kind is `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> DiskResult<Box<dyn Send + Sync>>;
    /// Free bytes for this process on the file system of `path`.
    fn free(&self, path: &Path) -> DiskResult<u64>;
}

/// An open file. Positions are explicit, so that readers and the writer do not meet.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`.
    /// The error's kind is `UnexpectedEof` if the file is shorter.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<()>;
    /// Writes all of `slices`, one after the other, from `offset`; one system call where it can.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> DiskResult<()>;
    /// Makes contents (and size, if it changed) durable: `fdatasync`.
    fn sync(&self) -> Syncing<'_>;
    /// Size in bytes.
    fn size(&self) -> DiskResult<u64>;
    /// Cuts or extends with zeros.
    fn set_size(&self, size: u64) -> DiskResult<()>;
    /// Forgets cached pages, so that the next read comes from the disk; advice where the system has no more.
    fn drop_cache(&self) -> DiskResult<()>;
}

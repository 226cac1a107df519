//! The one way to the disk. Everything above sees [`Disk`] and [`File`]; [`os::OsDisk`] is the real one,
//! `sim::SimDisk` (feature `sim`) one that forgets, tears and fails.
//!
//! Reads, writes and names are plain calls; only a sync is awaited, because under the simulator it takes
//! simulated time. In production it blocks in the first poll and is ready then, so the log writer's thread simply
//! blocks in it.

mod blocks;
mod durable;
pub mod os;
#[cfg(any(test, feature = "sim"))]
pub mod rng;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::future::Future;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::mutants::{self, Mutant};

pub use self::durable::{TMP_SUFFIX, create_dirs, remove_file, remove_tmp, replace_file};

/// Bytes of a block: what the log writes starts and ends on one.
pub const BLOCK_SIZE: usize = 4 << 10;
/// [`DiskError::op`] of a failed [`Disk::sync_dir`]: never tried again, as the next one would not tell.
pub const DIR_SYNC: &str = "fsync";
/// [`DiskError::op`] of a failed [`File::sync`].
pub const FILE_SYNC: &str = "fdatasync";

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

impl DiskError {
    /// An operation on `path` that failed for `source`.
    pub fn new(op: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self { op, path: path.into(), source: source.into() }
    }

    /// There was no room, in the file system or in the quota of its user. Of a directory's sync nothing is forgiven.
    pub fn is_full(&self) -> bool {
        self.op != DIR_SYNC
            && matches!(self.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }

    /// The process or the machine has no descriptors left: nothing was done, and a later try may succeed.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(errno) if is_out_of_descriptors(errno))
    }

    /// Whether a later try may succeed with nothing changed but what others hold: room, or descriptors.
    pub fn is_for_now(&self) -> bool {
        self.is_full() || self.is_out_of_descriptors()
    }

    /// A sync failed: it is never tried again, as the next one would not tell.
    pub fn is_sync(&self) -> bool {
        matches!(self.op, DIR_SYNC | FILE_SYNC)
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> std::io::ErrorKind {
        self.source.kind()
    }
}

/// Whether this number is the system's for "too many open files", of a process or of the machine.
pub fn is_out_of_descriptors(errno: i32) -> bool {
    use rustix::io::Errno;
    let out = [Errno::MFILE, Errno::NFILE].iter().any(|known| known.raw_os_error() == errno);
    out && !mutants::on(Mutant::DescriptorsToldAsDisk)
}

/// What a disk operation gives.
pub type DiskResult<T> = Result<T, DiskError>;

/// A sync that may take (simulated) time.
pub type Syncing<'a> = Pin<Box<dyn Future<Output = DiskResult<()>> + Send + 'a>>;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free: u64,
    /// All of it, used or not.
    pub total: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist; read only.
    Read,
    /// It must exist; read and write.
    Write,
    /// The same; writes of whole blocks go past the system's cache where they can.
    WriteBlocks,
    /// It must not exist; read and write, for the eyes of this user only: mode 0600 whatever the umask.
    Create,
    /// The same; writes of whole blocks go past the system's cache where they can.
    CreateBlocks,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> DiskResult<Arc<dyn File>>;
    /// Makes a directory for this user only, mode 0700, and its parents as others are made; done if it exists. Durable after [`Disk::sync_dir`] of each parent of a
    /// new one, which [`create_dirs`] does.
    fn create_dir_all(&self, path: &Path) -> DiskResult<()>;
    /// Names in a directory, sorted. One that is no UTF-8 comes with replacement characters: it is none of ours.
    fn list(&self, path: &Path) -> DiskResult<Vec<String>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> DiskResult<bool>;
    /// Renames, replacing what is there. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> DiskResult<()>;
    /// Makes the names of a directory durable.
    fn sync_dir<'a>(&'a self, path: &'a Path) -> Syncing<'a>;
    /// Takes the lock file, made if missing, held until the guard is dropped or the process ends.
    /// The error's kind is `WouldBlock` if another process holds it, and its text names that process.
    fn lock(&self, path: &Path) -> DiskResult<Box<dyn Send + Sync>>;
    /// The permission bits of a file or directory; `None` where there are none.
    fn mode(&self, path: &Path) -> DiskResult<Option<u32>>;
    /// Room on the file system of `path`.
    fn space(&self, path: &Path) -> DiskResult<Space>;
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

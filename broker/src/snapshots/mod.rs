//! Snapshots of the state machine: one file each in a directory of their own, published whole or not at all.
//!
//! Written aside as `*.tmp`, synced, renamed to the Raft index it covers, the directory synced; then older ones are
//! removed. Who still reads one keeps it by its open file. What a published file holds is verified at
//! [`Snapshots::open`] as a whole and at each later read in parts; a corrupt one is an error and is never skipped
//! for an older one, which may lack what the log has already forgotten. [`mod@format`] draws the bytes.
//!
//! Not here: what a state is, and whether the log is synced far enough for a snapshot to be published; the caller
//! sees to that.

mod draft;
mod file;
pub mod format;
mod stage;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::wire::peer::LogId;

pub use self::file::SnapshotFile;
pub use self::format::{META_SIZE_MAX, PART_SIZE};
pub use self::stage::{Stage, Staged};

use self::draft::Draft;
use crate::fs::{Disk, DiskError, DiskResult, TMP_SUFFIX, create_dirs, remove_tmp};

/// Ends the name of a published snapshot; before it 20 digits of its last index.
const SUFFIX: &str = ".snapshot";

/// Takes the next piece of a state.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A published snapshot is not what was written.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A published snapshot is of a format this version does not know.
    #[error("{} has format {found}, this version reads format 1", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A peer sent another amount of state than it said.
    #[error("a snapshot of {expected} bytes was announced, {found} came")]
    Size {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, or would have.
        found: u64,
    },
    /// A meta is larger than [`META_SIZE_MAX`].
    #[error("a snapshot's meta of {size} bytes exceeds {META_SIZE_MAX}")]
    MetaTooLarge {
        /// Its size.
        size: usize,
    },
    /// A sync failed before, so nobody knows what is on the disk until the next start.
    #[error("the snapshot store cannot be used after a failed sync")]
    Unusable,
}

/// The snapshots of this node. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// Durable, and none newer is.
    newest: Option<SnapshotFile>,
    /// The newest that has its name, durable or not yet.
    named: Option<SnapshotFile>,
    /// Numbers the files that are being written.
    tmp_next: u64,
    /// A sync failed.
    unusable: bool,
}

impl Snapshots {
    /// Makes the directory of an empty store, durable on return.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub async fn format(disk: &dyn Disk, dir: &Path) -> Result<(), SnapshotError> {
        Ok(create_dirs(disk, dir).await?)
    }

    /// Opens a store: removes every `*.tmp`, which are returned, verifies all of the newest snapshot and removes
    /// older ones.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`] of kind `NotFound` if there is no such directory; [`SnapshotError::Corrupt`] or
    /// [`SnapshotError::Format`] for the newest snapshot, and nothing was removed but `*.tmp`.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Vec<String>), SnapshotError> {
        let removed = remove_tmp(&*disk, dir).await?;
        // A name that an earlier process saw may not be durable yet, and the log is purged on the strength of it.
        disk.sync_dir(dir).await?;
        let newest = Self::verify(&*disk, dir)?;
        let named = newest.clone();
        let shared = Shared { newest, named, tmp_next: 0, unusable: false };
        let store = Self { disk, dir: dir.into(), shared: Arc::new(Mutex::new(shared)) };
        store.remove_older()?;
        Ok((store, removed))
    }

    /// The newest snapshot in a directory, all of it verified; changes nothing. Older ones are read by nobody.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::open`].
    pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Option<SnapshotFile>, SnapshotError> {
        let newest = indices(&disk.list(dir)?).next_back();
        newest.map(|index| open_as(disk, &dir.join(name(index)), index)).transpose()
    }

    /// The newest durable snapshot.
    pub fn newest(&self) -> Option<SnapshotFile> {
        self.shared().newest.clone()
    }

    /// Publishes the state as of `last`. `state_parts` hands the state over piece by piece, of
    /// any size; the pieces are written as they come, so this blocks as a write does. On return it is durable and
    /// [`Snapshots::newest`], unless a newer one was published meanwhile: then that one stays and is returned.
    ///
    /// # Errors
    ///
    /// The disk failed, the newest snapshot is the one before and no file is left behind; after a failed sync the
    /// store is [`SnapshotError::Unusable`], and the process should end.
    pub async fn publish(
        &self,
        last: LogId,
        meta: &[u8],
        state_parts: impl FnOnce(Sink<'_>),
    ) -> Result<SnapshotFile, SnapshotError> {
        let mut draft = Draft::create(self)?;
        let mut failed = Ok(());
        state_parts(&mut |bytes| {
            if failed.is_ok() {
                failed = draft.add(bytes);
            }
        });
        failed?;
        draft.publish(last, meta).await
    }

    /// Begins to take in the snapshot of a peer as of `last`, with `state_size` bytes of state.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn stage(&self, last: LogId, state_size: u64) -> Result<Stage, SnapshotError> {
        Ok(Stage::new(Draft::create(self)?, last, state_size))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nothing panics while it holds this")
    }

    fn tmp_path(&self) -> Result<PathBuf, SnapshotError> {
        let mut shared = self.shared();
        if shared.unusable {
            return Err(SnapshotError::Unusable);
        }
        shared.tmp_next += 1;
        Ok(self.dir.join(format!("{}{TMP_SUFFIX}", shared.tmp_next)))
    }

    /// Remembers a sync that failed: the next one would not tell.
    fn synced(&self, result: DiskResult<()>) -> Result<(), SnapshotError> {
        self.shared().unusable |= result.is_err();
        Ok(result?)
    }

    /// Gives a synced file its name and returns it, or the newer one that has its name already.
    fn rename(&self, tmp: &Path, to: &Path, file: SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let mut shared = self.shared();
        if shared.unusable {
            return Err(SnapshotError::Unusable);
        }
        match &shared.named {
            Some(newer) if newer.last.index > file.last.index => Ok(newer.clone()),
            _ => {
                self.disk.rename(tmp, to)?;
                Ok(shared.named.insert(file).clone())
            }
        }
    }

    /// Makes a file whose name is durable the newest, unless a newer one was quicker, and removes the older ones.
    fn settle(&self, file: SnapshotFile) -> SnapshotFile {
        let newest = {
            let newest = &mut self.shared().newest;
            match newest {
                Some(newer) if newer.last.index > file.last.index => newer.clone(),
                _ => newest.insert(file).clone(),
            }
        };
        if let Err(error) = self.remove_older() {
            tracing::warn!(%error, "an older snapshot stays until the next one");
        }
        newest
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(name(index))
    }

    fn remove_older(&self) -> Result<(), SnapshotError> {
        let Some(newest) = self.newest() else { return Ok(()) };
        for index in indices(&self.disk.list(&self.dir)?).filter(|index| *index < newest.last.index) {
            self.disk.remove(&self.path(index))?;
        }
        Ok(())
    }
}

fn name(index: u64) -> String {
    format!("{index:020}{SUFFIX}")
}

/// Indices of the published snapshots among names, in their order. Other names are none of ours.
fn indices(names: &[String]) -> impl DoubleEndedIterator<Item = u64> {
    names.iter().filter_map(|found| {
        let index = found.strip_suffix(SUFFIX)?.parse().ok()?;
        (name(index) == *found).then_some(index)
    })
}

fn open_as(disk: &dyn Disk, path: &Path, index: u64) -> Result<SnapshotFile, SnapshotError> {
    let file = SnapshotFile::open(disk, path)?;
    if file.last.index != index {
        let what = "it covers another index than its name says";
        return Err(SnapshotError::Corrupt { path: path.to_owned(), offset: 0, what });
    }
    Ok(file)
}

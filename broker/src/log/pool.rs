//! Files ready to be written, and files that will be again.
//!
//! Ready files bear the numbers that follow the segment being written, without a gap: so their order is their names',
//! and opening the next one creates and renames nothing.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Lack;
use super::format::file_id::FileId;
use super::format::{u64_of, usize_of};
use super::segment::Segment;
use crate::fs::{Disk, DiskResult, File, Open};
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// On a block's boundary, so that it goes to the disk without a copy.
#[repr(align(4096))]
struct Zeros([u8; 1 << 20]);

static ZEROS: Zeros = Zeros([0; 1 << 20]);

/// A file with a name and a size, and nothing in it that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// All zeros, as opposed to recycled.
    pub(crate) zeroed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    ready: VecDeque<Spare>,
    /// The number the next new or recycled file gets.
    next: u64,
    /// Somebody is making that file.
    making: bool,
    /// Why a spare could not be made, if the pool was not full since.
    short: Option<Lack>,
    /// The disk has little room: no more are kept than must be.
    pressed: bool,
    /// No longer part of the log, durably so; and since when.
    freed: Vec<(Arc<Segment>, Instant)>,
}

/// Spares by number, and what has become of the files that were freed.
#[derive(Debug)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// Something changed: for the keeper.
    pub(crate) wake: Arc<Notify>,
    /// A file was made, or not: for the writer.
    made: Notify,
}

/// The right to make the next file; given back when dropped.
struct Making<'a>(&'a Pool);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.lock().making = false;
        self.0.made.notify_one();
    }
}

impl Pool {
    /// A pool of the files that follow each other up to, but without, number `next`.
    pub(crate) fn new(
        ready: VecDeque<Spare>,
        next: u64,
        freed: Vec<Arc<Segment>>,
        wake: Arc<Notify>,
    ) -> Self {
        let freed = freed.into_iter().map(|segment| (segment, Instant::now())).collect();
        let pool = Self {
            inner: Mutex::new(Inner { ready, next, freed, ..Inner::default() }),
            wake,
            made: Notify::new(),
        };
        pool.check();
        pool
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// Spares that are ready.
    pub(crate) fn count(&self) -> usize {
        self.lock().ready.len()
    }

    /// Bytes of the spares, and why more that are wanted cannot be made.
    pub(crate) fn ballast(&self) -> (u64, Option<Lack>) {
        let inner = self.lock();
        (inner.ready.iter().map(|spare| spare.size).sum(), inner.short)
    }

    /// Says why spares that are wanted cannot be made, if they cannot. True if that is news.
    pub(crate) fn set_short(&self, short: Option<Lack>) -> bool {
        std::mem::replace(&mut self.lock().short, short) != short
    }

    /// Says whether the disk has little room. True if that is news.
    pub(crate) fn set_pressed(&self, pressed: bool) -> bool {
        std::mem::replace(&mut self.lock().pressed, pressed) != pressed
    }

    /// The disk has little room.
    pub(crate) fn is_pressed(&self) -> bool {
        self.lock().pressed
    }

    /// Removes the file that would be written last. False, and nothing is done, if another is being made.
    pub(crate) async fn give_back(&self, disk: &dyn Disk, dir: &Path) -> DiskResult<bool> {
        let Some((making, _)) = self.begin() else { return Ok(false) };
        let last = {
            let mut inner = self.lock();
            let last = inner.ready.pop_back();
            inner.next -= u64::from(last.is_some());
            last
        };
        if let Some(spare) = last {
            disk.remove(&dir.join(FileId::Segment(spare.number).name()))?;
            disk.sync_dir(dir).await?;
        }
        drop(making);
        Ok(true)
    }

    /// The next file, of at least `size` bytes; made on the spot if there is none.
    pub(crate) async fn take(&self, disk: &dyn Disk, dir: &Path, size: u64, usual: u64) -> DiskResult<Spare> {
        loop {
            let first = self.lock().ready.front().copied();
            if let Some(spare) = first {
                let spare = if spare.size >= size {
                    spare
                } else {
                    make(disk, dir, FileId::Segment(spare.number), size).await?;
                    Spare { size, zeroed: true, ..spare }
                };
                self.lock().ready.pop_front();
                self.wake.notify_one();
                return Ok(spare);
            }
            match self.begin() {
                Some((making, number)) => {
                    self.make_as(making, disk, dir, number, size.max(usual)).await?;
                }
                None => self.made.notified().await,
            }
        }
    }

    /// One more spare, zero-filled. False, and nothing is done, if another is being made: who makes it for himself
    /// wakes the keeper when he takes it.
    pub(crate) async fn fill(&self, disk: &dyn Disk, dir: &Path, size: u64) -> DiskResult<bool> {
        let Some((making, number)) = self.begin() else { return Ok(false) };
        self.make_as(making, disk, dir, number, size).await?;
        Ok(true)
    }

    /// `segment`, which nobody reads, under the next number. False, and nothing is done, if another file is being made.
    pub(crate) async fn recycle(&self, disk: &dyn Disk, dir: &Path, segment: &Segment) -> DiskResult<bool> {
        let Some((making, number)) = self.begin() else { return Ok(false) };
        disk.rename(&segment.path, &dir.join(FileId::Segment(number).name()))?;
        if !mutants::on(Mutant::DirectoryNotSynced) {
            disk.sync_dir(dir).await?;
        }
        self.push(Spare { number, size: segment.size, zeroed: false });
        drop(making);
        Ok(true)
    }

    /// Files that are no longer part of the log.
    pub(crate) fn free(&self, segments: Vec<Arc<Segment>>) {
        let now = Instant::now();
        self.lock().freed.extend(segments.into_iter().map(|segment| (segment, now)));
        self.wake.notify_one();
    }

    /// One freed file that nobody reads and that, freed since then, is `due`.
    pub(crate) fn unpinned(&self, due: impl Fn(&Segment, Instant) -> bool) -> Option<Arc<Segment>> {
        let mut inner = self.lock();
        let is_due =
            |(segment, since): &(Arc<Segment>, Instant)| !segment.is_pinned() && due(segment, *since);
        let place = inner.freed.iter().position(is_due)?;
        Some(inner.freed.remove(place).0)
    }

    /// Since when the file has waited that was freed first of those that nobody reads.
    pub(crate) fn freed_since(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.freed.iter().filter(|(segment, _)| !segment.is_pinned()).map(|(_, since)| *since).min()
    }

    fn begin(&self) -> Option<(Making<'_>, u64)> {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.making, true) {
            return None;
        }
        let number = inner.next;
        drop(inner);
        Some((Making(self), number))
    }

    async fn make_as(
        &self,
        making: Making<'_>,
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        size: u64,
    ) -> DiskResult<()> {
        make(disk, dir, FileId::Segment(number), size).await?;
        self.push(Spare { number, size, zeroed: true });
        drop(making);
        Ok(())
    }

    fn push(&self, spare: Spare) {
        let mut inner = self.lock();
        inner.ready.push_back(spare);
        inner.next += 1;
        drop(inner);
        self.check();
    }

    /// Ready files follow each other, and the next one follows them.
    pub(crate) fn check(&self) {
        let inner = self.lock();
        for (distance, spare) in inner.ready.iter().rev().enumerate() {
            assert_eq!(spare.number + u64_of(distance) + 1, inner.next, "spares have a gap");
        }
    }
}

/// Makes a file of zeros, durable under its name; replaces one of that name.
async fn make(disk: &dyn Disk, dir: &Path, id: FileId, size: u64) -> DiskResult<()> {
    make_aside(disk, dir, id, size)?.publish(disk, dir, id).await
}

/// A file under a temporary name; removed if it is not published.
pub(crate) struct Aside<'a> {
    pub(crate) file: Arc<dyn File>,
    path: PathBuf,
    disk: Option<&'a dyn Disk>,
}

/// Makes a file of zeros under the temporary name of `id`.
pub(crate) fn make_aside<'a>(disk: &'a dyn Disk, dir: &Path, id: FileId, size: u64) -> DiskResult<Aside<'a>> {
    let path = dir.join(format!("{}.tmp", id.name()));
    if disk.exists(&path)? {
        disk.remove(&path)?;
    }
    let aside = Aside { file: disk.open(&path, Open::CreateBlocks)?, path, disk: Some(disk) };
    let mut offset = 0;
    while offset < size {
        let count = u64_of(ZEROS.0.len()).min(size - offset);
        aside.file.write_at(&[IoSlice::new(&ZEROS.0[..usize_of(count)])], offset)?;
        offset += count;
    }
    Ok(aside)
}

impl Aside<'_> {
    /// Makes it durable under the name of `id`.
    pub(crate) async fn publish(mut self, disk: &dyn Disk, dir: &Path, id: FileId) -> DiskResult<()> {
        self.file.sync().await?;
        disk.rename(&self.path, &dir.join(id.name()))?;
        self.disk = None;
        if mutants::on(Mutant::DirectoryNotSynced) {
            return Ok(());
        }
        disk.sync_dir(dir).await
    }
}

impl Drop for Aside<'_> {
    /// On a full disk what was written so far must not stay.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.disk.map(|disk| disk.remove(&self.path)) {
            tracing::warn!(%error, "an unfinished file stays until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::{SimDisk, SimOptions};

    #[test]
    fn while_a_spare_is_made_nobody_makes_another() {
        let pool = Pool::new(VecDeque::new(), 1, Vec::new(), Arc::default());
        let disk = SimDisk::new(SimOptions::default());
        let fill = || futures_util::FutureExt::now_or_never(pool.fill(&disk, Path::new(""), 4_096));
        let making = pool.begin().expect("nobody else does");
        assert!(matches!(fill(), Some(Ok(false))));
        drop(making);
        assert!(matches!(fill(), Some(Ok(true))));
        assert_eq!(pool.count(), 1);
    }

    #[test]
    fn a_file_that_is_read_is_not_taken_back_before() {
        let wake = Arc::new(Notify::new());
        let segment = |number| Segment::new(FileId::Segment(number), PathBuf::new(), 0, Arc::clone(&wake));
        let pool = Pool::new(VecDeque::new(), 9, Vec::new(), Arc::clone(&wake));
        let (read, unread) = (segment(1), segment(2));
        let pins = (read.pin(), read.pin());
        pool.free(vec![read, unread]);
        assert_eq!(pool.unpinned(|_, _| true).map(|segment| segment.id), Some(FileId::Segment(2)));
        assert!(pool.unpinned(|_, _| true).is_none());
        drop(pins.0);
        assert!(pool.unpinned(|_, _| true).is_none());
        drop(pins.1);
        assert_eq!(pool.unpinned(|_, _| true).map(|segment| segment.id), Some(FileId::Segment(1)));
    }
}

//! The operations of the simulated disk: what [`Disk`] and [`File`] promise, on two views, with the faults to come.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;

use super::faults::{Fault, Op};
use super::names::{Target, normal};
use super::pages::{Pages, small};
use super::{Contents, SimDisk, State};
use crate::fs::{Disk, DiskError, DiskResult, File, Open, Space, Syncing};

/// An open file of one boot.
struct SimFile {
    shared: Arc<Mutex<State>>,
    boot: u64,
    file: u64,
    path: PathBuf,
    writable: bool,
}

/// A lock of one boot.
struct Guard {
    shared: Arc<Mutex<State>>,
    path: PathBuf,
    lock: u64,
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().expect("no operation panics half done")
}

fn error<T>(op: Op, path: &Path, source: impl Into<io::Error>) -> DiskResult<T> {
    Err(DiskError::new(op.call(), path, source))
}

/// EIO and ENOSPC, as the system would say it.
fn system(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace => Errno::NOSPC.into(),
        Fault::Io | Fault::Misdirect => Errno::IO.into(),
    }
}

impl State {
    /// Opens every operation: is this boot alive, is the power on, what is to go wrong.
    fn begin(
        &mut self,
        boot: Option<u64>,
        op: Op,
        path: &Path,
        detail: impl FnOnce() -> String,
    ) -> DiskResult<Option<Fault>> {
        if boot.is_some_and(|boot| boot != self.boot) {
            return error(op, path, io::Error::other("opened before the machine or the process went down"));
        }
        if self.faults.off() {
            return error(op, path, io::Error::other("the machine is off"));
        }
        Ok(self.faults.begin(op, path, detail))
    }

    /// Whether a sync that began in `boot` as operation `number` can still end.
    fn alive(&self, boot: u64, number: u64) -> Result<(), io::Error> {
        if self.boot != boot
            || self.faults.power_until.is_some_and(|until| number < until && self.faults.off())
        {
            return Err(io::Error::other("the machine or the process went down"));
        }
        Ok(())
    }

    /// [`State::begin`] for operations that do nothing when they fail.
    fn admit(&mut self, boot: Option<u64>, op: Op, path: &Path) -> DiskResult<()> {
        match self.begin(boot, op, path, String::new)? {
            Some(fault @ (Fault::Io | Fault::NoSpace)) => error(op, path, system(fault)),
            Some(Fault::Misdirect) | None => Ok(()),
        }
    }

    fn create(&mut self, op: Op, path: &Path) -> DiskResult<u64> {
        if self.names.get(&normal(path)).is_some() {
            return error(op, path, io::ErrorKind::AlreadyExists);
        }
        if !self.names.parent_exists(&normal(path)) {
            return error(op, path, io::ErrorKind::NotFound);
        }
        let file = self.file_next;
        self.file_next += 1;
        self.contents.insert(file, Contents { pages: Pages::new(self.unit, Vec::new()), opened: 0 });
        self.names.link(normal(path), Target::File(file));
        Ok(file)
    }

    fn directory(&self, op: Op, path: &Path) -> DiskResult<()> {
        match self.names.get(&normal(path)) {
            Some(Target::Dir) => Ok(()),
            Some(Target::File(_)) => error(op, path, io::ErrorKind::NotADirectory),
            None => error(op, path, io::ErrorKind::NotFound),
        }
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> DiskResult<Arc<dyn File>> {
        let mut state = self.state();
        let (op, writable) = match how {
            Open::Read => (Op::Open, false),
            Open::Write | Open::WriteBlocks => (Op::Open, true),
            Open::Create | Open::CreateBlocks => (Op::Create, true),
        };
        state.admit(self.boot, op, path)?;
        let file = match op {
            Op::Create => state.create(op, path)?,
            _ => state.file(op, path)?,
        };
        if let Some(contents) = state.contents.get_mut(&file) {
            contents.opened += 1;
        }
        let (shared, boot) = (Arc::clone(&self.shared), state.boot);
        Ok(Arc::new(SimFile { shared, boot, file, path: path.to_owned(), writable }))
    }

    fn create_dir_all(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.admit(self.boot, Op::CreateDir, path)?;
        let mut above = PathBuf::new();
        for part in normal(path).components() {
            above.push(part);
            match state.names.get(&above) {
                Some(Target::Dir) => {}
                Some(Target::File(_)) => return error(Op::CreateDir, path, io::ErrorKind::NotADirectory),
                None => state.names.link(above.clone(), Target::Dir),
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> DiskResult<Vec<String>> {
        let mut state = self.state();
        state.admit(self.boot, Op::List, path)?;
        state.directory(Op::List, path)?;
        Ok(state.names.list(&normal(path)))
    }

    fn exists(&self, path: &Path) -> DiskResult<bool> {
        let mut state = self.state();
        state.admit(self.boot, Op::Exists, path)?;
        Ok(state.names.get(&normal(path)).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.admit(self.boot, Op::Rename, from)?;
        let file = state.file(Op::Rename, from)?;
        let (from, to) = (normal(from), normal(to));
        if !state.names.parent_exists(&to) {
            return error(Op::Rename, &to, io::ErrorKind::NotFound);
        }
        if state.names.get(&to) == Some(Target::Dir) {
            return error(Op::Rename, &to, io::ErrorKind::IsADirectory);
        }
        if from != to {
            state.names.rename(from, to, Target::File(file));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> DiskResult<()> {
        let mut state = self.state();
        state.admit(self.boot, Op::Remove, path)?;
        state.file(Op::Remove, path)?;
        state.names.unlink(normal(path));
        Ok(())
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> Syncing<'a> {
        Box::pin(async move {
            let (fault, captured, boot, number, time) = {
                let mut state = self.state();
                let fault = state.begin(self.boot, Op::SyncDir, path, String::new)?;
                state.directory(Op::SyncDir, path)?;
                (fault, state.names.capture(), state.boot, state.faults.mutations, state.latency())
            };
            pass(time).await;
            let mut state = self.state();
            let state = &mut *state;
            state.alive(boot, number).or_else(|down| error(Op::SyncDir, path, down))?;
            match fault {
                Some(fault @ (Fault::Io | Fault::NoSpace)) => {
                    state.names.fail(&normal(path), captured, &mut state.rng);
                    error(Op::SyncDir, path, system(fault))
                }
                Some(Fault::Misdirect) | None => {
                    state.names.settle(&normal(path), captured);
                    state.forget_unnamed();
                    Ok(())
                }
            }
        })
    }

    fn lock(&self, path: &Path) -> DiskResult<Box<dyn Send + Sync>> {
        let mut state = self.state();
        state.admit(self.boot, Op::Lock, path)?;
        let key = normal(path);
        if state.locks.contains_key(&key) {
            let held = io::Error::new(io::ErrorKind::WouldBlock, "held by another process");
            return error(Op::Lock, path, held);
        }
        if state.names.get(&key).is_none() {
            state.create(Op::Lock, path)?;
        }
        let lock = state.lock_next;
        state.lock_next += 1;
        state.locks.insert(key.clone(), lock);
        Ok(Box::new(Guard { shared: Arc::clone(&self.shared), path: key, lock }))
    }

    fn mode(&self, _path: &Path) -> DiskResult<Option<u32>> {
        Ok(None)
    }

    fn space(&self, path: &Path) -> DiskResult<Space> {
        let mut state = self.state();
        state.admit(self.boot, Op::Free, path)?;
        Ok(Space { free: state.free(), total: state.options.capacity })
    }
}

impl SimFile {
    fn begin(
        &self,
        op: Op,
        detail: impl FnOnce() -> String,
    ) -> DiskResult<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = lock(&self.shared);
        let fault = state.begin(Some(self.boot), op, &self.path, detail)?;
        if !self.writable && op != Op::Sync && op.mutates() {
            return error(op, &self.path, io::Error::other("opened for reading only"));
        }
        Ok((state, fault))
    }

    /// [`SimFile::begin`] for operations that do nothing when they fail.
    fn admit(&self, op: Op, detail: impl FnOnce() -> String) -> DiskResult<MutexGuard<'_, State>> {
        match self.begin(op, detail)? {
            (_, Some(fault @ (Fault::Io | Fault::NoSpace))) => error(op, &self.path, system(fault)),
            (state, Some(Fault::Misdirect) | None) => Ok(state),
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<()> {
        let mut state = self.admit(Op::Read, || format!(" {offset}+{}", buffer.len()))?;
        let bytes = state.pages(self.file).cached();
        let found = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)?.get(..buffer.len()));
        match found {
            Some(found) => buffer.copy_from_slice(found),
            None => return error(Op::Read, &self.path, io::ErrorKind::UnexpectedEof),
        }
        Ok(())
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        let bytes = slices.iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
        let (mut state, fault) = self.begin(Op::Write, || format!(" {offset}+{}", bytes.len()))?;
        let state = &mut *state;
        let (free, size, unit) =
            (state.free(), state.pages(self.file).cached().len() as u64, state.unit as u64);
        let end = offset.saturating_add(bytes.len() as u64);
        let (written, failure) = match fault {
            Some(fault @ (Fault::Io | Fault::NoSpace)) => {
                (state.rng.below(bytes.len() as u64 / unit + 1) * unit, Some(system(fault)))
            }
            // A hole costs nothing on a real disk; here the size is what costs.
            _ if end > size.saturating_add(free) => {
                (size.saturating_add(free).saturating_sub(offset), Some(system(Fault::NoSpace)))
            }
            _ => (bytes.len() as u64, None),
        };
        let pages = &mut state.contents.get_mut(&self.file).expect("what is open has contents").pages;
        pages.write(small(offset), &bytes[..small(written)], &mut state.rng);
        failure.map_or(Ok(()), |failure| error(Op::Write, &self.path, failure))
    }

    fn sync(&self) -> Syncing<'_> {
        Box::pin(async move {
            let (fault, capture, number, time) = {
                let (mut state, fault) = self.begin(Op::Sync, String::new)?;
                (fault, state.pages(self.file).capture(), state.faults.mutations, state.latency())
            };
            pass(time).await;
            let mut state = lock(&self.shared);
            let state = &mut *state;
            state.alive(self.boot, number).or_else(|down| error(Op::Sync, &self.path, down))?;
            let pages = &mut state.contents.get_mut(&self.file).expect("what is open has contents").pages;
            match fault {
                Some(fault @ (Fault::Io | Fault::NoSpace)) => {
                    pages.fail(&capture, &mut state.rng);
                    return error(Op::Sync, &self.path, system(fault));
                }
                Some(Fault::Misdirect) => pages.misdirect(&capture, &mut state.rng),
                None => pages.settle(&capture),
            }
            Ok(())
        })
    }

    fn size(&self) -> DiskResult<u64> {
        Ok(self.admit(Op::Size, String::new)?.pages(self.file).cached().len() as u64)
    }

    fn set_size(&self, size: u64) -> DiskResult<()> {
        let mut state = self.admit(Op::SetSize, || format!(" {size}"))?;
        let before = state.pages(self.file).cached().len() as u64;
        if size > before.saturating_add(state.free()) {
            return error(Op::SetSize, &self.path, system(Fault::NoSpace));
        }
        state.pages(self.file).set_size(small(size));
        Ok(())
    }

    fn drop_cache(&self) -> DiskResult<()> {
        self.admit(Op::DropCache, String::new)?.pages(self.file).evict();
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // A panic elsewhere may have poisoned it; then there is nothing to keep in order.
        let Ok(mut state) = self.shared.lock() else { return };
        if state.boot != self.boot {
            return;
        }
        let Some(contents) = state.contents.get_mut(&self.file) else { return };
        contents.opened = contents.opened.saturating_sub(1);
        if contents.opened == 0 && !state.names.referred().any(|file| file == self.file) {
            state.contents.remove(&self.file);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Ok(mut state) = self.shared.lock() else { return };
        if state.locks.get(&self.path) == Some(&self.lock) {
            state.locks.remove(&self.path);
        }
    }
}

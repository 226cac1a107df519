//! A disk as a start finds it, and left as it is: what is written, renamed or removed through it is not. So the very
//! function that recovers a log tells whether it would, and changes nothing.

use std::io::{IoSlice, Result as IoResult};
use std::path::Path;
use std::sync::Arc;

use crate::fs::{Disk, DiskError, DiskResult, File, Open, Space, Syncing};

/// Reads go to the disk, all else is done and has no effect. Nothing can be made.
pub(crate) struct Untouched(pub(crate) Arc<dyn Disk>);

struct UntouchedFile(Arc<dyn File>);

fn refused<T>(op: &'static str, path: &Path) -> DiskResult<T> {
    let error: IoResult<T> = Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
    error.map_err(|source| DiskError::new(op, path, source))
}

impl Disk for Untouched {
    fn open(&self, path: &Path, how: Open) -> DiskResult<Arc<dyn File>> {
        match how {
            Open::Read | Open::Write | Open::WriteBlocks => {
                Ok(Arc::new(UntouchedFile(self.0.open(path, Open::Read)?)))
            }
            Open::Create | Open::CreateBlocks => refused("open", path),
        }
    }

    fn create_dir_all(&self, path: &Path) -> DiskResult<()> {
        refused("mkdir", path)
    }

    fn list(&self, path: &Path) -> DiskResult<Vec<String>> {
        self.0.list(path)
    }

    fn exists(&self, path: &Path) -> DiskResult<bool> {
        self.0.exists(path)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn sync_dir<'a>(&'a self, _path: &'a Path) -> Syncing<'a> {
        Box::pin(async { Ok(()) })
    }

    fn lock(&self, path: &Path) -> DiskResult<Box<dyn Send + Sync>> {
        refused("flock", path)
    }

    fn mode(&self, path: &Path) -> DiskResult<Option<u32>> {
        self.0.mode(path)
    }

    fn space(&self, path: &Path) -> DiskResult<Space> {
        self.0.space(path)
    }
}

impl File for UntouchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> DiskResult<()> {
        Ok(())
    }

    fn sync(&self) -> Syncing<'_> {
        Box::pin(async { Ok(()) })
    }

    fn size(&self) -> DiskResult<u64> {
        self.0.size()
    }

    fn set_size(&self, _size: u64) -> DiskResult<()> {
        Ok(())
    }

    fn drop_cache(&self) -> DiskResult<()> {
        self.0.drop_cache()
    }
}

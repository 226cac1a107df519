//! The disk of the machine: files of the operating system, by explicit offsets.
//!
//! A sync is a blocking call made when its future is first polled, which is then ready: whoever awaits one blocks
//! his thread, so the log writer has a thread of its own. No sync is ever repeated here, not even an interrupted one.

use std::fs::{self, File as StdFile, OpenOptions, Permissions};
use std::io::{self, IoSlice, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation};
use rustix::io::retry_on_intr;

use super::blocks::{self, Blocks};
use super::{DIR_SYNC, Disk, DiskError, DiskResult, FILE_SYNC, File, Open, Space, Syncing};

/// Of files: bodies are for this user's eyes only.
const FILE_MODE: u32 = 0o600;
/// Of directories.
const DIR_MODE: u32 = 0o700;

/// Slices of one `pwritev`; the system's `IOV_MAX`.
const SLICES_MAX: usize = 1024;

/// Pause before a directory is opened again for which there was no descriptor.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// The machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

struct OsFile {
    file: StdFile,
    /// For whole blocks, if it was opened for them and the file system knows how.
    blocks: Option<Blocks>,
    path: PathBuf,
}

/// Names the operation and the path of whatever fails.
fn named<T, E: Into<io::Error>>(op: &'static str, path: &Path, result: Result<T, E>) -> DiskResult<T> {
    result.map_err(|source| DiskError::new(op, path, source))
}

/// A path as a directory: the parent of a bare name is the working directory.
fn directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> DiskResult<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write | Open::WriteBlocks => options.write(true),
            Open::Create | Open::CreateBlocks => options.write(true).create_new(true).mode(FILE_MODE),
        };
        let file = named("open", path, options.open(path))?;
        if matches!(how, Open::Create | Open::CreateBlocks) {
            named("fchmod", path, file.set_permissions(Permissions::from_mode(FILE_MODE)))?;
        }
        let blocks = match how {
            Open::WriteBlocks | Open::CreateBlocks => named("open", path, Blocks::open(path))?,
            _ => None,
        };
        Ok(Arc::new(OsFile { file, blocks, path: path.to_owned() }))
    }

    fn create_dir_all(&self, path: &Path) -> DiskResult<()> {
        let dir = directory(path);
        if fs::metadata(dir).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            named("mkdir", path, fs::create_dir_all(directory(parent)))?;
        }
        named("mkdir", path, fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir))?;
        named("chmod", path, fs::set_permissions(dir, Permissions::from_mode(DIR_MODE)))
    }

    fn list(&self, path: &Path) -> DiskResult<Vec<String>> {
        let mut names = Vec::new();
        for entry in named("readdir", path, fs::read_dir(directory(path)))? {
            names.push(named("readdir", path, entry)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> DiskResult<bool> {
        named("stat", path, directory(path).try_exists())
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        named("rename", from, fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> DiskResult<()> {
        named("unlink", path, fs::remove_file(path))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> Syncing<'a> {
        Box::pin(async move {
            let dir = open_dir(path).await?;
            named(DIR_SYNC, path, rustix::fs::fsync(&dir))
        })
    }

    fn lock(&self, path: &Path) -> DiskResult<Box<dyn Send + Sync>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let opened = options.open(path);
        let mut file = named("open", path, opened)?;
        let locked = retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive));
        if let Err(errno) = locked {
            let mut source = io::Error::from(errno);
            if source.kind() == io::ErrorKind::WouldBlock {
                source = io::Error::new(io::ErrorKind::WouldBlock, held_by(&mut file));
            }
            return Err(DiskError::new("flock", path, source));
        }
        named("ftruncate", path, file.set_len(0))?;
        named("write", path, file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0))?;
        Ok(Box::new(file))
    }

    fn mode(&self, path: &Path) -> DiskResult<Option<u32>> {
        let metadata = named("stat", path, fs::metadata(directory(path)))?;
        Ok(Some(metadata.permissions().mode() & 0o7777))
    }

    fn space(&self, path: &Path) -> DiskResult<Space> {
        let stat = named("statvfs", path, retry_on_intr(|| rustix::fs::statvfs(directory(path))))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

/// Opens a directory to sync it. What is to be synced is done already and cannot be left half done, so this waits until
/// there is a descriptor.
async fn open_dir(path: &Path) -> DiskResult<StdFile> {
    loop {
        match named("open", path, StdFile::open(directory(path))) {
            Err(error) if error.is_out_of_descriptors() => tokio::time::sleep(DESCRIPTOR_PAUSE).await,
            opened => return opened,
        }
    }
}

/// Who holds a lock, as far as the lock file tells.
fn held_by(file: &mut StdFile) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("held by process {pid}"),
        None => "held by another process".to_owned(),
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<()> {
        named("pread", &self.path, self.file.read_exact_at(buffer, offset))
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> DiskResult<()> {
        let written = match &self.blocks {
            Some(blocks) if blocks::whole(slices, offset) => blocks.write(slices, offset),
            _ => write_all(&self.file, &mut slices.to_vec(), offset),
        };
        named("pwritev", &self.path, written)
    }

    fn sync(&self) -> Syncing<'_> {
        Box::pin(async move { named(FILE_SYNC, &self.path, rustix::fs::fdatasync(&self.file)) })
    }

    fn size(&self) -> DiskResult<u64> {
        Ok(named("fstat", &self.path, self.file.metadata())?.len())
    }

    fn set_size(&self, size: u64) -> DiskResult<()> {
        named("ftruncate", &self.path, self.file.set_len(size))
    }

    fn drop_cache(&self) -> DiskResult<()> {
        let advised = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        named("fadvise", &self.path, advised)
    }
}

/// Writes all of `slices` in as few calls as the system allows.
pub(super) fn write_all(file: &StdFile, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let batch = &slices[..slices.len().min(SLICES_MAX)];
        let written = retry_on_intr(|| rustix::io::pwritev(file, batch, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;

    fn ready(syncing: Syncing<'_>) -> DiskResult<()> {
        futures_util::FutureExt::now_or_never(syncing)
            .expect("a sync of this disk is ready at the first poll")
    }

    #[test]
    fn what_is_written_in_many_slices_is_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("f"), Open::Create).unwrap();
        // More slices than one call takes, empty ones among them.
        let parts: Vec<Vec<u8>> =
            (0..3 * SLICES_MAX + 7).map(|i| vec![u8::try_from(i % 251).unwrap(); i % 5]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_at(&slices, 10).unwrap();
        let expected = parts.concat();
        let mut found = vec![0xff; expected.len()];
        file.read_at(&mut found, 10).unwrap();
        assert_eq!(found, expected);
        assert_eq!(file.size().unwrap(), 10 + expected.len() as u64);
        file.write_at(&[], 3).unwrap();
        file.write_at(&[IoSlice::new(b"")], 3).unwrap();
        assert_eq!(file.size().unwrap(), 10 + expected.len() as u64);
        ready(file.sync()).unwrap();
        file.drop_cache().unwrap();
        let mut again = vec![0xff; expected.len()];
        file.read_at(&mut again, 10).unwrap();
        assert_eq!(again, expected);
    }

    #[test]
    fn whole_blocks_and_parts_of_blocks_go_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..3_u32 << 20).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let file = OsDisk.open(&path, Open::CreateBlocks).unwrap();
        let parts = [&bytes[..5], &bytes[5..2_000_000], &bytes[2_000_000..]].map(IoSlice::new);
        file.write_at(&parts, 8 << 10).unwrap();
        file.write_at(&[IoSlice::new(b"part of a block")], 12 << 10).unwrap();
        drop(file);
        let file = OsDisk.open(&path, Open::WriteBlocks).unwrap();
        file.write_at(&[IoSlice::new(&[7; 4 << 10])], 16 << 10).unwrap();
        ready(file.sync()).unwrap();
        let mut expected = [vec![0; 8 << 10], bytes].concat();
        expected[12 << 10..][..15].copy_from_slice(b"part of a block");
        expected[16 << 10..][..4 << 10].fill(7);
        file.drop_cache().unwrap();
        let mut found = vec![0xff; expected.len()];
        file.read_at(&mut found, 0).unwrap();
        assert!(found == expected);
        assert_eq!(file.size().unwrap(), expected.len() as u64);
    }

    #[test]
    fn a_read_beyond_the_end_is_an_error_that_names_file_and_operation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short");
        let file = OsDisk.open(&path, Open::Create).unwrap();
        file.set_size(4).unwrap();
        let error = file.read_at(&mut [0; 5], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!((error.op, error.path.as_path()), ("pread", path.as_path()));
        assert!(error.to_string().starts_with(&format!("pread {}: ", path.display())));
    }

    #[test]
    fn open_minds_what_exists_and_what_may_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let kind = |how| OsDisk.open(&path, how).err().map(|error| error.kind());
        assert_eq!(kind(Open::Read), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(Open::Write), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(Open::Create), None);
        assert_eq!(kind(Open::Create), Some(io::ErrorKind::AlreadyExists));
        let reader = OsDisk.open(&path, Open::Read).unwrap();
        assert!(reader.write_at(&[IoSlice::new(b"x")], 0).is_err());
        assert!(OsDisk.open(&path, Open::Write).unwrap().write_at(&[IoSlice::new(b"x")], 0).is_ok());
    }

    #[test]
    fn what_is_made_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("parent/data");
        OsDisk.create_dir_all(&deep).unwrap();
        assert_eq!(OsDisk.mode(&deep).unwrap(), Some(0o700));
        fs::set_permissions(&deep, Permissions::from_mode(0o750)).unwrap();
        OsDisk.create_dir_all(&deep).unwrap();
        assert_eq!(OsDisk.mode(&deep).unwrap(), Some(0o750), "what is there stays as it is");
        for (name, how) in [("a", Open::Create), ("b", Open::CreateBlocks)] {
            OsDisk.open(&deep.join(name), how).unwrap();
            assert_eq!(OsDisk.mode(&deep.join(name)).unwrap(), Some(0o600));
        }
        drop(OsDisk.lock(&deep.join("LOCK")).unwrap());
        assert_eq!(OsDisk.mode(&deep.join("LOCK")).unwrap(), Some(0o600));
    }

    #[test]
    fn names_are_listed_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["b", "a", "c"] {
            OsDisk.open(&at(name), Open::Create).unwrap();
        }
        OsDisk.rename(&at("c"), &at("a")).unwrap();
        ready(OsDisk.sync_dir(dir.path())).unwrap();
        assert_eq!(OsDisk.list(dir.path()).unwrap(), ["a", "b"]);
        OsDisk.remove(&at("b")).unwrap();
        assert!(OsDisk.exists(&at("a")).unwrap() && !OsDisk.exists(&at("b")).unwrap());
        assert_eq!(OsDisk.remove(&at("b")).unwrap_err().op, "unlink");
        assert_eq!(OsDisk.list(&at("nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(ready(OsDisk.sync_dir(&at("nowhere"))).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_is_held_by_one_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let guard = OsDisk.lock(&path).unwrap();
        let refused = OsDisk.lock(&path).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().ends_with(&format!("held by process {}", std::process::id())));
        drop(guard);
        drop(OsDisk.lock(&path).unwrap());
    }

    #[test]
    fn a_lack_of_descriptors_is_not_a_full_disk() {
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
            let error = DiskError::new("open", "f", errno);
            assert!(error.is_out_of_descriptors() && error.is_for_now() && !error.is_full(), "{error}");
        }
        let full = DiskError::new("pwritev", "f", rustix::io::Errno::NOSPC);
        assert!(full.is_full() && full.is_for_now() && !full.is_out_of_descriptors());
        assert!(!DiskError::new("open", "f", rustix::io::Errno::NOENT).is_for_now());
    }

    #[test]
    fn free_space_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let space = OsDisk.space(dir.path()).unwrap();
        assert!(0 < space.free && space.free <= space.total, "{space:?}");
    }
}

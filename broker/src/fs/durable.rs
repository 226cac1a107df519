//! Small things done durably: directories made, a whole file replaced, what a crash left half written removed.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use super::{Disk, DiskResult, Open};

/// Ends the name of a file that is being written and must never be read.
pub const TMP_SUFFIX: &str = ".tmp";

/// Makes a directory and its parents, the names durable.
///
/// # Errors
///
/// The first operation that failed; what was made until then stays.
pub async fn create_dirs(disk: &dyn Disk, path: &Path) -> DiskResult<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while !at.as_os_str().is_empty() && !disk.exists(at)? {
        missing.push(at);
        at = at.parent().unwrap_or(Path::new(""));
    }
    disk.create_dir_all(path)?;
    for made in missing.iter().rev() {
        disk.sync_dir(made.parent().unwrap_or(Path::new(""))).await?;
    }
    Ok(())
}

/// Removes every `*.tmp` of a directory, what a crash left half written, and tells their names. Never reads one.
///
/// # Errors
///
/// The first operation that failed.
pub async fn remove_tmp(disk: &dyn Disk, dir: &Path) -> DiskResult<Vec<String>> {
    let mut removed = Vec::new();
    for name in disk.list(dir)? {
        if name.ends_with(TMP_SUFFIX) {
            disk.remove(&dir.join(&name))?;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        disk.sync_dir(dir).await?;
    }
    Ok(removed)
}

/// Makes `bytes` the contents of `dir/name`, durable on return: written aside as `name.tmp`, synced, renamed, the
/// directory synced. A crash leaves the old file or the new one, whole. `how` is one of the two that create.
///
/// # Errors
///
/// The first operation that failed; the file is then the old one or the new one, and if a sync failed nobody knows
/// which of them the next power loss leaves.
pub async fn replace_file(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    how: Open,
    bytes: &[u8],
) -> DiskResult<()> {
    let tmp = dir.join(format!("{name}{TMP_SUFFIX}"));
    remove_if_there(disk, &tmp)?;
    let file = disk.open(&tmp, how)?;
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    file.sync().await?;
    disk.rename(&tmp, &dir.join(name))?;
    disk.sync_dir(dir).await
}

/// Removes the file `name` in `dir`, which need not be there; durable on return.
///
/// # Errors
///
/// The removal or the sync that failed.
pub async fn remove_file(disk: &dyn Disk, dir: &Path, name: &str) -> DiskResult<()> {
    remove_if_there(disk, &dir.join(name))?;
    disk.sync_dir(dir).await
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> DiskResult<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::fs::os::OsDisk;
    use crate::fs::sim::{Bias, SimDisk, SimOptions};

    fn names(disk: &dyn Disk, dir: &Path) -> (Vec<String>, Vec<String>) {
        create_dirs(disk, dir).now_or_never().unwrap().unwrap();
        for name in ["a.tmp", "a", "tmp"] {
            disk.open(&dir.join(name), Open::Create).unwrap();
        }
        let removed = remove_tmp(disk, dir).now_or_never().unwrap().unwrap();
        (removed, disk.list(dir).unwrap())
    }

    #[test]
    fn directories_are_made_with_their_parents_and_tmp_files_go() {
        let real = tempfile::tempdir().unwrap();
        let expected = (vec!["a.tmp".to_owned()], vec!["a".to_owned(), "tmp".to_owned()]);
        assert_eq!(names(&OsDisk, &real.path().join("x/y/z")), expected);
        let disk = SimDisk::new(SimOptions::default());
        assert_eq!(names(&disk, Path::new("x/y/z")), expected);
        disk.crash_with(0, Bias::None);
        assert_eq!(disk.list(Path::new("x/y/z")).unwrap(), ["a", "tmp"], "the names are durable");
    }

    #[test]
    fn a_replaced_file_is_the_old_one_or_the_new_one_at_every_crash_point() {
        let dir = PathBuf::new();
        let replace = |disk: &SimDisk, bytes: &[u8]| {
            replace_file(disk, &dir, "f", Open::Create, bytes).now_or_never().unwrap().is_ok()
        };
        let mut old_seen = 0;
        for (k, seed) in (0..8).flat_map(|k| (0..30).map(move |seed| (k, seed))) {
            let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
            assert!(replace(&disk, &[1; 9_000]));
            disk.off_after(k);
            let done = replace(&disk, &[2; 5_000]);
            disk.crash(seed);
            let found = disk.bytes(Path::new("f")).unwrap();
            assert!(found == [2; 5_000] || (found == [1; 9_000] && !done), "after {k} with seed {seed}");
            old_seen += u32::from(found.len() == 9_000);
            assert!(replace(&disk, b"3"), "what a crash left is in nobody's way");
        }
        assert!(old_seen > 30);
    }
}

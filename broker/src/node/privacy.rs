//! Who else on this machine may read a data directory: bodies and the cluster's secret lie in it.

use std::path::{Path, PathBuf};

use super::{LOG_DIR, SNAPSHOTS_DIR};
use crate::fs::{Disk, DiskResult};

/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// What to tell if somebody else may read the data directory, or a file in it; `None` if nobody may.
///
/// # Errors
/// The disk failed.
pub(super) fn warning(disk: &dyn Disk, dir: &Path) -> DiskResult<Option<String>> {
    Ok(open_to_others(disk, dir)?.map(|(path, mode)| {
        format!(
            "{} can be read by other users of this machine (mode {mode:04o}): message bodies and the cluster's secret lie \
             there. Type: chmod -R go= {}",
            path.display(),
            dir.display()
        )
    }))
}

/// The first directory or file that somebody else may use, and its mode.
fn open_to_others(disk: &dyn Disk, dir: &Path) -> DiskResult<Option<(PathBuf, u32)>> {
    for dir in [dir.to_owned(), dir.join(LOG_DIR), dir.join(SNAPSHOTS_DIR)] {
        let names = disk.list(&dir)?;
        for path in std::iter::once(dir.clone()).chain(names.iter().map(|name| dir.join(name))) {
            if let Some(mode) = disk.mode(&path)?.filter(|mode| mode & OTHERS != 0) {
                return Ok(Some((path, mode)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::fs::Open;
    use crate::fs::os::OsDisk;

    #[test]
    fn whatever_others_may_read_is_named_with_the_way_to_end_it() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("data");
        for part in [&dir, &dir.join(LOG_DIR), &dir.join(SNAPSHOTS_DIR)] {
            OsDisk.create_dir_all(part).unwrap();
        }
        let file = dir.join(LOG_DIR).join("1.log");
        OsDisk.open(&file, Open::Create).unwrap();
        assert_eq!(warning(&OsDisk, &dir).unwrap(), None);
        for (path, open, closed) in [(&dir, 0o755, 0o700), (&file, 0o640, 0o600)] {
            set_permissions(path, Permissions::from_mode(open)).unwrap();
            let said = warning(&OsDisk, &dir).unwrap().expect("others may read it");
            assert!(said.starts_with(&format!("{} can be read", path.display())), "{said}");
            assert!(said.contains(&format!("mode {open:04o}")), "{said}");
            assert!(said.ends_with(&format!("chmod -R go= {}", dir.display())), "{said}");
            set_permissions(path, Permissions::from_mode(closed)).unwrap();
        }
        assert_eq!(warning(&OsDisk, &dir).unwrap(), None);
    }
}

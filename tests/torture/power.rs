//! Disks whose power can be cut: for each node an ext4 on a loop device, shut down by ioctl.
//!
//! `FS_IOC_SHUTDOWN` without a log flush drops all that ext4 had not given to its device: dirty pages, sizes, names. What
//! the device was given stays, so a missing flush of a drive's own cache is not found here. The ioctl is made by python3,
//! since it is not to be had without `unsafe`. No other program may make a mount namespace meanwhile (`torture partition`
//! and the failover test do): its copy of the mounts keeps the dead file system alive, and a node finds EIO at its start.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Room for some hundred small segments; the files have holes.
const DISK_SIZE: &str = "768M";
/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` on each path given.
const SHUTDOWN: &str = "
import fcntl, os, struct, sys
for fd in [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]:
    fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
";

/// One for each node. Unmounted when dropped.
pub(crate) struct Disks {
    /// File and mount point.
    disks: Vec<(PathBuf, PathBuf)>,
}

fn run(program: &str, words: &[&Path]) -> Result<(), String> {
    let ran = Command::new(program).args(words).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {words:?}: {}", String::from_utf8_lossy(&ran.stderr).trim()))
}

fn path(word: &str) -> &Path {
    Path::new(word)
}

impl Disks {
    /// Makes `count` disks below `dir`.
    ///
    /// # Errors
    /// Why power cannot be cut on this machine.
    pub(crate) fn mount(dir: &Path, count: usize) -> Result<Self, String> {
        run("python3", &[path("-c"), path("import fcntl")])?;
        let mut disks = Self { disks: Vec::new() };
        for number in 1..=count {
            let file = dir.join(format!("n{number}.ext4"));
            let point = dir.join(format!("n{number}.disk"));
            std::fs::create_dir(&point).expect("the directory is ours");
            run("truncate", &[path("-s"), path(DISK_SIZE), &file])?;
            run("mkfs.ext4", &[path("-q"), &file])?;
            run("mount", &[path("-o"), path("loop"), &file, &point])?;
            disks.disks.push((file, point));
        }
        Ok(disks)
    }

    /// Data directory of node `n`, from 0.
    pub(crate) fn data_dir(&self, n: usize) -> PathBuf {
        self.disks[n].1.join("data")
    }

    /// Power is gone on all of them.
    pub(crate) fn cut(&self) {
        let points = self.disks.iter().map(|(_, point)| point.as_path());
        let words: Vec<&Path> = [path("-c"), path(SHUTDOWN)].into_iter().chain(points).collect();
        run("python3", &words).expect("ext4 can be shut down");
    }

    /// Power is back: nobody may have a file open.
    pub(crate) fn mount_again(&self) {
        for (file, point) in &self.disks {
            run("umount", &[point]).expect("no process is left");
            run("mount", &[path("-o"), path("loop"), file, point]).expect("ext4 replays its journal");
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for (_, point) in &self.disks {
            // At the end of a run that failed the nodes may still be there.
            let _ = run("umount", &[path("-l"), point]);
        }
    }
}

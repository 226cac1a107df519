//! Formatting that a crash cuts short is done anew: a mark in the data directory stands for as long as nothing in it may
//! be worth anything.
//!
//! ```text
//! begin: FORMATTING.tmp durable ──► secret, log, snapshots ──► IDENTITY durable ──► end: the mark goes
//! ```

use std::io::ErrorKind;
use std::path::Path;

use super::{LOG_DIR, SNAPSHOTS_DIR};
use crate::fs::{Disk, DiskResult, Open};

/// The mark. Every start of a formatted node removes it, as all `*.tmp`.
const MARK: &str = "FORMATTING.tmp";

/// Sets the mark, durable on return. If it stood already, what was formatted before is removed. `false` if there is a log
/// or a snapshot without a mark: then nothing was changed.
///
/// # Errors
/// The disk failed.
pub(super) async fn begin(disk: &dyn Disk, data_dir: &Path) -> DiskResult<bool> {
    let mark = data_dir.join(MARK);
    let is_marked = disk.exists(&mark)?;
    for dir in [LOG_DIR, SNAPSHOTS_DIR].map(|name| data_dir.join(name)) {
        if !disk.exists(&dir)? {
            continue;
        }
        let names = disk.list(&dir)?;
        if !names.is_empty() && !is_marked {
            return Ok(false);
        }
        for name in &names {
            disk.remove(&dir.join(name))?;
        }
        disk.sync_dir(&dir).await?;
    }
    if !is_marked {
        disk.open(&mark, Open::Create)?.sync().await?;
    }
    disk.sync_dir(data_dir).await?;
    Ok(true)
}

/// Removes the mark: the directory is formatted.
///
/// # Errors
/// The disk failed.
pub(super) async fn end(disk: &dyn Disk, data_dir: &Path) -> DiskResult<()> {
    match disk.remove(&data_dir.join(MARK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(data_dir).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::fs::create_dirs;
    use crate::fs::sim::{SimDisk, SimOptions};
    use crate::log::{Log, LogError, LogOptions};

    const DIR: &str = "d";

    fn options(seed: u64) -> LogOptions {
        LogOptions { segment_size: 64 << 10, spares: 1, ..LogOptions::new(seed) }
    }

    /// Formats as a node does, up to the log.
    async fn format(disk: &Arc<dyn Disk>, seed: u64) -> Result<bool, LogError> {
        create_dirs(&**disk, Path::new(DIR)).await?;
        if !begin(&**disk, Path::new(DIR)).await? {
            return Ok(false);
        }
        Log::format(Arc::clone(disk), &Path::new(DIR).join(LOG_DIR), &options(seed)).await?;
        Ok(true)
    }

    #[test]
    fn a_format_that_is_cut_short_anywhere_can_be_done_anew_and_a_log_without_a_mark_stays() {
        for (k, seed) in (0..=30).flat_map(|k| (0..10).map(move |seed| (k, seed))) {
            let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
            let outside: Arc<dyn Disk> = disk.boot();
            disk.off_after(k);
            let _cut_short = format(&outside, 1).now_or_never();
            disk.crash(seed);
            let outside: Arc<dyn Disk> = disk.boot();
            let again = format(&outside, 2).now_or_never().expect("the disk is fast");
            assert!(again.unwrap_or_else(|error| panic!("{k} {seed}: {error}")), "{k} {seed}");
            end(&*outside, Path::new(DIR)).now_or_never().expect("the disk is fast").expect("it works");

            disk.crash(seed);
            let outside: Arc<dyn Disk> = disk.boot();
            let stays = format(&outside, 3).now_or_never().expect("the disk is fast");
            assert!(!stays.expect("the disk works"), "a log without a mark was formatted anew");
        }
    }
}

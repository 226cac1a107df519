//! What `store verify` checks: all that a start looks at, by the functions that a start calls, and all that a node reads
//! later. Nothing is changed.
//!
//! | what is damaged | a node | `store verify` |
//! |---|---|---|
//! | one of `IDENTITY` and its copy | starts and mends it | mended, exit 0 |
//! | both | ends with 65 | ends with 65 |
//! | `SECRET`, `NODE-KEY`, `ADMISSION`, `SECRET.next`, `SECRET.old` | ends with 66 | damaged, exit 65 |
//! | the newest snapshot, anywhere | ends with 65 | damaged, exit 65 |
//! | older snapshots | removes them unread | not looked at |
//! | the log is purged beyond the newest snapshot | ends with 65 | damaged, exit 65 |
//! | last segment: a record that was durable | ends with 65 | damaged, exit 65 |
//! | last segment: an unfinished write at its end | cuts it | told, exit 0 |
//! | last segment: the table of its footer | writes it anew | mended, exit 0 |
//! | closed file: missing, its footer, its place in the stream | ends with 65 | damaged, exit 65 |
//! | closed file: any record, body or table | starts; ends with 65 when it is read, within 7 days | damaged, exit 65 |
//! | padding, prepared and retired files | does not read it | not told, or mended, exit 0 |

use std::path::Path;
use std::sync::Arc;

use queue_protocol::wire::peer::LogId;

use super::identity::{Found, Identity};
use super::{LOG_DIR, NodeError, SNAPSHOTS_DIR, log_seed, vault};
use crate::fs::Disk;
use crate::log::{self, Finding, Report, Then};
use crate::snapshots::{SnapshotError, Snapshots};

/// What was found in a data directory.
pub(crate) struct Checked {
    /// What the identity file says.
    pub(crate) found: Found,
    /// What is wrong, the snapshots and the secret included.
    pub(crate) report: Report,
}

/// Checks all of a data directory, which no node uses.
///
/// # Errors
/// The disk; or nothing can be said, because the directory has no identity or one of another program's.
pub(crate) fn check(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Checked, NodeError> {
    let found = Identity::read(&**disk, dir)?;
    let damaged = vault::damages(&**disk, dir, &found.identity)?;
    let mut damaged: Vec<Finding> = damaged.into_iter().map(|(path, what)| finding(path, 0, what)).collect();
    let mut snapshot = None;
    match Snapshots::verify(&**disk, &dir.join(SNAPSHOTS_DIR)) {
        Ok(newest) => snapshot = newest.map(|newest| newest.last),
        Err(SnapshotError::Corrupt { path, offset, what }) => {
            damaged.push(finding(path, offset, what.to_owned()));
        }
        Err(error) => return Err(error.into()),
    }
    let (log_dir, seed) = (dir.join(LOG_DIR), log_seed(found.identity.store));
    let mut report = log::verify(disk, &log_dir, seed, snapshot.map(|last| last.index))?;
    // A damaged snapshot covers it, or does not: that is one damage, and it is told.
    let purged = report.purged.filter(|_| damaged.is_empty());
    damaged.extend(uncovered(purged, snapshot).map(|what| finding(dir.join(SNAPSHOTS_DIR), 0, what)));
    report.findings.splice(0..0, damaged);
    Ok(Checked { found, report })
}

/// What is missing if the log was purged beyond the newest snapshot.
pub(super) fn uncovered(purged: Option<LogId>, snapshot: Option<LogId>) -> Option<String> {
    let purged = purged.map_or(0, |id| id.index);
    let covered = snapshot.map_or(0, |id| id.index);
    (purged > covered).then(|| {
        format!("the snapshot of entry {purged} or a later one is missing: the log was purged up to there")
    })
}

fn finding(path: std::path::PathBuf, offset: u64, what: String) -> Finding {
    Finding { path, offset, index: None, what, then: Then::Refused }
}

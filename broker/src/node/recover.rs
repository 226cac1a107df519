//! A data directory made that of a new cluster with one node, offline: the way out when a majority of the members is lost
//! for good (`queued store recover`).
//!
//! ```text
//! all of log and snapshot is whole? ──► RECOVERING durable ──► state, snapshot, log (raft::recover)
//!                                                          ──► SECRET, IDENTITY of the new cluster ──► RECOVERING goes
//! ```
//!
//! While `RECOVERING` is there the node does not start; the command may be repeated until it succeeds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use queue_protocol::names::ClusterId;
use queue_protocol::wire::hello::Secret;

use super::identity::Identity;
use super::start::{lock, removed};
use super::{LOG_DIR, NodeError, SNAPSHOTS_DIR, log_seed, secret, vault};
use crate::fs::{Disk, DiskError, Open, replace_file};
use crate::log::{self, LogOptions};
use crate::outside::{ExitStatus, Outside};
use crate::raft::node::recover::{RecoverError, Survivor, Taken, as_single_node};
use crate::raft::{Kept, Keys};
use crate::snapshots::Snapshots;

/// Stands while a directory is between two clusters. Holds the index of the snapshot that was the newest before, in
/// decimal digits, or nothing if there was none.
const MARK: &str = "RECOVERING";
/// Bytes of a segment made here, if one must be.
const SEGMENT_SIZE: u64 = 1 << 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The survivor's data directory.
    pub data_dir: PathBuf,
    /// Ids and tokens go on above this, whatever the clock shows.
    pub tokens_above: Option<u64>,
}

/// Makes the directory that of the only node of a new cluster; durable on return.
///
/// # Errors
/// 65 if any of it is damaged, 66 if it is in use or of no member, 74 if the disk fails, 78 if the clock of this machine
/// cannot be right or the numbers are used up.
pub async fn recover_as_single_node(
    outside: &Outside,
    recovery: &Recovery,
) -> Result<(Identity, Taken), NodeError> {
    let (disk, dir) = (&*outside.disk, &recovery.data_dir);
    if !disk.exists(dir)? {
        return Err(super::IdentityError::Missing { dir: dir.clone() }.into());
    }
    let _lock = lock(outside, dir)?;
    let found = Identity::open(disk, dir).await?;
    let identity = found.identity;
    if !identity.is_joined() {
        let what = format!("{} is formatted, but its node never was a member", dir.display());
        return Err(NodeError::new(ExitStatus::Directory, "not_joined", what));
    }
    if identity.removed {
        return Err(removed(&identity.name, dir));
    }
    let Kept { node, current, index, .. } = vault::open(disk, dir, &identity).await?;
    let keys = Keys { node, generation: current.number, admission: current.admission, index };
    let seed = log_seed(identity.store);
    let opened = Snapshots::open(Arc::clone(&outside.disk), &dir.join(SNAPSHOTS_DIR)).await;
    let (snapshots, _) = opened.map_err(|error| not_taken(RecoverError::Snapshot(error)))?;
    let marked = read_mark(disk, dir)?;
    let snapshot_upto = marked.unwrap_or_else(|| snapshots.newest().map(|newest| newest.last.index));
    marked_sound(outside, dir, seed, marked, snapshot_upto).await?;
    let survivor = Survivor {
        dir: &dir.join(LOG_DIR),
        snapshots,
        log_options: small_log(seed, snapshot_upto),
        cluster: identity.cluster,
        node: identity.node,
        store: identity.store,
        name: identity.name.to_string(),
        keys: keys.clone(),
        tokens_above: recovery.tokens_above,
    };
    let taken = match as_single_node(outside, survivor).await {
        Ok(taken) => taken,
        Err(error) => {
            // Nothing was changed by these, so the directory is what it was.
            if is_refusal(&error) {
                remove_mark(disk, dir).await?;
            }
            return Err(not_taken(error));
        }
    };
    vault::forget_rotation(disk, dir).await?;
    secret::write(disk, dir, &Secret(outside.random_bytes())).await?;
    let cluster = ClusterId(u128::from_le_bytes(outside.random_bytes()));
    let identity = Identity { cluster, node: taken.node, assigned: taken.assigned, ..identity };
    identity.write(disk, dir, found.revision).await?;
    remove_mark(disk, dir).await?;
    Ok((identity, taken))
}

/// What is written is little: no segment of the usual size is filled for it.
fn small_log(seed: u64, snapshot_upto: Option<u64>) -> LogOptions {
    LogOptions { segment_size: SEGMENT_SIZE, spares: 1, snapshot_upto, ..LogOptions::new(seed) }
}

/// Refuses a damaged log; of one that is whole the recovery is marked as begun, if it was not `marked` before.
async fn marked_sound(
    outside: &Outside,
    dir: &Path,
    seed: u64,
    marked: Option<Option<u64>>,
    snapshot_upto: Option<u64>,
) -> Result<(), NodeError> {
    let report = log::verify(&outside.disk, &dir.join(LOG_DIR), seed, snapshot_upto)?;
    if let Some(finding) = report.findings.first() {
        let what = format!("{} at offset {}: {}", finding.path.display(), finding.offset, finding.what);
        return Err(damaged(what));
    }
    if marked.is_none() {
        let digits = snapshot_upto.map(|index| index.to_string()).unwrap_or_default();
        replace_file(&*outside.disk, dir, MARK, Open::Create, digits.as_bytes()).await?;
    }
    Ok(())
}

/// Refuses a directory whose recovery was cut short.
///
/// # Errors
/// 66, or the disk failed.
pub(super) fn refuse_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), NodeError> {
    if !disk.exists(&dir.join(MARK))? {
        return Ok(());
    }
    let what =
        format!("{} is half-way from a lost cluster to a new one: its recovery was cut short", dir.display());
    Err(NodeError::new(ExitStatus::Directory, "recovering", what).hint("repeat queued store recover"))
}

/// What the mark says: the index of the newest snapshot before, if there was one; `None` without a mark.
fn read_mark(disk: &dyn Disk, dir: &Path) -> Result<Option<Option<u64>>, DiskError> {
    let path = dir.join(MARK);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let file = disk.open(&path, Open::Read)?;
    let mut digits = [0; 20];
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(digits.len());
    file.read_at(&mut digits[..size], 0)?;
    Ok(Some(str::from_utf8(&digits[..size]).ok().and_then(|digits| digits.parse().ok())))
}

async fn remove_mark(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    disk.remove(&dir.join(MARK))?;
    disk.sync_dir(dir).await
}

fn is_refusal(error: &RecoverError) -> bool {
    !matches!(error, RecoverError::Io(_) | RecoverError::Log(_) | RecoverError::Snapshot(_))
}

fn damaged(what: impl std::fmt::Display) -> NodeError {
    let what = format!("{what}. Nothing was changed: a damaged directory is not taken for a cluster");
    NodeError::new(ExitStatus::Corrupt, "corrupt", what)
        .hint("recover the next best survivor: queued store verify --last DIR shows what each has")
}

fn not_taken(error: RecoverError) -> NodeError {
    match error {
        RecoverError::Log(error) => match NodeError::from(error) {
            NodeError { status: ExitStatus::Corrupt, what, .. } => damaged(what),
            other => other,
        },
        RecoverError::Snapshot(error) => match NodeError::from(error) {
            NodeError { status: ExitStatus::Corrupt, what, .. } => damaged(what),
            other => other,
        },
        RecoverError::Load(error) => NodeError::from(crate::raft::StartError::from(error)),
        RecoverError::NoMembers | RecoverError::Apply { .. } => damaged(error),
        RecoverError::StillRunning { ref address, .. } => {
            let hint =
                format!("stop it first; queuectl --servers {address} cluster status must not reach it");
            NodeError::new(ExitStatus::Directory, "still_running", format!("{error}. Nothing was changed"))
                .hint(hint)
        }
        RecoverError::ClockBehind { .. } => {
            NodeError::new(ExitStatus::Config, "clock_behind", format!("{error}. Nothing was changed"))
                .hint("set the clock, or name a number above all that was given: --tokens-above N")
        }
        RecoverError::NumbersUsedUp | RecoverError::TokensBelow { .. } => {
            NodeError::new(ExitStatus::Config, "numbers", format!("{error}. Nothing was changed"))
        }
        RecoverError::Io(error) => NodeError::new(ExitStatus::Disk, "disk", error.to_string())
            .hint("the directory is half-way: repeat queued store recover when the disk is well"),
    }
}

//! Why Raft stopped, where this node knows better: openraft stops on an error of the log or the machine and keeps no more
//! than a text of it.

use std::io;
use std::sync::{Arc, OnceLock};

use openraft::async_runtime::watch::WatchReceiver;

use super::types::decode_meta;
use crate::outside::{ExitStatus, Fatal, Others};
use crate::raft::cluster::levels::NotSpoken;
use crate::raft::{Consensus, Raft};

/// The first that was found. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Cause(Arc<OnceLock<Why>>);

/// What ends a node for good.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// A read found something damaged.
    Damaged(String),
    /// The cluster's feature level is not spoken here.
    Level(NotSpoken),
}

impl Cause {
    pub(crate) fn damaged(&self, what: &impl ToString) -> io::Error {
        self.0.get_or_init(|| Why::Damaged(what.to_string()));
        io::Error::other(what.to_string())
    }

    pub(crate) fn level(&self, error: NotSpoken) -> io::Error {
        self.0.get_or_init(|| Why::Level(error));
        io::Error::other(error)
    }

    pub(crate) fn get(&self) -> Option<&Why> {
        self.0.get()
    }
}

impl Why {
    /// How the process ends.
    pub(crate) fn fatal(&self, others: Others) -> Fatal {
        match self {
            Self::Damaged(what) => Fatal::damaged(what, others),
            Self::Level(error) => {
                Fatal { status: ExitStatus::OtherBuild, what: format!("{error}. {}", NotSpoken::WHAT_TO_DO) }
            }
        }
    }
}

/// A node whose Raft has stopped on an error answers nobody any more.
pub(in crate::raft) async fn end_with_raft(raft: Raft, cause: Cause, end: Arc<dyn Fn(Fatal) + Send + Sync>) {
    let mut metrics = raft.metrics();
    loop {
        let failed = match &metrics.borrow_watched().running_state {
            Ok(()) | Err(openraft::errors::Fatal::Stopped) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            if let Some(why) = cause.get() {
                return end(why.fatal(others(&raft)));
            }
            let what = format!("raft stopped: {error}. What was acknowledged is on a majority of the disks");
            return end(Fatal { status: ExitStatus::Disk, what });
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Whether other members have what this node holds.
pub(in crate::raft) fn others(raft: &Raft) -> Others {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    Others::of(metrics.membership_config.membership().nodes().count())
}

impl Consensus {
    /// Whether other members have what this node holds.
    pub(crate) fn others(&self) -> Others {
        others(&self.raft)
    }
}

/// The same, as the meta of a snapshot tells.
pub(crate) fn others_of(meta: &[u8]) -> Others {
    let members = decode_meta(meta).map(|meta| meta.last_membership.membership().nodes().count());
    members.map_or(Others::Unknown, Others::of)
}

/// Why the state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Snapshot(#[from] crate::snapshots::SnapshotError),
    #[error("snapshot of entry {index} does not decode: {what}")]
    Decode { index: u64, what: String },
    #[error(transparent)]
    Level(#[from] NotSpoken),
}

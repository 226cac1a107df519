//! Why Raft stopped, where this node knows better: openraft stops on an error of the log or the machine and keeps no more
//! than a text of it.

use std::io;
use std::sync::{Arc, OnceLock};

use super::levels::NotSpoken;
use crate::outside::Fatal;

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
    pub(crate) fn fatal(&self) -> Fatal {
        match self {
            Self::Damaged(what) => Fatal::damaged(what),
            Self::Level(error) => Fatal { status: 76, what: format!("{error}. {}", NotSpoken::WHAT_TO_DO) },
        }
    }
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

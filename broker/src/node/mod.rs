//! One node: its data directory, its place in the cluster, and its life from start to stop.

mod bootstrap;
mod check;
mod descriptors;
mod format;
pub mod identity;
mod invited;
pub mod keys;
mod privacy;
mod recover;
pub mod secret;
mod start;
mod vault;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::DiskError;
use crate::log::{LogError, LogOptions};
use crate::outside::{ExitStatus, Others};
use crate::raft::RaftOptions;
use crate::server::ServerOptions;
use crate::snapshots::SnapshotError;

pub use self::bootstrap::{Bootstrap, bootstrap};
pub(crate) use self::check::{Checked, check};
pub use self::format::{Way, init, init_with, join};
pub use self::recover::{Recovery, recover_as_single_node};
pub(crate) use self::start::log_seed;
pub use self::start::{Node, start};

use self::identity::IdentityError;
use self::secret::SecretError;

/// Directory of the log in the data directory.
pub const LOG_DIR: &str = "log";
/// Directory of the snapshots in the data directory.
pub const SNAPSHOTS_DIR: &str = "snapshots";
/// The lock file in the data directory.
pub const LOCK_FILE: &str = "LOCK";

/// How a node behaves; the settings of a configuration, typed.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The data directory of the node.
    pub data_dir: PathBuf,
    /// `host:port` to listen on, for clients and peers.
    pub listen: String,
    /// `host:port` where others reach it; `None` is the address it listens on.
    pub advertise: Option<String>,
    /// Unique name; `None` is `n` and its number.
    pub name: Option<String>,
    /// How Raft behaves.
    pub raft: RaftOptions,
    /// How clients are served.
    pub server: ServerOptions,
    /// How the log behaves.
    pub log: LogOptions,
    /// File descriptors that this process may have; `None` where there are none, or enough.
    pub descriptors: Option<u64>,
    /// How long a stop may take.
    pub grace: Duration,
}

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NodeError {
    /// What the process ends with.
    pub status: ExitStatus,
    /// Text code, as in `error[code]`.
    pub code: &'static str,
    /// What happened and what it means for the data.
    pub what: String,
    /// What to type next.
    pub hint: Option<String>,
}

impl NodeError {
    fn new(status: ExitStatus, code: &'static str, what: impl Into<String>) -> Self {
        Self { status, code, what: what.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn corrupt(what: impl std::fmt::Display, others: Others) -> Self {
        Self::new(ExitStatus::Corrupt, "corrupt", format!("{what}. Nothing was changed. {others}"))
            .hint("queued store verify DIR names every damage")
    }

    /// Why a log does not open, or does not go on.
    fn of_log(error: LogError, others: Others) -> Self {
        match error {
            LogError::Disk(error) => error.into(),
            unknown @ LogError::Unknown { .. } => Self::unknown(unknown),
            corrupt => Self::corrupt(corrupt, others),
        }
    }

    /// What another build has written, in a layout that this one does not know.
    fn unknown(what: impl std::fmt::Display) -> Self {
        Self::new(ExitStatus::OtherBuild, "format_unknown", format!("{what}. Nothing was changed"))
            .hint("start the queued that wrote it, or a newer one: queued version tells which this is")
    }

    /// Another process has the data directory.
    fn locked(dir: &Path) -> Self {
        Self::new(ExitStatus::Directory, "locked", format!("{} is in use by another process", dir.display()))
            .hint("every node needs a data directory of its own: --node-data-dir")
    }
}

impl From<DiskError> for NodeError {
    fn from(error: DiskError) -> Self {
        Self::new(ExitStatus::Disk, "disk", error.to_string())
    }
}

impl From<LogError> for NodeError {
    fn from(error: LogError) -> Self {
        Self::of_log(error, Others::Unknown)
    }
}

impl From<SnapshotError> for NodeError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Disk(error) => error.into(),
            unknown @ SnapshotError::Format { .. } => Self::unknown(unknown),
            corrupt => Self::corrupt(corrupt, Others::Unknown),
        }
    }
}

impl From<SecretError> for NodeError {
    fn from(error: SecretError) -> Self {
        Self::new(ExitStatus::Directory, "secret", error.to_string())
    }
}

impl From<IdentityError> for NodeError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Disk(error) => error.into(),
            IdentityError::Missing { .. } => Self::new(ExitStatus::Directory, "not_formatted", error.to_string()).hint(
                "queued init formats the first node of a cluster, queued join --at HOST:PORT --secret-file FILE another; \
                 for a member whose data is gone, queuectl cluster replace takes a new node in its place",
            ),
            IdentityError::Foreign { .. } => Self::new(ExitStatus::Directory, "foreign", error.to_string()),
            corrupt => Self::corrupt(corrupt, Others::Unknown),
        }
    }
}

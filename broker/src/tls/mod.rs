//! TLS for clients, peers and HTTP: who is spoken to in the clear, and the certificate of this node.
//!
//! ```text
//! accept ──► opening: three bytes ──► plain frames ──────────────► server
//!                        │  TLS ──► store: handshake ──► Stream ──► server      HTTP ──► the same store
//! raft   ──► net: dial ──┴► TLS, or plain to a node that answers that it speaks none
//! ```
//!
//! Peers accept any certificate of each other: they prove the cluster's secret over [`queue_protocol::client::Stream::channel`],
//! which nobody between them can make equal on two connections. Clients check name and chain, or a pinned key.
//!
//! Built without the feature `tls` there is only the mode `off`.

pub mod opening;
mod options;
#[cfg(all(feature = "sim", feature = "tls"))]
mod tried;

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod authority;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod net;
#[cfg(feature = "tls")]
mod store;
#[cfg(feature = "tls")]
mod watch;

use std::path::{Path, PathBuf};

#[cfg(not(feature = "tls"))]
pub use self::absent::Tls;
#[cfg(feature = "tls")]
pub(crate) use self::authority::{Authority, NODE_DAYS};
#[cfg(feature = "tls")]
pub(crate) use self::certificate::Certificate;
#[cfg(feature = "tls")]
pub(crate) use self::net::TlsNet;
pub use self::options::{TlsMode, TlsOptions};
#[cfg(feature = "tls")]
pub use self::store::Tls;

/// Why TLS cannot be spoken as the settings say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{what}")]
    File {
        /// With its path.
        what: String,
    },
    /// Others may read a key.
    #[error("{} can be read by other users of this machine (mode {mode:04o})", path.display())]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("{} and {} cannot be used: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// The reason.
        why: String,
    },
    /// A certificate outside of its time.
    #[error("{} is valid from {from} to {until}, not now", path.display())]
    Date {
        /// The file.
        path: PathBuf,
        /// Begin.
        from: String,
        /// End.
        until: String,
    },
}

impl TlsError {
    /// What to type.
    pub fn hint(&self) -> Option<String> {
        let Self::KeyOpen { path, .. } = self else { return None };
        Some(format!("chmod go= {}", path.display()))
    }

    #[cfg(feature = "tls")]
    fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::File { what: format!("{}: {why}", path.display()) }
    }
}

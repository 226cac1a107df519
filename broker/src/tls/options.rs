//! What an operator can choose about TLS.

use std::path::PathBuf;

pub use queue_protocol::wire::security::Secured as TlsMode;

/// How a node speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// With whom it speaks in the clear.
    pub mode: TlsMode,
    /// Its certificate and those between it and the authority, in PEM; `None` for one that is made in memory.
    pub cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// The authorities of the cluster's certificates, in PEM.
    pub ca: Option<PathBuf>,
}

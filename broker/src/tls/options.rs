//! What an operator can choose about TLS.

use std::path::PathBuf;

/// With whom a node speaks in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// With everybody: no TLS.
    #[default]
    Off,
    /// With those that speak no TLS: it accepts both, and dials TLS first.
    Optional,
    /// With nobody.
    Require,
}

impl TlsMode {
    /// As the settings have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Require => "require",
        }
    }
}

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

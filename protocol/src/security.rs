//! What a node says of how its connections are secured; a part of its status.

use serde::{Deserialize, Serialize};

use crate::bounded::Text;

/// With whom a node speaks in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secured {
    /// With everybody: it speaks no TLS.
    #[default]
    Off,
    /// With those that speak no TLS.
    Optional,
    /// With nobody.
    Require,
}

impl Secured {
    /// As the setting `tls.mode` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Require => "require",
        }
    }
}

/// What a node says of its TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsView {
    /// With whom it speaks in the clear.
    pub mode: Secured,
    /// End of its certificate, Unix milliseconds; `None` if it has none from a file.
    pub until_ms: Option<u64>,
    /// What is wrong with its certificate, or with files that were changed: those before them count.
    pub alarm: Option<Text<512>>,
}

//! What a node says of how its connections are secured; a part of its status.

use serde::{Deserialize, Serialize};

use crate::names::NodeId;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::proof::Fingerprint;

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

/// Nodes named in a [`RotationView`], at most.
pub const ROTATION_NODES_MAX: usize = 64;

/// How far a rotation of the secret has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RotationPhase {
    /// Members fetch the next secret and make it durable; nobody proves itself with it yet.
    Spreading,
    /// Every member has the next secret on its disk, and begins to use it; both let a node in.
    Switching,
    /// Every member uses the next secret; the old one lets nobody in any more, and goes off the disks.
    Dropping,
}

impl RotationPhase {
    /// For people and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spreading => "spreading",
            Self::Switching => "switching",
            Self::Dropping => "dropping",
        }
    }
}

/// A rotation of the secret, as the answering node has applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationView {
    /// The generation of the secret that it leads to.
    pub generation: u32,
    /// What tells that secret from others.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub phase: RotationPhase,
    /// Members that have not done yet what the phase asks of them.
    pub waits_for: Bounded<NodeId, ROTATION_NODES_MAX>,
    /// Members that it does not wait for: they need a copy of the new SECRET file before they come back.
    pub left_out: Bounded<NodeId, ROTATION_NODES_MAX>,
}

/// What a node says of the cluster's secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// The generation that it proves itself with; 1, and higher with each rotation.
    pub generation: u32,
    /// What tells its secret from others.
    pub fingerprint: Fingerprint,
    /// The rotation that is under way.
    pub rotation: Option<RotationView>,
}

//! The handshake: who is there, which version is spoken, and for a peer the proof that it knows the cluster's
//! secret. Pure: [`crate::wire::handshake`] drives it over a stream.
//!
//! ```text
//! client                       node          peer (dialer)                node (acceptor)
//!   Hello ------------------->                 Hello ------------------->
//!   <-------- Accepted | Refused               <-------- Accepted | Refused
//!  with a login in its hello:                  Proof ------------------->
//!   Login ------------------->                 <----------- Proof | Refused
//!   <-------- LoggedIn | Refused
//! ```
//!
//! The dialer proves first, so a node makes no proof for a stranger, and tells it nothing of its log, its leader and its
//! name; nothing is accepted before both proofs hold. What a proof is over: [`crate::wire::proof`], and that of a client:
//! [`crate::wire::auth`].

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::names::{ClusterId, NodeId, SessionId, StoreId};
use crate::wire::auth::Proven;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::credentials::Credentials;
use crate::wire::frame::{FrameKind, Message};
use crate::wire::proof::Proof;
pub use crate::wire::proof::{PeerHello, Secret};
use crate::wire::response::LeaderView;

/// The first bytes of every hello.
pub const MAGIC: [u8; 8] = *b"queued\r\n";
/// Protocol version this crate speaks.
pub const VERSION: u16 = 1;
/// Number of a node that has none yet because it is joining.
pub const JOINING: NodeId = NodeId(0);

/// A step of the handshake.
///
/// Over all versions of the protocol these stay as they are: the frame, the variant numbers of this type, the first
/// two fields of [`Hello`], and [`Error`]. So two sides that share no version can say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloMessage {
    /// The dialer opens.
    Hello(Box<Hello>),
    /// Not with you; the connection closes.
    Refused(Error),
    /// The acceptor answers.
    Accepted(Box<Accepted>),
    /// A side shows that it knows the secret and which node it is.
    Proof(Box<Proof>),
    /// A client shows that it has the key which its hello names.
    Login(Box<Proven>),
    /// It is let in; the node shows that it knows the key.
    LoggedIn([u8; 32]),
}

impl Message for HelloMessage {
    const KIND: FrameKind = FrameKind::Hello;
}

/// Versions a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Versions {
    /// What this crate speaks.
    pub const OURS: Versions = Versions { min: VERSION, max: VERSION };

    /// The highest that both speak.
    pub fn common(self, other: Versions) -> Option<u16> {
        let max = self.max.min(other.max);
        (max >= self.min.max(other.min)).then_some(max)
    }
}

/// What the dialer says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// What it speaks.
    pub versions: Versions,
    /// The cluster it wants; `None` if it does not know it yet.
    pub cluster: Option<ClusterId>,
    /// What it is, for the whole connection.
    pub role: HelloRole,
    /// Of a client: [`Credentials`], or empty. Of a peer: empty.
    pub credentials: Bounded<u8, 1024>,
    /// Bits for what may be used if both sides set it; none has a meaning yet.
    pub features: u64,
    /// Unix milliseconds.
    pub wall_ms: u64,
    /// 32 random bytes, new for each connection.
    pub nonce: [u8; 32],
}

/// What a dialer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloRole {
    /// A user's program.
    Client {
        /// Chosen at random by it; requests with a stamp belong to it.
        session: SessionId,
    },
    /// Another node.
    Peer(PeerId),
}

/// Which node a side says it is; believed when it has proved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerId {
    /// Raft's number, [`JOINING`] while it has none.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
}

/// What the acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Spoken from now on.
    pub version: u16,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its name; empty to a peer.
    pub name: Text<64>,
    /// Which node it is.
    pub node: PeerId,
    /// Who leads, as far as it knows; not told to a peer.
    pub leader: Option<LeaderView>,
    /// As in [`Hello`].
    pub features: u64,
    /// Unix milliseconds.
    pub wall_ms: u64,
    /// 32 random bytes, new for each connection.
    pub nonce: [u8; 32],
    /// To a client, if this node leads: the index of the last entry that it has applied. A session opens under it.
    pub index: Option<u64>,
}

impl Hello {
    /// A hello of this version, without credentials and features.
    pub fn new(cluster: Option<ClusterId>, role: HelloRole, wall_ms: u64, nonce: [u8; 32]) -> Self {
        Self {
            magic: MAGIC,
            versions: Versions::OURS,
            cluster,
            role,
            credentials: Bounded::default(),
            features: 0,
            wall_ms,
            nonce,
        }
    }

    /// The same of a client that says what it is.
    #[must_use]
    pub fn with(self, credentials: &Credentials) -> Self {
        Self { credentials: credentials.to_bytes(), ..self }
    }

    /// What a client says of itself.
    ///
    /// # Errors
    /// `not_permitted` if it is not understood.
    pub fn client(&self) -> Result<Credentials, Error> {
        Credentials::from_bytes(&self.credentials)
    }

    /// The version to speak with the node `me` of `cluster`.
    ///
    /// # Errors
    /// What to refuse it with: `bad_frame` without the magic, `version_mismatch`, `wrong_cluster` (a client or a
    /// joining node need not name one), `not_permitted` for a peer that says it is this node.
    pub fn check(&self, cluster: ClusterId, me: NodeId) -> Result<u16, Error> {
        if self.magic != MAGIC {
            return Err(Error::refused(ErrorCode::BadFrame, "the hello does not begin with the magic"));
        }
        let version = Versions::OURS.common(self.versions).ok_or_else(|| mismatch(self.versions))?;
        let must_name = matches!(&self.role, HelloRole::Peer(peer) if peer.node != JOINING);
        match self.cluster {
            Some(theirs) if theirs != cluster => {
                let what = format!("this node belongs to cluster {cluster}, not to {theirs}");
                return Err(Error::refused(ErrorCode::WrongCluster, what));
            }
            None if must_name => {
                return Err(Error::refused(ErrorCode::WrongCluster, "a member must name its cluster"));
            }
            _ => {}
        }
        match &self.role {
            HelloRole::Peer(peer) if peer.node == me => {
                Err(Error::refused(ErrorCode::NotPermitted, format!("node {me} is this node")))
            }
            _ => Ok(version),
        }
    }
}

impl Accepted {
    /// Checks what the dialer can: version and cluster.
    ///
    /// # Errors
    /// `version_mismatch` or `wrong_cluster`.
    pub fn check(&self, hello: &Hello) -> Result<(), Error> {
        if !(hello.versions.min..=hello.versions.max).contains(&self.version) {
            return Err(mismatch(Versions { min: self.version, max: self.version }));
        }
        match hello.cluster {
            Some(ours) if ours != self.cluster => {
                let what = format!("the node belongs to cluster {}, not to {ours}", self.cluster);
                Err(Error::refused(ErrorCode::WrongCluster, what))
            }
            _ => Ok(()),
        }
    }
}

/// No version is common with one who speaks `theirs`.
fn mismatch(theirs: Versions) -> Error {
    let what = format!(
        "this side speaks protocol {}-{}, the other {}-{}",
        Versions::OURS.min,
        Versions::OURS.max,
        theirs.min,
        theirs.max
    );
    Error::refused(ErrorCode::VersionMismatch, what)
}

/// What a hello frame's header says, checked as far as every version has it.
///
/// # Errors
/// `bad_frame` if it is no hello; `version_mismatch` if it is one of a version whose rest cannot be read.
pub fn read_hello(header: &[u8]) -> Result<Hello, Error> {
    #[derive(Deserialize)]
    struct Opening {
        variant: u8,
        magic: [u8; 8],
        versions: Versions,
    }
    let bad = || Error::refused(ErrorCode::BadFrame, "the first frame is not a hello");
    let (opening, _) = postcard::take_from_bytes::<Opening>(header).map_err(|_| bad())?;
    if opening.variant != 0 || opening.magic != MAGIC {
        return Err(bad());
    }
    if Versions::OURS.common(opening.versions).is_none() {
        return Err(mismatch(opening.versions));
    }
    match postcard::take_from_bytes(header) {
        Ok((HelloMessage::Hello(hello), [])) => Ok(*hello),
        _ => Err(bad()),
    }
}

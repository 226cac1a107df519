//! What peers prove to each other: that they know the cluster's secret, which node they are, and that what they say of
//! their logs is their own word. Pure; signatures are made and checked by the broker, which has the keys.
//!
//! ```text
//! T = "queued peer v1\0\0" ‖ side ‖ SHA-256(hello frame) ‖ SHA-256(accepted frame) ‖ exporter of the channel
//! K = HMAC(secret, "queued peer facts" ‖ T)
//!
//! Proof { HMAC(secret, T), signature of T by the node's key, certificate of that key, facts, HMAC(K, facts) }
//! ```
//!
//! T names everything that both sides have said, so a proof is worth nothing on another connection, to another node,
//! for the other side or over another channel.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorCode};
use crate::names::{ClusterId, NodeId, StoreId};
use crate::wire::frame::{Frame, encode_head};
use crate::wire::hello::PeerId;
use crate::wire::level::Levels;
use crate::wire::peer::{LogId, Vote};

/// The cluster's secret: whoever knows it may speak to its nodes, and which node it is it must prove besides.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One secret is a list of one: what [`crate::wire::handshake::accept`] takes.
impl AsRef<[Secret]> for Secret {
    fn as_ref(&self) -> &[Secret] {
        std::slice::from_ref(self)
    }
}

impl Secret {
    /// As a node keeps it in a file: 64 hex digits, and maybe a hyphen and their CRC32C in 8 more. `None` if it is something
    /// else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (digits, check) =
            text.split_once('-').map_or((text, None), |(digits, check)| (digits, Some(check)));
        let pairs = digits.as_bytes().as_chunks::<2>().0;
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        let known = format!("{:08x}", crc32c::crc32c(&bytes));
        check.is_none_or(|check| check.eq_ignore_ascii_case(&known)).then_some(Self(bytes))
    }
}

/// What tells secrets apart in a list for people, and tells nothing else of them.
pub type Fingerprint = [u8; 8];

const FINGERPRINT_LABEL: &[u8] = b"queued fingerprint";

impl Secret {
    /// The first 8 bytes of HMAC(secret, "queued fingerprint").
    pub fn fingerprint(&self) -> Fingerprint {
        let whole: [u8; 32] = hmac(&self.0, &[FINGERPRINT_LABEL]).finalize().into_bytes().into();
        std::array::from_fn(|i| whole[i])
    }
}

/// What a TLS connection exports for its channel (RFC 9266, 32 bytes); [`PLAIN`] without TLS.
pub type Exporter = [u8; 32];
/// The exporter of a connection without TLS.
pub const PLAIN: Exporter = [0; 32];

/// The side that makes a proof; neither side's proof is valid as the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that opened the connection.
    Dialer,
    /// The one that was called.
    Acceptor,
}

impl Side {
    /// The one at the other end.
    pub fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

const LABEL: &[u8; 16] = b"queued peer v1\0\0";
const FACTS_LABEL: &[u8] = b"queued peer facts";
const SEAL_LABEL: &[u8] = b"queued peer seal";
/// Size of a [`Transcript`].
pub const TRANSCRIPT_SIZE: usize = 16 + 1 + 32 + 32 + 32;

/// What a proof is over. These 113 bytes:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | `queued peer v1\0\0` |
/// | 16 | 1 | side that proves: 1 dialer, 2 acceptor |
/// | 17 | 32 | SHA-256 of the whole hello frame, its size field and head included |
/// | 49 | 32 | SHA-256 of the whole accepted frame |
/// | 81 | 32 | exporter of the channel, zeros without TLS |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript([u8; TRANSCRIPT_SIZE]);

const SIDE_AT: usize = LABEL.len();

impl Transcript {
    /// The transcript of a handshake in which these two frames were sent.
    pub fn new(hello: &Frame, accepted: &Frame, exporter: &Exporter, side: Side) -> Self {
        let mut bytes = [0; TRANSCRIPT_SIZE];
        let (label, rest) = bytes.split_at_mut(SIDE_AT);
        label.copy_from_slice(LABEL);
        let digests = [&digest(hello), &digest(accepted), exporter];
        for (room, part) in rest[1..].chunks_exact_mut(32).zip(digests) {
            room.copy_from_slice(part);
        }
        Self(bytes).of(side)
    }

    /// The same for a proof of `side`.
    #[must_use]
    pub fn of(mut self, side: Side) -> Self {
        self.0[SIDE_AT] = match side {
            Side::Dialer => 1,
            Side::Acceptor => 2,
        };
        self
    }

    /// Whether the connection has a channel that nobody reads along on.
    pub fn is_secured(&self) -> bool {
        self.0[TRANSCRIPT_SIZE - PLAIN.len()..] != PLAIN
    }

    /// What is signed.
    pub fn bytes(&self) -> &[u8; TRANSCRIPT_SIZE] {
        &self.0
    }

    /// The proof of the side that the transcript is of.
    pub fn prove(&self, secret: &Secret, told: Told) -> Proof {
        let Told { facts, identity } = told;
        let mac = hmac(&secret.0, &[&self.0]).finalize().into_bytes().into();
        let facts_mac = self.facts_mac(secret, &facts).finalize().into_bytes().into();
        Proof { mac, identity, facts, facts_mac }
    }

    /// Checks that the side which the transcript is of knows the secret and said these facts, in constant time.
    ///
    /// # Errors
    /// `not_permitted`.
    pub fn check(&self, secret: &Secret, proof: &Proof) -> Result<(), Error> {
        let refused = |what| move |_| Error::refused(ErrorCode::NotPermitted, what);
        hmac(&secret.0, &[&self.0])
            .verify_slice(&proof.mac)
            .map_err(refused("the cluster's secret was not proved"))?;
        self.facts_mac(secret, &proof.facts)
            .verify_slice(&proof.facts_mac)
            .map_err(refused("what the peer says of its log was changed on the way"))
    }

    fn facts_mac(&self, secret: &Secret, facts: &Facts) -> Hmac<Sha256> {
        let key: [u8; 32] = hmac(&secret.0, &[FACTS_LABEL, &self.0]).finalize().into_bytes().into();
        let facts = postcard::to_allocvec(facts).expect("plain values always encode");
        hmac(&key, &[&facts])
    }

    /// What hides keys that are sent over this connection.
    pub fn seal(&self, secret: &Secret) -> Seal {
        let both = self.of(Side::Dialer);
        Seal(hmac(&secret.0, &[SEAL_LABEL, &both.0]).finalize().into_bytes().into())
    }
}

pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any size is valid");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// SHA-256 of a frame as it is on the wire.
pub(crate) fn digest(frame: &Frame) -> [u8; 32] {
    let tail = std::slice::from_ref(&frame.tail);
    let head = encode_head(frame.request_id, frame.kind, frame.flags, &frame.header, tail);
    let head = head.expect("it was sent or received");
    let whole = Sha256::new().chain_update(head).chain_update(&frame.header).chain_update(&frame.tail);
    whole.finalize().into()
}

/// Hides a key of 32 bytes from those who read along on a plain connection and do not know the secret: XOR with
/// HMAC(HMAC(secret, "queued peer seal" ‖ T of the dialer), request id), which no other frame is hidden with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal([u8; 32]);

impl Seal {
    /// Hides a key in the answer to the request `id`, or shows what was hidden.
    pub fn apply(&self, id: u64, key: [u8; 32]) -> [u8; 32] {
        let pad: [u8; 32] = hmac(&self.0, &[&id.to_le_bytes()]).finalize().into_bytes().into();
        std::array::from_fn(|i| key[i] ^ pad[i])
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// What a side sends to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// HMAC-SHA256 of the transcript under the secret.
    pub mac: [u8; 32],
    /// Which node it is; none of a node that is joining.
    pub identity: Option<Identity>,
    /// What it says of itself.
    pub facts: Facts,
    /// HMAC-SHA256 of the encoded facts under a key of this transcript.
    pub facts_mac: [u8; 32],
}

/// What a side says of itself once it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of its log and process.
    pub facts: Facts,
    /// Which node it is.
    pub identity: Option<Identity>,
}

impl Told {
    /// A node that has nothing yet.
    pub fn nothing() -> Self {
        Self { facts: Facts::NONE, identity: None }
    }
}

/// What a node says of its log and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Last entry in its log.
    pub last: Option<LogId>,
    /// Its vote.
    pub vote: Option<Vote>,
    /// How often its log was opened, this time included; 0 while it has none.
    pub epoch: u32,
    /// Chosen at random when its process started: two processes of one epoch run on copies of one directory.
    pub boot: u64,
    /// The feature levels it speaks.
    pub levels: Levels,
}

impl Facts {
    /// Of a node that has no log.
    pub const NONE: Self = Self { last: None, vote: None, epoch: 0, boot: 0, levels: Levels::OURS };
}

/// A node as its proof has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// Raft's number, [`crate::wire::hello::JOINING`] while it has none.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Last entry in its log.
    pub last: Option<LogId>,
    /// Its vote.
    pub vote: Option<Vote>,
    /// How often its log was opened, this time included; 0 while it has none.
    pub epoch: u32,
    /// The random number of its process.
    pub boot: u64,
    /// The feature levels it speaks.
    pub levels: Levels,
}

impl PeerHello {
    /// A node and what it says of itself.
    pub fn new(id: PeerId, facts: Facts) -> Self {
        let (PeerId { node, store }, Facts { last, vote, epoch, boot, levels }) = (id, facts);
        Self { node, store, last, vote, epoch, boot, levels }
    }

    /// A node that has nothing but a data directory yet.
    pub fn nobody(node: NodeId, store: StoreId) -> Self {
        Self::new(PeerId { node, store }, Facts::NONE)
    }

    /// Which node it is.
    pub fn id(&self) -> PeerId {
        PeerId { node: self.node, store: self.store }
    }

    /// What it says of itself.
    pub fn facts(&self) -> Facts {
        let Self { last, vote, epoch, boot, levels, .. } = *self;
        Facts { last, vote, epoch, boot, levels }
    }
}

/// An Ed25519 signature, its two halves.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl Signature {
    /// Of its 64 bytes.
    pub fn new(bytes: [u8; 64]) -> Self {
        let [r, s] = [0, 32].map(|at| std::array::from_fn(|i| bytes[at + i]));
        Self(r, s)
    }

    /// Its 64 bytes.
    pub fn bytes(&self) -> [u8; 64] {
        std::array::from_fn(|i| if i < 32 { self.0[i] } else { self.1[i - 32] })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.0.iter().chain(&self.1).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Shows which node a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Of the transcript, by the node's key.
    pub signature: Signature,
    /// The cluster's word for that key.
    pub certificate: Certificate,
}

/// The cluster's word that a key is that of a node: signed with the admission key, which members have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The public half of the node's key, Ed25519.
    pub key: [u8; 32],
    /// The entry that assigned the number; 0 of the node that made the cluster.
    pub index: u64,
    /// Which admission key has signed it.
    pub generation: u32,
    /// Of [`Certificate::signed`].
    pub signature: Signature,
}

/// Size of what a certificate signs.
pub const CERTIFIED_SIZE: usize = 16 + 16 + 8 + 16 + 32 + 8 + 4;
const CERTIFICATE_LABEL: &[u8; 16] = b"queued node v1\0\0";

impl Certificate {
    /// What is signed, 100 bytes, integers little-endian:
    ///
    /// | offset | size | field |
    /// |---|---|---|
    /// | 0 | 16 | `queued node v1\0\0` |
    /// | 16 | 16 | cluster id |
    /// | 32 | 8 | number of the node |
    /// | 40 | 16 | its store id |
    /// | 56 | 32 | its public key |
    /// | 88 | 8 | index |
    /// | 96 | 4 | generation |
    pub fn signed(&self, cluster: ClusterId, id: PeerId) -> [u8; CERTIFIED_SIZE] {
        let mut bytes = [0; CERTIFIED_SIZE];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(CERTIFICATE_LABEL);
        put(&cluster.0.to_le_bytes());
        put(&id.node.0.to_le_bytes());
        put(&id.store.0.to_le_bytes());
        put(&self.key);
        put(&self.index.to_le_bytes());
        put(&self.generation.to_le_bytes());
        assert_eq!(at, CERTIFIED_SIZE, "the table above is the layout");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Flags, FrameKind};

    fn frame(text: &'static str) -> Frame {
        let (header, tail) = (text.into(), bytes::Bytes::new());
        Frame { request_id: 0, kind: FrameKind::Hello, flags: Flags::NONE, header, tail }
    }

    #[test]
    fn a_proof_is_valid_for_its_side_its_frames_its_channel_and_its_facts_alone() {
        let secret = Secret([5; 32]);
        let transcript = |hello, accepted, exporter: &Exporter, side| {
            Transcript::new(&frame(hello), &frame(accepted), exporter, side)
        };
        let ours = transcript("hello", "accepted", &PLAIN, Side::Dialer);
        let proof = ours.prove(&secret, Told::nothing());
        assert_eq!(ours.check(&secret, &proof), Ok(()));
        assert_eq!(ours.of(Side::Acceptor).of(Side::Dialer), ours);
        let refused = |transcript: Transcript, secret: &Secret, proof: &Proof| {
            transcript.check(secret, proof).expect_err("it is not valid there").message.to_string()
        };
        for other in [
            ours.of(Side::Acceptor),
            transcript("hallo", "accepted", &PLAIN, Side::Dialer),
            transcript("hello", "Accepted", &PLAIN, Side::Dialer),
            transcript("hello", "accepted", &[1; 32], Side::Dialer),
        ] {
            assert!(refused(other, &secret, &proof).contains("secret"), "{other:?}");
        }
        assert!(refused(ours, &Secret([6; 32]), &proof).contains("secret"));
        let later = Proof { facts: Facts { epoch: 1, ..proof.facts }, ..proof };
        assert!(refused(ours, &secret, &later).contains("changed on the way"));
    }

    #[test]
    fn a_sealed_key_is_shown_by_the_same_seal_and_no_two_answers_hide_alike() {
        let transcript = Transcript::new(&frame("a"), &frame("b"), &PLAIN, Side::Dialer);
        let seal = transcript.seal(&Secret([5; 32]));
        assert_eq!(seal, transcript.of(Side::Acceptor).seal(&Secret([5; 32])), "both sides have it");
        let hidden = seal.apply(1, [9; 32]);
        assert_eq!(seal.apply(1, hidden), [9; 32]);
        assert_ne!(hidden, [9; 32]);
        assert_ne!(seal.apply(2, [9; 32]), hidden);
        assert_ne!(transcript.seal(&Secret([6; 32])).apply(1, [9; 32]), hidden);
        assert_eq!(format!("{seal:?}"), "Seal(..)");
    }

    #[test]
    fn a_fingerprint_tells_secrets_apart_and_a_transcript_knows_whether_its_channel_is_secured() {
        let [one, other] = [5, 6].map(|byte| Secret([byte; 32]).fingerprint());
        assert_eq!(one, [3, 70, 163, 251, 221, 138, 38, 82]);
        assert_ne!(one, other);
        let over = |exporter| Transcript::new(&frame("a"), &frame("b"), exporter, Side::Dialer).is_secured();
        assert!(!over(&PLAIN) && over(&[1; 32]));
    }
}

//! Keys and logins: what a token is, what a node keeps of it, and how a client shows that it has it without sending it.
//! Pure; [`crate::wire::handshake`] sends it.
//!
//! ```text
//! token     = "qk1_" ‖ base32(key id 10 bytes ‖ secret 32 bytes ‖ check 2 bytes)          75 characters
//! ClientKey = HMAC(secret, "queued client key")    StoredKey = SHA-256(ClientKey)    ServerKey = HMAC(secret, "queued server key")
//! T         = "queued login v1\0" ‖ SHA-256(hello frame) ‖ SHA-256(accepted frame) ‖ channel
//!
//! client ── Login { ClientKey ⊕ HMAC(StoredKey, T), channel } ──► node      checks it against StoredKey
//! client ◄─ LoggedIn(HMAC(ServerKey, T)) ─────────────────────── node      which so shows that it has the key's verifier
//! ```
//!
//! The cluster keeps [`Verifier`], two hashes of which neither lets anybody in. The channel is the SHA-256 of the certificate
//! that the server sent on this connection (`tls-server-end-point`, RFC 5929), zeros without TLS.
//!
//! **Source**: RFC 5802 (SCRAM) without salt and iterations: the secret is no password, but 256 random bits.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::wire::frame::Frame;
pub use crate::wire::principals::*;
use crate::wire::proof::{Secret, digest, hmac};

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "qk1_";
/// Characters of a token.
pub const TOKEN_SIZE: usize = 75;
const CLIENT_LABEL: &[u8] = b"queued client key";
const SERVER_LABEL: &[u8] = b"queued server key";
const LOGIN_LABEL: &[u8; 16] = b"queued login v1\0";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_SIZE: usize = 10;
const SECRET_SIZE: usize = 32;
const CHECK_SIZE: usize = 2;
const PACKED_SIZE: usize = ID_SIZE + SECRET_SIZE + CHECK_SIZE;
const _: () = assert!(TOKEN_PREFIX.len() + (PACKED_SIZE * 8).div_ceil(5) == TOKEN_SIZE);

/// Which key a login is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; ID_SIZE]);

impl KeyId {
    /// Not a key: the cluster's secret, which opens everything.
    pub const SECRET: Self = Self([0; ID_SIZE]);
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32(&self.0))
    }
}

impl FromStr for KeyId {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bytes = from_base32(text).ok_or(BadToken)?;
        bytes.try_into().map(Self).map_err(|_| BadToken)
    }
}

/// A key with its secret, as its holder has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Which key it is.
    pub id: KeyId,
    secret: [u8; SECRET_SIZE],
}

/// Why a text is not a token or not the id of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a token: {TOKEN_PREFIX} and 71 letters and digits, of which some check the others")]
pub struct BadToken;

impl Token {
    /// A key of random bytes.
    pub fn new(id: [u8; ID_SIZE], secret: [u8; SECRET_SIZE]) -> Self {
        Self { id: KeyId(id), secret }
    }

    /// The cluster's secret as a key: whoever has it logs in with it.
    pub fn of_secret(secret: &Secret) -> Self {
        Self { id: KeyId::SECRET, secret: secret.0 }
    }

    /// What a cluster keeps of it.
    pub fn verifier(&self) -> Verifier {
        Verifier { stored: Sha256::digest(self.client_key()).into(), server: self.server_key() }
    }

    /// The token as text, to be printed once.
    pub fn reveal(&self) -> String {
        let packed = [&self.id.0[..], &self.secret].concat();
        let check = check(&packed);
        format!("{TOKEN_PREFIX}{}", base32(&[&packed[..], &check].concat()))
    }

    fn client_key(&self) -> [u8; 32] {
        hmac(&self.secret, &[CLIENT_LABEL]).finalize().into_bytes().into()
    }

    fn server_key(&self) -> [u8; 32] {
        hmac(&self.secret, &[SERVER_LABEL]).finalize().into_bytes().into()
    }

    /// Shows over this connection that it is there.
    pub fn prove(&self, login: &LoginTranscript) -> Proven {
        let signature = login.mac(&self.verifier().stored);
        let client = self.client_key();
        Proven { proof: std::array::from_fn(|i| client[i] ^ signature[i]), channel: login.channel() }
    }

    /// Whether the node has the verifier of this key.
    pub fn knows(&self, login: &LoginTranscript, answer: &[u8; 32]) -> bool {
        hmac(&self.server_key(), &[&login.0]).verify_slice(answer).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, ..)", self.id)
    }
}

impl FromStr for Token {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bytes = text.strip_prefix(TOKEN_PREFIX).and_then(from_base32).ok_or(BadToken)?;
        let (packed, found) = bytes.split_at_checked(ID_SIZE + SECRET_SIZE).ok_or(BadToken)?;
        let (id, secret) = packed.split_at(ID_SIZE);
        let token = Self::new(id.try_into().expect("cut so"), secret.try_into().expect("cut so"));
        if found != check(packed) || token.id == KeyId::SECRET { Err(BadToken) } else { Ok(token) }
    }
}

/// What a cluster keeps of a key. It lets nobody in: a client shows what hashes to `stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// SHA-256 of the key that the client shows.
    pub stored: [u8; 32],
    /// What the node shows.
    pub server: [u8; 32],
}

impl Verifier {
    /// Checks what a client showed, and gives what it is answered; `None` if it does not have the key.
    pub fn check(&self, login: &LoginTranscript, proof: &[u8; 32]) -> Option<[u8; 32]> {
        let signature = login.mac(&self.stored);
        let client: [u8; 32] = std::array::from_fn(|i| proof[i] ^ signature[i]);
        let answer = hmac(&self.server, &[&login.0]).finalize().into_bytes().into();
        self.is_of(&client).then_some(answer)
    }

    /// Checks a token that was sent as it is, over HTTP.
    pub fn holds(&self, token: &Token) -> bool {
        self.is_of(&token.client_key())
    }

    /// In constant time: both are hashed under a key that nobody else has.
    fn is_of(&self, client: &[u8; 32]) -> bool {
        let hashed: [u8; 32] = Sha256::digest(client).into();
        let seen = hmac(&self.server, &[&hashed]).finalize().into_bytes();
        hmac(&self.server, &[&self.stored]).verify_slice(&seen).is_ok()
    }
}

/// What a client sends to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The client's key, hidden by a signature of the transcript.
    pub proof: [u8; 32],
    /// The channel as the client sees it. It is in the transcript too; here it tells a proxy that ends TLS from a wrong key.
    pub channel: [u8; 32],
}

/// Size of a [`LoginTranscript`].
pub const LOGIN_TRANSCRIPT_SIZE: usize = 16 + 32 + 32 + 32;

/// What the proofs of a login are over. These 112 bytes:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | `queued login v1\0` |
/// | 16 | 32 | SHA-256 of the whole hello frame, its size field and head included |
/// | 48 | 32 | SHA-256 of the whole accepted frame |
/// | 80 | 32 | SHA-256 of the certificate (DER) that the server sent on this connection, zeros without TLS |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginTranscript([u8; LOGIN_TRANSCRIPT_SIZE]);

impl LoginTranscript {
    /// Of a handshake in which these two frames were sent.
    pub fn new(hello: &Frame, accepted: &Frame, channel: &[u8; 32]) -> Self {
        let mut bytes = [0; LOGIN_TRANSCRIPT_SIZE];
        let (label, rest) = bytes.split_at_mut(LOGIN_LABEL.len());
        label.copy_from_slice(LOGIN_LABEL);
        for (room, part) in rest.chunks_exact_mut(32).zip([&digest(hello), &digest(accepted), channel]) {
            room.copy_from_slice(part);
        }
        Self(bytes)
    }

    /// What was sent over.
    pub fn channel(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.0[LOGIN_TRANSCRIPT_SIZE - 32 + i])
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; LOGIN_TRANSCRIPT_SIZE] {
        &self.0
    }

    fn mac(&self, key: &[u8; 32]) -> [u8; 32] {
        let mac: Hmac<Sha256> = hmac(key, &[&self.0]);
        mac.finalize().into_bytes().into()
    }
}

/// The low half of CRC32C, little-endian: it finds typing errors, and protects nothing.
fn check(bytes: &[u8]) -> [u8; CHECK_SIZE] {
    let [a, b, ..] = crc32c::crc32c(bytes).to_le_bytes();
    [a, b]
}

/// RFC 4648 in small letters, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// `None` if it is not what [`base32`] makes of some bytes.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = held << 5 | u32::try_from(value).expect("below 32");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 255).expect("masked"));
        }
        held &= (1 << bits) - 1;
    }
    (held == 0 && bits < 5).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hello::HelloMessage;

    fn token() -> Token {
        Token::new(*b"0123456789", [7; 32])
    }

    fn frame(byte: u8) -> Frame {
        Frame::of(0, &HelloMessage::LoggedIn([byte; 32]))
    }

    #[test]
    fn a_token_is_text_and_back_and_every_typing_error_is_found() {
        let text = token().reveal();
        assert_eq!(text.len(), TOKEN_SIZE);
        assert_eq!(text, "qk1_gaytemzugu3doobza4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d634q");
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(token().id.to_string().parse(), Ok(token().id));
        assert!(!format!("{:?}", token()).contains(&text[20..40]), "it is not shown by mistake");
        for at in 0..text.len() {
            let mut typed = text.clone().into_bytes();
            typed[at] = if typed[at] == b'a' { b'b' } else { b'a' };
            assert!(String::from_utf8(typed).expect("ASCII").parse::<Token>().is_err(), "at {at}");
            assert!(text[..at].parse::<Token>().is_err(), "cut at {at}");
        }
        assert!(format!("{text}a").parse::<Token>().is_err());
        let secret = Token::of_secret(&Secret([9; 32]));
        assert!(secret.reveal().parse::<Token>().is_err(), "the cluster's secret is no token");
    }

    #[test]
    fn who_has_the_key_is_let_in_over_this_connection_and_no_other() {
        let (token, verifier) = (token(), token().verifier());
        let login = LoginTranscript::new(&frame(1), &frame(2), &[3; 32]);
        let proven = token.prove(&login);
        let answer = verifier.check(&login, &proven.proof).expect("it has the key");
        assert!(token.knows(&login, &answer));
        assert_eq!(proven.channel, [3; 32]);
        for other in [
            LoginTranscript::new(&frame(9), &frame(2), &[3; 32]),
            LoginTranscript::new(&frame(1), &frame(9), &[3; 32]),
            LoginTranscript::new(&frame(1), &frame(2), &[9; 32]),
        ] {
            assert_eq!(verifier.check(&other, &proven.proof), None, "replayed");
            assert!(!token.knows(&other, &answer));
        }
        for bit in 0..256 {
            let mut flipped = proven.proof;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verifier.check(&login, &flipped), None);
        }
        let stranger = Token::new(*b"0123456789", [8; 32]);
        assert_eq!(verifier.check(&login, &stranger.prove(&login).proof), None);
        assert!(verifier.holds(&token) && !verifier.holds(&stranger));
        // What a thief of the state has is of no use to log in with.
        let stolen = Token::new(*b"0123456789", verifier.stored);
        assert_eq!(verifier.check(&login, &stolen.prove(&login).proof), None);
    }

    #[test]
    fn the_proof_is_that_of_rfc_5802() {
        // ClientProof = ClientKey XOR HMAC(StoredKey, AuthMessage); RFC 5802 §3, with SHA-256.
        let login = LoginTranscript::new(&frame(1), &frame(2), &[0; 32]);
        let client = token().client_key();
        let stored: [u8; 32] = Sha256::digest(client).into();
        let signature: [u8; 32] = hmac(&stored, &[login.bytes()]).finalize().into_bytes().into();
        let proof = token().prove(&login).proof;
        assert_eq!(std::array::from_fn::<u8, 32, _>(|i| proof[i] ^ signature[i]), client);
    }
}

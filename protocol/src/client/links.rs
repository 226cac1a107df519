//! Connections of one session, one to each address, dialed when they are needed and shared by all callers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::ClientError;
use super::birth::Birth;
use super::connection::Connection;
use super::dial::{Dial, PLAIN_CHANNEL};
use crate::error::{Error, ErrorCode};
use crate::names::{ClusterId, SessionId};
use crate::wire::credentials::Credentials;
use crate::wire::handshake::HandshakeError;
use crate::wire::hello::{Hello, HelloRole};

/// A node that does not answer for so long is passed over, in milliseconds.
const DIAL_MS_MAX: u64 = 2_000;
/// Callers that waited for a dial that failed share its failure for so long, in milliseconds.
const FAILURE_SHARED_MS: u64 = 20;

/// Why there is no connection to an address.
#[derive(Clone, Debug)]
pub(super) enum DialError {
    /// It may work later.
    Unreachable(String),
    /// It is not one of ours.
    Incompatible(Error),
    /// TLS does not trust it.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only a dial over TLS fails so"))]
    Untrusted(String),
}

impl DialError {
    /// What happened, for people.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Unreachable(what) | Self::Untrusted(what) => what.clone(),
            Self::Incompatible(error) => error.to_string(),
        }
    }

    /// What it means for a caller that wants this address and no other.
    pub(super) fn into_error(self, address: &str) -> ClientError {
        match self {
            Self::Incompatible(error) => ClientError::Incompatible(error),
            Self::Untrusted(what) => ClientError::Untrusted { what: format!("{address}: {what}") },
            Self::Unreachable(what) => {
                ClientError::Unavailable { what: format!("{address} {what}"), reached: false, leader: None }
            }
        }
    }
}

/// The connections of a session.
pub(super) struct Links {
    dial: Arc<dyn Dial>,
    session: SessionId,
    /// What the program calls itself.
    name: Arc<str>,
    /// Learned from the first node that leads.
    pub(super) birth: Birth,
    /// Learned from the first node; all others must belong to it.
    cluster: Mutex<Option<ClusterId>>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    dials: AtomicU64,
}

/// One address. The lock is held while it is dialed, so that many callers make one connection.
#[derive(Default)]
struct Link {
    slot: tokio::sync::Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    failure: Option<(Instant, DialError)>,
}

/// A connection, and whether it was made for this call.
pub(super) struct Linked {
    pub(super) connection: Arc<Connection>,
    pub(super) fresh: bool,
}

impl Links {
    pub(super) fn new(
        dial: Arc<dyn Dial>,
        session: SessionId,
        name: Arc<str>,
        cluster: Option<ClusterId>,
    ) -> Self {
        Self {
            dial,
            session,
            name,
            birth: Birth::default(),
            cluster: Mutex::new(cluster),
            links: Mutex::new(BTreeMap::new()),
            dials: AtomicU64::new(0),
        }
    }

    pub(super) fn cluster(&self) -> Option<ClusterId> {
        *locked(&self.cluster)
    }

    /// The connection to `address`, made if there is none.
    pub(super) async fn connect(&self, address: &str, deadline: Instant) -> Result<Linked, DialError> {
        let link = Arc::clone(locked(&self.links).entry(address.to_owned()).or_default());
        let deadline = deadline.min(Instant::now() + Duration::from_millis(DIAL_MS_MAX));
        match timeout_at(deadline, self.connect_link(&link, address)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(DialError::Unreachable("timed out".to_owned())),
        }
    }

    async fn connect_link(&self, link: &Link, address: &str) -> Result<Linked, DialError> {
        let mut slot = link.slot.lock().await;
        if let Some(connection) = slot.connection.take_if(|connection| connection.gone().is_none()) {
            slot.connection = Some(Arc::clone(&connection));
            return Ok(Linked { connection, fresh: false });
        }
        slot.connection = None;
        if let Some((at, failure)) = &slot.failure
            && at.elapsed() < Duration::from_millis(FAILURE_SHARED_MS)
        {
            return Err(failure.clone());
        }
        match self.open(address).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *slot = Slot { connection: Some(Arc::clone(&connection)), failure: None };
                Ok(Linked { connection, fresh: true })
            }
            Err(failure) => {
                slot.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Whether a login would show another key now than this connection has: its token was replaced.
    pub(super) fn has_another_key(&self, than: &Connection) -> bool {
        let token = self.dial.token().ok().flatten();
        token.is_some_and(|token| Some(token.id) != than.key())
    }

    /// Drops the connection to `address`, so that the next use hears its news in a new hello.
    pub(super) fn forget(&self, address: &str) {
        locked(&self.links).remove(address);
    }

    async fn open(&self, address: &str) -> Result<Connection, DialError> {
        let unusable = |what| DialError::Incompatible(Error::refused(ErrorCode::AuthFailed, what));
        let token = self.dial.token().map_err(unusable)?;
        let stream = self.dial.dial(address).await.map_err(|error| of_dial(&error))?;
        if token.is_some() && stream.end_point() == PLAIN_CHANNEL && !is_loopback(address) {
            let what = "a token is shown over TLS or loopback only: add `--tls`, `--tls-ca` or `--tls-pin`";
            return Err(unusable(what.to_owned()));
        }
        let role = HelloRole::Client { session: self.session };
        let credentials = Credentials::of(&self.name);
        let credentials = token.iter().fold(credentials, |said, token| said.with(token.id));
        // A client has no clock of its own: 0 says so. Who logs in needs a nonce that nobody can guess.
        let nonce = if token.is_some() { random() } else { self.nonce() };
        let hello = Hello::new(self.cluster(), role, 0, nonce).with(&credentials);
        let asked = Instant::now();
        let connection = Connection::open_as(stream, hello, token.as_ref()).await;
        let connection = connection.map_err(|error| of_handshake(address, error))?;
        let cluster = connection.accepted().cluster;
        let known = *locked(&self.cluster).get_or_insert(cluster);
        if known != cluster {
            let what = format!("{address} belongs to cluster {cluster}, the others to {known}");
            return Err(DialError::Incompatible(Error::refused(ErrorCode::WrongCluster, what)));
        }
        if let Some(index) = connection.accepted().index {
            self.birth.learn(index, asked);
        }
        Ok(connection)
    }

    /// Different for each connection of each session; a client proves nothing with it.
    fn nonce(&self) -> [u8; 32] {
        let dial = self.dials.fetch_add(1, Ordering::Relaxed);
        derive(self.session, b"nonce", dial)
    }
}

/// Whether an address is one of this machine's own.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// 32 bytes that nobody can guess: the standard library draws the keys of its hash tables from the system.
fn random() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut hash = Sha256::new();
    for half in 0..4_u64 {
        hash.update(RandomState::new().hash_one(half).to_le_bytes());
    }
    hash.finalize().into()
}

/// 32 bytes that depend on nothing but the session, what they are for, and a number.
pub(super) fn derive(session: SessionId, label: &[u8], number: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(session.0.to_le_bytes());
    hash.update(number.to_le_bytes());
    hash.update(label);
    hash.finalize().into()
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "tls")]
fn of_dial(error: &std::io::Error) -> DialError {
    use super::tls::{PlainRefusal, Untrusted};
    if let Some(why) = Untrusted::of(error) {
        return DialError::Untrusted(why.to_string());
    }
    match PlainRefusal::of(error) {
        Some(refusal) => of_refusal(refusal.clone()),
        None => DialError::Unreachable(of_io(error)),
    }
}

#[cfg(not(feature = "tls"))]
fn of_dial(error: &std::io::Error) -> DialError {
    DialError::Unreachable(of_io(error))
}

fn of_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        std::io::ErrorKind::TimedOut => "timed out".to_owned(),
        // The system has no kind for it.
        _ => error.to_string().replace("failed to lookup address information", "cannot be resolved"),
    }
}

fn of_handshake(address: &str, error: HandshakeError) -> DialError {
    let error = match error {
        HandshakeError::Refused(error) | HandshakeError::Rejected(error) => error,
        HandshakeError::Frame(error) => {
            let what = format!("{address} does not speak this protocol: {error}");
            Error::refused(ErrorCode::BadFrame, what)
        }
        HandshakeError::Io(error) => return DialError::Unreachable(of_io(&error)),
        other @ (HandshakeError::Closed | HandshakeError::Deadline) => {
            return DialError::Unreachable(other.to_string());
        }
    };
    of_refusal(error)
}

fn of_refusal(error: Error) -> DialError {
    match error.code {
        ErrorCode::BadFrame
        | ErrorCode::VersionMismatch
        | ErrorCode::WrongCluster
        | ErrorCode::NotPermitted
        | ErrorCode::AuthRequired
        | ErrorCode::AuthFailed
        | ErrorCode::KeyEnded
        | ErrorCode::TlsRequired
        | ErrorCode::TlsOff
        | ErrorCode::Unsupported => DialError::Incompatible(error),
        _ => DialError::Unreachable(error.to_string()),
    }
}

//! One connection with session, numbers and frames as the test wants them.

use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{CallError, Connection, Dial, TcpDial};
use queue_protocol::handshake::HandshakeError;
use queue_protocol::hello::{Hello, HelloRole};
use queue_protocol::names::SessionId;
use queue_protocol::request::{Call, Request, Stamp};
use queue_protocol::response::Response;
use tokio::time::Instant;

use crate::cluster::random;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A session nobody else has.
pub fn random_session() -> SessionId {
    SessionId(u128::from_le_bytes(random()))
}

/// Opens a connection of `session` to the node at `address`.
///
/// # Errors
/// As [`Connection::open`].
///
/// # Panics
/// If nobody listens there.
pub async fn connect(address: &str, session: SessionId) -> Result<Connection, HandshakeError> {
    let stream = TcpDial::default().dial(address).await.expect("a node listens");
    let hello = Hello::new(None, HelloRole::Client { session }, 0, random());
    Connection::open(stream, hello).await
}

/// Asks under a number; all numbers below `done_below` are answered.
///
/// # Errors
/// As [`Connection::call`].
pub async fn call(
    connection: &Connection,
    stamp: Option<(u64, u64)>,
    request: Request,
) -> Result<(Response, Bytes), CallError> {
    let timeout_ms = u32::try_from(TIMEOUT.as_millis()).expect("10 s");
    let stamp = stamp.map(|(number, done_below)| Stamp { number, done_below });
    connection.call(&Call { stamp, timeout_ms, request }, &[], Instant::now() + TIMEOUT).await
}

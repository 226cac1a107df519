//! One connection with session, numbers and frames as the test wants them.

use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{CallError, Connection, Dial, TcpDial};
use queue_protocol::names::SessionId;
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::request::{Call, Request, Stamp};
use queue_protocol::wire::response::Response;
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

/// A stamp of a session whose first connection was this one, to a node that leads; all numbers below `done_below` are
/// answered.
///
/// # Panics
/// If the node does not lead.
pub fn stamp(first: &Connection, number: u64, done_below: u64) -> Stamp {
    let index = first.accepted().index.expect("the node leads");
    Stamp { number, done_below, index }
}

/// Asks.
///
/// # Errors
/// As [`Connection::call`].
pub async fn call(
    connection: &Connection,
    stamp: Option<Stamp>,
    request: Request,
) -> Result<(Response, Bytes), CallError> {
    call_with(connection, stamp, request, &[]).await
}

/// Asks with the contents of a push.
///
/// # Errors
/// As [`Connection::call`].
pub async fn call_with(
    connection: &Connection,
    stamp: Option<Stamp>,
    request: Request,
    tail: &[Bytes],
) -> Result<(Response, Bytes), CallError> {
    let timeout_ms = u32::try_from(TIMEOUT.as_millis()).expect("10 s");
    connection.call(&Call::new(stamp, timeout_ms, request), tail, Instant::now() + TIMEOUT).await
}

//! The first words of a connection to the port of the protocol: plain, TLS, or HTTP that is told where to go. One deadline
//! holds for all of it and the hello behind it: the caller's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::handshake::HandshakeError;
use queue_protocol::hello::HelloMessage;
use queue_protocol::io::Outbox;
use queue_protocol::limits::HELLO_MS_MAX;
use queue_protocol::opening::{OPENING_SIZE, Opening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{Tls, TlsMode};
use crate::outside::Outside;

/// Bytes that are read to see who speaks: a hello has fewer.
const READ_SIZE: usize = 1 << 10;
/// How long it is read on, so that what was sent before the answer does not destroy it.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are read on.
const LINGER_SIZE: usize = 64 << 10;

/// A connection over which frames come.
pub(crate) struct Opened {
    /// Where they are read on.
    pub(crate) stream: Box<dyn Stream>,
    /// What was read of them already.
    pub(crate) ahead: Vec<u8>,
    /// They come under TLS.
    pub(crate) is_secured: bool,
}

/// Finds out who speaks, and speaks TLS with those that want to; `None` if there is nothing more to do for it. `http` is where
/// HTTP is served.
///
/// # Errors
/// The stream or TLS failed; `Rejected` if it was refused, which was said.
pub(crate) async fn open(
    mut stream: Box<dyn Stream>,
    outside: &Outside,
    http: Option<SocketAddr>,
) -> Result<Option<Opened>, HandshakeError> {
    let ahead = read(&mut stream).await?;
    // The handshake says what is wrong with a stream that ends here.
    let opening = ahead.first_chunk::<OPENING_SIZE>().map(|bytes| Opening::of(*bytes));
    let tls = outside.net.tls();
    let refused = match (opening, tls.mode()) {
        (Some(Opening::Http), _) => {
            say(stream, answer(http, tls.mode()).as_bytes()).await;
            return Ok(None);
        }
        (Some(Opening::Tls), TlsMode::Optional | TlsMode::Require) => {
            let stream = secure(outside, tls, stream, ahead).await?;
            return Ok(Some(Opened { stream, ahead: Vec::new(), is_secured: true }));
        }
        (Some(Opening::Tls), TlsMode::Off) => {
            Error::refused(ErrorCode::TlsOff, "this node speaks no TLS: its tls.mode is off")
        }
        (Some(Opening::Frame), TlsMode::Require) => required(),
        _ => return Ok(Some(Opened { stream, ahead, is_secured: false })),
    };
    let mut outbox = Outbox::new();
    outbox.push_message(0, &HelloMessage::Refused(refused.clone()), &[])?;
    let mut bytes = Vec::new();
    outbox.write_to(&mut bytes).await?;
    say(stream, &bytes).await;
    Err(HandshakeError::Rejected(refused))
}

/// As [`open`], for a node that has no cluster yet, within the time of a hello.
///
/// # Errors
/// As [`open`], and that it took too long.
pub(crate) async fn open_in_time(
    stream: Box<dyn Stream>,
    outside: &Outside,
) -> Result<Option<Opened>, HandshakeError> {
    let within = Duration::from_millis(HELLO_MS_MAX);
    tokio::time::timeout(within, open(stream, outside, None)).await.unwrap_or(Err(HandshakeError::Deadline))
}

/// What somebody is told who speaks in the clear, at the first word or in the goodbye.
pub(crate) fn required() -> Error {
    Error::refused(ErrorCode::TlsRequired, "this node speaks TLS only: its tls.mode is require")
}

/// Reads until it is known who speaks, or no more comes.
async fn read(stream: &mut Box<dyn Stream>) -> Result<Vec<u8>, HandshakeError> {
    let mut ahead = Vec::with_capacity(READ_SIZE);
    while ahead.len() < OPENING_SIZE && stream.read_buf(&mut ahead).await? > 0 {}
    Ok(ahead)
}

/// The handshake of TLS, where clients are served: its arithmetic must not hold up Raft.
async fn secure(
    outside: &Outside,
    tls: Arc<Tls>,
    stream: Box<dyn Stream>,
    ahead: Vec<u8>,
) -> Result<Box<dyn Stream>, HandshakeError> {
    let (mut done, wait) = oneshot::channel();
    outside.tasks.serving(Box::pin(async move {
        let secured = tokio::select! {
            secured = tls.accept(stream, &ahead) => secured,
            () = done.closed() => return,
        };
        // Whoever waited gave up.
        let _ = done.send(secured);
    }));
    Ok(wait.await.map_err(|_| HandshakeError::Closed)??)
}

/// Says the last words of a connection.
pub(crate) async fn say(mut stream: Box<dyn Stream>, bytes: &[u8]) {
    let told = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await
    };
    // It may be gone already.
    let _ = tokio::time::timeout(LINGER, told).await;
    let read_on = async {
        let (mut left, mut room) = (LINGER_SIZE, [0; 256]);
        while left > 0 && matches!(stream.read(&mut room).await, Ok(1..)) {
            left = left.saturating_sub(room.len());
        }
    };
    let _ = tokio::time::timeout(LINGER, read_on).await;
}

/// HTTP is elsewhere.
fn answer(http: Option<SocketAddr>, mode: TlsMode) -> String {
    let scheme = if mode == TlsMode::Require { "https" } else { "http" };
    let what = match http {
        Some(address) => format!("HTTP is served at {scheme}://{address}"),
        None => "HTTP is not served by this node: --listen-http HOST:PORT turns it on".to_owned(),
    };
    let body = format!("this is the port of queued's own protocol, not of HTTP. {what}\n");
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    )
}

//! The first words of a connection to the port of the protocol: plain, TLS, or HTTP that is told where to go. One deadline
//! holds for all of it and the hello behind it: the caller's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::HELLO_MS_MAX;
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::io::Outbox;
use queue_protocol::wire::opening::{OPENING_SIZE, Opening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{Tls, TlsMode};
use crate::outside::Outside;

#[cfg(all(feature = "sim", feature = "tls"))]
pub use super::tried::{Tried, tried};

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

#[cfg(all(test, feature = "tls"))]
mod tests {
    use queue_protocol::client::TcpDial;
    use queue_protocol::client::tls::{PlainRefusal, Trust, connect, name_of};
    use queue_protocol::wire::frame::OutFrame;
    use queue_protocol::wire::io::FrameReader;
    use queue_protocol::wire::request::{Call, Request};

    use super::*;
    use crate::commands::machine;
    use crate::outside::Tcp;
    use crate::tls::{TlsNet, TlsOptions};

    const MODES: [TlsMode; 3] = [TlsMode::Off, TlsMode::Optional, TlsMode::Require];

    fn outside(mode: TlsMode) -> Outside {
        let tls = Tls::load(&TlsOptions { mode, ..TlsOptions::default() }).expect("it needs no files");
        let tcp = Arc::new(Tcp { dial: TcpDial::default() });
        Outside { net: Arc::new(TlsNet { tcp, tls }), ..machine::outside() }
    }

    /// What comes of a connection that begins with these bytes and ends, and what it is answered.
    async fn opened(mode: TlsMode, sent: &[u8]) -> (Result<Option<Vec<u8>>, String>, Vec<u8>) {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(sent).await.expect("there is room");
        near.shutdown().await.expect("it is open");
        let http = Some(([127, 0, 0, 1], 7411).into());
        let opened = open(Box::new(far), &outside(mode), http).await;
        let opened = match opened {
            Ok(Some(mut opened)) => {
                assert!(!opened.is_secured);
                opened.stream.read_to_end(&mut opened.ahead).await.expect("the rest comes");
                Ok(Some(opened.ahead))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.expect("it ends");
        (opened, answer)
    }

    async fn frame() -> Vec<u8> {
        let call = Call::new(None, 1, Request::Status);
        let (mut outbox, mut frame) = (Outbox::new(), Vec::new());
        outbox.push(&OutFrame::new(1, &call, Vec::new())).expect("it fits");
        outbox.write_to(&mut frame).await.expect("memory takes all");
        frame
    }

    /// The refusal in an answer.
    async fn refusal(answer: &[u8]) -> ErrorCode {
        let frame = FrameReader::new(answer).next().await.expect("it is a frame").expect("there is one");
        let Ok(HelloMessage::Refused(error)) = frame.message() else { panic!("that is no refusal") };
        error.code
    }

    #[tokio::test]
    async fn http_is_told_where_to_go_whatever_the_mode() {
        for mode in MODES {
            for request in ["GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "POST /send HTTP/1.1\r\n"] {
                let (opened, answer) = opened(mode, request.as_bytes()).await;
                let text = String::from_utf8(answer).expect("it is text");
                assert_eq!(opened, Ok(None));
                let scheme = if mode == TlsMode::Require { "https" } else { "http" };
                assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
                assert!(text.ends_with(&format!("HTTP is served at {scheme}://127.0.0.1:7411\n")), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn frames_are_left_alone_unless_nobody_is_spoken_to_in_the_clear() {
        for sent in [frame().await, b"GE".to_vec(), b"nonsense".to_vec(), vec![0; 3_000]] {
            for mode in [TlsMode::Off, TlsMode::Optional] {
                assert_eq!(opened(mode, &sent).await, (Ok(Some(sent.clone())), Vec::new()));
            }
            let (opened, answer) = opened(TlsMode::Require, &sent).await;
            if sent.len() < OPENING_SIZE {
                assert_eq!((opened, answer), (Ok(Some(sent)), Vec::new()));
            } else {
                assert!(opened.is_err());
                assert_eq!(refusal(&answer).await, ErrorCode::TlsRequired);
            }
        }
    }

    #[tokio::test]
    async fn tls_is_spoken_with_those_that_want_to_unless_it_is_off() {
        for mode in MODES {
            let (near, far) = tokio::io::duplex(1 << 16);
            let opening = tokio::spawn(async move { open(Box::new(far), &outside(mode), None).await });
            let config = Arc::new(Trust::Anybody.config().expect("it needs no files"));
            let dialed = connect(config, name_of("mq1:1").expect("it is a name"), Box::new(near)).await;
            let opened = opening.await.expect("it does not panic");
            match (mode, dialed, opened) {
                (TlsMode::Off, Err(error), Err(HandshakeError::Rejected(said))) => {
                    assert_eq!(PlainRefusal::of(&error), Some(&said));
                    assert_eq!(said.code, ErrorCode::TlsOff);
                }
                (_, Ok(near), Ok(Some(opened))) => {
                    assert!(opened.is_secured && opened.ahead.is_empty());
                    assert_eq!(near.channel(), opened.stream.channel());
                }
                _ => panic!("{mode:?}"),
            }
        }
    }
}

//! Who comes to this port with HTTP is told where HTTP is served, once and in its own words.

use std::net::SocketAddr;
use std::time::Duration;

use queue_protocol::client::Stream;
use queue_protocol::handshake::HandshakeError;
use queue_protocol::io::FrameReader;
use queue_protocol::limits::HELLO_MS_MAX;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};

/// Bytes that tell a request of HTTP from a frame: no frame is as large as these would claim.
const OPENING_SIZE: usize = 4;
const OPENINGS: [&[u8; OPENING_SIZE]; 10] =
    [b"GET ", b"HEAD", b"POST", b"PUT ", b"PATC", b"DELE", b"OPTI", b"TRAC", b"CONN", b"PRI "];
/// How long it is read on, so that what was sent before the answer does not destroy it.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are read on.
const LINGER_SIZE: usize = 64 << 10;

/// Whether the first bytes are those of HTTP.
///
/// # Errors
/// Nothing came in time.
pub(super) async fn speaks_http(
    reader: &mut FrameReader<ReadHalf<Box<dyn Stream>>>,
) -> Result<bool, HandshakeError> {
    let opening = async {
        // The handshake says what is wrong with a stream that ends or fails here.
        while reader.unfinished() < OPENING_SIZE && matches!(reader.fill().await, Ok(true)) {}
    };
    let in_time = tokio::time::timeout(Duration::from_millis(HELLO_MS_MAX), opening).await;
    in_time.map_err(|_| HandshakeError::Deadline)?;
    Ok(OPENINGS.iter().any(|opening| reader.buffered().starts_with(*opening)))
}

/// Answers that HTTP is elsewhere.
pub(super) async fn send_elsewhere(
    reader: &mut FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: &mut WriteHalf<Box<dyn Stream>>,
    http: Option<SocketAddr>,
) {
    let told = async {
        writer.write_all(answer(http).as_bytes()).await?;
        writer.shutdown().await
    };
    // It may be gone already.
    let _ = tokio::time::timeout(LINGER, told).await;
    let read_on =
        async { while reader.unfinished() < LINGER_SIZE && matches!(reader.fill().await, Ok(true)) {} };
    let _ = tokio::time::timeout(LINGER, read_on).await;
}

fn answer(http: Option<SocketAddr>) -> String {
    let what = match http {
        Some(address) => format!("HTTP is served at http://{address}"),
        None => "HTTP is not served by this node: --listen-http HOST:PORT turns it on".to_owned(),
    };
    let body = format!("this is the port of queued's own protocol, not of HTTP. {what}\n");
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use queue_protocol::frame::OutFrame;
    use queue_protocol::io::Outbox;
    use queue_protocol::request::{Call, Request};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn told(sent: &[u8]) -> Option<String> {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let (read, mut writer) = tokio::io::split(Box::new(far) as Box<dyn Stream>);
        let mut reader = FrameReader::new(read);
        near.write_all(sent).await.expect("there is room");
        near.shutdown().await.expect("it is open");
        if !speaks_http(&mut reader).await.expect("it came in time") {
            return None;
        }
        send_elsewhere(&mut reader, &mut writer, Some(([127, 0, 0, 1], 7411).into())).await;
        let mut text = String::new();
        near.read_to_string(&mut text).await.expect("it is text");
        Some(text)
    }

    #[tokio::test(start_paused = true)]
    async fn http_is_told_where_to_go_and_frames_are_left_alone() {
        let text = told(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is HTTP");
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("http://127.0.0.1:7411\n"), "{text}");
        assert!(told(b"POST /send HTTP/1.1\r\n").await.is_some());
        let call = Call { stamp: None, timeout_ms: 1, request: Request::Status };
        let mut outbox = Outbox::new();
        outbox.push(&OutFrame::new(1, &call, Vec::new())).expect("it fits");
        let mut frame = Vec::new();
        outbox.write_to(&mut frame).await.expect("memory takes all");
        assert_eq!(told(&frame).await, None);
        assert_eq!(told(b"GE").await, None);
    }
}

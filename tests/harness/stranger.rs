//! Clients that are not ours: a socket, a hello, and then whatever a test wants to send.

use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::{self, Headers};
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::{Frame, FrameKind, OutFrame};
use queue_protocol::wire::handshake::client_handshake;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::request::{Call, Push, PushMessage, Request, Stamp};
use queue_protocol::wire::response::Response;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::bodies::queue;
use crate::cluster::random;
use crate::raw::random_session;

/// How long a node may take to greet or to answer one.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection that has said hello.
pub struct Stranger {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// Of the log, as the node named it; 0 of one that does not lead.
    index: u64,
}

/// This process may have as many descriptors as the system lets it have: each stranger is one.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With fewer a test fails when it connects.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The frame of a request.
pub fn request(id: u64, stamp: Option<Stamp>, request: Request, tail: Vec<Bytes>) -> OutFrame {
    OutFrame::new(id, &Call::new(stamp, 30_000, request), tail)
}

/// The frame of a push of one message to the queue `name`, which it makes; its id is the number of its stamp.
///
/// # Panics
/// If the body has no place in a message.
pub fn push(stamp: Stamp, name: &str, body: &[u8]) -> OutFrame {
    let content = content::encode(&Headers::default(), body).expect("a body without headers");
    let messages = Bounded::new(vec![PushMessage::plain(&content)]).expect("one is within the limit");
    let push = Push { queue: queue(name), create: true, atomic: false, messages };
    request(stamp.number, Some(stamp), Request::Push(push), vec![content])
}

/// The bytes of frames.
///
/// # Panics
/// If one exceeds its limits.
pub async fn bytes(frames: &[OutFrame]) -> Vec<u8> {
    let (mut outbox, mut bytes) = (Outbox::new(), Vec::new());
    frames.iter().for_each(|frame| outbox.push(frame).expect("it is within the limits"));
    outbox.write_to(&mut bytes).await.expect("memory takes everything");
    bytes
}

/// 7 MiB of a frame of 8.
pub async fn unfinished() -> Vec<u8> {
    let frame = request(1, None, Request::Status, vec![vec![7; 8 << 20].into()]);
    let mut bytes = bytes(&[frame]).await;
    bytes.truncate(7 << 20);
    bytes
}

/// 60 MiB in pieces of eight requests, none of which is whole.
pub async fn pieces() -> Vec<u8> {
    let mut frames = Vec::new();
    for id in 1..=8 {
        let frame =
            request(id, None, Request::Status, vec![vec![7; 7 << 20].into(), vec![7; 1 << 19].into()]);
        let pieces = frame.cut(256 << 10);
        let last = pieces.len() - 1;
        frames.extend(pieces.into_iter().take(last));
    }
    bytes(&frames).await
}

impl Stranger {
    /// A connection of a session of its own.
    ///
    /// # Errors
    /// Why the node did not take it.
    pub async fn greet(address: &str) -> Result<Self, String> {
        Self::greet_as(address, random_session()).await
    }

    /// A connection of `session`.
    ///
    /// # Errors
    /// As [`Stranger::greet`].
    pub async fn greet_as(address: &str, session: SessionId) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (read, mut writer) = stream.into_split();
        let mut reader = FrameReader::new(read);
        let hello = Hello::new(None, HelloRole::Client { session }, 0, random());
        let accepted = client_handshake(&mut reader, &mut writer, hello).await;
        let accepted = accepted.map_err(|error| error.to_string())?;
        Ok(Self { reader, writer, index: accepted.index.unwrap_or_default() })
    }

    /// A stamp of its session; all numbers below `done_below` are answered.
    pub fn stamp(&self, number: u64, done_below: u64) -> Stamp {
        Stamp { number, done_below, index: self.index }
    }

    /// Sends these bytes, as far as the node takes them within `limit`; `false` if it did not take all.
    pub async fn send(&mut self, bytes: &[u8], limit: Duration) -> bool {
        matches!(timeout(limit, self.writer.write_all(bytes)).await, Ok(Ok(())))
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        self.reader.next().await.ok().flatten()
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// How the connection ended, or that nothing came.
    pub async fn ask(&mut self, frame: OutFrame) -> Result<Response, String> {
        let bytes = bytes(&[frame]).await;
        if !self.send(&bytes, LIMIT).await {
            return Err("the request was not taken".into());
        }
        let answered = async {
            while let Some(frame) = self.next().await {
                if frame.kind == FrameKind::Response {
                    return frame.message::<Response>().map_err(|error| error.to_string());
                }
            }
            Err("the connection ended".to_owned())
        };
        timeout(LIMIT, answered).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

/// Pushes one body over a connection of its own; closes the session if `close`.
///
/// # Errors
/// What did not work.
pub async fn push_once(address: &str, name: &str, body: &[u8], close: bool) -> Result<(), String> {
    let mut stranger = Stranger::greet(address).await?;
    let response = stranger.ask(push(stranger.stamp(1, 1), name, body)).await?;
    response.result.map_err(|error| error.to_string())?;
    if close {
        let response =
            stranger.ask(request(2, Some(stranger.stamp(2, 2)), Request::CloseSession, Vec::new())).await?;
        response.result.map_err(|error| error.to_string())?;
    }
    Ok(())
}

//! A connection of a stranger: it sends what it is told, however much is in flight, and reads answers when it is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use harness::LIMIT;
use harness::cluster::random;
use queue_protocol::client::NewMessage;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::Error;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::{Frame, FrameKind, OutFrame};
use queue_protocol::wire::handshake::client_handshake;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::request::{Call, Push, PushMessage, Request, Stamp};
use queue_protocol::wire::response::{Answer, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longer than any test waits.
const PATIENCE_MS: u32 = 300_000;

pub(super) struct Pipeline {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    outbox: Outbox,
    next_id: u64,
    /// Under which its session opens: what its first connection has learned.
    pub(super) index: u64,
    early: BTreeMap<u64, Frame>,
}

impl Pipeline {
    pub(super) async fn open(address: &str, session: SessionId) -> Self {
        let stream = TcpStream::connect(address).await.expect("a node listens");
        let (read, mut writer) = stream.into_split();
        let mut reader = FrameReader::new(read);
        let hello = Hello::new(None, HelloRole::Client { session }, 0, random());
        let accepted = client_handshake(&mut reader, &mut writer, hello).await.expect("it is taken");
        let index = accepted.index.expect("the node leads");
        Self { reader, writer, outbox: Outbox::new(), next_id: 1, index, early: BTreeMap::new() }
    }

    /// Gives a request to what [`Pipeline::send`] sends; its id.
    pub(super) fn ask(&mut self, stamp: Option<(u64, u64)>, request: Request, tail: &[Bytes]) -> u64 {
        let id = self.id();
        let stamp = stamp.map(|(number, done_below)| Stamp { number, done_below, index: self.index });
        let call = Call::new(stamp, PATIENCE_MS, request);
        self.outbox.push_message(id, &call, tail).expect("it fits a frame");
        id
    }

    /// A push of one message under a number.
    pub(super) fn push(&mut self, stamp: (u64, u64), queue: &str, body: &[u8]) -> u64 {
        let NewMessage { content, options } = NewMessage::of_body(body);
        let message = PushMessage { content: ContentSpec::of(&content), options };
        let push = Push {
            queue: harness::bodies::queue(queue),
            create: true,
            atomic: false,
            messages: Bounded::new(vec![message]).expect("one is within the limit"),
        };
        self.ask(Some(stamp), Request::Push(push), &[content])
    }

    pub(super) fn ping(&mut self) -> u64 {
        let id = self.id();
        self.outbox.push(&OutFrame::bare(id, FrameKind::Ping)).expect("a head fits");
        id
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.outbox.push(&OutFrame::bare(id, FrameKind::Cancel)).expect("a head fits");
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) async fn send(&mut self) {
        self.outbox.write_to(&mut self.writer).await.expect("the node reads");
    }

    /// Sends nothing more; what comes is not read.
    pub(super) async fn finish(&mut self) {
        self.writer.shutdown().await.expect("it was open");
    }

    /// The next answer or pong.
    pub(super) async fn next(&mut self) -> Frame {
        loop {
            let frame = self.reader.next().await.expect("frames come").expect("the node is there");
            if frame.kind != FrameKind::Ping {
                return frame;
            }
            self.outbox.push(&OutFrame::bare(frame.request_id, FrameKind::Pong)).expect("a head fits");
            self.send().await;
        }
    }

    /// What comes to `id`.
    pub(super) async fn frame(&mut self, id: u64) -> Frame {
        while !self.early.contains_key(&id) {
            let next = tokio::time::timeout(LIMIT, self.next()).await;
            let frame = next.unwrap_or_else(|_| panic!("nothing came to {id}"));
            self.early.insert(frame.request_id, frame);
        }
        self.early.remove(&id).expect("it is there")
    }

    /// The answer to `id`.
    pub(super) async fn answer(&mut self, id: u64) -> Result<Answer, Error> {
        let frame = self.frame(id).await;
        frame.message::<Response>().expect("a response").result
    }

    /// Sends, and waits for the answer to `id`.
    pub(super) async fn answered(&mut self, id: u64) -> Result<Answer, Error> {
        self.send().await;
        self.answer(id).await
    }
}

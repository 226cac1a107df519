//! One connection: how much is in flight, how often is written, and what the other side must not send.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use queue_protocol::client::{CallError, Connection, Dial, Gone, Stream, TcpDial};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::frame::{Frame, FrameError, FrameKind, Goodbye, OutFrame};
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Accepted, Hello, HelloRole, PeerId};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{PeerCall, PeerRequest};
use queue_protocol::wire::proof::{PLAIN, Secret, Told};
use queue_protocol::wire::request::{Call, Request};
use queue_protocol::wire::response::{Age, Answer, At, Response};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex, split};
use tokio::time::Instant;

struct Node<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Node<S> {
    async fn accept(stream: S) -> Self {
        let (read, mut writer) = split(stream);
        let mut reader = FrameReader::new(read);
        let node = PeerId { node: NodeId(1), store: StoreId(1) };
        let accepted = Accepted {
            version: 1,
            cluster: ClusterId(7),
            name: Text::cut("n1"),
            node,
            leader: None,
            features: 0,
            wall_ms: 0,
            nonce: [0; 32],
            index: Some(5),
        };
        let admit = |_: &_| Ok(Told::nothing());
        accept(&mut reader, &mut writer, &PLAIN, &Secret([0; 32]), |_| Ok(accepted), admit).await.unwrap();
        Self { reader, writer }
    }

    async fn frame(&mut self) -> Frame {
        self.reader.next().await.unwrap().expect("the client closed")
    }

    async fn send(&mut self, frame: &OutFrame) {
        let mut outbox = Outbox::new();
        outbox.push(frame).unwrap();
        outbox.write_to(&mut self.writer).await.unwrap();
    }

    /// The next frame that is no ping.
    async fn request(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if frame.kind != FrameKind::Ping {
                return frame;
            }
        }
    }

    /// Whether nothing but pings, which are answered, comes within a second.
    async fn is_quiet(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(1);
        while let Ok(frame) = tokio::time::timeout_at(until, self.frame()).await {
            if frame.kind != FrameKind::Ping {
                return false;
            }
            self.send(&OutFrame::bare(frame.request_id, FrameKind::Pong)).await;
        }
        true
    }
}

fn hello() -> Hello {
    Hello::new(None, HelloRole::Client { session: SessionId(1) }, 0, [0; 32])
}

async fn open() -> (Arc<Connection>, Node<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let (connection, node) = tokio::join!(Connection::open(Box::new(near), hello()), Node::accept(far));
    (Arc::new(connection.unwrap()), node)
}

fn stats() -> Call {
    Call::new(None, 1, Request::Stats)
}

fn answer(id: u64) -> OutFrame {
    let result = Ok(Answer::Count(id));
    let response = Response { at: At::default(), repeated: false, lease_clock_ms: 0, result, age: Age::Now };
    OutFrame::new(id, &response, Vec::new())
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn ask(
    connection: &Arc<Connection>,
    size: usize,
) -> tokio::task::JoinHandle<Result<(Response, Bytes), CallError>> {
    let connection = Arc::clone(connection);
    let tail = vec![Bytes::from(vec![0; size])];
    tokio::spawn(async move { connection.call(&stats(), &tail, deadline()).await })
}

#[tokio::test(start_paused = true)]
async fn the_1_025th_request_waits_for_an_answer() {
    let (connection, mut node) = open().await;
    let calls: Vec<_> = (0..1_025).map(|_| ask(&connection, 0)).collect();
    for id in 1..=1_024 {
        assert_eq!(node.frame().await.request_id, id);
    }
    assert!(node.is_quiet().await, "more is in flight than may be");
    node.send(&answer(5)).await;
    let last = node.request().await;
    assert_eq!(last.kind, FrameKind::Request);
    for id in (1..=last.request_id).filter(|id| *id != 5) {
        node.send(&answer(id)).await;
    }
    for call in join_all(calls).await {
        assert!(matches!(call.unwrap().unwrap().0.result, Ok(Answer::Count(_))), "lost");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_64_mib_are_in_flight() {
    let (connection, mut node) = open().await;
    let _calls: Vec<_> = (0..9).map(|_| ask(&connection, 8 << 20)).collect();
    // Each is charged a little more than its contents, so the eighth does not fit.
    for id in 1..=7 {
        assert_eq!(node.frame().await.request_id, id);
    }
    assert!(node.is_quiet().await, "more is in flight than may be");
    node.send(&answer(1)).await;
    assert_eq!(node.request().await.kind, FrameKind::Request);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_told_when_the_connection_is_lost() {
    let (connection, mut node) = open().await;
    let calls: Vec<_> = (0..1_030).map(|_| ask(&connection, 0)).collect();
    for _ in 0..1_024 {
        node.frame().await;
    }
    drop(node);
    let outcomes = join_all(calls).await;
    let count = |pick: fn(&CallError) -> bool| {
        outcomes.iter().filter(|outcome| matches!(outcome, Ok(Err(error)) if pick(error))).count()
    };
    assert_eq!(count(|error| matches!(error, CallError::Lost(_))), 1_024);
    assert_eq!(count(|error| matches!(error, CallError::NotSent(_))), 6);
}

/// Counts writes.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl Stream for Counted {
    fn has_ended(&mut self) -> bool {
        self.0.has_ended()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let all = bufs.concat_all();
        Pin::new(&mut self.0).poll_write(cx, &all)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

trait ConcatAll {
    fn concat_all(&self) -> Vec<u8>;
}
impl ConcatAll for [io::IoSlice<'_>] {
    fn concat_all(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_gathered_go_out_in_one_write() {
    let (near, far) = duplex(1 << 22);
    let writes = Arc::new(AtomicUsize::new(0));
    let near = Counted(near, Arc::clone(&writes));
    let (connection, node) = tokio::join!(Connection::open(Box::new(near), hello()), Node::accept(far));
    let (connection, mut node) = (Arc::new(connection.unwrap()), node);
    writes.store(0, Ordering::Relaxed);
    let call = stats();
    let tail = [Bytes::from(vec![0; 4_096])];
    let calls = join_all((0..100).map(|_| connection.call(&call, &tail, deadline())));
    let serve = async {
        for id in 1..=100 {
            assert_eq!(node.frame().await.request_id, id);
            node.send(&answer(id)).await;
        }
    };
    let (answers, ()) = tokio::join!(calls, serve);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_must_not_send_ends_the_connection() {
    let unexpected = |got| FrameError::Unexpected { expected: FrameKind::Response, got };
    let hello_again =
        OutFrame { kind: FrameKind::Hello, ..OutFrame::new(1, &Goodbye { reason: None }, Vec::new()) };
    let undecodable = OutFrame { kind: FrameKind::Response, ..hello_again.clone() };
    for (frame, expected) in [
        (OutFrame::new(1, &stats(), Vec::new()), unexpected(FrameKind::Request)),
        (
            OutFrame::new(1, &PeerCall::from(PeerRequest::SnapshotEnd), Vec::new()),
            unexpected(FrameKind::PeerRequest),
        ),
        (hello_again, unexpected(FrameKind::Hello)),
        (OutFrame::bare(1, FrameKind::Pong), unexpected(FrameKind::Pong)),
        (undecodable, FrameError::Message(FrameKind::Response)),
    ] {
        let (connection, mut node) = open().await;
        let call = ask(&connection, 0);
        node.frame().await;
        node.send(&frame).await;
        match call.await.unwrap() {
            Err(CallError::Lost(Gone::Frame(error))) => assert_eq!(error, expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert!(connection.gone().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_what_was_never_asked_ends_the_connection() {
    let (connection, mut node) = open().await;
    let call = ask(&connection, 0);
    node.frame().await;
    node.send(&answer(2)).await;
    assert!(matches!(call.await.unwrap(), Err(CallError::Lost(Gone::Nonsense(_)))), "it was believed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_pieces_is_put_together() {
    let (connection, mut node) = open().await;
    let call = ask(&connection, 0);
    node.frame().await;
    let tail = vec![Bytes::from(vec![3; 700]), Bytes::from(vec![4; 900])];
    for piece in (OutFrame { tail: tail.clone(), ..answer(1) }).cut(256) {
        node.send(&piece).await;
    }
    assert_eq!(call.await.unwrap().unwrap().1, tail.concat());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_why_it_closes_is_quoted() {
    let (connection, mut node) = open().await;
    let call = ask(&connection, 0);
    node.frame().await;
    let reason = Some(Error::refused(ErrorCode::BadFrame, "not understood"));
    node.send(&OutFrame::new(0, &Goodbye { reason: reason.clone() }, Vec::new())).await;
    drop(node);
    match call.await.unwrap() {
        Err(CallError::Lost(Gone::Goodbye(error))) => assert_eq!(Some(error), reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_says_goodbye() {
    let (connection, mut node) = open().await;
    drop(connection);
    let goodbye: Goodbye = node.frame().await.message().unwrap();
    assert_eq!(goodbye.reason, None);
    assert!(node.reader.next().await.unwrap().is_none(), "the socket stays open");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_quiet_and_answers_pings() {
    let (_connection, mut node) = open().await;
    let until = Instant::now() + Duration::from_secs(3_600);
    assert!(tokio::time::timeout_at(until, node.frame()).await.is_err(), "it talks to itself");
    node.send(&OutFrame::bare(9, FrameKind::Ping)).await;
    let pong = node.frame().await;
    assert_eq!((pong.kind, pong.request_id), (FrameKind::Pong, 9));
}

#[tokio::test]
async fn a_tcp_connection_carries_contents_both_ways() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut node = Node::accept(stream).await;
        for _ in 0..20 {
            let frame = node.frame().await;
            let id = frame.request_id;
            node.send(&OutFrame { tail: vec![frame.tail], ..answer(id) }).await;
        }
        node
    });
    let dial = TcpDial::default();
    let connection = Connection::open(dial.dial(&address).await.unwrap(), hello()).await.unwrap();
    let bodies: Vec<_> = (0..20_u8).map(|byte| [Bytes::from(vec![byte; 300_000])]).collect();
    let call = stats();
    let calls = join_all(bodies.iter().map(|tail| connection.call(&call, tail, deadline())));
    for (answer, sent) in calls.await.into_iter().zip(&bodies) {
        assert_eq!(answer.unwrap().1, sent[0]);
    }
    server.await.unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = dial.dial(&free.to_string()).await;
    assert!(refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused));
}

//! Scripted nodes on a network in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{Client, ClientConfig, Dial, Dialing, Stream};
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::health::HealthView;
use queue_protocol::names::{ClusterId, LeaseToken, MessageId, NodeId, StoreId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::frame::{Frame, FrameKind, OutFrame};
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Accepted, Hello, PeerId};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::level::{Level, Levels};
use queue_protocol::wire::proof::{PLAIN, Secret, Told};
use queue_protocol::wire::request::{Call, Lease};
use queue_protocol::wire::response::{
    Age, Answer, At, Delivery, LeaderView, PushOutcome, Response, Role, StatusView,
};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;

pub(crate) const CLUSTER: ClusterId = ClusterId(7);
/// What a leader has applied when a client comes.
pub(crate) const INDEX: u64 = 50;

/// Addresses that listen.
#[derive(Default)]
pub(crate) struct Net(Mutex<BTreeMap<String, mpsc::UnboundedSender<DuplexStream>>>);

impl Dial for Net {
    fn dial(&self, address: &str) -> Dialing {
        let (near, far) = duplex(1 << 20);
        let listening = self.0.lock().unwrap().get(address).is_some_and(|node| node.send(far).is_ok());
        Box::pin(async move {
            if listening {
                Ok(Box::new(near) as Box<dyn Stream>)
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
    }
}

pub(crate) struct Listener {
    node: u64,
    /// What it names to those who come while it leads; `None` until it is ready.
    pub(crate) index: Option<u64>,
    pub(crate) streams: mpsc::UnboundedReceiver<DuplexStream>,
}

/// The node's side of one connection.
pub(crate) struct Node {
    pub(crate) node: u64,
    pub(crate) reader: FrameReader<ReadHalf<DuplexStream>>,
    pub(crate) writer: WriteHalf<DuplexStream>,
    pub(crate) hello: Hello,
}

impl Net {
    pub(crate) fn listen(&self, node: u64) -> Listener {
        let (sender, streams) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(address(node), sender);
        Listener { node, index: Some(INDEX), streams }
    }
}

impl Listener {
    /// The next connection; the node names `leader` in its hello.
    pub(crate) async fn accept(&mut self, leader: Option<u64>) -> Node {
        self.accept_of(leader, CLUSTER).await
    }

    pub(crate) async fn accept_of(&mut self, leader: Option<u64>, cluster: ClusterId) -> Node {
        let (read, mut writer) = split(self.streams.recv().await.unwrap());
        let index = self.index;
        let mut reader = FrameReader::new(read);
        let node = PeerId { node: NodeId(self.node), store: StoreId(1) };
        let answer = |hello: &Hello| {
            let version = hello.check(cluster, NodeId(self.node))?;
            let leader = leader.map(view);
            let name = Text::cut(format!("n{}", self.node));
            let index = leader.as_ref().filter(|leader| leader.node == node.node).and(index);
            let (features, wall_ms, nonce) = (0, 0, [0; 32]);
            Ok(Accepted { version, cluster, name, node, leader, features, wall_ms, nonce, index })
        };
        let (secret, admit) = (Secret([0; 32]), |_: &_| Ok(Told::nothing()));
        let greeted = accept(&mut reader, &mut writer, &PLAIN, &secret, answer, admit).await.unwrap();
        Node { node: self.node, reader, writer, hello: greeted.hello }
    }
}

impl Node {
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            let frame = self.reader.next().await.unwrap().expect("the client closed");
            match frame.kind {
                FrameKind::Ping => self.send(&OutFrame::bare(frame.request_id, FrameKind::Pong)).await,
                _ => return frame,
            }
        }
    }

    pub(crate) async fn request(&mut self) -> (u64, Call) {
        let frame = self.frame().await;
        (frame.request_id, frame.message().unwrap())
    }

    pub(crate) async fn send(&mut self, frame: &OutFrame) {
        let mut outbox = Outbox::new();
        outbox.push(frame).unwrap();
        outbox.write_to(&mut self.writer).await.unwrap();
    }

    pub(crate) async fn answer_with(&mut self, id: u64, result: Result<Answer, Error>, tail: Vec<Bytes>) {
        let at = At { index: 100 + self.node, position: 0 };
        let response = Response { at, repeated: false, lease_clock_ms: 5, result, age: Age::Now };
        self.send(&OutFrame::new(id, &response, tail)).await;
    }

    pub(crate) async fn answer(&mut self, id: u64, result: Result<Answer, Error>) {
        self.answer_with(id, result, Vec::new()).await;
    }

    /// Answers pings, and nothing else, for ever.
    pub(crate) async fn stay_silent(mut self) {
        loop {
            self.frame().await;
        }
    }
}

pub(crate) fn address(node: u64) -> String {
    format!("n{node}:7410")
}

pub(crate) fn view(node: u64) -> LeaderView {
    LeaderView {
        node: NodeId(node),
        name: Text::cut(format!("n{node}")),
        address: Text::cut(address(node)),
        term: node,
    }
}

pub(crate) fn status(node: u64, leader: Option<u64>) -> Answer {
    Answer::Status(Box::new(StatusView {
        cluster: CLUSTER,
        node: NodeId(node),
        name: Text::cut("n"),
        role: Role::Follower,
        term: 1,
        leader: leader.map(view),
        last_index: 0,
        commit_index: 0,
        applied_index: 0,
        snapshot_index: 0,
        purged_index: 0,
        disk_free_bytes: 0,
        uptime_ms: 0,
        version: Text::cut("0"),
        drained: false,
        level: Level::FIRST,
        levels: Levels::OURS,
        members: Bounded::default(),
        changing: false,
        clock_off_ms: 0,
        connections_max: 10_000,
        connections_asked: 10_000,
        tls: queue_protocol::wire::security::TlsView::default(),
        secret: queue_protocol::wire::security::SecretView::default(),
        log: queue_protocol::wire::logs::LogView::default(),
        health: HealthView::default(),
    }))
}

pub(crate) fn at_leader(node: u64) -> Error {
    Error { retry: Retry::AtLeader(view(node)), ..Error::refused(ErrorCode::NotLeader, "follower") }
}

pub(crate) fn client_of(net: &Arc<Net>, servers: &[u64], follow: bool) -> Client {
    let config = ClientConfig {
        servers: servers.iter().map(|node| address(*node)).collect(),
        timeout: Duration::from_secs(5),
        follow,
        seed: 42,
    };
    Client::new(config, Arc::clone(net) as Arc<dyn Dial>)
}

pub(crate) fn client(net: &Arc<Net>, servers: &[u64]) -> Client {
    client_of(net, servers, true)
}

pub(crate) fn stored(first: u64) -> Result<Answer, Error> {
    let run = PushOutcome::Stored { first_id: MessageId(first), count: 1 };
    Ok(Answer::Pushed(Bounded::new(vec![run]).unwrap()))
}

pub(crate) fn lease_of(wait_ms: u32) -> Lease {
    let queues = Bounded::new(vec!["jobs".parse().unwrap()]).unwrap();
    Lease { queues, max_messages: 1, max_bytes: 1 << 20, lease_ms: None, wait_ms, linger_ms: 0 }
}

pub(crate) fn delivery(content: &Bytes) -> Delivery {
    Delivery {
        queue: "jobs".parse().unwrap(),
        id: MessageId(1),
        token: LeaseToken(2),
        attempt: 1,
        failures: 0,
        priority: 4,
        group: None,
        pushed_at_ms: 0,
        lease_ms: 1,
        epoch: 0,
        checkpoint: None,
        deadline_ms: 2,
        content: ContentSpec::of(content),
    }
}

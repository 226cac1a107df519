//! The way to one other node: a connection that is opened when it is needed, proved with the cluster's secret, and
//! shared by everything that is said to that node. Votes and heartbeats go before appends.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use openraft::type_config::TypeConfigExt;
use queue_protocol::client::Stream;
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::frame::OutFrame;
use queue_protocol::wire::handshake::Called;
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::peer::{AppendResult, PeerCall, PeerRequest, PeerResponse, Vote};
use queue_protocol::wire::proof::{PeerHello, Secret};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::addresses::Addresses;
use super::admission::Gate;
use super::bounds::Bounds;
use super::dial::{Credentials, PeerStream, over};
use super::failed::Failed;
use super::floors::Floors;
use crate::locked::Locked as _;
use crate::outside::Outside;
use crate::raft::cluster::rotation::not_secured;
use crate::raft::openraft::types::{Member, TypeConfig};

/// Appends are cut to this: what is urgent waits for no more, and a read of the other side ends within no more.
const FRAME_SIZE_MAX: usize = 64 << 10;
/// Frames are put together until a write is this large.
const WRITE_SIZE: usize = 512 << 10;
/// A connection on which something is asked and nothing has come for so long is given up. Pings are answered at once,
/// whatever the disk does; and where bytes are lost without a reset nobody else may ever notice.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// What goes first on a shared connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Votes, heartbeats and pings: past all appends.
    Urgent,
    /// Appends, in the order of the log.
    Append,
}

type Answer = oneshot::Sender<PeerResponse>;

#[derive(Default)]
struct Queues {
    urgent: VecDeque<OutFrame>,
    append: VecDeque<OutFrame>,
    pending: BTreeMap<u64, Answer>,
    next_id: u64,
    closed: bool,
}

/// One connection while it lives.
pub(crate) struct Open {
    peer: PeerHello,
    secret: Secret,
    is_secured: bool,
    /// The address that was dialed.
    address: String,
    queues: Mutex<Queues>,
    filled: Notify,
    gone: watch::Sender<bool>,
    /// When something came last.
    heard: Mutex<Instant>,
}

impl Open {
    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.locked()
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.locked()
    }

    /// Sends; the answer is dropped if the connection breaks first. Requests of one lane arrive in order.
    pub(crate) fn send(
        &self,
        lane: Lane,
        request: PeerRequest,
        tail: Vec<Bytes>,
    ) -> oneshot::Receiver<PeerResponse> {
        let (answer, wait) = oneshot::channel();
        let mut queues = self.queues();
        if queues.closed {
            return wait;
        }
        let id = queues.next_id;
        queues.next_id += 1;
        queues.pending.insert(id, answer);
        let frames = OutFrame::new(id, &PeerCall::from(request), tail).cut(FRAME_SIZE_MAX);
        match lane {
            Lane::Urgent => queues.urgent.extend(frames),
            Lane::Append => queues.append.extend(frames),
        }
        drop(queues);
        self.filled.notify_one();
        wait
    }

    /// Gives the connection up; both halves let go of the socket, and the next request dials anew.
    pub(crate) fn close(&self) {
        let mut queues = self.queues();
        queues.closed = true;
        queues.pending.clear();
        queues.urgent.clear();
        queues.append.clear();
        drop(queues);
        self.gone.send_replace(true);
    }

    async fn closed(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    async fn write(self: Arc<Self>, mut writer: WriteHalf<Box<dyn Stream>>) {
        let mut outbox = Outbox::new();
        loop {
            let filled = self.filled.notified();
            {
                let mut queues = self.queues();
                if queues.closed {
                    return;
                }
                // Everything urgent, then appends until the next write is large enough to be worth a system call.
                while outbox.size() < WRITE_SIZE {
                    let urgent = queues.urgent.pop_front();
                    let Some(frame) = urgent.or_else(|| queues.append.pop_front()) else { break };
                    outbox.push(&frame).expect("frames are cut to their limit");
                }
            }
            if outbox.is_empty() {
                tokio::select! {
                    () = filled => {}
                    () = self.closed() => return,
                }
                continue;
            }
            tokio::select! {
                written = outbox.write_to(&mut writer) => if written.is_err() {
                    return self.close();
                },
                () = self.closed() => return,
            }
        }
    }

    async fn read(self: Arc<Self>, mut reader: FrameReader<ReadHalf<Box<dyn Stream>>>, floors: Arc<Floors>) {
        loop {
            let frame = tokio::select! {
                frame = reader.next() => frame,
                () = self.closed() => return,
            };
            let Ok(Some(frame)) = frame else { break };
            *self.heard() = Instant::now();
            let Ok(response) = frame.message::<PeerResponse>() else { break };
            if let Err(beyond) = floors.bounds().response(&response) {
                tracing::warn!(peer = %self.peer.node, error = %beyond, "a peer is disconnected");
                break;
            }
            let answer = self.queues().pending.remove(&frame.request_id);
            if let Some(answer) = answer {
                let _ = answer.send(response);
            }
        }
        self.close();
    }
}

/// The way to one node.
pub(crate) struct Link {
    outside: Outside,
    me: Credentials,
    gate: Gate,
    addresses: Arc<Addresses>,
    node: NodeId,
    member: Member,
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
    /// Why there is no connection, and when it is tried again.
    failed: Mutex<Option<Failed>>,
    /// It was told that the node speaks no TLS any more.
    turned_plain: AtomicBool,
}

impl Link {
    pub(crate) fn new(
        outside: Outside,
        me: Credentials,
        gate: Gate,
        addresses: Arc<Addresses>,
        node: NodeId,
        member: Member,
    ) -> Self {
        let (open, failed) = (tokio::sync::Mutex::default(), Mutex::default());
        let turned_plain = AtomicBool::new(false);
        Self { outside, me, gate, addresses, node, member, open, failed, turned_plain }
    }

    /// Where the node is dialed now.
    pub(crate) fn address(&self) -> String {
        self.addresses.of(self.node, &self.member).unwrap_or_else(|| self.member.address.clone())
    }

    /// What the node may answer.
    pub(crate) fn bounds(&self) -> Bounds {
        self.gate.floors.bounds()
    }

    /// Whether answers over this connection count: the peer is still the process that was let in.
    fn is_current(&self, open: &Open) -> bool {
        self.gate.floors.is_current(&open.peer)
    }

    /// An answer counts if no other process of the node was let in since.
    pub(crate) fn check(&self, open: &Open) -> io::Result<()> {
        if self.is_current(open) {
            return Ok(());
        }
        open.close();
        Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "another process of this node has taken its place",
        ))
    }

    /// The node answered an append that was sent under `vote`.
    pub(crate) fn acknowledged(&self, result: &AppendResult, vote: Vote) {
        self.gate.floors.acknowledged(self.node, result, vote);
    }

    /// The node gave this one its vote.
    pub(crate) fn granted(&self, vote: Vote) {
        self.gate.floors.granted(self.node, vote);
    }

    /// The shared connection, opened if there is none. Those who come meanwhile wait for the same dial.
    pub(crate) async fn open(&self) -> io::Result<Arc<Open>> {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.take() {
            if self.is_current(&open)
                && open.address == self.address()
                && open.secret == self.me.ring.proves()
            {
                if !open.queues().closed {
                    return Ok(Arc::clone(slot.insert(open)));
                }
            } else {
                open.close();
            }
        }
        let dials = match &*self.failed() {
            Some(failed) if Instant::now() < failed.again_at => return Err(failed.error()),
            Some(failed) => failed.dials + 1,
            None => 0,
        };
        let dialed = self.dial().await;
        let stream = match dialed {
            Ok(stream) => stream,
            Err(error) => {
                let failed = Failed::new(dials, error);
                let error = failed.error();
                *self.failed() = Some(failed);
                return Err(error);
            }
        };
        self.dial_at_once();
        let open = Arc::new(Open {
            peer: stream.hello,
            secret: stream.secret,
            is_secured: stream.is_secured,
            address: stream.address,
            queues: Mutex::default(),
            filled: Notify::new(),
            gone: watch::Sender::new(false),
            heard: Mutex::new(Instant::now()),
        });
        TypeConfig::spawn(Arc::clone(&open).write(stream.writer));
        TypeConfig::spawn(Arc::clone(&open).read(stream.reader, Arc::clone(&self.gate.floors)));
        *slot = Some(Arc::clone(&open));
        Ok(open)
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.locked()
    }

    /// The node was removed: nothing more is said to it.
    pub(crate) async fn end(&self) {
        if let Some(open) = self.open.lock().await.take() {
            open.close();
        }
    }

    /// Ends a connection that was proved with a secret that lets nobody in any more.
    pub(crate) async fn end_unproved(&self) {
        let mut slot = self.open.lock().await;
        if let Some(open) = slot.take_if(|open| !self.me.ring.lets_in(&open.secret)) {
            open.close();
        }
    }

    /// Asks if the connection is secured.
    ///
    /// # Errors
    /// It is not, or as [`Link::ask`].
    pub(crate) async fn ask_secured(
        &self,
        request: PeerRequest,
        within: Duration,
    ) -> io::Result<PeerResponse> {
        if !self.open_within(within).await?.is_secured {
            return Err(not_secured());
        }
        self.ask(Lane::Urgent, request, Vec::new(), within).await
    }

    /// Whether nothing was asked for want of a secured connection.
    pub(crate) fn is_plain(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied
    }

    /// The node is there: no pause is left from when it was not.
    pub(crate) fn dial_at_once(&self) {
        *self.failed() = None;
    }

    /// A connection of its own.
    pub(crate) async fn dial(&self) -> io::Result<PeerStream> {
        let address = self.addresses.of(self.node, &self.member).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotConnected, "the cluster has not agreed on its address yet")
        })?;
        let called = Called { node: self.node, store: Some(StoreId(self.member.store)) };
        let speaks_tls = self.gate.floors.speaks_tls(self.node);
        let dialing = if speaks_tls {
            self.outside.net.dial_as_before(&address)
        } else {
            self.outside.net.dial(&address)
        };
        let stream = over(dialing, &self.outside, &self.me, Some(&self.gate), &address, Some(called)).await;
        let turned_plain = stream.as_ref().err().filter(|error| error.kind() == io::ErrorKind::Unsupported);
        let is_told = self.turned_plain.swap(turned_plain.is_some(), Ordering::Relaxed);
        if let Some(error) = turned_plain.filter(|_| !is_told) {
            tracing::warn!(node = self.member.name, %error, "a member is not dialed");
        }
        let stream = stream?;
        self.me.spoken.admit(stream.hello.levels).map_err(io::Error::other)?;
        let newest = self.addresses.newest(self.node);
        self.gate
            .floors
            .admit(&stream.hello, newest.as_ref().or(Some(&self.member)))
            .map_err(io::Error::other)?;
        if stream.is_secured {
            self.gate.floors.spoke_tls(self.node);
        }
        Ok(stream)
    }

    /// Asks and waits, at most `within`.
    pub(crate) async fn ask(
        &self,
        lane: Lane,
        request: PeerRequest,
        tail: Vec<Bytes>,
        within: Duration,
    ) -> io::Result<PeerResponse> {
        let until = Instant::now() + within;
        let open = self.open_within(within).await?;
        match timeout_at(until, open.send(lane, request, tail)).await {
            Ok(answer) => {
                let answer = answer.map_err(|_| {
                    let what = format!("the connection to {} broke", self.address());
                    io::Error::new(io::ErrorKind::ConnectionReset, what)
                })?;
                self.check(&open).map(|()| answer)
            }
            Err(_) => {
                if open.heard().elapsed() >= SILENCE_MAX {
                    tracing::info!(node = self.member.name, "a silent connection is given up");
                    open.close();
                }
                Err(self.late())
            }
        }
    }

    fn late(&self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("{} did not answer in time", self.address()))
    }

    async fn open_within(&self, within: Duration) -> io::Result<Arc<Open>> {
        tokio::time::timeout(within, self.open()).await.map_err(|_| self.late())?
    }
}

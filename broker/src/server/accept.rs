//! The port: connections are counted, greeted within their deadline, and handed to those who serve their role.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use queue_protocol::bounded::Text;
use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::handshake::accept;
use queue_protocol::hello::{Accepted, Hello, HelloRole, PeerHello};
use queue_protocol::io::FrameReader;
use queue_protocol::limits::{HELLO_CONNECTIONS_MAX, PEER_CONNECTIONS_RESERVED};
use tokio::sync::watch;

use super::budget::Budget;
use super::connection::serve_client;
use super::dispatch::{Dispatch, QueueOptions};
use super::presence::Presence;
use super::waiters::Waiters;
use crate::outside::Listener;
use crate::raft::{Consensus, seeded, serve_peer, spawn};

/// Pause after a failed accept (no descriptors left, say), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Most that clients may have by default.
pub const MEMORY_DEFAULT_MAX: usize = 512 << 20;
/// Least that clients may be given.
pub const MEMORY_MIN: usize = 64 << 20;

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Client connections at a time.
    pub connections_max: usize,
    /// Memory for unfinished input and requests in flight of all clients; [`MEMORY_DEFAULT_MAX`] if none is given.
    pub memory: Option<usize>,
    /// How queues and requests behave.
    pub queues: QueueOptions,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { connections_max: 10_000, memory: None, queues: QueueOptions::default() }
    }
}

/// Counts of connections by phase and role.
#[derive(Default)]
struct Counts {
    greeting: AtomicUsize,
    peers: AtomicUsize,
}

/// Serves clients and peers on one port.
pub(crate) struct Server {
    consensus: Arc<Consensus>,
    dispatch: Arc<Dispatch>,
    options: ServerOptions,
    counts: Counts,
    next_id: AtomicU64,
    stop: watch::Sender<bool>,
}

/// One held place; dropped, it is free again.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::Relaxed) < max {
            Some(Self(count))
        } else {
            count.fetch_sub(1, Ordering::Relaxed);
            None
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Joins the parked leases to consensus; call once, then [`Server::run`].
    pub(crate) fn new(consensus: Arc<Consensus>, options: ServerOptions) -> Arc<Self> {
        let waiters = Waiters::new(&consensus);
        let offered = Arc::downgrade(&waiters);
        consensus.set_waiters(Arc::clone(&waiters) as Arc<dyn crate::raft::Parked>, move |effects| {
            if let Some(waiters) = offered.upgrade()
                && !effects.ready.is_empty()
            {
                waiters.offer(&effects.ready);
            }
        });
        let dispatch = Arc::new(Dispatch {
            consensus: Arc::clone(&consensus),
            waiters,
            presence: Presence::new(&consensus),
            options: options.queues.clone(),
            budget: Budget::new(options.memory.unwrap_or(MEMORY_DEFAULT_MAX)),
            connections: AtomicU64::new(0),
        });
        Arc::new(Self {
            consensus,
            dispatch,
            options,
            counts: Counts::default(),
            next_id: AtomicU64::new(1),
            stop: watch::Sender::new(false),
        })
    }

    /// Accepts until [`Server::drain`].
    pub(crate) async fn run(self: Arc<Self>, listener: Arc<dyn Listener>) {
        spawn(Arc::clone(&self.dispatch.waiters).run());
        spawn(Arc::clone(&self.dispatch.presence).run(self.stop.subscribe()));
        spawn(dismiss_when_leadership_is_lost(Arc::clone(&self.dispatch)));
        let mut stop = self.stop.subscribe();
        loop {
            let stopping = std::pin::pin!(async {
                let _ = stop.wait_for(|stop| *stop).await;
            });
            match futures_util::future::select(listener.accept(), stopping).await {
                futures_util::future::Either::Left((Ok((stream, from)), _)) => {
                    spawn(Arc::clone(&self).greet(stream, from));
                }
                futures_util::future::Either::Left((Err(error), _)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                futures_util::future::Either::Right(_) => return,
            }
        }
    }

    async fn greet(self: Arc<Self>, stream: Box<dyn Stream>, from: std::net::SocketAddr) {
        let Some(greeting) = Place::take(&self.counts.greeting, HELLO_CONNECTIONS_MAX) else {
            tracing::warn!(%from, "too many connections that have not said hello");
            return;
        };
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read);
        let secret = &self.consensus.me().credentials.secret;
        let greeted =
            accept(&mut reader, &mut writer, secret, |hello| self.answer(hello), |hello| self.admit(hello))
                .await;
        drop(greeting);
        let (hello, _) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => {
                tracing::info!(%from, %error, "a connection was not accepted");
                return;
            }
        };
        match hello.role {
            HelloRole::Peer(peer) => {
                let peers_max = 8 * PEER_CONNECTIONS_RESERVED;
                let Some(_place) = Place::take(&self.counts.peers, peers_max) else {
                    tracing::warn!(%from, "too many connections of peers");
                    return;
                };
                serve_peer(Arc::clone(&self.consensus), peer, reader, writer).await;
            }
            HelloRole::Client { session } => {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                let stop = self.stop.subscribe();
                let this = Arc::clone(&self);
                let seed = u64::from_le_bytes(self.consensus.outside().random_bytes());
                self.consensus.outside().tasks.serving(Box::pin(seeded(seed, async move {
                    let dispatch = Arc::clone(&this.dispatch);
                    dispatch.connections.fetch_add(1, Ordering::Relaxed);
                    serve_client(Arc::clone(&dispatch), id, session, reader, writer, stop).await;
                    dispatch.connections.fetch_sub(1, Ordering::Relaxed);
                })));
            }
        }
    }

    fn answer(&self, hello: &Hello) -> Result<Accepted, Error> {
        let me = self.consensus.me();
        let version = hello.check(me.credentials.cluster, me.credentials.node)?;
        if let HelloRole::Client { .. } = hello.role {
            if *self.stop.borrow() {
                return Err(Error::again(ErrorCode::ShuttingDown, "the node is stopping, try another one"));
            }
            let open = self.dispatch.connections.load(Ordering::Relaxed);
            if open >= self.options.connections_max as u64 {
                let what = format!("this node serves {open} connections already");
                let again = Error::again(ErrorCode::Overloaded, what);
                return Err(Error { retry: Retry::AfterMs(1_000), ..again });
            }
        }
        if let HelloRole::Peer(peer) = &hello.role {
            self.consensus.admit_member(peer.node)?;
            if let Some(full) = self.consensus.refuse_peers() {
                return Err(full);
            }
        }
        let node = match hello.role {
            HelloRole::Peer(_) => self.consensus.floors().hello(&me.credentials),
            HelloRole::Client { .. } => PeerHello::nobody(me.credentials.node, me.credentials.store),
        };
        Ok(Accepted {
            version,
            cluster: me.credentials.cluster,
            name: Text::cut(me.name.clone()),
            node,
            leader: self.consensus.view().leader,
            features: 0,
            wall_ms: self.consensus.outside().clock.wall_ms(),
            nonce: self.consensus.outside().random_bytes(),
        })
    }

    /// Whether a peer that proved the secret may in.
    fn admit(&self, hello: &Hello) -> Result<(), Error> {
        match &hello.role {
            HelloRole::Peer(peer) => self.consensus.admit_peer(peer),
            HelloRole::Client { .. } => Ok(()),
        }
    }

    /// Takes no more clients and requests, answers what is open, at most `grace` long.
    pub(crate) async fn drain(&self, grace: Duration) {
        self.stop.send_replace(true);
        let left = |server: &Self| server.dispatch.connections.load(Ordering::Relaxed);
        let drained = async {
            while left(self) > 0 {
                // A lease that waits would keep its connection for as long as it may wait; presence for ever.
                self.dispatch.waiters.dismiss();
                self.dispatch.presence.dismiss();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(connections = left(self), "connections are closed with open requests");
        }
    }
}

/// Parked leases and the clients that are there are sent on when this node no longer leads.
async fn dismiss_when_leadership_is_lost(dispatch: Arc<Dispatch>) {
    let mut watch = dispatch.consensus.watch();
    loop {
        if watch.borrow_and_update().ready.is_none() {
            dispatch.waiters.dismiss();
            dispatch.presence.dismiss();
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}

//! The server: what it shares between connections, how it begins, and how it ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue_protocol::wire::lent::Lender;
use tokio::sync::watch;

use super::budget::Budget;
use super::dispatch::{Dispatch, QueueOptions};
use super::greetings::Greetings;
use super::guesses::Guesses;
use super::order::Orders;
use super::pace::Pace;
use super::places::{Kept, Places};
use super::presence::Presence;
use super::quiet::Quiet;
use super::reads::Reads;
use super::roster::Roster;
use super::slow::Slow;
use super::stop::Stop;
use super::used::{Used, tell};
use crate::outside::Listener;
use crate::raft::{Consensus, spawn};

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

/// Memory of buffers that bodies share: as much again as the log keeps in memory, and what is on the way to it.
const LENT_SIZE_MAX: usize = 48 << 20;

impl Default for ServerOptions {
    fn default() -> Self {
        Self { connections_max: 10_000, memory: None, queues: QueueOptions::default() }
    }
}

/// Serves clients and peers on one port.
pub(crate) struct Server {
    pub(super) consensus: Arc<Consensus>,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) greetings: Arc<Greetings>,
    pub(super) guesses: Guesses,
    /// Over HTTP: apart, for its gateway logs in here from this machine, where others may guess there.
    #[cfg(feature = "http")]
    pub(super) http_guesses: Guesses,
    pub(super) clients: Arc<Kept>,
    pub(super) peers: Arc<Kept>,
    /// Of buffers that requests share, those of clients and of peers.
    pub(super) lender: Arc<Lender>,
    pub(super) next_id: AtomicU64,
    /// Connections of clients for which there was no place.
    pub(super) crowded: AtomicU64,
    /// Where HTTP is served, for who comes here with it.
    pub(super) http: OnceLock<SocketAddr>,
    pub(super) stop: watch::Sender<Stop>,
}

impl Server {
    /// A server that accepts nobody yet: call [`Server::run`].
    pub(crate) fn new(consensus: Arc<Consensus>, options: ServerOptions, places: Places) -> Arc<Self> {
        let dispatch = Arc::new(Dispatch {
            consensus: Arc::clone(&consensus),
            waiters: Arc::clone(consensus.waiters()),
            presence: Presence::new(&consensus),
            reads: Reads::new(),
            orders: Orders::default(),
            options: options.queues.clone(),
            budget: Budget::new(options.memory.unwrap_or(MEMORY_DEFAULT_MAX)),
            connections: AtomicU64::new(0),
            places: (places.clients, options.connections_max),
            overloaded: AtomicU64::new(0),
            quiet: Quiet::default(),
            used: Used::new(),
            pace: Pace::default(),
            roster: Roster::default(),
            slow: Slow::default(),
        });
        Arc::new(Self {
            consensus,
            dispatch,
            greetings: Greetings::new(places.greetings),
            guesses: Guesses::default(),
            #[cfg(feature = "http")]
            http_guesses: Guesses::default(),
            clients: Kept::new(places.clients),
            peers: Kept::new(places.peers),
            lender: Lender::new(LENT_SIZE_MAX),
            next_id: AtomicU64::new(1),
            crowded: AtomicU64::new(0),
            http: OnceLock::new(),
            stop: watch::Sender::default(),
        })
    }

    /// Accepts until [`Server::drain`].
    pub(crate) async fn run(self: Arc<Self>, listener: Arc<dyn Listener>) {
        spawn(Arc::clone(&self.dispatch.waiters).run());
        spawn(Arc::clone(&self.dispatch.presence).run(self.stop.subscribe()));
        spawn(dismiss_when_leadership_is_lost(Arc::clone(&self.dispatch)));
        let mut stop = self.stop.subscribe();
        let dispatch = Arc::clone(&self.dispatch);
        let stopping = stop.wait_for(|stop| stop.all);
        tokio::select! {
            () = self.accept(&*listener) => {}
            () = self.locate_members() => {}
            () = self.end_plain() => {}
            () = self.end_shut_out() => {}
            () = tell(Arc::clone(&self.dispatch)) => {}
            () = dispatch.quiet.run() => {}
            _ = stopping => {}
        }
    }

    /// Takes no more clients and requests, answers what is open, at most `grace` long.
    pub(crate) async fn drain(&self, grace: Duration) {
        self.stop.send_modify(|stop| stop.all = true);
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

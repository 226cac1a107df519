//! What the server says of itself to who measures it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use queue_protocol::error::Error;
use queue_protocol::names::QueueName;
use queue_protocol::wire::logs::{LogChoice, LogView, SlowList};

use super::logs;
use super::server::Server;

/// Counts of now, and of refusals since the start.
pub(crate) struct ServerFigures {
    /// Connections of clients.
    pub(crate) clients: usize,
    /// Most of them at a time.
    pub(crate) clients_max: usize,
    /// Connections of peers.
    pub(crate) peers: usize,
    /// Bytes that requests of clients hold.
    pub(crate) memory_used: usize,
    /// Most of them at a time.
    pub(crate) memory_max: usize,
    /// Requests that took long.
    pub(crate) slow: u64,
    /// Refusals by reason.
    pub(crate) refused: Vec<(&'static str, u64)>,
}

impl Server {
    /// How many, how much, and what was refused.
    pub(crate) fn figures(&self) -> ServerFigures {
        let (memory_used, memory_max) = self.dispatch.budget.size();
        let own = [
            ("no_place", self.crowded.load(Ordering::Relaxed)),
            ("overloaded", self.dispatch.overloaded.load(Ordering::Relaxed)),
        ];
        ServerFigures {
            clients: self.clients.taken(),
            clients_max: self.clients.max(),
            peers: self.peers.taken(),
            memory_used,
            memory_max,
            slow: self.dispatch.slow.total(),
            refused: own.into_iter().chain(self.dispatch.quiet.totals()).collect(),
        }
    }

    /// Which log lines are written.
    pub(crate) fn log(&self) -> LogView {
        logs::view()
    }

    /// Writes other log lines for a while, or goes back.
    ///
    /// # Errors
    /// It is too long, or the log does not take it.
    pub(crate) fn set_log(&self, choice: Option<LogChoice>) -> Result<LogView, Error> {
        logs::set(choice)
    }

    /// Requests that took long.
    pub(crate) fn slow(&self) -> SlowList {
        self.dispatch.slow.list()
    }

    /// Leases and pops that wait here, of one queue or of all.
    pub(crate) fn waiting(&self, queue: Option<&QueueName>) -> usize {
        self.dispatch.waiters.count(queue)
    }

    /// Largest message that is taken.
    pub(crate) fn message_size_max(&self) -> usize {
        self.dispatch.options.message_size_max
    }

    /// HTTP is served at this address. Once.
    pub(crate) fn set_http(&self, address: SocketAddr) {
        let _once = self.http.set(address);
    }
}

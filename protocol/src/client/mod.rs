//! The client: it follows the leader, repeats what is safe to repeat, and says when an outcome is unknown.
//!
//! ```rust,no_run
//! use queue_protocol::client::{Client, Error};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Error> {
//!     let client = Client::connect("127.0.0.1:7410").await?;
//!     let jobs = client.queue("jobs")?;
//!     jobs.push("resize 31.png").create_queue().send().await?;
//!
//!     for job in jobs.lease().max(10).send().await? {
//!         println!("{}", job.text());
//!         job.ack().await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! `queued dev` starts the cluster that this talks to. The folder `examples` holds a producer, a worker, a batch, a transaction
//! and dead letters; the README beside it compares ten tasks with the clients of other queues.
//!
//! # What does what
//!
//! | to | use |
//! |---|---|
//! | connect | [`Client::connect`], [`ConnectOptions`] for TLS, another time limit, or a cluster that is not there yet |
//! | name a queue | [`Client::queue`]; [`Queue::create`], [`Queue::alter`], [`Queue::remove`], [`Queue::stats`] |
//! | push a message | [`Queue::push`]: `delay`, `not_before`, `ttl`, `priority`, `group`, `dedup`, `unique`, `header` |
//! | push many | [`Queue::push_all`] with texts, bytes or [`Message`]s |
//! | handle messages | [`Queue::worker`]: a handler for each, leases renewed meanwhile; see [`worker`] |
//! | lease by hand | [`Queue::lease`], then [`Leased::ack`], [`Leased::fail`], [`Leased::release`], [`Leased::reject`], [`Leased::extend`] |
//! | take at most once | [`Queue::pop`] |
//! | change several things or nothing | [`Client::transaction`] |
//! | look after what failed | [`Queue::dead_letters`] |
//!
//! # Sessions
//!
//! A client has a session of its own, drawn at random when it is made: its requests are numbered there, so that one that is
//! repeated after a lost answer counts once. Clones share the session and the connection: one client per program is enough.
//! [`Client::close_session`] lets the cluster forget it at once; otherwise it does after an hour without use.
//!
//! # Errors
//!
//! [`Error`] tells apart what a program treats differently. After [`Error::Unknown`] the request may have been done; after every
//! other error it surely was not. A push with a `dedup` key can be repeated in both cases.
//!
//! # Below
//!
//! [`Client::call`] and the methods that take the types of [`crate::wire::request`] as they cross the wire are what `queuectl` and the
//! tests use; their errors are [`ClientError`]s. [`Connection`] is one socket with many requests in flight.

mod backoff;
mod birth;
#[cfg(test)]
mod book;
mod calls;
#[expect(clippy::module_inception, reason = "one noun per file, and this one is the client")]
mod client;
mod connect;
mod connection;
mod contents;
mod dial;
mod in_flight;
mod links;
mod numbers;
mod presence;
mod pursuit;
mod queue;
mod search;
mod session;
#[cfg(feature = "tls")]
pub mod tls;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::calls::NewMessage;
pub use self::client::Client;
pub use self::connect::ConnectOptions;
pub use self::connection::Connection;
pub use self::dial::{
    CHANNEL_LABEL, Channel, Dial, Dialing, LoginDial, PLAIN_CHANNEL, Stream, TcpDial, TokenSource,
};
pub use self::in_flight::{CallError, Gone, KEEPALIVE_MS, NotAdmitted};
pub use self::presence::Presence;
pub use self::queue::{
    BatchBuilder, Committed, DeadLetters, Error, LeaseBuilder, Leased, Message, PopBuilder, PushBuilder,
    Pushed, Queue, Received, Seen, SweepBuilder, Transaction,
};
use crate::error;
use crate::wire::response::{Age, Answer, At, LeaderView};
/// What queues and messages are shown as.
pub use crate::wire::response::{DeadReason, MessageView, QueueView};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of nodes to try, in order.
    pub servers: Vec<String>,
    /// Finding a leader and getting the answer, redirects and elections included; a request's wait comes on top.
    pub timeout: Duration,
    /// Follow redirects to the leader.
    pub follow: bool,
    /// Random bits, drawn anew for each client and each start of its process: the ids of its sessions follow from them, and
    /// no id may come back with another index.
    pub seed: u128,
}

/// Something the user may want to see; nothing depends on it.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A node sent us to the leader.
    Redirected {
        /// Address of the node that did.
        from: String,
        /// Where to.
        to: LeaderView,
    },
    /// Another node leads than before.
    LeaderChanged {
        /// Name of the one before.
        from: String,
        /// The new one.
        to: LeaderView,
    },
    /// A request is waiting for a leader.
    Waiting {
        /// Since when.
        elapsed: Duration,
        /// Addresses of nodes that answer.
        answering: Vec<String>,
        /// If no node was reached yet: what came of each address that was tried.
        unreached: Vec<(String, String)>,
    },
    /// A connection broke.
    Lost {
        /// To whom.
        address: String,
        /// Why.
        why: String,
    },
}

/// An answer with where it stands and how it was got.
#[derive(Clone, Debug)]
pub struct Answered<T = Answer> {
    /// What came of it.
    pub answer: T,
    /// Contents of deliveries or views, in their order, checksums verified.
    pub contents: Vec<Bytes>,
    /// Its place in the one order of everything.
    pub at: At,
    /// The recorded answer of an earlier try.
    pub repeated: bool,
    /// The lease clock at the moment of answering, milliseconds: a deadline less this is what is left of a lease.
    pub lease_clock_ms: u64,
    /// How old what was read may be.
    pub age: Age,
    /// Who answered, if it leads.
    pub leader: Option<Arc<LeaderView>>,
    /// Redirects followed.
    pub redirects: u32,
    /// From call to answer.
    pub elapsed: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// A node refused; `Error::applied` is `No`.
    #[error("{0}")]
    Refused(error::Error),
    /// Surely not done: nobody was reached, or nobody led, in the time given.
    #[error("{what}")]
    Unavailable {
        /// What happened, with each server tried and why it failed.
        what: String,
        /// True if some node answered but none led; false if none was reached.
        reached: bool,
        /// A leader was named that could not be reached from here.
        leader: Option<LeaderView>,
    },
    /// Sent and not answered: may have been done.
    #[error("{what}")]
    Unknown {
        /// What happened.
        what: String,
    },
    /// The other side does not speak this protocol, or another version, or belongs to another cluster.
    #[error("{0}")]
    Incompatible(error::Error),
    /// Somebody answered whom TLS does not trust: nothing was sent.
    #[error("{what}")]
    Untrusted {
        /// Who answered, and why they are not trusted.
        what: String,
    },
}

/// The Rust of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The ten tasks of the README beside this crate compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct TenTasks;

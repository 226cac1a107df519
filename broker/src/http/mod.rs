//! HTTP beside the protocol, on a port and a thread of its own: health, metrics, the seed's calls, and a gateway.
//!
//! ```text
//! curl ──► the thread `http`: routes ──► gateway: the protocol's client ──► the port of this node, or of the leader
//! prometheus ──►       routes ──► what this node says of itself, copied in slices
//! ```
//!
//! The gateway is a client like any other, so each node serves each request, and nothing on the way of a push knows HTTP.
//! Off, there is no thread and no port.
//!
//! It has no role of its own in the handshake and speaks for nobody: each token and each session of a user has a client of
//! its own, which logs in with that token and opens that session. So rights, owners and order are judged where they are for
//! any client, by the leader, and no node is believed about who asks. The price is a connection for each session in use.

mod answers;
mod arriving;
mod asked;
mod bearer;
mod compat;
mod connections;
mod document;
mod figures;
mod flow;
mod gateway;
mod guard;
mod health;
mod intake;
mod log;
mod machine;
mod manage;
mod metrics;
mod options;
mod page;
mod push;
mod queues;
mod routes;
mod said;
mod serve;
mod session;
mod stream;
mod take;

pub use self::document::openapi;
pub use self::options::HttpOptions;
pub(crate) use self::serve::{Http, Site, start};

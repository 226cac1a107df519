//! HTTP beside the protocol, on a port and a thread of its own: health, metrics, the seed's calls, and a gateway.
//!
//! ```text
//! curl ──► the thread `http`: routes ──► gateway: the protocol's client ──► the port of this node, or of the leader
//! prometheus ──►       routes ──► what this node says of itself, copied in slices
//! ```
//!
//! The gateway is a client like any other, so each node serves each request, and nothing on the way of a push knows HTTP.
//! Off, there is no thread and no port.

mod options;

#[cfg(feature = "http")]
mod answers;
mod arriving;
#[cfg(feature = "http")]
mod compat;
#[cfg(feature = "http")]
mod figures;
#[cfg(feature = "http")]
mod gateway;
#[cfg(feature = "http")]
mod guard;
#[cfg(feature = "http")]
mod health;
#[cfg(feature = "http")]
mod intake;
#[cfg(feature = "http")]
mod machine;
#[cfg(feature = "http")]
mod manage;
#[cfg(feature = "http")]
mod metrics;
#[cfg(feature = "http")]
mod page;
#[cfg(feature = "http")]
mod push;
#[cfg(feature = "http")]
mod queues;
#[cfg(feature = "http")]
mod routes;
#[cfg(feature = "http")]
mod said;
#[cfg(feature = "http")]
mod serve;
#[cfg(feature = "http")]
mod session;
#[cfg(feature = "http")]
mod stream;
#[cfg(feature = "http")]
mod take;

pub use self::options::HttpOptions;
#[cfg(feature = "http")]
pub(crate) use self::serve::{Http, Site, start};

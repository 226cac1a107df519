//! What crosses a socket.

pub mod bounded;
#[cfg(feature = "client")]
pub mod client;
pub mod content;
pub mod error;
pub mod limits;
pub mod names;
pub mod peer;
pub mod request;
pub mod response;

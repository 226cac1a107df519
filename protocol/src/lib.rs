//! What crosses a socket.
#![doc = include_str!("../PROTOCOL.md")]

pub mod bounded;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
pub mod content;
pub mod error;
pub mod explain;
pub mod frame;
pub mod gather;
#[cfg(feature = "client")]
pub mod handshake;
pub mod hello;
#[cfg(feature = "client")]
pub mod io;
pub mod level;
pub mod limits;
pub mod membership;
pub mod names;
pub mod peer;
pub mod request;
pub mod response;
pub mod schedule;
pub mod settings;
pub mod stages;
pub mod txn;

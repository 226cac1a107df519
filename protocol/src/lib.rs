//! What crosses a socket, and the client that speaks it. A program in Rust begins with the page of the module `client`.
//!
#![doc = include_str!("../PROTOCOL.md")]

pub mod bounded;
pub mod checkpoint;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
pub mod content;
pub mod cursor;
pub mod error;
pub mod explain;
pub mod frame;
pub mod gather;
pub mod group;
#[cfg(feature = "client")]
pub mod handshake;
pub mod health;
pub mod hello;
pub mod history;
#[cfg(feature = "client")]
pub mod io;
pub mod level;
pub mod limits;
pub mod membership;
pub mod names;
pub mod opening;
pub mod peer;
pub mod request;
pub mod response;
pub mod schedule;
pub mod security;
pub mod settings;
pub mod stages;
pub mod txn;
pub mod values;

//! What crosses a socket, and the client that speaks it. A program in Rust begins with the page of the module `client`.
//!
#![doc = include_str!("../PROTOCOL.md")]

#[cfg(feature = "client")]
pub mod client;
pub mod content;
pub mod error;
pub mod health;
pub mod limits;
pub mod names;
pub mod settings;
pub mod values;
pub mod wire;

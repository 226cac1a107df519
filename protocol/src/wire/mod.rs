//! What crosses a socket, type by type: frames, the opening of a connection, requests and answers, and what nodes say to each
//! other. Who writes a program needs nothing of it: the module `client` is enough.

pub mod audit;
pub mod auth;
pub mod bounded;
pub mod checkpoint;
pub mod clients;
pub mod codec;
pub mod credentials;
pub mod cursor;
pub mod explain;
pub mod frame;
pub mod gather;
pub mod group;
#[cfg(feature = "client")]
pub mod handshake;
pub mod hello;
pub mod history;
#[cfg(feature = "client")]
pub mod io;
pub mod level;
pub mod logs;
pub mod membership;
pub mod opening;
pub mod peer;
pub mod principals;
pub mod proof;
pub mod request;
pub mod request_hash;
pub mod requests;
pub mod response;
pub mod rights;
pub mod schedule;
pub mod security;
pub mod stages;
pub mod txn;

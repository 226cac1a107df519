//! What the benches share: this machine as the outside of nodes, a cluster of three of them, bodies to push, and
//! the roofline.

pub mod cluster;
pub mod core;
pub mod daemon;
pub mod deep;
pub mod figures;
pub mod machine;
pub mod many;
pub mod roofline;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{Client, ClientConfig, TcpDial};
use queue_protocol::content::{self, ContentSpec};

/// The queue that is measured.
pub const QUEUE: &str = "bench";

/// A client of the nodes at `servers`, `host:port` each, with a session of its own; within a runtime.
pub fn client(servers: &[String], timeout: Duration) -> Client {
    let mut seed = [0; 16];
    machine::fill_random(&mut seed);
    let seed = u128::from_le_bytes(seed);
    let config = ClientConfig { servers: servers.to_vec(), timeout, follow: true, seed };
    Client::new(config, Arc::new(TcpDial::default()))
}

/// A content whose body has `size` bytes.
pub fn content(size: usize) -> Bytes {
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
    content::encode(&content::Headers::default(), &body).expect("no headers are within the limit")
}

/// `count` rows of a body table, each of a body of `size` bytes.
pub fn table(count: usize, size: usize) -> Vec<ContentSpec> {
    vec![ContentSpec::of(&content(size)); count]
}

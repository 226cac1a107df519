//! queued, the broker.

pub mod clock;
pub mod fs;
pub mod log;
pub mod node;
pub mod outside;
pub mod queue;
pub mod raft;
pub mod server;
pub mod snapshots;

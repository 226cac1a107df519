//! queued, the broker.

pub mod clock;
pub mod commands;
pub mod config;
mod dev;
pub mod fs;
pub mod log;
mod logging;
pub mod node;
pub mod outside;
pub mod queue;
pub mod raft;
pub mod server;
pub mod snapshots;

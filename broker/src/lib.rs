//! queued, the broker.

pub mod clock;
pub mod fs;
pub mod log;
pub mod node;
pub mod queue;
pub mod snapshots;

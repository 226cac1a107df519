//! queued, the broker.

pub mod clock;
pub mod fs;
pub mod log;
pub mod queue;

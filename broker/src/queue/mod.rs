//! PURE: the replicated state machine, synchronous and total.

pub mod command;
pub mod reply;

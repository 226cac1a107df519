//! What a leader holds in memory and loses with its lead.

pub(crate) mod proposer;
pub(in crate::raft) mod succession;
pub(in crate::raft) mod ticker;
pub(crate) mod waiters;
mod waiting;

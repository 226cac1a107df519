//! What openraft calls: its types as this program fills them in, its log, its network, its runtime, and why it stopped.

pub(in crate::raft) mod cause;
pub(crate) mod log_store;
pub(crate) mod network;
pub(in crate::raft) mod runtime;
pub(in crate::raft) mod sections;
#[cfg(test)]
mod suite;
pub(in crate::raft) mod types;

//! What one Raft group has: who leads it, its state, its clocks, and what is kept of its log.

pub(in crate::raft) mod age;
pub(in crate::raft) mod agreement;
pub(in crate::raft) mod bodies;
pub(in crate::raft) mod clocks;
pub(in crate::raft) mod elapsed;
pub(in crate::raft) mod gone;
pub(in crate::raft) mod growth;
pub(crate) mod lead;
pub(crate) mod leadership;
pub(in crate::raft) mod lease_clock;
pub(crate) mod machine;
pub(in crate::raft) mod mutated;
pub(in crate::raft) mod retention;
pub(in crate::raft) mod rights;
pub(in crate::raft) mod rounds;
pub(in crate::raft) mod tenure;
pub(in crate::raft) mod times;
pub(in crate::raft) mod wall;

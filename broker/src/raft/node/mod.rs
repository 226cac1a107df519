//! What a machine has one of, however many Raft groups it may serve: who it is, its links and floors, its disk, its
//! snapshots on their way, and what it says of itself.

pub(in crate::raft) mod addresses;
pub(in crate::raft) mod admission;
pub(in crate::raft) mod amounts;
pub(in crate::raft) mod bounds;
pub(in crate::raft) mod chronicle;
pub(in crate::raft) mod disk;
pub(in crate::raft) mod failed;
pub(in crate::raft) mod floors;
pub(in crate::raft) mod link;
pub(crate) mod overrides;
pub(crate) mod peer_server;
pub(in crate::raft) mod pulse;
pub(in crate::raft) mod receive_snapshot;
pub(crate) mod recover;
pub(in crate::raft) mod refusals;
pub(in crate::raft) mod send_snapshot;
pub(in crate::raft) mod witness;

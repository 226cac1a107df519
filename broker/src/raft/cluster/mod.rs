//! What the members agree on about themselves: who they are, what they speak, how they are, whether they have room.

pub(in crate::raft) mod changes;
pub(in crate::raft) mod health;
pub(in crate::raft) mod invitations;
pub(crate) mod levels;
pub(in crate::raft) mod membership;
pub(in crate::raft) mod moves;
pub(in crate::raft) mod reserve;
pub(in crate::raft) mod status;

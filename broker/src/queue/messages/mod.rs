//! What a message is: one that is kept alone, runs of plain ones, messages in order; what dies, and what went for good.

pub(in crate::queue) mod dead;
pub(in crate::queue) mod gone;
pub(in crate::queue) mod graves;
pub(in crate::queue) mod line;
pub(in crate::queue) mod message;
pub(in crate::queue) mod piece;
pub(in crate::queue) mod run;

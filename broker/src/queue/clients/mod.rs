//! What is remembered of clients: sessions, their answers, and the ids of those that are forgotten.

pub(in crate::queue) mod answers;
pub(in crate::queue) mod bound;
pub(in crate::queue) mod forgotten;
pub(in crate::queue) mod idle;
pub(in crate::queue) mod sessions;

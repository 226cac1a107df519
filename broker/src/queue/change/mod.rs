//! What commands do to queues, one file for each family of them.

pub(in crate::queue) mod admin;
pub(in crate::queue) mod deliver;
pub(in crate::queue) mod push;
pub(in crate::queue) mod settle;
pub(in crate::queue) mod sweep;
pub(in crate::queue) mod txn;

//! Who holds messages, and whom a queue serves.

pub(in crate::queue) mod active;
pub(in crate::queue) mod holders;
pub(in crate::queue) mod leases;

//! One node: what makes a data directory this node's.

pub mod identity;
pub mod secret;

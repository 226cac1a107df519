//! Where ready messages wait: in their line, in their groups, for a rate; and the keys they hold.

pub(in crate::queue) mod groups;
pub(in crate::queue) mod keys;
pub(in crate::queue) mod rate;
pub(in crate::queue) mod ready;

//! What is looked at while it runs: totals, the live view, load of one's own.

pub(crate) mod bench;
pub(crate) mod stats;
pub(crate) mod top;

//! When things are due: the clocks, the deadlines on them, and what schedules push.

pub(in crate::queue) mod clocks;
pub(in crate::queue) mod deadlines;
pub(in crate::queue) mod delays;
pub(in crate::queue) mod dues;
pub(in crate::queue) mod expiries;
pub(in crate::queue) mod schedules;

//! What goes into queues: single messages, streams of lines, transactions, schedules.

pub(crate) mod lines;
pub(crate) mod push;
pub(crate) mod schedule;
pub(crate) mod source;
pub(crate) mod tally;
pub(crate) mod txn;

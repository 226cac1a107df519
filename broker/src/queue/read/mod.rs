//! What is read of the state, which changes nothing.

pub(in crate::queue) mod explain;
pub(in crate::queue) mod live;
pub(in crate::queue) mod similar;
pub(in crate::queue) mod turnover;
pub(in crate::queue) mod view;

//! Talks to clients: accepts, says hello, reads requests, writes answers. Knows frames and commands; what they come to
//! is decided elsewhere.

mod accept;
pub(crate) mod answer;
mod budget;
pub(crate) mod connection;
pub(crate) mod dispatch;
mod explain;
mod groups;
mod history;
mod input;
mod options;
mod presence;
mod push;
pub(crate) mod reply_to;
mod schedules;
pub(crate) mod waiters;
mod waiting;

pub use self::accept::{MEMORY_DEFAULT_MAX, MEMORY_MIN, ServerOptions};
pub use self::dispatch::QueueOptions;

pub(crate) use self::accept::Server;

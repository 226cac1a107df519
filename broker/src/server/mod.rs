//! Talks to clients: accepts, says hello, reads requests, writes answers. Knows frames and commands; what they come to
//! is decided elsewhere.

mod accept;
pub(crate) mod access;
pub(crate) mod answer;
mod budget;
mod caller;
pub(crate) mod connection;
pub(crate) mod dispatch;
mod explain;
#[cfg(feature = "http")]
mod figures;
mod flight;
mod greetings;
mod groups;
mod history;
mod input;
pub(crate) mod login;
mod options;
mod order;
mod peek;
mod places;
mod presence;
mod push;
mod quiet;
mod reads;
pub(crate) mod reply_to;
mod roster;
mod schedules;
mod source;
mod stop;
mod used;
pub(crate) mod waiters;
mod waiting;
mod watched;

pub use self::accept::{MEMORY_DEFAULT_MAX, MEMORY_MIN, ServerOptions};
pub use self::dispatch::QueueOptions;
pub use self::places::Places;

pub(crate) use self::accept::Server;

//! Talks to clients: accepts, says hello, reads requests, writes answers. Knows frames and commands; what they come to
//! is decided elsewhere.

mod accept;
pub(crate) mod access;
pub(crate) mod answer;
mod bucket;
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
mod guesses;
mod history;
mod input;
pub(crate) mod login;
pub(crate) mod logs;
mod options;
mod order;
mod pace;
mod peek;
mod places;
mod presence;
mod push;
mod quiet;
mod reads;
pub(crate) mod reply_to;
mod roster;
mod schedules;
#[expect(clippy::module_inception, reason = "one looks for `Server` there")]
mod server;
pub(crate) mod slow;
mod source;
mod stop;
mod used;
mod watched;

pub use self::dispatch::QueueOptions;
pub use self::places::Places;
pub use self::server::{MEMORY_DEFAULT_MAX, MEMORY_MIN, ServerOptions};

pub(crate) use self::server::Server;

//! Talks to clients: accepts, says hello, reads requests, writes answers. Knows frames and commands; what they come to
//! is decided elsewhere.

mod accept;
mod answer;
mod connection;
mod dispatch;
mod reply_to;
mod waiters;

pub use self::accept::ServerOptions;
pub use self::dispatch::QueueOptions;

pub(crate) use self::accept::Server;

//! Requests and answers as JSON documents: what `queuectl --json` prints and what HTTP carries, written in one place.
//!
//! Both show the same values; where their documents differ in names or in what they leave out, each lists the fields it has
//! ([`queue`], [`stats`]). Not here: the grammar of the command line, statuses of HTTP, and texts for people.

pub mod explain;
mod fields;
pub mod group;
pub mod history;
pub mod logs;
pub mod message;
pub mod queue;
pub mod schedule;
pub mod schema;
pub mod settings;
pub mod stats;
pub mod time;
pub mod txn;
pub mod words;

pub use self::fields::base64;

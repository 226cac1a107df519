//! `queuectl`, the shell of queued: one-shot commands, batch files, and an interactive shell, all with the
//! grammar of one tree.
//!
//! [`main`] is the whole program. [`shell`] is the interactive part, for `queued dev`.
//!
//! # Floors
//!
//! Rooms by what a user does. What the product code of each may name of this crate beside itself; `tests/tidy.rs` holds them
//! to this list.
//!
//! ```text
//! show      nothing
//! failure   show
//! grammar   show failure
//! terminal  show failure
//! shell     show failure grammar terminal
//! queues    show failure grammar shell
//! messages  show failure grammar shell queues
//! send      show failure grammar shell queues
//! take      show failure grammar shell queues messages terminal
//! nodes     show failure grammar shell queues messages
//! watch     show failure grammar shell queues messages nodes terminal
//! aid       show failure grammar shell nodes
//! access    show failure grammar shell nodes
//! run       show failure grammar shell queues messages send take nodes watch aid access terminal
//! ```
//!
//! Rules that hold everywhere: standard output is data, standard error is talk; nothing is asked without a
//! terminal; a reader that goes away ends a command quietly.

mod access;
mod aid;
mod failure;
mod grammar;
mod messages;
mod nodes;
mod queues;
mod run;
mod send;
mod shell;
mod show;
mod take;
mod terminal;
mod watch;

pub use run::program::main;
pub use run::repl::{Extra, ShellOptions, shell};

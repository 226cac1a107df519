//! `queuectl`, the shell of queued: one-shot commands, batch files, and an interactive shell, all with the
//! grammar of one tree.
//!
//! [`main`] is the whole program. [`shell`] is the interactive part, for `queued dev`.
//!
//! Rules that hold everywhere: standard output is data, standard error is talk; nothing is asked without a
//! terminal; a reader that goes away ends a command quietly.

mod access;
mod again;
mod batch;
mod bench;
mod bundle;
mod catalogue;
mod check;
mod clients;
mod clock;
mod cluster;
mod commands;
mod context;
mod dead;
mod doctor;
mod edit;
mod errors;
mod exit;
mod explain;
mod grammar;
mod group;
mod history;
mod lease;
mod lines;
mod live;
mod members;
mod message;
mod misuse;
mod nodes;
mod output;
mod peek;
mod pop;
mod program;
mod push;
mod queue;
mod render;
mod repl;
mod schedule;
mod schema;
mod secret;
mod settle;
mod shell;
mod source;
mod stats;
mod stop;
mod sweep;
mod table;
mod take;
mod tally;
mod terminal;
mod top;
mod txn;
mod words;
mod work;

pub use program::main;
pub use repl::{Extra, ShellOptions, shell};

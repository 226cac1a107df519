//! From what was typed to the command that does it: the program, batches, the interactive shell.

pub(crate) mod again;
pub(crate) mod batch;
pub(crate) mod bundle;
pub(crate) mod commands;
pub(crate) mod misuse;
pub(crate) mod program;
pub(crate) mod repl;
pub(crate) mod words;

//! What completion offers that only a running cluster knows: names of queues and nodes, and the receipts of
//! this shell. Completers of the command tree are plain functions, so the source is kept per thread.

use std::cell::RefCell;
use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;

/// What is asked of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Names of queues.
    Queues,
    /// Names of nodes.
    Nodes,
    /// Receipts held by this shell, in short.
    Receipts,
}

/// Gives names, quickly, and none if it does not know.
pub(crate) type Source = Box<dyn Fn(Kind) -> Vec<String>>;

thread_local! {
    static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// Sets what completion on this thread asks.
pub(crate) fn set_source(source: Source) {
    SOURCE.set(Some(source));
}

fn candidates(kind: Kind, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let names = SOURCE.with_borrow(|source| source.as_ref().map(|source| source(kind)).unwrap_or_default());
    names.into_iter().filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
}

/// Completes a queue's name.
pub(crate) fn queues(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(Kind::Queues, current)
}

/// Completes a node's name.
pub(crate) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(Kind::Nodes, current)
}

/// Completes a short receipt.
pub(crate) fn receipts(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(Kind::Receipts, current)
}

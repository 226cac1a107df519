//! What is done with arbitrary bytes: each target is one function from bytes to whether they were believed. It panics
//! when something that must hold does not, and that is a finding.

pub(crate) mod commands;
pub(crate) mod frames;
pub(crate) mod hello;
pub(crate) mod opening;
pub(crate) mod proof;
pub(crate) mod recovery;
pub(crate) mod snapshot;

/// A target by name: what runs one input, and well-formed inputs to begin with.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool, fn() -> Vec<Vec<u8>>);

/// All of them.
pub(crate) const ALL: [Target; 7] = [
    ("commands", commands::run, commands::seeds),
    ("frames", frames::run, frames::seeds),
    ("hello", hello::run, hello::seeds),
    ("opening", opening::run, opening::seeds),
    ("proof", proof::run, proof::seeds),
    ("recovery", recovery::run, recovery::seeds),
    ("snapshot", snapshot::run, snapshot::seeds),
];

/// Runs what never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let waker = std::task::Waker::noop();
    match std::pin::pin!(future).poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("nothing here waits"),
    }
}

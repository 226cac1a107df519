//! queued, the broker: a durable work queue, replicated by Raft.
//!
//! [`queue`] decides and [`log`] remembers; neither sees the other, nor anything above. [`raft`] joins them into one
//! replicated machine, [`server`] and [`http`] bring to it what clients ask, [`node`] starts them all. What is outside of
//! the program ([`fs`], [`clock`], network, tasks, randomness) comes in through [`outside::Outside`], so that the same
//! broker runs on a machine and in a simulation. [`snapshots`] keep what the log may forget; [`tls`] secures connections
//! below the frames.
//!
//! [`raft`] has four rooms: [`raft::openraft`] is what openraft calls, [`raft::node`] what a machine has one of,
//! [`raft::group`] what one Raft group has, with [`raft::group::lead`] for what its leader holds in memory, and
//! [`raft::cluster`] what the members agree on about themselves.
//!
//! [`queue`] has rooms for what a message is (`messages`), where messages wait (`waiting`), who holds them (`leased`),
//! when things are due (`due`), what is remembered of clients (`clients`), who there is and what they may do (`auth`), who
//! changed what (`journal`), what commands do (`change`) and what is read (`read`).
//!
//! # Floors
//!
//! What the product code of each may name of this crate beside itself; `tests/tidy.rs` holds them to this list.
//!
//! ```text
//! clock      nothing
//! mutants    nothing
//! fs         mutants locked
//! log        fs mutants stages complaint locked
//! snapshots  fs mutants
//! queue      nothing
//! raft       queue log snapshots fs clock outside mutants stages complaint recurrence locked
//! server     raft queue log::LogError outside clock recurrence mutants tls locked logging
//! http       server raft queue::QueueStats queue::KeyNumber outside mutants config::address tls locked
//! node       http server raft log snapshots fs clock outside mutants tls locked
//! ```
//!
//! # The way of one push
//!
//! On the leader, from the socket to the disk and back; each step is the function that takes it:
//!
//! 1. [`Reading::run`] takes a frame off the connection, [`Reading::start`] makes it a request that is in flight.
//! 2. [`Dispatch::handle`] sees that it is a push; [`Dispatch::push`] checks everything about it that needs no state,
//!    fills defaults in and makes it a command.
//! 3. [`Proposer::propose`] lets it wait for the next entry. [`Proposer::run`] takes all that waits, parked leases
//!    behind the pushes they wait for included, makes it one [`Proposer::entry`], stamps it with both clocks
//!    ([`Seat::stamp`]) and hands it to Raft.
//! 4. [`LogStore`] gives the entry to [`Log::append`]: it can be read from here on, and is not durable yet.
//!    [`Writer::run`] writes all that waits as one group and syncs it ([`Writer::write`]); then Raft hears of it.
//! 5. Meanwhile [`AppendStream::send`] has sent the entry to each follower, where [`handle_append`] takes it to its own
//!    step 4 and answers when it is durable. Durable on a majority, it is committed.
//! 6. [`Machine::apply_batch`] applies it, on every node; [`State::apply`] decides what comes of each command:
//!    [`State::command`] sees to it that it counts once, [`State::push`] stores references to the bodies.
//! 7. [`Finished::of`] takes the outcome up where the push waited, [`ReplyTo::finish`] brings it back to its connection,
//!    [`respond`] makes it a response, and [`Writing::run`] writes the frame.
//!
//! A lease goes the same way, with two turns of its own: [`Waiters::arrive`] parks it while its queue is empty, and
//! [`delivered`] reads the bodies back with [`Log::read_bodies`].
//!
//! [`Reading::run`]: server::connection::Reading::run
//! [`Reading::start`]: server::connection::Reading::start
//! [`Dispatch::handle`]: server::dispatch::Dispatch::handle
//! [`Dispatch::push`]: server::dispatch::Dispatch::push
//! [`Proposer::propose`]: raft::group::lead::proposer::Proposer::propose
//! [`Proposer::run`]: raft::group::lead::proposer::Proposer::run
//! [`Proposer::entry`]: raft::group::lead::proposer::Proposer::entry
//! [`Seat::stamp`]: raft::group::leadership::Seat::stamp
//! [`LogStore`]: raft::openraft::log_store::LogStore
//! [`Log::append`]: log::Log::append
//! [`Writer::run`]: log::Writer::run
//! [`Writer::write`]: log::Writer::write
//! [`AppendStream::send`]: raft::openraft::network::AppendStream::send
//! [`handle_append`]: raft::node::peer_server::handle_append
//! [`Machine::apply_batch`]: raft::group::machine::Machine::apply_batch
//! [`State::apply`]: queue::State::apply
//! [`State::command`]: queue::apply::Apply::command
//! [`State::push`]: queue::apply::Apply::push
//! [`Finished::of`]: server::reply_to::Finished::of
//! [`ReplyTo::finish`]: server::reply_to::ReplyTo::finish
//! [`respond`]: server::answer::respond
//! [`Writing::run`]: server::connection::Writing::run
//! [`Waiters::arrive`]: raft::group::lead::waiters::Waiters::arrive
//! [`delivered`]: server::answer::delivered
//! [`Log::read_bodies`]: log::Log::read_bodies

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the map leads inside; `cargo doc` still fails when a step moves"
)]

pub mod clock;
pub mod commands;
mod complaint;
pub mod config;
mod dev;
pub mod fs;
#[cfg(feature = "http")]
pub mod http;
#[cfg(not(feature = "http"))]
pub mod http {
    //! A build without HTTP has its settings all the same.
    mod options;
    pub use self::options::HttpOptions;
}
mod locked;
pub mod log;
mod logging;
pub mod mutants;
pub mod node;
pub mod outside;
pub mod queue;
pub mod raft;
mod recurrence;
pub mod server;
pub mod snapshots;
pub mod stages;
pub mod tls;

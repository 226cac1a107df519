//! The client against scripted nodes on a network in memory, on virtual time.

mod presence;
mod requests;
mod scripted;
mod sessions;
mod worker;

//! The client against scripted nodes on a network in memory, on virtual time.

mod first_steps;
mod presence;
mod queues;
mod requests;
mod scripted;
mod sessions;
mod small;
mod worker;

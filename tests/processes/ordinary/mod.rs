//! What a service meets on an ordinary day: many clients, short ones, silent ones, hostile ones, clocks that are wrong. Each
//! file is one resource or one promise; strangers are raw sockets, not our own client.

mod clocks;
mod descriptors;
mod flight;
mod greeting;
mod leases;
mod memory;
mod pipeline;
mod reads;
mod sessions;

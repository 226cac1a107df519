//! What tests of the whole need: clusters of real processes, a way to wait for what they should do, and clients.
//!
//! Nothing here sleeps for a result: [`until`] looks again until a condition holds, and says what was missing if it
//! does not within its limit.

pub mod bodies;
pub mod cluster;
pub mod dial;
pub mod history;
pub mod http;
pub mod impostor;
pub mod ledger;
pub mod login;
pub mod machines;
pub mod net;
pub mod process;
pub mod program;
pub mod raw;
pub mod schema;
pub mod settings;
pub mod simulation;
pub mod stranger;
pub mod terminal;
pub mod trace;

mod ports;
mod slots;
mod until;

pub use self::ports::free_port;
pub use self::until::{LIMIT, until};

//! PURE: the replicated state machine, synchronous and total.
//!
//! [`State::apply`] reads the state and one entry, nothing else: no clock, no disk, no randomness, no setting of
//! this node. So equal logs give equal states, and equal states give equal bytes ([`State::encode`]).

mod active;
mod admin;
mod answers;
pub(crate) mod apply;
mod bound;
mod check;
mod clocks;
mod codec;
pub mod command;
mod dead;
mod deadlines;
mod deliver;
mod digest;
mod dues;
mod expiries;
mod explain;
mod forgotten;
mod gone;
mod groups;
mod idle;
mod keys;
mod level;
mod line;
mod live;
mod message;
mod messages;
#[cfg(any(test, feature = "sim"))]
pub mod model;
mod nodes;
mod piece;
mod push;
mod rate;
mod ready;
mod recovered;
pub mod reply;
mod rotation;
mod run;
mod schedules;
mod sessions;
mod settle;
mod similar;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod turnover;
mod txn;
pub mod view;

pub use active::Consumer;
pub(crate) use bound::is_grace;
pub use bound::{Bound, RELEASED_COUNT_MAX};
pub use clocks::Moment;
pub use codec::BadState;
pub use deadlines::{FIRED_COUNT_MAX, NextDue};
pub use forgotten::SESSIONS_FORGOTTEN_MAX;
pub use gone::{Gone, Went};
pub use level::{BadSection, LEVEL_KNOWN_MAX};
pub use nodes::{Admission, Assigned, FOUNDER, NodeStanding};
pub use recovered::{ID_MAX, SKIPPED, going_on_from};
pub use rotation::{Rotation, Stage};
pub use schedules::NextFire;
pub use state::State;
pub use sweep::SWEPT_COUNT_MAX;
pub use view::{Holding, Peeked, QueueStats, Totals};

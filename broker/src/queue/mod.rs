//! PURE: the replicated state machine, synchronous and total.
//!
//! [`State::apply`] reads the state and one entry, nothing else: no clock, no disk, no randomness, no setting of
//! this node. So equal logs give equal states, and equal states give equal bytes ([`State::encode`]).

pub(crate) mod apply;
mod auth;
mod change;
mod clients;
mod due;
mod journal;
mod leased;
mod messages;
mod read;
mod waiting;

mod catalog;
mod check;
mod codec;
pub mod command;
mod digest;
mod level;
#[cfg(any(test, feature = "sim"))]
pub mod model;
mod nodes;
mod numbers;
#[expect(clippy::module_inception, reason = "one looks for `Queue` there")]
mod queue;
mod recovered;
pub mod reply;
mod rotation;
mod state;
#[cfg(test)]
mod tests;

pub use auth::{By, Denied, KeyNumber, PrincipalNumber, ROOT, ROOT_KEY, Standing};
pub use change::sweep::SWEPT_COUNT_MAX;
pub(crate) use clients::bound::is_grace;
pub use clients::bound::{Bound, RELEASED_COUNT_MAX};
pub use clients::forgotten::SESSIONS_FORGOTTEN_MAX;
pub use codec::BadState;
pub use due::clocks::Moment;
pub use due::deadlines::{FIRED_COUNT_MAX, NextDue};
pub use due::schedules::NextFire;
pub use leased::active::Consumer;
pub use level::{BadSection, LEVEL_KNOWN_MAX};
pub use messages::gone::{Gone, Went};
pub use nodes::{Admission, Assigned, FOUNDER, NodeStanding};
pub use read::view::{Holding, Peeked, QueueStats, Totals};
pub use recovered::{ID_MAX, SKIPPED, going_on_from};
pub use rotation::{Rotation, Stage};
pub use state::State;

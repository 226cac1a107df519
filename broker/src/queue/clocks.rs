//! The replicated clocks as an entry finds them. The elapsed clock, which durations run on, never goes back. The wall clock
//! is a label: it goes back by [`Op::SetWall`](super::command::Op::SetWall) alone.

use super::apply::Apply;
use super::reply::Outcome;

/// How far the wall clock may have moved on since the leader looked, in milliseconds, for what it says about it to hold.
pub(super) const WALL_SET_WITHIN_MS: u64 = 60_000;

impl Apply<'_> {
    /// Sets the wall clock. A later time is taken as from a stamp. An earlier one is taken only while the wall clock is at
    /// `from_ms`, or less than [`WALL_SET_WITHIN_MS`] later: a command that comes twice, or after another one has set the
    /// wall clock back, finds it at an earlier time and changes nothing.
    pub(super) fn set_wall(&mut self, from_ms: u64, to_ms: u64) -> Outcome {
        let wall_ms = self.state.wall_ms;
        let is_there = wall_ms.checked_sub(from_ms).is_some_and(|since_ms| since_ms < WALL_SET_WITHIN_MS);
        if to_ms > wall_ms || is_there {
            self.state.wall_ms = to_ms;
        }
        Outcome::Ticked
    }
}

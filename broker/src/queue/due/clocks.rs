//! The replicated clocks as an entry finds them. The elapsed clock, which durations run on, never goes back. The wall clock
//! is a label: it goes back by [`Op::SetWall`](crate::queue::command::Op::SetWall) alone.

use queue_protocol::wire::request::Due;
use serde::{Deserialize, Serialize};

use crate::queue::apply::Apply;
use crate::queue::command::Stamps;
use crate::queue::reply::Outcome;
use crate::queue::state::State;

/// How far the wall clock may have moved on since the leader looked, in milliseconds, for what it says about it to hold.
pub(super) const WALL_SET_WITHIN_MS: u64 = 60_000;

/// One time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Unix milliseconds: what is shown.
    pub wall_ms: u64,
    /// Milliseconds on the clock that durations run on.
    pub elapsed_ms: u64,
}

/// The clocks of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Clocks {
    /// Time of day in Unix milliseconds; a label, which may be set back.
    wall_ms: u64,
    /// Milliseconds on the clock that durations run on; never goes back.
    elapsed_ms: u64,
    /// Milliseconds on the clock that leases end by; never goes back, and stands still while there is no quorum.
    lease_ms: u64,
}

impl Clocks {
    pub(in crate::queue) fn new(wall_ms: u64, elapsed_ms: u64, lease_ms: u64) -> Self {
        Self { wall_ms, elapsed_ms, lease_ms }
    }

    pub(in crate::queue) fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    pub(in crate::queue) fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    pub(in crate::queue) fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// The times that durations and labels are counted from.
    pub(in crate::queue) fn now(&self) -> Moment {
        Moment { wall_ms: self.wall_ms, elapsed_ms: self.elapsed_ms }
    }

    /// Goes on to the stamps of an entry; gives the lease clock at its stamping, which counts what is not confirmed yet.
    pub(in crate::queue) fn advance(&mut self, stamps: &Stamps) -> u64 {
        self.wall_ms = self.wall_ms.max(stamps.wall_ms);
        self.elapsed_ms = self.elapsed_ms.max(stamps.elapsed_ms);
        self.lease_ms = self.lease_ms.saturating_add(stamps.confirmed_ms);
        self.lease_ms.saturating_add(stamps.unconfirmed_ms)
    }

    /// Sets the wall clock, back as well.
    fn set_wall(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    /// Shows a later time, for reading: the wall clock as it is then, and the elapsed clock no earlier than now.
    fn show(&mut self, now: Moment) {
        self.wall_ms = now.wall_ms;
        self.elapsed_ms = self.elapsed_ms.max(now.elapsed_ms);
    }

    /// The clocks, to be made wrong: wall, elapsed, lease.
    #[cfg(test)]
    pub(in crate::queue) fn parts_mut(&mut self) -> [&mut u64; 3] {
        [&mut self.wall_ms, &mut self.elapsed_ms, &mut self.lease_ms]
    }
}

/// When a message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::queue) enum DueAt {
    /// A delay: on the elapsed clock.
    Elapsed(u64),
    /// A time that was named: on the wall clock.
    Wall(u64),
}

impl Moment {
    /// Milliseconds that have passed from `then` to this time; 0 if it is to come.
    pub(in crate::queue) fn since(self, then: Self) -> u64 {
        self.elapsed_ms.saturating_sub(then.elapsed_ms)
    }

    /// What the wall clock will show at a time of the elapsed clock, if nobody sets it.
    pub(in crate::queue) fn label(self, elapsed_ms: u64) -> u64 {
        self.wall_ms.saturating_add(elapsed_ms.saturating_sub(self.elapsed_ms))
    }

    /// What the wall clock would have shown at an earlier time of the elapsed clock if nobody had set it.
    pub fn past_label(self, elapsed_ms: u64) -> u64 {
        self.wall_ms.saturating_sub(self.elapsed_ms.saturating_sub(elapsed_ms))
    }

    /// Milliseconds until a time of the elapsed clock.
    pub(in crate::queue) fn left(self, elapsed_ms: u64) -> u64 {
        elapsed_ms.saturating_sub(self.elapsed_ms)
    }
}

impl DueAt {
    /// What a push asks for; `None` if that is now.
    pub(in crate::queue) fn of(due: Due, now: Moment) -> Option<Self> {
        let due = match due {
            Due::Now => return None,
            Due::AfterMs(delay_ms) => Self::after(delay_ms, now),
            Due::AtMs(wall_ms) => Self::Wall(wall_ms),
        };
        (!due.is_past(now)).then_some(due)
    }

    /// So many milliseconds from now.
    pub(in crate::queue) fn after(delay_ms: u64, now: Moment) -> Self {
        Self::Elapsed(now.elapsed_ms.saturating_add(delay_ms))
    }

    /// Whether that has come.
    pub(in crate::queue) fn is_past(self, now: Moment) -> bool {
        match self {
            Self::Elapsed(ms) => ms <= now.elapsed_ms,
            Self::Wall(ms) => ms <= now.wall_ms,
        }
    }

    /// What the wall clock shows then.
    pub(in crate::queue) fn label(self, now: Moment) -> u64 {
        match self {
            Self::Elapsed(ms) => now.label(ms),
            Self::Wall(ms) => ms,
        }
    }

    /// Milliseconds left of a delay; `None` if it waits for a time that was named.
    pub(in crate::queue) fn left_ms(self, now: Moment) -> Option<u64> {
        match self {
            Self::Elapsed(ms) => Some(now.left(ms)),
            Self::Wall(_) => None,
        }
    }
}

impl State {
    /// The clocks as of the last entry.
    pub fn now(&self) -> Moment {
        self.clocks().now()
    }

    /// The same state at a later time, for reading: nothing has come due by it. It shares everything with this one.
    pub fn at(&self, now: Moment) -> Self {
        let mut later = self.clone();
        later.clocks_mut().show(now);
        later
    }
}

impl Apply<'_> {
    /// Sets the wall clock. A later time is taken as from a stamp. An earlier one is taken only while the wall clock is at
    /// `from_ms`, or less than [`WALL_SET_WITHIN_MS`] later: a command that comes twice, or after another one has set the
    /// wall clock back, finds it at an earlier time and changes nothing.
    pub(in crate::queue) fn set_wall(&mut self, from_ms: u64, to_ms: u64) -> Outcome {
        let wall_ms = self.state.wall_ms();
        let is_there = wall_ms.checked_sub(from_ms).is_some_and(|since_ms| since_ms < WALL_SET_WITHIN_MS);
        if to_ms >= wall_ms {
            self.state.clocks_mut().set_wall(to_ms);
        } else if is_there {
            self.state.clocks_mut().set_wall(to_ms);
            self.state.schedules_mut().recount();
        }
        Outcome::Ticked
    }
}

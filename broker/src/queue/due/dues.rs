//! The delayed messages of one queue by when they are due: two orders, for delays run on the elapsed clock, and named times
//! wait for a wall clock that may be set.

use imbl::OrdSet;
use queue_protocol::names::MessageId;

use super::clocks::{DueAt, Moment};
use crate::queue::queue::Deadline;

/// Waiting messages by delay (elapsed clock) and by named time (wall clock).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Dues {
    elapsed: OrdSet<Deadline>,
    wall: OrdSet<Deadline>,
}

impl Dues {
    pub(in crate::queue) fn insert(&mut self, due: DueAt, id: MessageId) {
        match due {
            DueAt::Elapsed(ms) => self.elapsed.insert((ms, id)),
            DueAt::Wall(ms) => self.wall.insert((ms, id)),
        };
    }

    pub(in crate::queue) fn remove(&mut self, due: DueAt, id: MessageId) {
        match due {
            DueAt::Elapsed(ms) => self.elapsed.remove(&(ms, id)),
            DueAt::Wall(ms) => self.wall.remove(&(ms, id)),
        };
    }

    /// The delay that is over first.
    pub(super) fn first_delay(&self) -> Option<Deadline> {
        self.elapsed.get_min().copied()
    }

    /// The named time that comes first.
    pub(super) fn first_named(&self) -> Option<Deadline> {
        self.wall.get_min().copied()
    }

    /// The message that is due first, if nobody sets the wall clock.
    pub(in crate::queue) fn first(&self, now: Moment) -> Option<(DueAt, MessageId)> {
        let delay = self.first_delay().map(|(ms, id)| (DueAt::Elapsed(ms), id));
        let named = self.first_named().map(|(ms, id)| (DueAt::Wall(ms), id));
        delay.into_iter().chain(named).min_by_key(|(due, id)| (due.label(now), *id))
    }
}

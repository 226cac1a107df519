//! How old the state of this node may be, for reads that ask nobody; and what the clocks show now, for reads that tell
//! ages.
//!
//! ```text
//! this node   ping sent ────────────────► answered: committed up to C        applied C: as fresh as (a)
//! the leader        (a) a majority followed ── says C
//! ```
//!
//! A leader that a majority followed at (a) had committed everything by then that anybody had been told of. When that was
//! is counted from the moment the ping was sent, by this node's own clock: neither clocks nor the way need be trusted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::values::milliseconds;
use queue_protocol::wire::peer::Lead;
use queue_protocol::wire::response::Age;
use tokio::time::Instant;

use super::times::Now;
use crate::locked::Locked as _;
use crate::queue::{Moment, State};
use crate::raft::Consensus;

/// What was said and is not applied yet; more of it says nothing that matters.
const TOLD_MAX: usize = 64;

/// What leaders said that they had committed, and since when all of it is applied here.
#[derive(Default)]
pub(crate) struct Told {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Index committed, and as of when.
    ahead: VecDeque<(u64, Instant)>,
    fresh: Option<Instant>,
}

impl Told {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// A node that leads said this, not before `asked`.
    pub(crate) fn hear(&self, lead: Lead, asked: Instant) {
        let Some(at) = asked.checked_sub(Duration::from_millis(lead.confirmed_age_ms)) else { return };
        let mut inner = self.inner();
        if inner.ahead.len() < TOLD_MAX {
            inner.ahead.push_back((lead.commit_index, at));
        }
    }

    fn age(&self, applied: u64, now: Instant) -> Age {
        let mut inner = self.inner();
        let reached = inner.ahead.iter().filter(|(index, _)| *index <= applied).map(|(_, at)| *at).max();
        inner.fresh = inner.fresh.max(reached);
        inner.ahead.retain(|(index, _)| *index > applied);
        inner.fresh.map_or(Age::Unknown, |at| Age::AtMostMs(milliseconds(now.saturating_duration_since(at))))
    }
}

impl Consensus {
    /// Reads what this node has applied, with clocks that show what time it is now, and with the index of the last entry.
    pub(crate) fn read_now<T>(&self, look: impl FnOnce(&State, u64) -> T) -> T {
        let now = self.now();
        self.read(|state, index| look(&state.at(now), index))
    }

    /// Both clocks now, as a leader would stamp them.
    pub(crate) fn now(&self) -> Moment {
        let Now { wall_ms, elapsed_ms } = self.times.now();
        Moment { wall_ms, elapsed_ms }
    }

    /// What this node says of itself if it leads.
    pub(in crate::raft) fn lead(&self) -> Option<Lead> {
        self.ready()?;
        let confirmed_age_ms = milliseconds(self.seat.acked_age()?);
        Some(Lead { commit_index: self.commit_index(), confirmed_age_ms })
    }

    /// How old what this node has applied may be.
    pub(crate) fn age(&self) -> Age {
        let now = Instant::now();
        if let Some(lead) = self.lead() {
            self.told.hear(lead, now);
        }
        self.told.age(self.machine.applied().map_or(0, |applied| applied.index), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(commit_index: u64, confirmed_age_ms: u64) -> Lead {
        Lead { commit_index, confirmed_age_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_as_old_as_what_was_last_said_and_is_applied() {
        let told = Told::default();
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        assert_eq!(told.age(7, begin), Age::Unknown);
        told.hear(lead(7, 100), begin);
        assert_eq!(told.age(6, after(50)), Age::Unknown, "it is not applied");
        assert_eq!(told.age(7, after(50)), Age::AtMostMs(150));
        told.hear(lead(9, 0), after(1_000));
        assert_eq!(told.age(8, after(1_500)), Age::AtMostMs(1_600), "what was said last is not applied");
        assert_eq!(told.age(9, after(1_500)), Age::AtMostMs(500));
        told.hear(lead(9, 5_000), after(1_500));
        assert_eq!(
            told.age(9, after(1_600)),
            Age::AtMostMs(600),
            "a leader that nobody follows makes nothing younger"
        );
    }
}

//! Deadlines: which queue has the next one, and what happens when one passes.
//!
//! A deadline passes when it is fired, at the head of an entry, and not before: until then an ack or extend
//! succeeds. Fired in this order: leases by (lease clock, id), delays by (wall clock, id), unused sessions by (wall
//! clock, id); at most [`FIRED_COUNT_MAX`] an entry.

use imbl::OrdSet;
use queue_protocol::names::{MessageId, SessionId};

use super::apply::Apply;
use super::command::ErrorText;
use super::messages::{Deadline, Queue};
use super::state::{QueueNumber, State};

/// Deadlines fired by one entry, at most.
pub const FIRED_COUNT_MAX: usize = 4_096;

/// Error text of a message whose lease ended.
pub(super) const LEASE_ENDED: &str = "lease ended";

/// What the leader must propose a tick for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NextDue {
    /// Wall clock of the next delay to pass or session to be looked at, Unix milliseconds.
    pub wall_ms: Option<u64>,
    /// Lease clock at which the next lease ends.
    pub lease_ms: Option<u64>,
    /// Leases outstanding: while there are any, the lease clock must be carried by entries now and then.
    pub leases: u64,
}

/// The first deadline of each queue that has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    leases: OrdSet<(Deadline, QueueNumber)>,
    delays: OrdSet<(Deadline, QueueNumber)>,
}

/// The first deadlines of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Head {
    lease: Option<Deadline>,
    delay: Option<Deadline>,
}

impl Head {
    pub(super) fn of(queue: &Queue) -> Self {
        Self { lease: queue.first_lease_end(), delay: queue.first_due() }
    }
}

impl Heads {
    /// Replaces what is listed for a queue.
    pub(super) fn shift(&mut self, number: QueueNumber, before: Head, after: Head) {
        let shift = |set: &mut OrdSet<_>, before: Option<Deadline>, after: Option<Deadline>| {
            if before != after {
                if let Some(before) = before {
                    set.remove(&(before, number));
                }
                if let Some(after) = after {
                    set.insert((after, number));
                }
            }
        };
        shift(&mut self.leases, before.lease, after.lease);
        shift(&mut self.delays, before.delay, after.delay);
    }

    /// Asserts that this is what the queues say.
    pub(super) fn check(&self, state: &State) {
        let mut fresh = Self::default();
        for (number, queue) in &state.queues {
            fresh.shift(*number, Head::default(), Head::of(queue));
        }
        assert!(fresh.leases == self.leases && fresh.delays == self.delays, "heads of the queues");
    }
}

impl State {
    /// What the leader must propose a tick for.
    pub fn next_due(&self) -> NextDue {
        let delay = self.heads.delays.get_min().map(|((due_ms, _), _)| *due_ms);
        let check = self.sessions.first_check().map(|(check_ms, _)| check_ms);
        NextDue {
            wall_ms: delay.into_iter().chain(check).min(),
            lease_ms: self.heads.leases.get_min().map(|((deadline_ms, _), _)| *deadline_ms),
            leases: self.counts.leased,
        }
    }

    /// Whether anything can be fired now.
    pub(super) fn is_due(&self) -> bool {
        let next = self.next_due();
        next.lease_ms.is_some_and(|ms| ms <= self.lease_clock_ms)
            || next.wall_ms.is_some_and(|ms| ms <= self.wall_ms)
    }

    fn lease_ended(&self) -> Option<(MessageId, QueueNumber)> {
        let ((deadline_ms, id), number) = *self.heads.leases.get_min()?;
        (deadline_ms <= self.lease_clock_ms).then_some((id, number))
    }

    fn delay_passed(&self) -> Option<(MessageId, QueueNumber)> {
        let ((due_ms, id), number) = *self.heads.delays.get_min()?;
        (due_ms <= self.wall_ms).then_some((id, number))
    }

    fn session_unused(&self) -> Option<SessionId> {
        let (check_ms, id) = self.sessions.first_check()?;
        (check_ms <= self.wall_ms).then_some(id)
    }
}

impl Apply<'_> {
    /// Fires what is due.
    pub(super) fn fire(&mut self) {
        let wall_ms = self.state.wall_ms;
        for _ in 0..FIRED_COUNT_MAX {
            if let Some((id, number)) = self.state.lease_ended() {
                let session = self.change(number, |queue| {
                    let leased = queue.end_lease(id)?;
                    queue.fail(id, leased.message, None, ErrorText::cut(LEASE_ENDED), wall_ms);
                    leased.session
                });
                self.unhold(session, id);
            } else if let Some((id, number)) = self.state.delay_passed() {
                self.change(number, |queue| queue.come_due(id));
            } else if let Some(id) = self.state.session_unused() {
                let has_leases = self.state.has_leases(id);
                self.state.sessions.look(id, has_leases, wall_ms);
            } else {
                break;
            }
        }
        self.state.sessions.release_forgotten(FIRED_COUNT_MAX, wall_ms);
    }
}

//! Deadlines: which queue has the next one of each kind, and what happens when one passes.
//!
//! A deadline passes when it is fired, at the head of an entry, and not before: until then an ack or extend
//! succeeds. Fired in the order of [`Kind`], within a queue by (deadline, id); last sessions that are not used, for which
//! nothing is proposed; at most [`FIRED_COUNT_MAX`] an entry. A queue is fired as far as that goes before the next one is
//! looked at.

use imbl::OrdSet;
use queue_protocol::names::{MessageId, SessionId};
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::response::{DeadReason, EventKind};

use super::clocks::Moment;
use crate::queue::apply::Apply;
use crate::queue::catalog::{Catalog, QueueNumber};
use crate::queue::command::ErrorText;
use crate::queue::queue::{Deadline, Failure, Queue};
use crate::queue::state::State;
use crate::queue::waiting::groups::Refill;

/// Deadlines fired by one entry, at most.
pub const FIRED_COUNT_MAX: usize = 4_096;

/// Error text of a message whose lease ended.
pub(super) const LEASE_ENDED: &str = "lease ended";

/// What the leader must propose a tick for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NextDue {
    /// Wall clock of the next message that waits for a named time, Unix milliseconds.
    pub wall_ms: Option<u64>,
    /// Elapsed clock at which the next duration is over.
    pub elapsed_ms: Option<u64>,
    /// Lease clock at which the next lease ends, or the next claim that keeps messages from others.
    pub lease_ms: Option<u64>,
    /// Leases outstanding: while there are any, the lease clock must be carried by entries now and then.
    pub leases: u64,
}

/// The message of a deadline that is of none.
const NONE: MessageId = MessageId(0);

/// What a deadline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A lease, on the lease clock.
    Lease,
    /// A delay, on the elapsed clock.
    Delay,
    /// A wait for a named time, on the wall clock.
    NotBefore,
    /// A time to live, on the elapsed clock.
    Expiry,
    /// The life of the rest of a group whose message died, at once.
    Parked,
    /// The stay of a dead message, on the elapsed clock.
    Dead,
    /// A dedup window, on the elapsed clock. Nothing is proposed for it: it waits for the next entry.
    Dedup,
    /// The wait for the queue's rate, on the elapsed clock.
    Rate,
    /// The same while nothing waits for it. Nothing is proposed for it.
    RateIdle,
    /// The wait for the rate of a group, on the elapsed clock.
    GroupRate,
    /// The same while nothing waits for it, or the use of the group's bucket. Nothing is proposed for it.
    GroupRateIdle,
    /// The claim of the session that a queue serves alone, on the lease clock, while it keeps messages from others. The
    /// last one: what happens before may leave nothing to be kept.
    Claim,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Lease,
        Self::Delay,
        Self::NotBefore,
        Self::Expiry,
        Self::Parked,
        Self::Dead,
        Self::Dedup,
        Self::Rate,
        Self::RateIdle,
        Self::GroupRate,
        Self::GroupRateIdle,
        Self::Claim,
    ];
    /// Those on the elapsed clock that entries are proposed for.
    const PROPOSED: [Self; 6] =
        [Self::Delay, Self::Expiry, Self::Parked, Self::Dead, Self::Rate, Self::GroupRate];

    /// Now, on the clock it is counted on.
    fn now_ms(self, state: &State) -> u64 {
        match self {
            Self::Lease | Self::Claim => state.lease_clock_ms(),
            Self::NotBefore => state.wall_ms(),
            _ => state.elapsed_ms(),
        }
    }
}

/// The first deadline of each queue that has one, by kind.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Heads([OrdSet<(Deadline, QueueNumber)>; Kind::ALL.len()]);

/// The first deadlines of one queue, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::queue) struct Head([Option<Deadline>; Kind::ALL.len()]);

impl Head {
    pub(in crate::queue) fn of(queue: &Queue) -> Self {
        Self(Kind::ALL.map(|kind| queue.first(kind)))
    }
}

impl Heads {
    /// Replaces what is listed for a queue.
    pub(in crate::queue) fn shift(&mut self, number: QueueNumber, before: Head, after: Head) {
        for ((set, before), after) in self.0.iter_mut().zip(before.0).zip(after.0) {
            if before != after {
                if let Some(before) = before {
                    set.remove(&(before, number));
                }
                if let Some(after) = after {
                    set.insert((after, number));
                }
            }
        }
    }

    /// The first deadline of a kind, and the queue that has it.
    fn first(&self, kind: Kind) -> Option<(u64, QueueNumber)> {
        self.0[kind as usize].get_min().map(|((deadline_ms, _), number)| (*deadline_ms, *number))
    }

    /// Asserts that this is what the queues say.
    pub(in crate::queue) fn check(&self, catalog: &Catalog) {
        let mut fresh = Self::default();
        for (number, queue) in catalog.iter() {
            assert_eq!(queue.head, Head::of(queue), "head of {}", queue.name);
            fresh.shift(number, Head::default(), queue.head);
        }
        assert!(fresh.0 == self.0, "heads of the queues");
    }
}

impl Queue {
    /// The first deadline of a kind.
    fn first(&self, kind: Kind) -> Option<Deadline> {
        match kind {
            Kind::Lease => self.leased.first_end(),
            Kind::Delay => self.delayed.dues().first_delay(),
            Kind::NotBefore => self.delayed.dues().first_named(),
            Kind::Expiry => self.expiries.first(),
            Kind::Parked => self.ready.first_parked().map(|id| (0, id)),
            Kind::Dead => self.first_dead_end(),
            Kind::Dedup => self.dedup.first(),
            Kind::Rate | Kind::RateIdle => {
                let (at_ms, holds) = self.rate_allows_at_ms()?;
                (holds == (kind == Kind::Rate)).then_some((at_ms, NONE))
            }
            Kind::GroupRate => self.ready.groups.first_refill(Refill::Opens).map(|(at_ms, _)| (at_ms, NONE)),
            Kind::Claim => self.claim_end().map(|at_ms| (at_ms, NONE)),
            Kind::GroupRateIdle => {
                self.ready.groups.first_refill(Refill::Idle).map(|(at_ms, _)| (at_ms, NONE))
            }
        }
    }

    /// Lets one deadline of a kind pass. The session that loses a lease by it.
    fn fire(&mut self, kind: Kind, id: MessageId, now: Moment) -> Option<SessionId> {
        match kind {
            Kind::Lease => {
                let leased = self.end_lease(id)?;
                let error = ErrorText::cut(LEASE_ENDED);
                let failure = Failure { kind: EventKind::LeaseEnded, delay_ms: None, error };
                let session = leased.session;
                self.fail(id, leased, failure, now);
                return session;
            }
            Kind::Delay | Kind::NotBefore => self.come_due(id),
            Kind::Expiry => {
                if let Some(message) = self.take_waiting(id) {
                    self.expire(id, message, now);
                }
            }
            Kind::Parked => {
                if let Some(message) = self.take_waiting(id) {
                    self.bury(id, message, DeadReason::Admin, now);
                }
            }
            Kind::Dead => self.delete_dead(id, GoneHow::Forgotten),
            Kind::Dedup => self.dedup.forget_first(),
            Kind::Rate | Kind::RateIdle => self.bucket = self.bucket.refilled(self.rate(), now.elapsed_ms),
            Kind::GroupRate => self.ready.groups.refill(Refill::Opens, now.elapsed_ms),
            Kind::GroupRateIdle => self.ready.groups.refill(Refill::Idle, now.elapsed_ms),
            Kind::Claim => self.active.end(None),
        }
        None
    }
}

impl State {
    /// What the leader must propose a tick for.
    pub fn next_due(&self) -> NextDue {
        let first = |kind| self.catalog().heads().first(kind).map(|(deadline_ms, _)| deadline_ms);
        let deadlines = Kind::PROPOSED.into_iter().filter_map(first);
        NextDue {
            wall_ms: first(Kind::NotBefore),
            elapsed_ms: deadlines.min(),
            lease_ms: [Kind::Lease, Kind::Claim].into_iter().filter_map(first).min(),
            leases: self.catalog().counts().leased,
        }
    }

    /// Whether anything can be fired now.
    pub(in crate::queue) fn is_due(&self) -> bool {
        let next = self.next_due();
        next.lease_ms.is_some_and(|ms| ms <= self.lease_clock_ms())
            || next.wall_ms.is_some_and(|ms| ms <= self.wall_ms())
            || next.elapsed_ms.is_some_and(|ms| ms <= self.elapsed_ms())
    }

    /// A queue in which a deadline has passed, and of which kind.
    fn passed(&self) -> Option<(Kind, QueueNumber)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let (deadline_ms, number) = self.catalog().heads().first(kind)?;
            (deadline_ms <= kind.now_ms(self)).then_some((kind, number))
        })
    }

    /// The session to be forgotten because it was not used for too long.
    fn session_unused(&mut self) -> Option<SessionId> {
        let (idle_ms, elapsed_ms) = (self.sessions().idle_ms_max(), self.elapsed_ms());
        let (sessions, holders) = self.sessions_beside_holders();
        sessions.unused(None, idle_ms, elapsed_ms, |id| holders.has(id))
    }

    /// The session to be forgotten so that another one can open.
    pub(in crate::queue) fn session_in_the_way(&mut self) -> Option<SessionId> {
        let elapsed_ms = self.elapsed_ms();
        let (sessions, holders) = self.sessions_beside_holders();
        sessions.in_the_way(elapsed_ms, |id| holders.has(id))
    }
}

impl Apply<'_> {
    /// Fires what is due.
    pub(in crate::queue) fn fire(&mut self) {
        let now = self.state.now();
        let mut left = FIRED_COUNT_MAX;
        while left > 0 {
            if let Some((kind, number)) = self.state.passed() {
                let now_ms = kind.now_ms(self.state);
                let mut released = Vec::new();
                self.change(number, |queue| {
                    while left > 0
                        && let Some((deadline_ms, id)) = queue.first(kind)
                        && deadline_ms <= now_ms
                    {
                        left -= 1;
                        let session = queue.fire(kind, id, now);
                        released.extend(session.map(|session| (session, id)));
                    }
                });
                released.into_iter().for_each(|(session, id)| self.unhold(Some(session), id));
            } else if let Some(id) = self.state.session_unused() {
                left -= 1;
                self.forget(id);
            } else {
                break;
            }
        }
        let elapsed_ms = self.state.elapsed_ms();
        self.state.sessions_mut().release_forgotten(FIRED_COUNT_MAX, elapsed_ms);
    }
}

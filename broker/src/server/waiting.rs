//! Leases and pops that wait, and in which order: by queue, by request, by deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use queue_protocol::names::{QueueName, SessionId};
use tokio::time::Instant;

use super::reply_to::ReplyTo;
use crate::queue::Consumer;
use crate::queue::command::{Command, Lease, Op};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Proposed,
    Closing,
}

/// How long a lease waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the first message.
    pub(crate) until: Instant,
    /// From then on, for as many as it asks for.
    pub(crate) linger: Duration,
}

/// Where a lease is with its linger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linger {
    /// Nothing was there.
    Before,
    /// Something is there; at this time it is enough.
    Until(Instant),
    /// It takes what is there.
    Over,
}

pub(super) struct Waiter {
    pub(super) command: Command,
    /// `None` once its connection is gone.
    pub(super) reply: Option<ReplyTo>,
    pub(super) connection: u64,
    pub(super) patience: Patience,
    pub(super) linger: Linger,
    /// Its wait has passed: it is answered at the next occasion.
    pub(super) over: bool,
    pub(super) stage: Stage,
}

impl Waiter {
    pub(super) fn lease(&self) -> &Lease {
        match &self.command.op {
            Op::Lease(lease) | Op::Pop(lease) => lease,
            other => unreachable!("only leases and pops wait, not {other:?}"),
        }
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.command.session.map(|stamp| stamp.session)
    }

    /// When something is to be done without a message.
    pub(super) fn due(&self) -> Instant {
        if let Linger::Until(at) = self.linger { at } else { self.patience.until }
    }

    /// Whether so many messages are not enough yet.
    pub(super) fn lingers(&self, available: u64) -> bool {
        let waits = match self.linger {
            Linger::Before => !self.patience.linger.is_zero(),
            Linger::Until(_) => true,
            Linger::Over => false,
        };
        waits && !self.over && available < self.lease().max_messages.into()
    }

    pub(super) fn key(&self) -> Option<(SessionId, u64)> {
        self.command.session.map(|stamp| (stamp.session, stamp.number))
    }
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) next: u64,
    pub(super) all: BTreeMap<u64, Waiter>,
    /// Those in stage waiting, by queue; ids rise with arrival.
    pub(super) by_queue: BTreeMap<QueueName, BTreeSet<u64>>,
    pub(super) by_request: BTreeMap<(SessionId, u64), u64>,
    pub(super) by_deadline: BTreeSet<(Instant, u64)>,
}

impl Inner {
    /// Those who wait for a queue and may be served by it, in order.
    pub(super) fn of_queue(&self, queue: &QueueName, consumer: Consumer) -> impl Iterator<Item = u64> + '_ {
        let ids = || self.by_queue.get(queue).into_iter().flatten().copied();
        let session = |id: u64| self.all[&id].session();
        let only = match consumer {
            Consumer::Any => None,
            Consumer::Only(holder) => Some(Some(holder)),
            Consumer::One(last) => {
                ids().map(session).find(|asks| *asks == last).or_else(|| ids().next().map(session))
            }
        };
        ids().filter(move |id| only.is_none_or(|only| session(*id) == only))
    }

    pub(super) fn enter(&mut self, id: u64, stage: Stage) {
        let waiter = self.all.get_mut(&id).expect("stages are changed of waiters that exist");
        waiter.stage = stage;
        let queues: Vec<QueueName> = waiter.lease().queues.to_vec();
        for queue in queues {
            if stage == Stage::Waiting {
                self.by_queue.entry(queue).or_default().insert(id);
            } else if let Some(ids) = self.by_queue.get_mut(&queue) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_queue.remove(&queue);
                }
            }
        }
    }

    /// Moves where a waiter is with its linger.
    pub(super) fn set_linger(&mut self, id: u64, linger: Linger) {
        let waiter = self.all.get_mut(&id).expect("lingers are of waiters that exist");
        let before = waiter.due();
        waiter.linger = linger;
        if !waiter.over {
            self.by_deadline.remove(&(before, id));
            self.by_deadline.insert((waiter.due(), id));
        }
    }

    /// Something is there, and not enough: its linger begins, if it has not.
    pub(super) fn begin_linger(&mut self, id: u64) {
        let waiter = &self.all[&id];
        if waiter.linger == Linger::Before {
            self.set_linger(id, Linger::Until(Instant::now() + waiter.patience.linger));
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        if self.all.contains_key(&id) {
            self.enter(id, Stage::Closing);
        }
        let waiter = self.all.remove(&id)?;
        self.by_deadline.remove(&(waiter.due(), id));
        if let Some(key) = waiter.key()
            && self.by_request.get(&key) == Some(&id)
        {
            self.by_request.remove(&key);
        }
        Some(waiter)
    }

    pub(super) fn check(&self) {
        for (id, waiter) in &self.all {
            for queue in waiter.lease().queues.iter() {
                let listed = self.by_queue.get(queue).is_some_and(|ids| ids.contains(id));
                assert_eq!(listed, waiter.stage == Stage::Waiting, "the index by queue holds who waits");
            }
        }
        let open = self.all.values().filter(|waiter| !waiter.over).count();
        assert_eq!(self.by_deadline.len(), open, "everyone whose wait is not over has a deadline");
        assert!(self.by_deadline.iter().all(|(due, id)| self.all[id].due() == *due), "deadlines are theirs");
    }
}

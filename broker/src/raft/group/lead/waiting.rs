//! Leases and pops that wait, and in which order: by queue, by request, by connection, by deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use queue_protocol::error::Error;
use queue_protocol::names::{QueueName, SessionId};
use tokio::time::Instant;

use super::proposer::{Committed, ProposeError};
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

/// How a wait ended.
pub(crate) enum Waited {
    /// It was proposed; what came of that.
    Decided(Result<Committed, ProposeError>),
    /// It found nothing; `index` is the entry that this was read behind.
    Empty {
        /// Raft index of the last entry that was applied.
        index: u64,
    },
    /// It cannot be served now.
    Failed(Error),
    /// This node leads no more.
    NotLeader,
}

/// Who waits: a request of a connection, and the way back to it. Dropped unanswered, nobody waits there any more.
pub(crate) struct Asker {
    /// The connection, by number.
    pub(crate) connection: u64,
    /// The request on it.
    pub(crate) request_id: u64,
    /// Takes the outcome back; called at most once.
    pub(crate) answer: Box<dyn FnOnce(Waited) + Send>,
}

/// Where a lease is with its linger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linger {
    /// Nothing was there yet: the linger has not begun.
    Before,
    /// Something is there; at this time it is enough.
    Until(Instant),
    /// It takes what is there.
    Over,
}

pub(super) struct Waiter {
    pub(super) command: Command,
    /// `None` once its connection is gone.
    pub(super) asker: Option<Asker>,
    pub(super) patience: Patience,
    pub(super) linger: Linger,
    /// Timed out; answered when its proposal in flight returns.
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

    /// The connection that waits for it, and under which request.
    fn from(&self) -> Option<(u64, u64)> {
        self.asker.as_ref().map(|asker| (asker.connection, asker.request_id))
    }
}

#[derive(Default)]
pub(super) struct Inner {
    next: u64,
    pub(super) all: BTreeMap<u64, Waiter>,
    /// Those in stage waiting, by queue; ids rise with arrival.
    pub(super) by_queue: BTreeMap<QueueName, BTreeSet<u64>>,
    pub(super) by_request: BTreeMap<(SessionId, u64), u64>,
    /// Those that a connection waits for: connection, request, id.
    by_connection: BTreeSet<(u64, u64, u64)>,
    pub(super) by_deadline: BTreeSet<(Instant, u64)>,
    /// Entries of `by_connection` that were looked at.
    looked: u64,
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

    /// Those that a connection waits for, under one request or all.
    pub(super) fn of_connection(&mut self, connection: u64, request_id: Option<u64>) -> Vec<u64> {
        let from = (connection, request_id.unwrap_or(0), 0);
        let to = (connection, request_id.unwrap_or(u64::MAX), u64::MAX);
        let found: Vec<u64> = self.by_connection.range(from..=to).map(|(_, _, id)| *id).collect();
        self.looked += found.len() as u64;
        found
    }

    /// The same of one connection, for who only looks.
    pub(super) fn waiting_of(&self, connection: u64) -> impl Iterator<Item = u64> + '_ {
        let all = (connection, 0, 0)..=(connection, u64::MAX, u64::MAX);
        self.by_connection.range(all).map(|(_, _, id)| *id)
    }

    /// Changes who waits for it, if anybody does; gives who did.
    pub(super) fn set_asker(&mut self, id: u64, asker: Option<Asker>) -> Option<Asker> {
        let waiter = self.all.get_mut(&id).expect("replies are of waiters that exist");
        if let Some((connection, request_id)) = waiter.from() {
            self.by_connection.remove(&(connection, request_id, id));
        }
        let before = std::mem::replace(&mut waiter.asker, asker);
        if let Some((connection, request_id)) = waiter.from() {
            self.by_connection.insert((connection, request_id, id));
        }
        before
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

    /// Takes one in, in no queue's line yet.
    pub(super) fn insert(&mut self, waiter: Waiter) -> u64 {
        let id = self.next;
        self.next += 1;
        self.by_deadline.insert((waiter.due(), id));
        if let Some(key) = waiter.key() {
            self.by_request.insert(key, id);
        }
        if let Some((connection, request_id)) = waiter.from() {
            self.by_connection.insert((connection, request_id, id));
        }
        self.all.insert(id, waiter);
        id
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        if self.all.contains_key(&id) {
            self.enter(id, Stage::Closing);
        }
        let waiter = self.all.remove(&id)?;
        self.by_deadline.remove(&(waiter.due(), id));
        if let Some((connection, request_id)) = waiter.from() {
            self.by_connection.remove(&(connection, request_id, id));
        }
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
        let awaited =
            self.all.iter().filter_map(|(id, waiter)| waiter.from().map(|from| (from.0, from.1, *id)));
        assert!(awaited.collect::<BTreeSet<_>>() == self.by_connection, "connections wait for theirs");
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Bounded;

    use super::*;
    use crate::queue::command::SessionStamp;
    use queue_protocol::wire::request_hash::RequestHash;

    fn asker(connection: u64, request_id: u64) -> Option<Asker> {
        Some(Asker { connection, request_id, answer: Box::new(|_| {}) })
    }

    /// A lease that is parked for request 1 of a connection.
    fn parked(connection: u64) -> Waiter {
        let queues = Bounded::new(vec!["jobs".parse::<QueueName>().expect("a name")]).expect("one queue");
        let lease = Lease { queues, max_messages: 1, max_bytes: 1, lease_ms: None };
        let stamp = SessionStamp {
            session: SessionId(connection.into()),
            number: 1,
            done_below: 1,
            opening: None,
            request: RequestHash::default(),
            by: None,
        };
        let until = Instant::now();
        Waiter {
            command: Command { session: Some(stamp), op: Op::Lease(lease) },
            asker: asker(connection, 1),
            patience: Patience { until, linger: Duration::ZERO },
            linger: Linger::Before,
            over: false,
            stage: Stage::Closing,
        }
    }

    fn park(inner: &mut Inner, connection: u64) -> u64 {
        let id = inner.insert(parked(connection));
        inner.enter(id, Stage::Waiting);
        id
    }

    #[test]
    fn ten_thousand_clients_that_go_are_each_found_by_what_is_theirs() {
        const CLIENTS: u64 = 10_000;
        let mut inner = Inner::default();
        for connection in 0..CLIENTS {
            park(&mut inner, connection);
        }
        inner.check();
        for connection in 0..CLIENTS {
            for id in inner.of_connection(connection, None) {
                inner.remove(id);
            }
        }
        inner.check();
        assert!(inner.all.is_empty());
        assert_eq!(inner.looked, CLIENTS, "a client that goes looks at its own leases only");
    }

    #[test]
    fn a_cancel_finds_its_request_and_one_whose_client_is_gone_is_found_by_none() {
        let mut inner = Inner::default();
        let (first, second) = (park(&mut inner, 1), park(&mut inner, 2));
        assert_eq!(inner.of_connection(1, Some(1)), [first]);
        assert!(inner.of_connection(1, Some(2)).is_empty());
        inner.enter(second, Stage::Proposed);
        assert!(inner.set_asker(second, None).is_some());
        assert!(inner.of_connection(2, None).is_empty());
        inner.check();
        let moved = inner.set_asker(first, asker(3, 9));
        assert!(moved.is_some_and(|asker| asker.connection == 1));
        assert_eq!((inner.of_connection(1, None), inner.of_connection(3, Some(9))), (vec![], vec![first]));
        inner.check();
    }
}

//! Leases and pops that wait for a message, in this leader's memory: an empty queue costs no log entry.
//!
//! ```text
//! arrive -> waiting <-> proposed -> answered
//!              |
//!              +-> closing (its wait is over: a read index, then `empty`)
//! ```
//!
//! A lease is in one of these, never twice in flight. What it gets is decided at apply; one that gets nothing left
//! no trace in the state and waits again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use queue_protocol::names::{QueueName, SessionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::reply_to::{Finished, ReplyTo};
use crate::mutants::{self, Mutant};
use crate::queue::command::{Command, Lease, Op};
use crate::queue::reply::Outcome;
use crate::queue::{Consumer, State};
use crate::raft::{Committed, Consensus, Parked, Proposal, ProposeError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Proposed,
    Closing,
}

struct Waiter {
    command: Command,
    /// `None` once its connection is gone.
    reply: Option<ReplyTo>,
    connection: u64,
    until: Instant,
    /// `until` has passed: it is answered at the next occasion.
    over: bool,
    stage: Stage,
}

impl Waiter {
    fn lease(&self) -> &Lease {
        match &self.command.op {
            Op::Lease(lease) | Op::Pop(lease) => lease,
            other => unreachable!("only leases and pops wait, not {other:?}"),
        }
    }

    fn session(&self) -> Option<SessionId> {
        self.command.session.map(|stamp| stamp.session)
    }

    fn key(&self) -> Option<(SessionId, u64)> {
        self.command.session.map(|stamp| (stamp.session, stamp.number))
    }
}

#[derive(Default)]
struct Inner {
    next: u64,
    all: BTreeMap<u64, Waiter>,
    /// Those in stage waiting, by queue; ids rise with arrival.
    by_queue: BTreeMap<QueueName, BTreeSet<u64>>,
    by_request: BTreeMap<(SessionId, u64), u64>,
    by_deadline: BTreeSet<(Instant, u64)>,
}

impl Inner {
    /// Those who wait for a queue and may be served by it, in order.
    fn of_queue(&self, queue: &QueueName, consumer: Consumer) -> impl Iterator<Item = u64> + '_ {
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

    fn enter(&mut self, id: u64, stage: Stage) {
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

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        if self.all.contains_key(&id) {
            self.enter(id, Stage::Closing);
        }
        let waiter = self.all.remove(&id)?;
        self.by_deadline.remove(&(waiter.until, id));
        if let Some(key) = waiter.key()
            && self.by_request.get(&key) == Some(&id)
        {
            self.by_request.remove(&key);
        }
        Some(waiter)
    }

    fn check(&self) {
        for (id, waiter) in &self.all {
            for queue in waiter.lease().queues.iter() {
                let listed = self.by_queue.get(queue).is_some_and(|ids| ids.contains(id));
                assert_eq!(listed, waiter.stage == Stage::Waiting, "the index by queue holds who waits");
            }
        }
        let open = self.all.values().filter(|waiter| !waiter.over).count();
        assert_eq!(self.by_deadline.len(), open, "everyone whose wait is not over has a deadline");
    }
}

/// All that wait at this node.
pub(crate) struct Waiters {
    inner: Mutex<Inner>,
    consensus: Weak<Consensus>,
    earlier: Notify,
    this: Weak<Waiters>,
}

impl Waiters {
    pub(crate) fn new(consensus: &Arc<Consensus>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            inner: Mutex::default(),
            consensus: Arc::downgrade(consensus),
            earlier: Notify::new(),
            this: this.clone(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if cfg!(debug_assertions) && inner.all.len() < 64 {
            inner.check();
        }
        inner
    }

    /// How many wait, for one queue or for any.
    pub(crate) fn count(&self, queue: Option<&QueueName>) -> usize {
        let inner = self.inner();
        match queue {
            Some(queue) => inner.by_queue.get(queue).map_or(0, BTreeSet::len),
            None => inner.all.len(),
        }
    }

    /// Takes a lease in that may wait until `until`. The caller has seen that this node leads and is ready.
    pub(crate) fn arrive(self: &Arc<Self>, command: Command, until: Instant, reply: ReplyTo) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        let mut inner = self.inner();
        let connection = reply.connection();
        let waiter =
            Waiter { command, reply: Some(reply), connection, until, over: false, stage: Stage::Closing };
        if let Some(key) = waiter.key()
            && let Some(id) = inner.by_request.get(&key).copied()
        {
            // The same request over another connection: its answer goes there.
            let known = inner.all.get_mut(&id).expect("the index names waiters that exist");
            known.reply = waiter.reply;
            known.connection = connection;
            let before = std::mem::replace(&mut known.until, until);
            if known.over {
                return;
            }
            inner.by_deadline.remove(&(before, id));
            inner.by_deadline.insert((until, id));
            self.earlier.notify_one();
            return;
        }
        let id = inner.next;
        inner.next += 1;
        inner.by_deadline.insert((until, id));
        if let Some(key) = waiter.key() {
            inner.by_request.insert(key, id);
        }
        inner.all.insert(id, waiter);
        if consensus.ready().is_none() {
            // Leadership went in between; who dismissed the others did not see this one.
            let reply = inner.remove(id).and_then(|waiter| waiter.reply);
            drop(inner);
            if let Some(reply) = reply {
                reply.finish(Finished::NotLeader);
            }
            return;
        }
        self.wait_or_propose(&consensus, inner, id);
        self.earlier.notify_one();
    }

    /// Waits, unless there is something to get. Looked at after it is in the index, so that nothing is missed.
    fn wait_or_propose(&self, consensus: &Consensus, mut inner: MutexGuard<'_, Inner>, id: u64) {
        inner.enter(id, Stage::Waiting);
        let lease = inner.all[&id].lease().clone();
        let session = inner.all[&id].session();
        let worth = || consensus.read(|state, _| worth_proposing(state, &lease, session));
        if consensus.refuse_lease().is_none() && worth() {
            inner.enter(id, Stage::Proposed);
            let proposal = self.proposal(&inner, id);
            drop(inner);
            consensus.propose(proposal);
        }
    }

    fn proposal(&self, inner: &Inner, id: u64) -> Proposal {
        let command = inner.all[&id].command.clone();
        let this = self.this.clone();
        let done = Box::new(move |result| {
            if let Some(this) = this.upgrade() {
                this.decided(id, result);
            }
        });
        Proposal { command, table: Vec::new(), contents: Vec::new(), done }
    }

    /// The proposal of `id` has an outcome.
    fn decided(self: &Arc<Self>, id: u64, result: Result<Committed, ProposeError>) {
        let mut inner = self.inner();
        let nothing =
            matches!(&result, Ok(Committed { reply, .. }) if matches!(reply.result, Ok(Outcome::Nothing)));
        if nothing {
            let Some(waiter) = inner.all.get(&id) else { return };
            if !waiter.over && waiter.reply.is_some() {
                if let Some(consensus) = self.consensus.upgrade()
                    && consensus.ready().is_some()
                {
                    return self.wait_or_propose(&consensus, inner, id);
                }
                // Its wait is not over, but it is over here.
                let reply = inner.remove(id).and_then(|waiter| waiter.reply);
                drop(inner);
                if let Some(reply) = reply {
                    reply.finish(Finished::NotLeader);
                }
                return;
            }
        }
        let served = result.is_ok();
        let Some(waiter) = inner.remove(id) else { return };
        drop(inner);
        let queues = waiter.lease().queues.to_vec();
        if let Some(reply) = waiter.reply {
            reply.finish(Finished::of(result));
        }
        if served {
            // It may have taken less than was set aside for it: what is left is for the next.
            self.offer(&queues);
        }
    }

    /// Queues have messages: those who wait for them are proposed, as many as can get something.
    pub(crate) fn offer(&self, queues: &[QueueName]) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        if consensus.refuse_lease().is_some() {
            return;
        }
        for queue in queues {
            let mut inner = self.inner();
            if !inner.by_queue.contains_key(queue) {
                continue;
            }
            let (mut ready, consumer) =
                consensus.read(|state, _| (state.available(queue), state.consumer(queue)));
            let mut chosen = Vec::new();
            for id in inner.of_queue(queue, consumer) {
                if ready == 0 {
                    break;
                }
                ready = ready.saturating_sub(inner.all[&id].lease().max_messages.into());
                chosen.push(id);
            }
            let proposals: Vec<_> = chosen
                .into_iter()
                .map(|id| {
                    inner.enter(id, Stage::Proposed);
                    self.proposal(&inner, id)
                })
                .collect();
            drop(inner);
            for proposal in proposals {
                consensus.propose(proposal);
            }
        }
    }

    /// A connection is gone: what waits for it is dropped, what is proposed is remembered until it is decided.
    pub(crate) fn disconnected(&self, connection: u64) {
        let mut inner = self.inner();
        let theirs: Vec<u64> =
            inner.all.iter().filter(|(_, w)| w.connection == connection).map(|(id, _)| *id).collect();
        for id in theirs {
            self.forget(&mut inner, id);
        }
    }

    /// The client of `connection` no longer waits for `request_id`.
    pub(crate) fn cancelled(&self, connection: u64, request_id: u64) {
        let mut inner = self.inner();
        let found = inner.all.iter().find(|(_, waiter)| {
            waiter.connection == connection
                && waiter.reply.as_ref().is_some_and(|reply| reply.request_id() == request_id)
        });
        if let Some(id) = found.map(|(id, _)| *id) {
            self.forget(&mut inner, id);
        }
    }

    fn forget(&self, inner: &mut Inner, id: u64) {
        if inner.all[&id].stage == Stage::Proposed {
            inner.all.get_mut(&id).expect("looked at above").reply = None;
        } else {
            inner.remove(id);
        }
    }

    /// Leadership is gone: nobody can be served here.
    pub(crate) fn dismiss(&self) {
        let mut inner = self.inner();
        let waiting: Vec<u64> = inner
            .all
            .iter()
            .filter(|(_, waiter)| waiter.stage != Stage::Proposed)
            .map(|(id, _)| *id)
            .collect();
        let gone: Vec<_> = waiting.into_iter().filter_map(|id| inner.remove(id)).collect();
        drop(inner);
        for reply in gone.into_iter().filter_map(|waiter| waiter.reply) {
            reply.finish(Finished::NotLeader);
        }
    }

    /// Ends waits that are over, until the node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let earlier = self.earlier.notified();
            let next = self.inner().by_deadline.first().map(|(until, _)| *until);
            match next {
                None => earlier.await,
                Some(until) if until > Instant::now() => {
                    let _ = tokio::time::timeout_at(until, earlier).await;
                }
                Some(_) => self.expire(),
            }
        }
    }

    fn expire(self: &Arc<Self>) {
        let now = Instant::now();
        let mut inner = self.inner();
        let over: Vec<(Instant, u64)> =
            inner.by_deadline.iter().take_while(|(until, _)| *until <= now).copied().collect();
        for (until, id) in over {
            inner.by_deadline.remove(&(until, id));
            let waiter = inner.all.get_mut(&id).expect("deadlines are of waiters that exist");
            waiter.over = true;
            // One that is proposed is answered when it is decided.
            if waiter.stage == Stage::Waiting {
                inner.enter(id, Stage::Closing);
                crate::raft::spawn(Arc::clone(self).close(id));
            }
        }
    }

    /// Answers `empty` after a read index, unless there is something after all.
    async fn close(self: Arc<Self>, id: u64) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        let read = if mutants::on(Mutant::EmptyWithoutQuorum) {
            Ok(consensus.read(|_, index| index))
        } else {
            consensus.read_index().await
        };
        let read = read.and_then(|index| consensus.refuse_lease().map_or(Ok(index), Err));
        let mut inner = self.inner();
        let Some(waiter) = inner.all.get(&id) else { return };
        let (lease, session) = (waiter.lease().clone(), waiter.session());
        match read {
            Ok(_) if consensus.read(|state, _| worth_proposing(state, &lease, session)) => {
                inner.enter(id, Stage::Proposed);
                let proposal = self.proposal(&inner, id);
                drop(inner);
                consensus.propose(proposal);
            }
            result => {
                let reply = inner.remove(id).and_then(|waiter| waiter.reply);
                drop(inner);
                if let Some(reply) = reply {
                    reply.finish(match result {
                        Ok(index) => Finished::Empty { index, lease_clock_ms: consensus.lease_clock_ms() },
                        Err(error) => Finished::Failed(error),
                    });
                }
            }
        }
    }
}

/// Proposing gives messages, or a refusal because no queue of that name exists.
fn worth_proposing(state: &State, lease: &Lease, session: Option<SessionId>) -> bool {
    let queues = &lease.queues;
    queues.iter().any(|queue| state.available_to(queue, session) > 0)
        || !queues.iter().any(|queue| state.has_queue(queue))
}

impl Parked for Waiters {
    fn take(&self, queue: &QueueName, count: usize) -> Vec<Proposal> {
        let Some(consensus) = self.consensus.upgrade() else { return Vec::new() };
        if consensus.refuse_lease().is_some() {
            return Vec::new();
        }
        let mut inner = self.inner();
        if !inner.by_queue.contains_key(queue) {
            return Vec::new();
        }
        let consumer = consensus.read(|state, _| state.consumer(queue));
        let ids: Vec<u64> = inner.of_queue(queue, consumer).take(count).collect();
        ids.into_iter()
            .map(|id| {
                inner.enter(id, Stage::Proposed);
                self.proposal(&inner, id)
            })
            .collect()
    }
}

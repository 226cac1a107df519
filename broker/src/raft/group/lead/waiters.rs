//! Leases and pops that wait for a message, in this leader's memory: an empty queue costs no log entry.
//!
//! ```text
//! arrive -> waiting <-> proposed -> answered
//!              |
//!              +-> closing (its wait is over: a read index, then `empty`)
//! ```
//!
//! With a linger it stays waiting while there is something, but less than it asked for, until its linger has passed.
//!
//! A lease is in one of these, never twice in flight. What it gets is decided at apply; one that gets nothing left
//! no trace in the state and waits again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::CLIENT_QUEUES_MAX;
use queue_protocol::names::{QueueName, SessionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::proposer::{Committed, Proposal, ProposeError};
pub(crate) use super::waiting::{Asker, Patience, Waited};
use super::waiting::{Inner, Linger, Stage, Waiter};
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::queue::command::{Command, Lease};
use crate::queue::reply::Outcome;
use crate::queue::{KeyNumber, State};
use crate::raft::Consensus;

/// All that wait at this node.
pub(crate) struct Waiters {
    inner: Mutex<Inner>,
    consensus: Weak<Consensus>,
    earlier: Notify,
    this: Weak<Waiters>,
}

impl Waiters {
    pub(in crate::raft) fn new(consensus: Weak<Consensus>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            inner: Mutex::default(),
            consensus,
            earlier: Notify::new(),
            this: this.clone(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        let inner = self.inner.locked();
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

    /// How many leases and pops a connection waits for, and on which queues: the first few by name.
    pub(crate) fn parked_of(&self, connection: u64) -> (usize, Vec<QueueName>) {
        let inner = self.inner();
        let mut queues = BTreeSet::new();
        let mut count = 0;
        for id in inner.waiting_of(connection) {
            count += 1;
            queues.extend(inner.all[&id].lease().queues.iter().cloned());
        }
        (count, queues.into_iter().take(CLIENT_QUEUES_MAX).collect())
    }

    /// Takes a lease in that may wait. The caller has seen that this node leads and is ready.
    pub(crate) fn arrive(self: &Arc<Self>, command: Command, patience: Patience, asker: Asker) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        let mut inner = self.inner();
        let (over, stage, linger) = (false, Stage::Closing, Linger::Before);
        let waiter = Waiter { command, asker: Some(asker), patience, linger, over, stage };
        if let Some(key) = waiter.key()
            && let Some(id) = inner.by_request.get(&key).copied()
        {
            // A session that is not open yet has no owner; the key that waits tells who it is.
            if key_of(&waiter.command) != key_of(&inner.all[&id].command) {
                let stranger = waiter.asker;
                drop(inner);
                let what = "the session belongs to another principal";
                if let Some(asker) = stranger {
                    (asker.answer)(Waited::Failed(Error::refused(ErrorCode::Denied, what)));
                }
                return;
            }
            // The same request over another connection: its answer goes there.
            let _nobody_waits_there = inner.set_asker(id, waiter.asker);
            let known = inner.all.get_mut(&id).expect("the index names waiters that exist");
            let before = known.due();
            known.patience = patience;
            let due = known.due();
            if known.over {
                return;
            }
            inner.by_deadline.remove(&(before, id));
            inner.by_deadline.insert((due, id));
            self.earlier.notify_one();
            return;
        }
        let id = inner.insert(waiter);
        if consensus.ready().is_none() {
            // Leadership went in between; who dismissed the others did not see this one.
            let asker = inner.remove(id).and_then(|waiter| waiter.asker);
            drop(inner);
            if let Some(asker) = asker {
                (asker.answer)(Waited::NotLeader);
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
        let (most, known) =
            consensus.read(|state, _| (most_available(state, &lease, session), names_a_queue(state, &lease)));
        if most == 0 {
            inner.set_linger(id, Linger::Before);
        }
        if most > 0 && inner.all[&id].lingers(most) {
            inner.begin_linger(id);
            return self.earlier.notify_one();
        }
        if (most > 0 || !known) && consensus.refuse_lease().is_none() {
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
        Proposal { arrived: Instant::now(), command, table: Vec::new(), contents: Vec::new(), done }
    }

    /// The proposal of `id` has an outcome.
    fn decided(self: &Arc<Self>, id: u64, result: Result<Committed, ProposeError>) {
        let mut inner = self.inner();
        let nothing =
            matches!(&result, Ok(Committed { reply, .. }) if matches!(reply.result, Ok(Outcome::Nothing)));
        if nothing {
            let Some(waiter) = inner.all.get(&id) else { return };
            if !waiter.over && waiter.asker.is_some() {
                if let Some(consensus) = self.consensus.upgrade()
                    && consensus.ready().is_some()
                {
                    return self.wait_or_propose(&consensus, inner, id);
                }
                // Its wait is not over, but it is over here.
                let asker = inner.remove(id).and_then(|waiter| waiter.asker);
                drop(inner);
                if let Some(asker) = asker {
                    (asker.answer)(Waited::NotLeader);
                }
                return;
            }
        }
        let served = result.is_ok();
        let Some(waiter) = inner.remove(id) else { return };
        drop(inner);
        let queues = waiter.lease().queues.to_vec();
        if let Some(asker) = waiter.asker {
            (asker.answer)(Waited::Decided(result));
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
            let (mut chosen, mut lingering) = (Vec::new(), Vec::new());
            for id in inner.of_queue(queue, consumer) {
                if ready == 0 {
                    break;
                }
                let waiter = &inner.all[&id];
                if waiter.lingers(ready) {
                    lingering.push(id);
                } else {
                    ready = ready.saturating_sub(waiter.lease().max_messages.into());
                    chosen.push(id);
                }
            }
            if !lingering.is_empty() {
                lingering.into_iter().for_each(|id| inner.begin_linger(id));
                self.earlier.notify_one();
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

    /// Up to `count` leases that wait for `queue`, oldest first; from now on they are proposed. Asked while an entry is put
    /// together.
    pub(super) fn take(&self, queue: &QueueName, count: usize) -> Vec<Proposal> {
        let Some(consensus) = self.consensus.upgrade() else { return Vec::new() };
        if consensus.refuse_lease().is_some() {
            return Vec::new();
        }
        let mut inner = self.inner();
        if !inner.by_queue.contains_key(queue) {
            return Vec::new();
        }
        let consumer = consensus.read(|state, _| state.consumer(queue));
        // Those that linger are looked at when the push is applied.
        let lingers = |id: &u64| !inner.all[id].patience.linger.is_zero();
        let ids: Vec<u64> = inner.of_queue(queue, consumer).filter(|id| !lingers(id)).take(count).collect();
        ids.into_iter()
            .map(|id| {
                inner.enter(id, Stage::Proposed);
                self.proposal(&inner, id)
            })
            .collect()
    }

    /// A connection is gone: what waits for it is dropped, what is proposed is remembered until it is decided.
    pub(crate) fn disconnected(&self, connection: u64) {
        if mutants::on(Mutant::ParkedOutlivesItsConnection) {
            return;
        }
        let mut inner = self.inner();
        for id in inner.of_connection(connection, None) {
            self.forget(&mut inner, id);
        }
    }

    /// Those that wait at a connection are refused; what is proposed is answered when it is decided.
    pub(crate) fn refused(&self, connection: u64, why: &Error) {
        let mut inner = self.inner();
        let ids = inner.of_connection(connection, None);
        let waiting = ids.into_iter().filter(|id| inner.all[id].stage != Stage::Proposed);
        let waiting: Vec<u64> = waiting.collect();
        let gone: Vec<_> = waiting.into_iter().filter_map(|id| inner.remove(id)).collect();
        drop(inner);
        for asker in gone.into_iter().filter_map(|waiter| waiter.asker) {
            (asker.answer)(Waited::Failed(why.clone()));
        }
    }

    /// The client of `connection` no longer waits for `request_id`.
    pub(crate) fn cancelled(&self, connection: u64, request_id: u64) {
        let mut inner = self.inner();
        for id in inner.of_connection(connection, Some(request_id)) {
            self.forget(&mut inner, id);
        }
    }

    fn forget(&self, inner: &mut Inner, id: u64) {
        if inner.all[&id].stage == Stage::Proposed {
            inner.set_asker(id, None);
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
        for asker in gone.into_iter().filter_map(|waiter| waiter.asker) {
            (asker.answer)(Waited::NotLeader);
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
        let mut lingered = Vec::new();
        for (until, id) in over {
            inner.by_deadline.remove(&(until, id));
            let waiter = inner.all.get_mut(&id).expect("deadlines are of waiters that exist");
            if let Linger::Until(_) = waiter.linger {
                // Long enough: what is there is taken.
                waiter.linger = Linger::Over;
                waiter.patience.until = waiter.patience.until.max(now);
                let (due, stage) = (waiter.due(), waiter.stage);
                inner.by_deadline.insert((due, id));
                if stage == Stage::Waiting {
                    lingered.push(id);
                }
                continue;
            }
            waiter.over = true;
            // One that is proposed is answered when it is decided.
            if waiter.stage == Stage::Waiting {
                inner.enter(id, Stage::Closing);
                crate::raft::spawn(Arc::clone(self).close(id));
            }
        }
        for id in lingered {
            self.take_what_is_there(inner, id);
            inner = self.inner();
        }
    }

    /// The linger of `id` is over.
    fn take_what_is_there(&self, inner: MutexGuard<'_, Inner>, id: u64) {
        let Some(consensus) = self.consensus.upgrade() else { return };
        if inner.all.contains_key(&id) {
            self.wait_or_propose(&consensus, inner, id);
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
                let asker = inner.remove(id).and_then(|waiter| waiter.asker);
                drop(inner);
                if let Some(asker) = asker {
                    (asker.answer)(match result {
                        Ok(index) => Waited::Empty { index },
                        Err(error) => Waited::Failed(error),
                    });
                }
            }
        }
    }
}

/// The key of who sent it.
fn key_of(command: &Command) -> Option<KeyNumber> {
    Some(command.session?.by?.key)
}

/// Messages in the queue that has the most for it.
fn most_available(state: &State, lease: &Lease, session: Option<SessionId>) -> u64 {
    lease.queues.iter().map(|queue| state.available_to(queue, session)).max().unwrap_or(0)
}

/// One of its queues exists.
fn names_a_queue(state: &State, lease: &Lease) -> bool {
    lease.queues.iter().any(|queue| state.has_queue(queue))
}

/// Proposing gives messages, or a refusal because no queue of that name exists.
fn worth_proposing(state: &State, lease: &Lease, session: Option<SessionId>) -> bool {
    most_available(state, lease, session) > 0 || !names_a_queue(state, lease)
}

//! Commands become entries: everything that waits goes into the next entry, up to 1 MiB or 4,096 commands.
//! A push takes parked leases along, in the same entry, behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::Error;
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::response::WriteStage;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::waiters::Waiters;
use crate::locked::Locked as _;
use crate::log::Reading;
use crate::queue::command::{self, COMMANDS_COUNT_MAX, Command, ENTRY_SIZE_MAX, Op, Stamps};
use crate::queue::reply::Reply;
use crate::raft::Raft;
use crate::raft::cluster::levels::Spoken;
use crate::raft::group::leadership::Seat;
use crate::raft::group::lease_clock::LeaseClockAt;
use crate::raft::group::machine::Machine;
use crate::raft::openraft::types::{Batch, Completion, Leader, TypeConfig};
use crate::stages::Stages;

/// Entries handed to Raft and not applied yet; meanwhile commands gather. Enough that the disk, the way and the
/// processors all have one: with more of them an entry would hold fewer commands, and most of its cost is its own.
const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// How often it is looked whether a quorum answers, while no entry is applied.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A command on its way into the log.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) table: Vec<ContentSpec>,
    pub(crate) contents: Vec<Bytes>,
    pub(crate) done: Done,
    /// When it came, or what it waited for.
    pub(crate) arrived: Instant,
}

impl Proposal {
    /// Bytes this may take in an entry, never fewer than it does.
    fn size(&self) -> usize {
        let contents = self.table.iter().map(|spec| spec.size as usize + 8).sum::<usize>();
        256 + self.command.op.cost().entry + contents
    }
}

/// Gets the outcome, once.
pub(crate) type Done = Box<dyn FnOnce(Result<Committed, ProposeError>) + Send>;

/// An outcome that is on a majority's disks.
pub(crate) struct Committed {
    pub(crate) reply: Reply,
    /// The lease clock when the entry was stamped.
    pub(crate) lease_clock: LeaseClockAt,
    /// When this was known.
    pub(crate) since: Instant,
    /// When it was proposed, how long it waited for its entry, and how long that was put together.
    pub(crate) arrived: Instant,
    pub(crate) wait: Duration,
    pub(crate) encode: Duration,
    /// Keeps what the reply delivers readable.
    pub(crate) _reading: Option<Arc<Reading>>,
}

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProposeError {
    /// Surely not done: this node does not lead.
    NotLeader,
    /// Surely not done: this node leads, and no quorum has answered it for longer than its lease.
    NoQuorum,
    /// Surely not done: there is no room for it.
    NoRoom(Error),
    /// It may be done.
    Unknown,
}

/// Why no entry of that many bytes with pushes may be put together, while that many are in flight.
pub(crate) type Guard = Box<dyn Fn(u64, u64) -> Option<Error> + Send + Sync>;

/// What is asked while an entry is put together.
pub(crate) struct Beside {
    /// Who waits for what the entry brings.
    pub(crate) waiters: Arc<Waiters>,
    /// Whether there is room for it.
    pub(crate) guard: Guard,
}

/// Takes proposals from any thread; [`Proposer::run`] turns them into entries. How many may wait is for those who propose
/// to bound: clients have a budget.
pub(crate) struct Proposer {
    waiting: Mutex<VecDeque<Proposal>>,
    arrived: Notify,
    /// Bytes of entries handed to Raft and not applied yet.
    flying: Arc<AtomicU64>,
    in_flight: Arc<Semaphore>,
    removals: Arc<AtomicUsize>,
    stages: Stages,
    spoken: Spoken,
}

/// Counts the bytes of an entry until it is applied, or never will be.
struct Flying(Arc<AtomicU64>, u64);

impl Flying {
    fn begin(count: &Arc<AtomicU64>, size: u64) -> Self {
        count.fetch_add(size, Ordering::Relaxed);
        Self(Arc::clone(count), size)
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Counts an entry that removes queues until it is applied, or never will be.
struct Removing(Arc<AtomicUsize>);

impl Removing {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Proposer {
    pub(crate) fn new(stages: Stages, spoken: Spoken) -> Self {
        Self {
            stages,
            spoken,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            flying: Arc::default(),
            in_flight: Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX)),
            removals: Arc::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Proposal>> {
        self.waiting.locked()
    }

    /// Proposes; `proposal.done` is called exactly once, from some thread.
    pub(crate) fn propose(&self, proposal: Proposal) {
        self.waiting().push_back(proposal);
        self.arrived.notify_one();
    }

    /// The next entry's worth; empty if nothing waits.
    fn take(&self, beside: &Beside) -> Vec<Proposal> {
        loop {
            let taken = self.take_waiting();
            if taken.is_empty() {
                return taken;
            }
            let mut taken = self.with_room(taken, &beside.guard);
            if !taken.is_empty() {
                take_parked(&mut taken, &beside.waiters);
                return taken;
            }
        }
    }

    /// Those that may go on: if there is no room for what they bring, pushes are refused.
    fn with_room(&self, taken: Vec<Proposal>, guard: &Guard) -> Vec<Proposal> {
        let pushes = |proposal: &Proposal| proposal.command.op.pushes().next().is_some();
        let size: u64 = taken.iter().filter(|proposal| pushes(proposal)).map(|one| one.size() as u64).sum();
        if size == 0 {
            return taken;
        }
        let Some(error) = guard(size, self.flying.load(Ordering::Relaxed)) else { return taken };
        let (refused, rest) = taken.into_iter().partition(pushes);
        refuse(refused, ProposeError::NoRoom(error));
        rest
    }

    fn take_waiting(&self) -> Vec<Proposal> {
        let mut waiting = self.waiting();
        let room = waiting.len().min(COMMANDS_COUNT_MAX);
        let mut taken: Vec<Proposal> = Vec::with_capacity(room);
        let mut arrivals = Vec::with_capacity(room);
        let mut size = 0;
        while let Some(next) = waiting.front() {
            let next_size = next.size();
            if !taken.is_empty() && (size + next_size > ENTRY_SIZE_MAX || taken.len() == COMMANDS_COUNT_MAX) {
                break;
            }
            size += next_size;
            let next = waiting.pop_front().expect("it was looked at");
            arrivals.push(next.arrived);
            taken.push(next);
        }
        drop(waiting);
        let now = Instant::now();
        self.stages.record_all(WriteStage::Wait, arrivals.into_iter().map(|arrived| now - arrived));
        together(taken)
    }

    /// Hands entries to Raft until it stops.
    pub(crate) async fn run(
        self: Arc<Self>,
        raft: Raft,
        seat: Arc<Seat>,
        machine: Arc<Machine>,
        beside: Beside,
    ) {
        loop {
            let room = self.room(&seat).await;
            let mut taken = loop {
                let arrived = self.arrived.notified();
                let taken = self.take(&beside);
                if !taken.is_empty() {
                    break taken;
                }
                arrived.await;
            };
            let Some(leadership) = seat.leadership() else {
                refuse(taken, ProposeError::NotLeader);
                continue;
            };
            let begin = Instant::now();
            let removing = removes(&taken).then(|| Removing::begin(&self.removals));
            if seat.ready() == Some(leadership) && self.removals.load(Ordering::Relaxed) == 0 {
                machine.read(|state, _| spare_settings(&mut taken, |queue| state.has_queue(queue)));
            }
            let Some(stamps) = seat.stamp(leadership) else {
                refuse(taken, ProposeError::NoQuorum);
                continue;
            };
            let size = taken.iter().map(|proposal| proposal.size() as u64).sum();
            let flying = Flying::begin(&self.flying, size);
            let (stamped, flight) = (Instant::now(), seat.fly(stamps.confirmed_ms));
            let (batch, dones) = self.entry(taken, stamps, &machine);
            let (entered, encode) = (begin, begin.elapsed());
            self.stages.record(WriteStage::Encode, encode);
            let completion = Completion::new(move |result| {
                drop((removing, flight, flying));
                complete(dones, room, (stamps.unconfirmed_ms, stamped), (entered, encode), result);
            });
            let leader = Leader { term: leadership.term, node_id: seat.node().0 };
            if raft.write(batch).responder(completion).with_leader(leader).await.is_err() {
                return;
            }
        }
    }

    /// Room for one more entry. While those in flight wait for a quorum that does not answer, who waits behind them is told so.
    async fn room(&self, seat: &Seat) -> OwnedSemaphorePermit {
        loop {
            let room = Arc::clone(&self.in_flight).acquire_owned();
            match tokio::time::timeout(LOOK_EVERY, room).await {
                Ok(room) => return room.expect("the semaphore is never closed"),
                Err(_) if seat.has_quorum() => {}
                Err(_) => {
                    let why = if seat.leadership().is_some() {
                        ProposeError::NoQuorum
                    } else {
                        ProposeError::NotLeader
                    };
                    let waiting = std::mem::take(&mut *self.waiting());
                    refuse(waiting.into(), why);
                }
            }
        }
    }

    fn entry(&self, taken: Vec<Proposal>, stamps: Stamps, machine: &Machine) -> (Batch, Dones) {
        let mut commands = Vec::with_capacity(taken.len());
        let mut table = Vec::new();
        let mut contents = Vec::new();
        let mut dones = Vec::with_capacity(taken.len());
        for proposal in taken {
            commands.push(proposal.command);
            table.extend(proposal.table);
            contents.extend(proposal.contents);
            dones.push((proposal.arrived, proposal.done));
        }
        let commands = Bounded::new(commands).expect("take stops at the limit");
        let batch = command::Batch { stamps, commands };
        machine.stamped(&batch);
        let section = batch.encode(self.spoken.cluster());
        let batch = Batch { commands: section.into(), table: table.into(), contents: Some(contents.into()) };
        (batch, Dones(dones))
    }
}

/// Behind the pushes: at most as many parked leases as the entry brings messages.
fn take_parked(taken: &mut Vec<Proposal>, waiters: &Waiters) {
    let mut pushed: Vec<(QueueName, usize)> = Vec::new();
    for proposal in taken.iter() {
        for push in proposal.command.op.pushes() {
            match pushed.iter_mut().find(|(queue, _)| *queue == push.queue) {
                Some((_, count)) => *count += push.count as usize,
                None => pushed.push((push.queue.clone(), push.count as usize)),
            }
        }
    }
    for (queue, count) in pushed {
        let room = COMMANDS_COUNT_MAX - taken.len();
        taken.extend(waiters.take(&queue, count.min(room)));
    }
}

fn removes(taken: &[Proposal]) -> bool {
    taken.iter().any(|proposal| matches!(proposal.command.op, Op::RemoveQueue { .. }))
}

/// Takes the settings of a queue that would be made off the pushes to queues that are there. Only while no removal comes
/// before: what a push meets must not depend on when it is applied.
fn spare_settings(taken: &mut [Proposal], exists: impl Fn(&QueueName) -> bool) {
    let mut known: Option<QueueName> = None;
    for proposal in taken {
        let Op::Push(push) = &mut proposal.command.op else { continue };
        if push.create.is_none() {
            continue;
        }
        if known.as_ref() == Some(&push.queue) {
            push.create = None;
        } else if exists(&push.queue) {
            push.create = None;
            known = Some(push.queue.clone());
        }
    }
}

/// Puts plain pushes of different sessions to the same queue next to each other, so that the state keeps them as one
/// run; what one session asked for keeps its order.
fn together(taken: Vec<Proposal>) -> Vec<Proposal> {
    let session = |proposal: &Proposal| proposal.command.session.map(|stamp| stamp.session);
    if taken.windows(2).all(|pair| session(&pair[0]) == session(&pair[1])) {
        return taken;
    }
    let mut groups: Vec<Vec<Proposal>> = Vec::new();
    let mut open: BTreeMap<QueueName, usize> = BTreeMap::new();
    let mut newest: BTreeMap<Option<SessionId>, usize> = BTreeMap::new();
    for proposal in taken {
        let session = session(&proposal);
        let queue = match &proposal.command.op {
            Op::Push(push) if push.special.is_empty() => Some(push.queue.clone()),
            _ => None,
        };
        let joined = queue.as_ref().and_then(|queue| open.get(queue).copied());
        let joined = joined.filter(|group| newest.get(&session).is_none_or(|newest| newest <= group));
        let group = joined.unwrap_or_else(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(proposal);
        newest.insert(session, group);
        if let Some(queue) = queue {
            open.insert(queue, group);
        }
    }
    groups.into_iter().flatten().collect()
}

/// Those who wait for one entry. Dropped unanswered when Raft stops: then nobody knows.
struct Dones(Vec<(Instant, Done)>);

impl Drop for Dones {
    fn drop(&mut self) {
        for (_, done) in self.0.drain(..) {
            done(Err(ProposeError::Unknown));
        }
    }
}

fn refuse(taken: Vec<Proposal>, why: ProposeError) {
    for proposal in taken {
        (proposal.done)(Err(why.clone()));
    }
}

fn complete(
    mut dones: Dones,
    room: OwnedSemaphorePermit,
    (unconfirmed_ms, stamped): (u64, Instant),
    (entered, encode): (Instant, Duration),
    result: ClientWriteResult<TypeConfig>,
) {
    drop(room);
    match result {
        Ok(written) => {
            let applied = written.data;
            let since = Instant::now();
            assert_eq!(applied.replies.len(), dones.0.len(), "every command has one reply");
            for ((arrived, done), reply) in dones.0.drain(..).zip(applied.replies) {
                let reading = applied.reading.clone();
                let ms = applied.lease_clock_ms.saturating_add(unconfirmed_ms);
                let lease_clock = LeaseClockAt { ms, at: stamped };
                let wait = entered.saturating_duration_since(arrived);
                done(Ok(Committed { reply, lease_clock, since, arrived, wait, encode, _reading: reading }));
            }
        }
        Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_)) => {
            for (_, done) in dones.0.drain(..) {
                done(Err(ProposeError::NotLeader));
            }
        }
        Err(ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::ChangeMembershipError(_)) => {
            drop(dones);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::command::{Push, SessionStamp};
    use queue_protocol::wire::request_hash::RequestHash;

    fn push(session: u128, number: u64, queue: &str) -> Proposal {
        let push = Push {
            queue: queue.parse().expect("a valid name"),
            create: None,
            atomic: false,
            count: 1,
            special: Bounded::default(),
        };
        let session = Some(SessionStamp {
            session: SessionId(session),
            number,
            done_below: 1,
            opening: None,
            request: RequestHash::default(),
            by: None,
        });
        let command = Command { session, op: Op::Push(push) };
        let done: Done = Box::new(|_| {});
        Proposal { arrived: Instant::now(), command, table: Vec::new(), contents: Vec::new(), done }
    }

    fn order(proposals: Vec<Proposal>) -> Vec<(u128, u64)> {
        let stamp = |proposal: &Proposal| proposal.command.session.expect("all have one");
        proposals.iter().map(stamp).map(|stamp| (stamp.session.0, stamp.number)).collect()
    }

    #[test]
    fn pushes_of_several_sessions_to_one_queue_stand_together() {
        let taken = vec![push(1, 1, "a"), push(2, 1, "b"), push(3, 1, "a"), push(2, 2, "b"), push(1, 2, "a")];
        assert_eq!(order(together(taken)), [(1, 1), (3, 1), (1, 2), (2, 1), (2, 2)]);
    }

    #[test]
    fn settings_are_carried_to_queues_that_are_not_there() {
        let mut taken = vec![push(1, 1, "old"), push(1, 2, "new"), push(1, 3, "old"), push(1, 4, "new")];
        for proposal in &mut taken {
            let Op::Push(push) = &mut proposal.command.op else { unreachable!("all are pushes") };
            push.create = Some(Box::default());
        }
        spare_settings(&mut taken, |queue| queue.as_str() == "old");
        let carried =
            taken.iter().map(|proposal| proposal.command.op.pushes().any(|push| push.create.is_some()));
        assert_eq!(carried.collect::<Vec<_>>(), [false, true, false, true]);
    }

    #[test]
    fn an_entry_that_removes_a_queue_counts_until_it_is_done() {
        let queue = "a".parse().expect("a valid name");
        let remove = Op::RemoveQueue { queue, if_exists: false, if_empty: false };
        let mut taken = vec![push(1, 1, "a"), push(1, 2, "a")];
        assert!(!removes(&taken));
        taken[1].command.op = remove;
        assert!(removes(&taken));
        let count = Arc::default();
        let removing = Removing::begin(&count);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(removing);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_one_session_asked_for_keeps_its_order() {
        let taken = vec![push(1, 1, "a"), push(1, 2, "b"), push(1, 3, "a"), push(2, 1, "a"), push(2, 2, "b")];
        assert_eq!(order(together(taken)), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]);
    }
}

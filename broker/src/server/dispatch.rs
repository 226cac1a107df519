//! Requests become commands and reads: ranges are checked and defaults filled in here, once, by the node that proposes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::{FUTURE_MS_MAX, LEASE_COUNT_MAX, QUEUES_LISTED_MAX, TAIL_SIZE_MAX, WAIT_MS_MAX};
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::settings::{QueueSettings, Settings};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{
    AlterQueue, BindSession, Call, Consistency, CreateQueue, Edit, Extend, ExtendWhich, Lease, Nack,
    NackKind, Queues, Receipts, RemoveQueue, Stamp,
};
use queue_protocol::wire::requests::{
    ActRequest, ByClass, ChangeRequest, Class, Place, ReadRequest, Request, Row, Tail, WaitRequest,
};
use queue_protocol::wire::response::{Answer, QueueView, StatsView, StatusView};
use queue_protocol::wire::rights::Verb;
use tokio::time::Instant;

use super::access::Access;
use super::answer::error;
use super::budget::Budget;
use super::caller::Caller;
use super::logs;
use super::options::{check_grace_ms, check_lease_ms, check_settings, check_weight, ordered_and_fair};
use super::order::Orders;
use super::pace::Pace;
use super::presence::Presence;
use super::quiet::Quiet;
use super::reads::Reads;
use super::reply_to::{Finished, ReplyTo};
use super::roster::Roster;
use super::slow::Slow;
use super::used::Used;
use crate::queue::command::{self, Command, Op, SessionStamp};
use crate::queue::{By, KeyNumber};
use crate::raft::{Asker, Consensus, LeaseClockAt, Patience, Proposal, Waiters};

/// Longest that a transfer of leadership may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// What an operator can choose about queues and requests.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// A push makes its queue.
    pub auto_create: bool,
    /// Settings where a request names none.
    pub defaults: Settings,
    /// Largest body.
    pub message_size_max: usize,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            auto_create: false,
            defaults: Settings::default(),
            message_size_max: queue_protocol::limits::BODY_SIZE_MAX,
        }
    }
}

/// Turns the requests of all connections into commands and reads.
pub(crate) struct Dispatch {
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) reads: Reads,
    pub(crate) orders: Orders,
    pub(crate) options: QueueOptions,
    pub(crate) budget: Arc<Budget>,
    pub(crate) connections: std::sync::atomic::AtomicU64,
    /// Connections of clients: how many there may be, and how many were asked for.
    pub(crate) places: (usize, usize),
    /// Requests for which there was no place or no memory.
    pub(super) overloaded: std::sync::atomic::AtomicU64,
    /// What strangers bring about is written here.
    pub(super) quiet: Quiet,
    /// Which keys are used.
    pub(super) used: Used,
    /// How fast each principal changes what is administered.
    pub(super) pace: Pace,
    /// Who is connected.
    pub(super) roster: Roster,
    /// What took long.
    pub(super) slow: Slow,
}

pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::refused(ErrorCode::BadRequest, what)
}

/// What is reserved must be empty: a call that speaks of another client or group is never done as if it did not.
fn unreserved(call: &Call) -> Result<(), Error> {
    if call.on_behalf_of.is_some() {
        return Err(Error::refused(ErrorCode::NotPermitted, "nobody may ask on behalf of another client"));
    }
    match call.group {
        0 => Ok(()),
        group => Err(bad(format!("group {group} is asked, and there is one, 0"))),
    }
}

impl Dispatch {
    /// A connection is gone, or its client not to be served any more: nothing is kept for it.
    pub(super) fn disconnected(&self, session: SessionId, connection: u64) {
        self.waiters.disconnected(connection);
        self.presence.disconnected(session, connection);
        self.reads.disconnected(connection);
    }

    /// Starts on a request; its outcome goes to `reply`.
    pub(crate) fn handle(self: &Arc<Self>, caller: &Caller, call: Call, tail: Bytes, reply: ReplyTo) {
        if let Err(reserved) = unreserved(&call) {
            return reply.finish(Finished::Failed(reserved));
        }
        let Row { class, tail: tails, .. } = *call.request.row();
        if tails != Tail::ContentsIn && !tail.is_empty() {
            return reply.finish(Finished::Failed(bad("only what pushes has a tail")));
        }
        let (by, access) = match self.enter(caller, &call) {
            Ok(entered) => entered,
            Err(finished) => return reply.finish(finished),
        };
        let stamp = match self.session_stamp(caller, call.stamp, class, &call.request, by) {
            Ok(stamp) => stamp,
            Err(error) => return reply.finish(Finished::Failed(error)),
        };
        let place = call.request.place();
        match call.request.by_class() {
            ByClass::Change(request) => self.change(stamp, request, &tail, call.timeout_ms, reply),
            ByClass::Read(request) => Reads::ask(self, request, access, place, reply),
            ByClass::Wait(WaitRequest::Attend) => self.presence.attend(caller.session, reply),
            ByClass::Act(request) => crate::raft::spawn(Arc::clone(self).act(request, access, place, reply)),
        }
    }

    /// What changes the state must be repeatable, so it has a stamp; what does not has none.
    fn session_stamp(
        &self,
        caller: &Caller,
        stamp: Option<Stamp>,
        class: Class,
        request: &Request,
        by: Option<By>,
    ) -> Result<Option<SessionStamp>, Error> {
        match (stamp, class.is_stamped()) {
            (None, false) => Ok(None),
            (None, true) => Err(bad("a request that changes something needs a stamp")),
            (Some(_), false) => Err(bad("a request that changes nothing has no stamp")),
            (Some(stamp), true) => caller.stamp(stamp, request, by, &self.consensus).map(Some),
        }
    }

    /// Makes a command of a request and proposes it.
    fn change(
        &self,
        stamp: Option<SessionStamp>,
        request: ChangeRequest,
        tail: &Bytes,
        timeout_ms: u32,
        reply: ReplyTo,
    ) {
        let op = match request {
            ChangeRequest::Push(push) => return self.push(stamp, push, tail, reply),
            ChangeRequest::Txn(txn) => return self.txn(stamp, txn, tail, reply),
            ChangeRequest::SetSchedule(set) => return self.set_schedule(stamp, *set, tail, reply),
            ChangeRequest::Lease(lease) => return self.lease(stamp, lease, Op::Lease, timeout_ms, reply),
            ChangeRequest::Pop(lease) => return self.lease(stamp, lease, Op::Pop, timeout_ms, reply),
            ChangeRequest::Ack(receipts) => Ok(Op::Ack(to_receipts(receipts))),
            ChangeRequest::Nack(nack) => nack_op(nack),
            ChangeRequest::Extend(extend) => extend_op(extend),
            ChangeRequest::CreateQueue(create) => self.create_op(*create),
            ChangeRequest::AlterQueue(alter) => self.alter_op(*alter),
            ChangeRequest::RemoveQueue(RemoveQueue { queue, if_exists, if_empty }) => {
                Ok(Op::RemoveQueue { queue, if_exists, if_empty })
            }
            ChangeRequest::SaveCheckpoint(save) => {
                check_lease_ms(save.lease_ms).map(|()| Op::SaveCheckpoint(Box::new(save)))
            }
            ChangeRequest::WeighGroup(weigh) => {
                check_weight(weigh.weight).map(|()| Op::WeighGroup(Box::new(weigh)))
            }
            ChangeRequest::Sweep(sweep) => Ok(Op::Sweep(sweep)),
            ChangeRequest::Edit(Edit { queue, ids, change }) => Ok(Op::Edit { queue, ids, change }),
            ChangeRequest::ChangeAuth(change) => Ok(Op::ChangeAuth(change)),
            ChangeRequest::RemoveSchedule(name) => Ok(Op::RemoveSchedule(name)),
            ChangeRequest::CloseSession => Ok(Op::CloseSession),
            ChangeRequest::BindSession(BindSession { grace_ms }) => {
                grace_ms.map_or(Ok(()), check_grace_ms).map(|()| Op::BindSession { grace_ms })
            }
        };
        match op {
            Ok(op) => self.propose(Command { session: stamp, op }, Vec::new(), Vec::new(), reply),
            Err(error) => reply.finish(Finished::Failed(error)),
        }
    }

    fn create_op(&self, create: CreateQueue) -> Result<Op, Error> {
        let settings = Box::new(self.settings(&create.settings)?);
        Ok(Op::CreateQueue { queue: create.queue, settings, if_not_exists: create.if_not_exists })
    }

    fn alter_op(&self, alter: AlterQueue) -> Result<Op, Error> {
        check_settings(&alter.change)?;
        let settings = self.consensus.read(|state, _| state.settings(&alter.queue).cloned());
        let both = settings.map(|settings| settings.with(&alter.change));
        if both.is_some_and(|settings| settings.ordered && settings.fair) {
            return Err(ordered_and_fair());
        }
        let AlterQueue { queue, change, if_version } = alter;
        Ok(Op::AlterQueue { queue, change: Box::new(change), if_version })
    }

    pub(super) fn propose(
        &self,
        command: Command,
        table: Vec<ContentSpec>,
        contents: Vec<Bytes>,
        reply: ReplyTo,
    ) {
        let arrived = reply.came();
        let done = Box::new(move |result| reply.finish(Finished::of(result)));
        self.consensus.propose(Proposal { arrived, command, table, contents, done });
    }

    fn lease(
        &self,
        session: Option<SessionStamp>,
        lease: Lease,
        kind: fn(command::Lease) -> Op,
        timeout_ms: u32,
        reply: ReplyTo,
    ) {
        let wait_ms = u64::from(lease.wait_ms.min(timeout_ms)).min(WAIT_MS_MAX);
        let linger = Duration::from_millis(u64::from(lease.linger_ms.min(timeout_ms)).min(WAIT_MS_MAX));
        let lease = match lease_op(lease) {
            Ok(lease) => lease,
            Err(error) => return reply.finish(Finished::Failed(error)),
        };
        if self.consensus.ready().is_none() {
            return reply.finish(Finished::NotLeader);
        }
        if let Some(differ) = self.consensus.refuse_lease() {
            return reply.finish(Finished::Failed(differ));
        }
        let stamp = session.expect("a lease without a stamp was refused before");
        let (known, reading, lost) = self.consensus.read(|state, _| {
            let lost = state.is_lost(&stamp);
            let known = state.recorded(stamp.session, stamp.number).filter(|_| !lost);
            let reading = known.as_ref().and_then(|reply| self.consensus.reading([reply]));
            (known, reading, lost)
        });
        if let Some(recorded) = known {
            let committed = crate::raft::Committed {
                reply: recorded,
                lease_clock: LeaseClockAt { ms: self.consensus.lease_clock_ms(), at: Instant::now() },
                since: Instant::now(),
                arrived: Instant::now(),
                wait: Duration::ZERO,
                encode: Duration::ZERO,
                _reading: reading,
            };
            return reply.finish(Finished::of(Ok(committed)));
        }
        if lost {
            // Not `empty`: what came of it is not known any more, or it came of another request; apply says which.
            return self.propose(Command { session, op: kind(lease) }, Vec::new(), Vec::new(), reply);
        }
        let patience = Patience { until: Instant::now() + Duration::from_millis(wait_ms), linger };
        let asker = Asker {
            connection: reply.connection(),
            request_id: reply.request_id(),
            answer: Box::new(move |waited| reply.finish(waited.into())),
        };
        self.waiters.arrive(Command { session, op: kind(lease) }, patience, asker);
    }

    fn status(&self) -> Finished {
        let (connections_max, connections_asked) = self.places;
        let status = StatusView {
            connections_max: connections_max as u64,
            connections_asked: connections_asked as u64,
            log: logs::view(),
            ..self.consensus.status()
        };
        let status = Answer::Status(Box::new(status));
        self.consensus.read(|_, index| Finished::read(index, status))
    }

    fn settings(&self, asked: &QueueSettings) -> Result<Settings, Error> {
        check_settings(asked)?;
        Ok(self.options.defaults.with(asked))
    }

    /// Changes who is in the cluster or leads it, and takes its time.
    async fn act(self: Arc<Self>, request: ActRequest, access: Access, place: Place, reply: ReplyTo) {
        if let Err(finished) = self.may_act(&access, place).await {
            return reply.finish(finished);
        }
        let consensus = &self.consensus;
        let done = match request {
            ActRequest::TransferLeader(to) => {
                consensus.transfer(to, TRANSFER_TIMEOUT).await.map(Answer::Transferred)
            }
            ActRequest::ChangeMembers(change) => consensus.change_members(change).await.map(Answer::Member),
            ActRequest::Drain(on) => consensus.drain(on).await.map(Answer::Drained),
            ActRequest::RaiseLevel(level) => consensus.raise_level(level).await.map(Answer::Level),
            ActRequest::RotateSecret(force) => consensus.rotate_secret(force).await.map(Answer::Rotation),
            ActRequest::TlsForget(node) => consensus.tls_forget(node).map(Answer::Forgotten),
            ActRequest::SetLog(choice) => logs::set(choice).map(Answer::Log),
        };
        reply.finish(done.map_or_else(Finished::Failed, |answer| Finished::read(0, answer)));
    }

    /// Looks something up; its turn has come.
    pub(super) async fn read(self: Arc<Self>, request: ReadRequest, access: Access, reply: ReplyTo) {
        use ReadRequest as R;
        let (of, key) = (&access, access.key);
        let leader = Consistency::Linearizable;
        let finished = match request {
            R::Peek(peek) => self.fresh(of, peek.consistency, || self.peek(&peek)).await,
            R::Queues(queues) => self.fresh(of, queues.consistency, || self.queues(&queues, key)).await,
            R::Explain(explain) => self.fresh(of, explain.consistency, || self.explain(&explain)).await,
            R::History(history) => self.fresh(of, history.consistency, || self.history(&history)).await,
            R::Groups(groups) => self.fresh(of, groups.consistency, || self.groups(&groups)).await,
            R::Schedules(list) => self.fresh(of, list.consistency, || self.schedules(&list, key)).await,
            R::Stats => self.fresh(of, leader, || self.stats(key)).await,
            R::Status => self.here(of, || self.status()).await,
            R::Slow => self.here(of, || Finished::read(0, Answer::Slow(self.slow.list()))).await,
            R::Clients(clients) => self.here(of, || self.clients(clients)).await,
            R::Whoami => self.here(of, || self.whoami(key)).await,
            R::Can(can) => self.fresh(of, leader, || self.can(&can, key)).await,
            R::Principals(list) => self.fresh(of, leader, || self.principals(&list)).await,
            R::Audit(audit) => self.fresh(of, audit.consistency, || self.audit(&audit)).await,
        };
        reply.finish(finished);
    }

    async fn fresh(
        &self,
        access: &Access,
        consistency: Consistency,
        look: impl FnOnce() -> Finished,
    ) -> Finished {
        match consistency {
            Consistency::Linearizable => match self.consensus.read_index().await {
                Ok(_) => self.reads.look(|| self.permitted(access).map_or_else(|no| no, |()| look())).await,
                Err(error) => Finished::Failed(error),
            },
            // Before the look: what is applied meanwhile only makes it younger.
            Consistency::Stale => {
                let look = || Finished::Stale { age: self.consensus.age(), read: Box::new(look()) };
                self.here(access, look).await
            }
        }
    }

    async fn here(&self, access: &Access, look: impl FnOnce() -> Finished) -> Finished {
        self.reads.look(|| self.permitted_here(access).map_or_else(|no| no, |()| look())).await
    }

    fn queues(&self, queues: &Queues, key: Option<KeyNumber>) -> Finished {
        let looked = self.consensus.read_now(|state, index| {
            if let Some(queue) = queues.only.as_ref().filter(|queue| !state.has_queue(queue)) {
                return Err(crate::queue::reply::Refusal {
                    code: ErrorCode::QueueNotFound,
                    similar: state.similar(queue).filter(|name| state.may(key, Verb::Look, name)),
                    queue: Some(queue.clone()),
                });
            }
            let seen = |name: &QueueName| state.may(key, Verb::Look, name);
            let found =
                state.queues_seen(queues.only.as_ref(), queues.after.as_ref(), QUEUES_LISTED_MAX, seen);
            Ok((found, index))
        });
        let (found, index) = match looked {
            Ok(looked) => looked,
            Err(refusal) => return Finished::Failed(error(&refusal)),
        };
        // Outside of the state's lock: the parked leases have one of their own, and look at the state inside of it.
        let views: Vec<QueueView> = found.into_iter().map(|stats| self.queue_view(stats)).collect();
        let answer = Box::new(Answer::Queues(Bounded::new(views).expect("no more than were asked for")));
        Finished::Read { index, answer, bodies: Vec::new() }
    }

    fn queue_view(&self, stats: crate::queue::QueueStats) -> QueueView {
        let waiting = self.waiters.count(Some(&stats.name));
        QueueView {
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            ready: stats.ready,
            leased: stats.leased,
            delayed: stats.delayed,
            dead: stats.dead,
            bytes: stats.bytes,
            oldest_ready_ms: stats.oldest_ready_ms,
            next_due_in_ms: stats.next_due_in_ms,
            pushed_total: stats.pushed_total,
            leased_total: stats.leased_total,
            acked_total: stats.acked_total,
            settings: stats.settings,
            version: stats.version,
            full: stats.full,
            blocked: stats.blocked,
            name: stats.name,
        }
    }

    fn stats(&self, key: Option<KeyNumber>) -> Finished {
        let waiting = self.waiters.count(None) as u64;
        self.consensus.read(|state, index| {
            let totals = state.stats_for(key);
            let stats = StatsView {
                queues: totals.queues,
                ready: totals.ready,
                leased: totals.leased,
                delayed: totals.delayed,
                dead: totals.dead,
                bytes: totals.bytes,
                sessions: totals.sessions,
                pushed_total: totals.pushed_total,
                leased_total: totals.leased_total,
                acked_total: totals.acked_total,
                connections: self.connections.load(std::sync::atomic::Ordering::Relaxed),
                waiting,
                wall_ms: state.wall_ms(),
                stages: self.consensus.log().stages().view(),
            };
            Finished::read(index, Answer::Stats(Box::new(stats)))
        })
    }
}

fn lease_op(lease: Lease) -> Result<command::Lease, Error> {
    if !(1..=LEASE_COUNT_MAX).contains(&usize::from(lease.max_messages)) {
        return Err(bad(format!("a lease gives 1 to {LEASE_COUNT_MAX} messages")));
    }
    let distinct: std::collections::BTreeSet<&QueueName> = lease.queues.iter().collect();
    if distinct.is_empty() || distinct.len() != lease.queues.len() {
        return Err(bad("a lease names at least one queue, and none twice"));
    }
    lease.lease_ms.map_or(Ok(()), check_lease_ms)?;
    let max_bytes = lease.max_bytes.clamp(1, u32::try_from(TAIL_SIZE_MAX).unwrap_or(u32::MAX));
    Ok(command::Lease {
        queues: lease.queues,
        max_messages: lease.max_messages,
        max_bytes,
        lease_ms: lease.lease_ms,
    })
}

pub(super) fn to_receipts(receipts: Receipts) -> command::Receipts {
    command::Receipts { queue: receipts.queue, receipts: receipts.receipts }
}

/// Refused if the delay is too long.
pub(super) fn check_nack(kind: &NackKind) -> Result<(), Error> {
    let delay_ms = match kind {
        NackKind::Release { delay_ms } => Some(*delay_ms),
        NackKind::Fail { delay_ms, .. } => *delay_ms,
        NackKind::Reject { .. } => None,
    };
    if delay_ms.is_some_and(|delay_ms| delay_ms > FUTURE_MS_MAX) {
        return Err(bad("a delay is at most 366 days"));
    }
    Ok(())
}

fn nack_op(nack: Nack) -> Result<Op, Error> {
    check_nack(&nack.kind)?;
    Ok(Op::Nack { leases: to_receipts(nack.leases), kind: nack.kind })
}

fn extend_op(extend: Extend) -> Result<Op, Error> {
    check_lease_ms(extend.lease_ms)?;
    let leases = match extend.leases {
        ExtendWhich::Receipts(receipts) => Some(to_receipts(receipts)),
        ExtendWhich::Session => None,
    };
    Ok(Op::Extend { leases, lease_ms: extend.lease_ms })
}

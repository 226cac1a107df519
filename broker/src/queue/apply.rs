//! Applying one entry: clocks, deadlines, then its commands, each as a whole and once per session number.

use std::collections::BTreeSet;

use queue_protocol::content::ContentSpec;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::{LeaseToken, MessageId, QueueName, SessionId};
use queue_protocol::wire::audit::Actor;
use queue_protocol::wire::response::At;
use queue_protocol::wire::rights::Verb;

use super::auth::{By, PrincipalNumber};
use super::catalog::{Changed, QueueNumber};
use super::clients::sessions::Admission;
use super::command::{Batch, Command, Op, Opening, SessionStamp, Step};
use super::journal::Deed;
use super::level::is_known;
use super::messages::dead::Leaver;
use super::messages::gone::Gone;
use super::queue::Queue;
use super::reply::{Applied, Effects, Outcome, Refusal, Reply};
use super::state::State;

/// One entry on its way into the state.
pub(crate) struct Apply<'a> {
    pub(super) state: &'a mut State,
    /// Raft index of the entry.
    pub(super) index: u64,
    /// Lease clock at the stamping of the entry: what the state's clock lagged behind then is in it. Every deadline on
    /// the lease clock that begins with this entry is counted from here, see [`Apply::lease_deadline`].
    pub(super) stamped_ms: u64,
    /// Size and checksum of each content of the entry, in order.
    pub(super) table: &'a [ContentSpec],
    /// Rows taken by the pushes before.
    rows_taken: u64,
    /// Queues that got ready messages.
    gained: BTreeSet<QueueNumber>,
    /// Messages that went for good.
    pub(super) gone: Vec<Gone>,
    /// Who sent the command that is executed.
    by: Option<By>,
    /// Its principal.
    pub(super) owner: Option<PrincipalNumber>,
    /// How its session opens with it.
    opening: Option<Opening>,
}

impl State {
    /// Applies one entry. `index` is its Raft index, `table` its body table, of which each push takes its rows in
    /// turn. Any batch is fine: what cannot be done is refused in its reply.
    pub fn apply(&mut self, index: u64, batch: &Batch, table: &[ContentSpec]) -> Applied {
        let stamped_ms = self.clocks_mut().advance(&batch.stamps);
        let (gained, gone) = (BTreeSet::new(), Vec::new());
        let mut apply = Apply {
            state: self,
            index,
            stamped_ms,
            table,
            rows_taken: 0,
            gained,
            gone,
            by: None,
            owner: None,
            opening: None,
        };
        apply.fire();
        let replies =
            (0..).zip(batch.commands.iter()).map(|(position, command)| apply.command(position, command));
        let replies: Vec<Reply> = replies.collect();
        let gained = std::mem::take(&mut apply.gained);
        let gone = std::mem::take(&mut apply.gone);
        let ready = gained.iter().filter_map(|number| self.catalog().get(*number));
        let ready = ready.filter(|queue| queue.available() > 0).map(|queue| queue.name.clone()).collect();
        self.fold(&replies);
        Applied { replies, effects: Effects { ready, more_due: self.is_due() }, gone }
    }
}

/// What [`Apply::rollback`] goes back to.
pub(super) struct Savepoint {
    state: State,
    gone: usize,
}

impl Apply<'_> {
    fn command(&mut self, position: u32, command: &Command) -> Reply {
        let at = At { index: self.index, position };
        let first_row = self.rows_taken;
        self.rows_taken = self.rows_taken.saturating_add(command.op.rows());
        (self.by, self.owner) = (None, None);
        self.opening = command.session.and_then(|stamp| stamp.opening);
        if let Some(stamp) = &command.session
            && let Err(code) = self.enter(stamp)
        {
            return Reply { at, repeated: false, result: Err(refusal(code)) };
        }
        match (&command.session, &command.op) {
            (None, op) => Reply { at, repeated: false, result: self.execute(None, op, first_row) },
            (Some(stamp), Op::CloseSession) => {
                let elapsed_ms = self.state.elapsed_ms();
                self.state.sessions_mut().close(stamp, at.index, elapsed_ms);
                self.resign(stamp.session);
                Reply { at, repeated: false, result: Ok(Outcome::Closed) }
            }
            (Some(stamp), op) => self.once(at, stamp, op, first_row),
        }
    }

    /// Sees to it that who sent a command may still do it, and that the session is its own.
    fn enter(&mut self, stamp: &SessionStamp) -> Result<(), ErrorCode> {
        let auth = self.state.auth();
        if let Some(code) = auth.stale(stamp.by, self.state.wall_ms()) {
            return Err(code);
        }
        (self.by, self.owner) = (stamp.by, auth.principal_of(stamp.by));
        if auth.is_required()
            && self.state.session_owner(stamp.session).is_some_and(|owner| Some(owner) != self.owner)
        {
            return Err(ErrorCode::Denied);
        }
        Ok(())
    }

    /// The queue of a lease that a command settles and that belongs to another principal, if it may not do that.
    fn foreign(&self, op: &Op) -> Option<Refusal> {
        if !self.state.auth().is_required() {
            return None;
        }
        let one = match op {
            Op::Ack(leases) | Op::Nack { leases, .. } => Some(leases),
            Op::Extend { leases, .. } => leases.as_ref(),
            _ => None,
        };
        let steps = if let Op::Txn(txn) = op { &txn.steps[..] } else { &[] };
        let of_steps = steps.iter().filter_map(|step| match step {
            Step::Ack(leases) | Step::Nack { leases, .. } | Step::Extend { leases, .. } => Some(leases),
            Step::Push(_) | Step::Edit { .. } => None,
        });
        let receipts = one.into_iter().chain(of_steps);
        let receipts = receipts.flat_map(|leases| leases.receipts.iter().map(|it| (&leases.queue, *it)));
        let saved =
            if let Op::SaveCheckpoint(save) = op { Some((&save.queue, (save.id, save.token))) } else { None };
        let is_foreign = |(name, (id, token)): &(&QueueName, (MessageId, LeaseToken))| {
            let leased = self.state.queue(name).and_then(|queue| queue.leased.get(id));
            leased.is_some_and(|leased| {
                leased.token == *token && leased.owner.is_some() && leased.owner != self.owner
            })
        };
        let (name, _) = receipts.chain(saved).find(is_foreign)?;
        let may = |owner| self.state.auth().may(owner, Verb::Manage, name);
        if self.owner.is_some_and(may) { None } else { Some(refusal_of(ErrorCode::Denied, name)) }
    }

    /// Executes a command unless its session knows it.
    fn once(&mut self, at: At, stamp: &SessionStamp, op: &Op, first_row: u64) -> Reply {
        let elapsed_ms = self.state.elapsed_ms();
        match self.state.sessions_mut().admit(stamp, op, at.index, elapsed_ms) {
            Admission::Execute => {}
            Admission::Open => {
                let Some(id) = self.state.session_in_the_way() else {
                    return Reply { at, repeated: false, result: Err(refusal(ErrorCode::SessionLimit)) };
                };
                self.forget(id);
            }
            Admission::Answered(reply) => return reply,
            Admission::Refused(code) => return Reply { at, repeated: false, result: Err(refusal(code)) },
        }
        if let Some(denied) = self.foreign(op) {
            return Reply { at, repeated: false, result: Err(denied) };
        }
        let result = self.execute(Some(stamp.session), op, first_row);
        if !matches!(result, Ok(Outcome::Nothing)) {
            self.state.sessions_mut().record(stamp, self.owner, at, &result, elapsed_ms);
        }
        Reply { at, repeated: false, result }
    }

    /// Forgets a session and what it claims; its leases run on.
    pub(super) fn forget(&mut self, session: SessionId) {
        let elapsed_ms = self.state.elapsed_ms();
        self.state.sessions_mut().forget(session, elapsed_ms);
        self.resign(session);
    }

    /// Executes a command, and tells the journal of it if it is administrative.
    fn execute(&mut self, session: Option<SessionId>, op: &Op, first_row: u64) -> Result<Outcome, Refusal> {
        let before = self.state.catalog().next();
        let result = self.run(session, op, first_row)?;
        for number in before..self.state.catalog().next() {
            let made = self.state.catalog().get(number).map(|queue| Deed::made(&queue.name, op));
            if let Some(deed) = made {
                self.tell(session, deed);
            }
        }
        if let Some(deed) = result.deed(op) {
            self.tell(session, deed);
        }
        Ok(result)
    }

    fn tell(&mut self, session: Option<SessionId>, deed: Deed) {
        let opened = || session.and_then(|session| self.state.session_source(session));
        let from = self.opening.map(|opening| opening.source).or_else(opened);
        let actor = self.actor(session.is_some());
        self.state.tell(self.index, actor, from, deed);
    }

    fn actor(&self, asked: bool) -> Actor {
        match self.by {
            None if asked => Actor::Anybody,
            None => Actor::Nodes,
            Some(by) => self.state.auth().actor(by.key),
        }
    }

    fn run(&mut self, session: Option<SessionId>, op: &Op, first_row: u64) -> Result<Outcome, Refusal> {
        match op {
            Op::Push(push) => self.push(push, first_row),
            Op::Lease(lease) => self.lease(session, lease),
            Op::Pop(lease) => self.pop(session, lease),
            Op::Ack(receipts) => Ok(self.ack(session, receipts)),
            Op::Nack { leases, kind } => Ok(self.nack(session, leases, kind)),
            Op::Extend { leases, lease_ms } => self.extend(session, leases.as_ref(), *lease_ms),
            Op::CreateQueue { queue, settings, if_not_exists } => {
                self.create(queue, settings, *if_not_exists)
            }
            Op::AlterQueue { queue, change, if_version } => self.alter(queue, change, *if_version),
            Op::RemoveQueue { queue, if_exists, if_empty } => self.remove(queue, *if_exists, *if_empty),
            Op::Sweep(sweep) => self.sweep(sweep),
            Op::Edit { queue, ids, change } => self.edit(queue, ids, change),
            Op::WeighGroup(weigh) => {
                self.weigh(&weigh.queue, &weigh.group, weigh.weight).map(Outcome::Weighed)
            }
            Op::SaveCheckpoint(save) => Ok(self.save_checkpoint(session, save)),
            Op::Txn(txn) => self.txn(session, txn, first_row),
            Op::SetSchedule(set) => self.set_schedule(set, first_row),
            Op::RemoveSchedule(name) => self.remove_schedule(name),
            Op::Fire(fire) => Ok(self.fire_schedule(fire)),
            Op::CloseSession => Err(refusal(ErrorCode::BadRequest)),
            Op::BindSession { grace_ms } => self.bind(session, *grace_ms),
            Op::ReleaseAbsent(session) => Ok(self.release_absent(*session)),
            Op::SetWall { from_ms, to_ms } => Ok(self.set_wall(*from_ms, *to_ms)),
            Op::AssignNode { store, key } => Ok(Outcome::Node(self.assign_node(*store, *key))),
            Op::FoundCluster(found) => {
                self.found_cluster(found);
                Ok(Outcome::Ticked)
            }
            Op::BeginRotation(begin) => self.begin_rotation(begin),
            Op::NoteRotation(note) => {
                self.note_rotation(note);
                Ok(Outcome::Ticked)
            }
            Op::ChangeAuth(change) => self.change_auth(self.by, change),
            Op::NoteKeys(used) => {
                self.note_keys(used);
                Ok(Outcome::Ticked)
            }
            Op::Tick => Ok(Outcome::Ticked),
            Op::RaiseLevel(level) if !is_known(*level) => Err(refusal(ErrorCode::BadRequest)),
            Op::RaiseLevel(level) => Ok(Outcome::Raised(self.state.raise_level(*level))),
        }
    }

    /// The lease clock at which a lease ends that is given, or made longer, for `lease_ms` by this entry. The clock counts
    /// what is confirmed, so it reaches this no earlier than `lease_ms` after the stamping.
    pub(super) fn lease_deadline(&self, lease_ms: u64) -> u64 {
        self.stamped_ms.saturating_add(lease_ms)
    }

    /// The state as it is now. A copy shares everything: what it costs is what changes then.
    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint { state: self.state.clone(), gone: self.gone.len() }
    }

    /// Takes back all that was done since the savepoint.
    pub(super) fn rollback(&mut self, savepoint: Savepoint) {
        *self.state = savepoint.state;
        self.gone.truncate(savepoint.gone);
    }

    /// Changes one queue; everything that is kept about queues as a whole follows.
    pub(super) fn change<R>(&mut self, number: QueueNumber, change: impl FnOnce(&mut Queue) -> R) -> R {
        let Changed { result, leaving, went, gained } = self.state.catalog_mut().change(number, change);
        if !went.is_empty() {
            self.gone.push(Gone { queue: number, at: self.state.now(), went });
        }
        if gained {
            self.gained.insert(number);
        }
        if let Some((from, leaving)) = leaving {
            self.hand_over(&from, leaving);
        }
        result
    }

    /// Puts messages into the queues they go to.
    fn hand_over(&mut self, from: &QueueName, leaving: Vec<Leaver>) {
        let now = self.state.now();
        for run in leaving.chunk_by(|a, b| a.to == b.to) {
            self.change(run[0].to, |queue| {
                run.iter().for_each(|leaver| queue.arrive(leaver.clone(), from, now));
            });
        }
    }

    /// Notes that a session does not hold a lease any more.
    pub(super) fn unhold(&mut self, session: Option<SessionId>, id: MessageId) {
        if let Some(session) = session {
            self.state.holders_mut().forget(session, id);
        }
    }

    /// The number of a queue.
    ///
    /// # Errors
    /// Refused, with a name that may have been meant.
    pub(super) fn number(&self, queue: &QueueName) -> Result<QueueNumber, Refusal> {
        self.state.catalog().number(queue).ok_or_else(|| self.queue_not_found(queue))
    }
}

impl State {
    /// The refusal for a queue that does not exist.
    pub(super) fn queue_not_found(&self, queue: &QueueName) -> Refusal {
        Refusal { code: ErrorCode::QueueNotFound, queue: Some(queue.clone()), similar: self.similar(queue) }
    }
}

impl Apply<'_> {
    /// The same, with no name that who asks may not see.
    pub(super) fn queue_not_found(&self, queue: &QueueName) -> Refusal {
        let refusal = self.state.queue_not_found(queue);
        let auth = self.state.auth();
        let seen = |name: &QueueName| {
            !auth.is_required() || self.owner.is_some_and(|owner| auth.may(owner, Verb::Look, name))
        };
        Refusal { similar: refusal.similar.filter(seen), ..refusal }
    }
}

/// A refusal that is about no queue.
pub(crate) fn refusal(code: ErrorCode) -> Refusal {
    Refusal { code, queue: None, similar: None }
}

/// A refusal that is about one queue.
pub(super) fn refusal_of(code: ErrorCode, queue: &QueueName) -> Refusal {
    Refusal { code, queue: Some(queue.clone()), similar: None }
}

//! What each command does to the vectors.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{LeaseToken, MessageId, NodeId, QueueName, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::{MessageState, NackKind};
use queue_protocol::wire::response::{DeadReason, Event, EventKind, Settled};

use super::super::command::{ErrorText, Lease, Op, Receipts};
use super::super::level::LEVEL_KNOWN_MAX;
use super::super::messages::message::backoff_ms;
use super::super::reply::{BodyRef, Grant, Outcome, Refusal};
use super::{Message, Model, Queue, make_ready, refusal, refusal_of};

impl Model {
    pub(super) fn execute(
        &mut self,
        session: Option<SessionId>,
        op: &Op,
        bodies: &[BodyRef],
    ) -> Result<Outcome, Refusal> {
        let result = self.act(session, op, bodies);
        self.turn();
        result
    }

    pub(super) fn act(
        &mut self,
        session: Option<SessionId>,
        op: &Op,
        bodies: &[BodyRef],
    ) -> Result<Outcome, Refusal> {
        match op {
            Op::Push(push) => self.push(push, bodies),
            Op::Lease(lease) => self.deliver(session, lease, false),
            Op::Pop(lease) => self.deliver(session, lease, true),
            Op::Ack(receipts) => {
                let results = self.settle(receipts, |model, id| {
                    model.messages.retain(|message| message.shown.id != id);
                });
                self.show(session, &receipts.queue, &results, None);
                Ok(Outcome::Settled(results))
            }
            Op::Nack { leases, kind } => {
                let results = self.settle(leases, |model, id| model.nack(id, kind));
                self.show(session, &leases.queue, &results, None);
                Ok(Outcome::Settled(results))
            }
            Op::Extend { leases, lease_ms } => {
                let deadline_ms = self.stamped_ms + (*lease_ms).clamp(1_000, 43_200_000);
                let extend = |model: &mut Self, id| model.find(id).unwrap().deadline_ms = deadline_ms;
                let (results, count) = match (leases, session) {
                    (Some(receipts), _) => {
                        let results = self.settle(receipts, extend);
                        self.show(session, &receipts.queue, &results, Some(*lease_ms));
                        let count = results.iter().filter(|result| **result == Settled::Ok).count();
                        (results, count)
                    }
                    (None, Some(session)) => {
                        let held = self.in_state(MessageState::Leased).filter(|m| m.holder == Some(session));
                        let held: Vec<MessageId> = held.map(|m| m.shown.id).collect();
                        held.iter().for_each(|id| extend(self, *id));
                        for id in &held {
                            let queue = self.find(*id).unwrap().queue.clone();
                            self.show(Some(session), &queue, &[Settled::Ok], Some(*lease_ms));
                        }
                        (Vec::new(), held.len())
                    }
                    (None, None) => return Err(refusal(ErrorCode::BadRequest)),
                };
                Ok(Outcome::Extended { results, count: count as u64, deadline_ms })
            }
            Op::CreateQueue { queue, settings, if_not_exists } => {
                match self.queues.iter().find(|known| known.name == *queue) {
                    Some(known) if *if_not_exists || known.settings == **settings => {
                        Ok(Outcome::Created(false))
                    }
                    Some(_) => Err(refusal_of(ErrorCode::QueueExists, queue)),
                    None => {
                        self.make_queue(queue, settings)?;
                        Ok(Outcome::Created(true))
                    }
                }
            }
            Op::AlterQueue { queue, change, if_version } => {
                self.exists(queue)?;
                let known = self.queues.iter_mut().find(|known| known.name == *queue).unwrap();
                if if_version.is_some_and(|version| version != known.version) {
                    return Err(refusal_of(ErrorCode::QueueChanged, queue));
                }
                let settings = known.settings.with(change);
                self.sound(queue, &settings)?;
                let known = self.queues.iter_mut().find(|known| known.name == *queue).unwrap();
                known.version += u64::from(settings != known.settings);
                if settings.fair != known.settings.fair {
                    known.round.clear();
                }
                known.change_rates(&settings);
                if !settings.single_active {
                    known.active.2 = None;
                }
                known.settings = settings;
                Ok(Outcome::Altered(known.version))
            }
            Op::RemoveQueue { queue, if_exists, if_empty } => {
                if *if_exists && !self.has(queue) {
                    return Ok(Outcome::Count(0));
                }
                self.exists(queue)?;
                if *if_empty && self.messages.iter().any(|message| message.queue == *queue) {
                    return Err(refusal_of(ErrorCode::QueueNotEmpty, queue));
                }
                self.queues.retain(|known| known.name != *queue);
                Ok(self.delete(|message| message.queue == *queue))
            }
            Op::Sweep(sweep) => self.sweep(sweep),
            Op::Edit { queue, ids, change } => self.edit(queue, ids, change),
            Op::Txn(txn) => self.txn(session, txn, bodies),
            Op::SetSchedule(set) => self.set_schedule(set, bodies),
            Op::RemoveSchedule(name) => self.remove_schedule(name),
            Op::Fire(fire) => Ok(self.fire_schedule(fire)),
            Op::SaveCheckpoint(save) => {
                let receipts = Receipts {
                    queue: save.queue.clone(),
                    receipts: queue_protocol::wire::bounded::Bounded::new(vec![(save.id, save.token)])
                        .unwrap(),
                };
                let deadline_ms = self.stamped_ms + save.lease_ms.clamp(1_000, 43_200_000);
                let results = self.settle(&receipts, |model, id| {
                    let message = model.find(id).unwrap();
                    message.deadline_ms = deadline_ms;
                    message.shown.checkpoint_size = u32::try_from(save.checkpoint.as_bytes().len()).ok();
                    message.checkpoint = Some(save.checkpoint.clone());
                });
                self.show(session, &save.queue, &results, Some(save.lease_ms));
                let count = u64::from(results == [Settled::Ok]);
                Ok(Outcome::Extended { results, count, deadline_ms })
            }
            Op::WeighGroup(weigh) => {
                self.exists(&weigh.queue)?;
                let known = self.queues.iter_mut().find(|known| known.name == weigh.queue).unwrap();
                let before =
                    known.weights.iter().find(|(key, _)| *key == weigh.group).map(|(_, weight)| *weight);
                known.weights.retain(|(key, _)| *key != weigh.group);
                known.weights.extend(weigh.weight.map(|weight| (weigh.group.clone(), weight)));
                Ok(Outcome::Weighed(before))
            }
            Op::CloseSession => Err(refusal(ErrorCode::BadRequest)),
            Op::BindSession { grace_ms } => match grace_ms {
                Some(grace_ms) if !(1_000..=43_200_000).contains(grace_ms) => {
                    Err(refusal(ErrorCode::BadRequest))
                }
                _ if session.is_none() => Err(refusal(ErrorCode::BadRequest)),
                grace_ms => Ok(Outcome::Bound(*grace_ms)),
            },
            Op::ReleaseAbsent(session) => {
                if !self.bound().iter().any(|(bound, _)| bound == session) {
                    return Ok(Outcome::Count(0));
                }
                let mut count = 0;
                for queue in self.queues.clone() {
                    let theirs = self.in_state(MessageState::Leased);
                    let theirs = theirs.filter(|m| m.holder == Some(*session) && m.queue == queue.name);
                    let mut ids: Vec<MessageId> = theirs.map(|m| m.shown.id).collect();
                    ids.sort();
                    for id in ids {
                        self.nack(id, &NackKind::Release { delay_ms: 0 });
                        self.turn();
                        count += 1;
                    }
                }
                self.resign(*session);
                Ok(Outcome::Count(count))
            }
            Op::AssignNode { .. } => {
                self.nodes += 1;
                Ok(Outcome::Node(NodeId(1 + self.nodes)))
            }
            Op::SetWall { from_ms, to_ms } => {
                let moved_ms = i128::from(self.wall_ms) - i128::from(*from_ms);
                if *to_ms < self.wall_ms && (0..60_000).contains(&moved_ms) {
                    self.wall_ms = *to_ms;
                    self.recount();
                }
                self.wall_ms = self.wall_ms.max(*to_ms);
                Ok(Outcome::Ticked)
            }
            // Principals are not what it is about.
            Op::ChangeAuth(_) => Err(refusal(ErrorCode::AuthRequired)),
            Op::NoteKeys(_) => Ok(Outcome::Ticked),
            Op::Tick | Op::FoundCluster(_) | Op::NoteRotation(_) => Ok(Outcome::Ticked),
            // No cluster of the model has begun.
            Op::BeginRotation(_) => Err(refusal(ErrorCode::NoLeader)),
            Op::RaiseLevel(level) if *level < Level(1) || *level > LEVEL_KNOWN_MAX => {
                Err(refusal(ErrorCode::BadRequest))
            }
            Op::RaiseLevel(level) => {
                self.level = self.level.max(*level);
                Ok(Outcome::Raised(self.level))
            }
        }
    }

    pub(super) fn settings(&self, queue: &QueueName) -> Settings {
        self.queues.iter().find(|known| known.name == *queue).unwrap().settings.clone()
    }

    fn sound(&self, name: &QueueName, settings: &Settings) -> Result<(), Refusal> {
        if settings.ordered && settings.fair {
            return Err(refusal_of(ErrorCode::BadRequest, name));
        }
        let mut passed = Vec::new();
        let mut next = settings.dead_to.clone();
        while let Some(to) = next {
            passed.push(to.clone());
            if to == *name || passed.len() > 8 {
                return Err(refusal_of(ErrorCode::DeadToCycle, name));
            }
            next = if self.has(&to) { self.settings(&to).dead_to } else { None };
        }
        Ok(())
    }

    pub(super) fn make_queue(&mut self, name: &QueueName, settings: &Settings) -> Result<(), Refusal> {
        self.sound(name, settings)?;
        self.queues.push(Queue {
            name: name.clone(),
            settings: settings.clone(),
            version: 1,
            dedup: Vec::new(),
            round: Vec::new(),
            parking: Vec::new(),
            weights: Vec::new(),
            spent: Vec::new(),
            active: (None, 0, None),
        });
        Ok(())
    }

    fn deliver(&mut self, session: Option<SessionId>, lease: &Lease, pop: bool) -> Result<Outcome, Refusal> {
        if lease.queues.is_empty() {
            return Err(refusal(ErrorCode::BadRequest));
        }
        if !lease.queues.iter().any(|queue| self.has(queue)) {
            self.exists(&lease.queues[0])?;
        }
        let serves = |queue: &&QueueName| self.has(queue) && self.available_to(queue, session) > 0;
        let Some(queue) = lease.queues.iter().find(serves) else {
            return Ok(Outcome::Nothing);
        };
        self.refill_one(queue, None);
        let settings = self.settings(queue);
        let allowed = self.allowed(queue);
        let lease_ms = lease.lease_ms.unwrap_or(settings.lease_ms).clamp(1_000, 43_200_000);
        let mut grants = Vec::new();
        let (mut bytes, mut checkpoints) = (0, 0);
        while let Some(id) = self.next(queue) {
            let (stamped_ms, token) = (self.stamped_ms, LeaseToken(self.tokens + 1));
            let granted = (self.wall_ms, self.elapsed_ms);
            let message = self.find(id).unwrap();
            bytes += u64::from(message.shown.body.size);
            checkpoints += message.shown.checkpoint_size.unwrap_or(0);
            let full = grants.len() as u64 >= u64::from(lease.max_messages.clamp(1, 256)).min(allowed);
            let large = bytes > u64::from(lease.max_bytes) || checkpoints > 64 << 10;
            if full || (!grants.is_empty() && large) {
                break;
            }
            let epoch = self.claim(session, queue, if pop { settings.lease_ms } else { lease_ms });
            let message = self.find(id).unwrap();
            message.shown.state = MessageState::Leased;
            message.shown.attempts += 1;
            message.shown.token = Some(token);
            message.deadline_ms = stamped_ms + lease_ms;
            message.holder = session;
            message.granted = granted;
            grants.push(Grant {
                queue: queue.clone(),
                id,
                token,
                attempt: message.shown.attempts,
                failures: message.shown.failures,
                priority: message.shown.priority,
                group: message.shown.group.clone(),
                pushed_at_ms: message.shown.pushed_at_ms,
                lease_ms: if pop { 0 } else { lease_ms },
                deadline_ms: if pop { 0 } else { stamped_ms + lease_ms },
                body: message.shown.body,
                epoch,
                checkpoint: message.checkpoint.clone(),
            });
            self.tokens += 1;
            if pop {
                self.messages.retain(|message| message.shown.id != id);
            }
            self.served(queue);
            let group = grants.last().and_then(|grant| grant.group.clone());
            self.spend(queue, group);
            self.turn();
        }
        Ok(Outcome::Delivered(grants))
    }

    fn settle(&mut self, receipts: &Receipts, settle: impl Fn(&mut Self, MessageId)) -> Vec<Settled> {
        let mut results = Vec::new();
        for (id, token) in receipts.receipts.iter() {
            let found = self.messages.iter().find(|m| m.shown.id == *id && m.queue == receipts.queue);
            results.push(match found {
                None => Settled::Gone,
                Some(m) if m.shown.state == MessageState::Leased && m.shown.token == Some(*token) => {
                    Settled::Ok
                }
                Some(_) => Settled::Stale,
            });
            if results.last() == Some(&Settled::Ok) {
                settle(self, *id);
                self.turn();
            }
        }
        results
    }

    fn nack(&mut self, id: MessageId, kind: &NackKind) {
        match kind {
            NackKind::Release { delay_ms } => {
                let wall_ms = self.wall_ms;
                let message = self.find(id).unwrap();
                message.shown.releases += 1;
                note(message, wall_ms, EventKind::Released);
                self.put_back(id, *delay_ms);
            }
            NackKind::Fail { delay_ms, error } => self.fail(id, EventKind::Failed, *delay_ms, error.clone()),
            NackKind::Reject { reason } => {
                self.find(id).unwrap().shown.last_error = Some(reason.clone());
                self.bury(id, DeadReason::Rejected);
            }
        }
    }

    pub(super) fn fail(&mut self, id: MessageId, kind: EventKind, delay_ms: Option<u64>, error: ErrorText) {
        let wall_ms = self.wall_ms;
        let message = self.find(id).unwrap();
        note(message, wall_ms, kind);
        message.shown.failures += 1;
        message.shown.last_error = Some(error);
        let (failures, queue) = (message.shown.failures, message.queue.clone());
        let settings = self.settings(&queue);
        if failures >= settings.max_failures {
            self.bury(id, DeadReason::MaxFailures);
        } else {
            self.put_back(id, delay_ms.unwrap_or_else(|| backoff_ms(&settings, id, failures)));
        }
    }

    fn put_back(&mut self, id: MessageId, delay_ms: u64) {
        let due_ms = self.elapsed_ms + delay_ms;
        let message = self.find(id).unwrap();
        make_ready(message);
        if delay_ms > 0 {
            message.shown.state = MessageState::Delayed;
            message.due = Some((false, due_ms));
        }
        self.expire(|message| message.shown.id == id);
    }

    pub(super) fn bury(&mut self, id: MessageId, reason: DeadReason) {
        let (wall_ms, elapsed_ms) = (self.wall_ms, self.elapsed_ms);
        let queue = self.find(id).unwrap().queue.clone();
        let group = self.find(id).unwrap().shown.group.clone();
        if matches!(reason, DeadReason::MaxFailures | DeadReason::Rejected) {
            let known = self.queues.iter_mut().find(|known| known.name == queue).unwrap();
            known.parking.extend(group);
        }
        let to = self.settings(&queue).dead_to.filter(|to| self.has(to));
        let message = self.find(id).unwrap();
        note(message, wall_ms, EventKind::Died(reason));
        make_ready(message);
        message.rests = true;
        message.expires_ms = None;
        if let Some(to) = to.filter(|_| message.hops < 8) {
            message.queue = to;
            message.hops += 1;
            message.shown.failures = 0;
            note(message, wall_ms, EventKind::Moved(queue));
            let to = message.queue.clone();
            let expiry = self.expiry(&to);
            self.find(id).unwrap().expires_ms = expiry;
            self.take_key_up(id);
            return;
        }
        message.shown.state = MessageState::Dead;
        message.shown.until_ms = Some(wall_ms);
        message.died_ms = elapsed_ms;
        message.shown.dead = Some(reason);
    }

    fn delete(&mut self, which: impl Fn(&Message) -> bool) -> Outcome {
        let before = self.messages.len();
        self.messages.retain(|message| !which(message));
        Outcome::Count((before - self.messages.len()) as u64)
    }
}

pub(super) fn note(message: &mut Message, at_ms: u64, kind: EventKind) {
    let fails = matches!(kind, EventKind::Failed | EventKind::LeaseEnded | EventKind::Died(_));
    let history = &mut message.shown.history;
    if fails || !history.is_empty() {
        history.push(Event { at_ms, attempts: message.shown.attempts, kind });
        *history = history[history.len().saturating_sub(8)..].to_vec();
    }
}

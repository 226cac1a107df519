//! What each command does to the vectors.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{LeaseToken, MessageId, NodeId, QueueName, SessionId};
use queue_protocol::request::{Due, MessageState, NackKind};
use queue_protocol::response::{DeadReason, PushOutcome, Settled};
use queue_protocol::settings::Settings;

use super::super::command::{ErrorText, Lease, Op, Push, Receipts};
use super::super::message::backoff_ms;
use super::super::reply::{BodyRef, Grant, Outcome, Refusal};
use super::super::view::Peeked;
use super::{Message, Model, Queue, make_ready, refusal, refusal_of};

impl Model {
    pub(super) fn execute(
        &mut self,
        session: Option<SessionId>,
        op: &Op,
        bodies: &[BodyRef],
    ) -> Result<Outcome, Refusal> {
        match op {
            Op::Push(push) => self.push(push, bodies),
            Op::Lease(lease) => self.deliver(session, lease, false),
            Op::Pop(lease) => self.deliver(session, lease, true),
            Op::Ack(receipts) => Ok(Outcome::Settled(self.settle(receipts, |model, id| {
                model.messages.retain(|message| message.shown.id != id);
            }))),
            Op::Nack { leases, kind } => {
                Ok(Outcome::Settled(self.settle(leases, |model, id| model.nack(id, kind))))
            }
            Op::Extend { leases, lease_ms } => {
                let deadline_ms = self.lease_clock_ms + (*lease_ms).clamp(1_000, 43_200_000);
                let extend = |model: &mut Self, id| model.find(id).unwrap().deadline_ms = deadline_ms;
                let (results, count) = match (leases, session) {
                    (Some(receipts), _) => {
                        let results = self.settle(receipts, extend);
                        let count = results.iter().filter(|result| **result == Settled::Ok).count();
                        (results, count)
                    }
                    (None, Some(session)) => {
                        let held = self.in_state(MessageState::Leased).filter(|m| m.holder == Some(session));
                        let held: Vec<MessageId> = held.map(|m| m.shown.id).collect();
                        held.iter().for_each(|id| extend(self, *id));
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
                if settings.ordered && settings.fair {
                    return Err(refusal_of(ErrorCode::BadRequest, queue));
                }
                known.version += u64::from(settings != known.settings);
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
            Op::Purge { queue, state } => {
                self.exists(queue)?;
                Ok(self.delete(|message| {
                    let in_state = match state {
                        Some(state) => message.shown.state == *state,
                        None => message.shown.state != MessageState::Leased,
                    };
                    message.queue == *queue && in_state
                }))
            }
            Op::Redrive { queue, ids } => {
                self.exists(queue)?;
                let mut count = 0;
                for message in &mut self.messages {
                    let named = ids.as_ref().is_none_or(|ids| ids.contains(&message.shown.id));
                    if message.queue == *queue && message.shown.state == MessageState::Dead && named {
                        message.shown.failures = 0;
                        make_ready(message);
                        count += 1;
                    }
                }
                Ok(Outcome::Count(count))
            }
            Op::CloseSession => Err(refusal(ErrorCode::BadRequest)),
            Op::AssignNode => {
                self.nodes += 1;
                Ok(Outcome::Node(NodeId(1 + self.nodes)))
            }
            Op::Tick => Ok(Outcome::Ticked),
        }
    }

    fn settings(&self, queue: &QueueName) -> Settings {
        self.queues.iter().find(|known| known.name == *queue).unwrap().settings.clone()
    }

    fn make_queue(&mut self, name: &QueueName, settings: &Settings) -> Result<(), Refusal> {
        if settings.ordered && settings.fair {
            return Err(refusal_of(ErrorCode::BadRequest, name));
        }
        self.queues.push(Queue { name: name.clone(), settings: settings.clone(), version: 1 });
        Ok(())
    }

    fn push(&mut self, push: &Push, bodies: &[BodyRef]) -> Result<Outcome, Refusal> {
        let rising = push.special.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range = push.special.iter().all(|(k, options)| *k < push.count && options.priority <= 31);
        if !rising || !in_range || push.count == 0 || push.count > 1_000 || bodies.len() < push.count as usize
        {
            return Err(refusal_of(ErrorCode::BadRequest, &push.queue));
        }
        match &push.create {
            Some(settings) if !self.has(&push.queue) => self.make_queue(&push.queue, settings)?,
            _ => self.exists(&push.queue)?,
        }
        for (k, body) in (0..).zip(bodies) {
            self.ids += 1;
            let options = push
                .special
                .iter()
                .find(|(special, _)| *special == k)
                .map(|(_, options)| options.clone())
                .unwrap_or_default();
            let due_ms = match options.due {
                Due::Now => 0,
                Due::AfterMs(ms) => self.wall_ms + ms,
                Due::AtMs(ms) => ms,
            };
            let mut message = Message {
                queue: push.queue.clone(),
                shown: Peeked {
                    id: MessageId(self.ids),
                    state: MessageState::Ready,
                    priority: options.priority,
                    attempts: 0,
                    failures: 0,
                    releases: 0,
                    pushed_at_ms: self.wall_ms,
                    until_ms: None,
                    token: None,
                    dead: None,
                    last_error: None,
                    body: *body,
                },
                deadline_ms: 0,
                holder: None,
            };
            if due_ms > self.wall_ms {
                message.shown.state = MessageState::Delayed;
                message.shown.until_ms = Some(due_ms);
            }
            self.messages.push(message);
        }
        let first_id = MessageId(self.ids + 1 - u64::from(push.count));
        Ok(Outcome::Pushed(vec![PushOutcome::Stored { first_id, count: push.count }]))
    }

    fn deliver(&mut self, session: Option<SessionId>, lease: &Lease, pop: bool) -> Result<Outcome, Refusal> {
        if lease.queues.is_empty() {
            return Err(refusal(ErrorCode::BadRequest));
        }
        if !lease.queues.iter().any(|queue| self.has(queue)) {
            self.exists(&lease.queues[0])?;
        }
        let Some(queue) = lease.queues.iter().find(|queue| !self.ready(queue).is_empty()) else {
            return Ok(Outcome::Nothing);
        };
        let settings = self.settings(queue);
        let lease_ms = lease.lease_ms.unwrap_or(settings.lease_ms).clamp(1_000, 43_200_000);
        let mut grants = Vec::new();
        let mut bytes = 0;
        for id in self.ready(queue) {
            let (clock_ms, token) = (self.lease_clock_ms, LeaseToken(self.tokens + 1));
            let message = self.find(id).unwrap();
            bytes += u64::from(message.shown.body.size);
            let full = grants.len() >= usize::from(lease.max_messages.clamp(1, 256));
            if full || (!grants.is_empty() && bytes > u64::from(lease.max_bytes)) {
                break;
            }
            message.shown.state = MessageState::Leased;
            message.shown.attempts += 1;
            message.shown.token = Some(token);
            message.deadline_ms = clock_ms + lease_ms;
            message.holder = session;
            grants.push(Grant {
                queue: queue.clone(),
                id,
                token,
                attempt: message.shown.attempts,
                failures: message.shown.failures,
                priority: message.shown.priority,
                pushed_at_ms: message.shown.pushed_at_ms,
                lease_ms: if pop { 0 } else { lease_ms },
                deadline_ms: if pop { 0 } else { clock_ms + lease_ms },
                body: message.shown.body,
            });
            self.tokens += 1;
            if pop {
                self.messages.retain(|message| message.shown.id != id);
            }
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
            }
        }
        results
    }

    fn nack(&mut self, id: MessageId, kind: &NackKind) {
        match kind {
            NackKind::Release { delay_ms } => {
                self.find(id).unwrap().shown.releases += 1;
                self.put_back(id, *delay_ms);
            }
            NackKind::Fail { delay_ms, error } => self.fail(id, *delay_ms, error.clone()),
            NackKind::Reject { reason } => {
                self.find(id).unwrap().shown.last_error = Some(reason.clone());
                self.bury(id, DeadReason::Rejected);
            }
        }
    }

    pub(super) fn fail(&mut self, id: MessageId, delay_ms: Option<u64>, error: ErrorText) {
        let message = self.find(id).unwrap();
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
        let due_ms = self.wall_ms + delay_ms;
        let message = self.find(id).unwrap();
        make_ready(message);
        if delay_ms > 0 {
            message.shown.state = MessageState::Delayed;
            message.shown.until_ms = Some(due_ms);
        }
    }

    fn bury(&mut self, id: MessageId, reason: DeadReason) {
        let wall_ms = self.wall_ms;
        let message = self.find(id).unwrap();
        make_ready(message);
        message.shown.state = MessageState::Dead;
        message.shown.until_ms = Some(wall_ms);
        message.shown.dead = Some(reason);
    }

    fn delete(&mut self, which: impl Fn(&Message) -> bool) -> Outcome {
        let before = self.messages.len();
        self.messages.retain(|message| !which(message));
        Outcome::Count((before - self.messages.len()) as u64)
    }
}

//! Pushes in the model: who may come in, and who makes way.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{Key, MessageId, QueueName};
use queue_protocol::settings::OnFull;
use queue_protocol::wire::request::{Due, MessageState, PushOptions, UniqueHeld};
use queue_protocol::wire::response::{DeadReason, PushOutcome};

use super::super::command::Push;
use super::super::read::view::Peeked;
use super::super::reply::{BodyRef, Outcome, Refusal};
use super::{Message, Model, refusal_of};

impl Model {
    pub(super) fn push(&mut self, push: &Push, bodies: &[BodyRef]) -> Result<Outcome, Refusal> {
        let rising = push.special.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range = push.special.iter().all(|(k, options)| *k < push.count && options.priority <= 31);
        if !rising || !in_range || push.count == 0 || push.count > 1_000 || bodies.len() < push.count as usize
        {
            return Err(refusal_of(ErrorCode::BadRequest, &push.queue));
        }
        let before = self.clone();
        match &push.create {
            Some(settings) if !self.has(&push.queue) => self.make_queue(&push.queue, settings)?,
            _ => self.exists(&push.queue)?,
        }
        if self.settings(&push.queue).pushes_paused {
            return Err(refusal_of(ErrorCode::QueuePaused, &push.queue));
        }
        let mut outcomes = Vec::new();
        for (k, body) in (0..).zip(bodies) {
            let options = push
                .special
                .iter()
                .find(|(special, _)| *special == k)
                .map(|(_, options)| options.clone())
                .unwrap_or_default();
            match self.admit(&push.queue, u64::from(body.size), &options) {
                Some(PushOutcome::Refused { code, .. }) if push.atomic => {
                    *self = before;
                    return Err(refusal_of(code, &push.queue));
                }
                Some(other) => {
                    outcomes.push(other);
                    continue;
                }
                None => {}
            }
            self.ids += 1;
            outcomes.push(PushOutcome::Stored { first_id: MessageId(self.ids), count: 1 });
            let due = match options.due {
                Due::Now => None,
                Due::AfterMs(ms) => Some((false, self.elapsed_ms + ms)),
                Due::AtMs(ms) => Some((true, ms)),
            };
            let mut message = Message {
                queue: push.queue.clone(),
                shown: Peeked {
                    id: MessageId(self.ids),
                    state: MessageState::Ready,
                    priority: options.priority,
                    group: options.group.clone(),
                    attempts: 0,
                    failures: 0,
                    releases: 0,
                    pushed_at_ms: self.wall_ms,
                    age_ms: 0,
                    until_ms: None,
                    left_ms: None,
                    dead_ms: None,
                    token: None,
                    dead: None,
                    last_error: None,
                    history: Vec::new(),
                    expires_at_ms: None,
                    body: *body,
                    checkpoint_size: None,
                    holding: None,
                },
                pushed_ms: self.elapsed_ms,
                due: None,
                expires_ms: options
                    .ttl_ms
                    .map(|ttl_ms| self.elapsed_ms + ttl_ms)
                    .or(self.expiry(&push.queue)),
                died_ms: 0,
                deadline_ms: 0,
                holder: None,
                hops: 0,
                unique: options.unique.map(|unique| unique.key),
                rests: false,
                granted: (0, 0),
                checkpoint: None,
            };
            if let Some(key) = options.dedup_key {
                let (elapsed_ms, id) = (self.elapsed_ms, MessageId(self.ids));
                let queue = self.queues.iter_mut().find(|known| known.name == push.queue).unwrap();
                if queue.settings.dedup_window_ms > 0 {
                    queue.dedup.push((key, id, elapsed_ms + queue.settings.dedup_window_ms));
                }
            }
            if due.is_some_and(|due| !self.has_come(due)) {
                message.shown.state = MessageState::Delayed;
                message.due = due;
            }
            self.messages.push(message);
            self.turn();
        }
        Ok(Outcome::Pushed(in_runs(outcomes)))
    }

    pub(super) fn expiry(&self, queue: &QueueName) -> Option<u64> {
        let ttl_ms = self.settings(queue).ttl_ms;
        (ttl_ms > 0).then_some(self.elapsed_ms + ttl_ms)
    }

    /// Why a message may not come in, if it may not.
    fn admit(&mut self, queue: &QueueName, size: u64, options: &PushOptions) -> Option<PushOutcome> {
        let refused = |code| Some(PushOutcome::Refused { code, count: 1 });
        let known = self.queues.iter().find(|known| known.name == *queue).unwrap();
        let remembered = |(key, _, until_ms): &&(Key, MessageId, u64)| {
            Some(key) == options.dedup_key.as_ref() && *until_ms > self.elapsed_ms
        };
        if let Some((_, id, _)) = known.dedup.iter().find(remembered) {
            return Some(PushOutcome::Duplicate { id: *id });
        }
        if let Some(unique) = &options.unique {
            let holds = |m: &&Message| {
                let live = m.shown.state != MessageState::Dead;
                live && !m.rests && m.queue == *queue && m.unique.as_ref() == Some(&unique.key)
            };
            if let Some(holder) = self.messages.iter().find(holds).cloned() {
                match unique.held {
                    UniqueHeld::Keep => return Some(PushOutcome::Duplicate { id: holder.shown.id }),
                    UniqueHeld::Replace if holder.shown.state != MessageState::Leased => {
                        let before = self.messages.clone();
                        self.messages.retain(|message| message.shown.id != holder.shown.id);
                        let shrinks = size <= u64::from(holder.shown.body.size);
                        if shrinks || self.has_room(queue, size) {
                            return None;
                        }
                        self.messages = before;
                        return refused(ErrorCode::QueueFull);
                    }
                    _ => return refused(ErrorCode::UniqueHeld),
                }
            }
        }
        if self.make_room(queue, size) { None } else { refused(ErrorCode::QueueFull) }
    }

    fn has_room(&self, queue: &QueueName, size: u64) -> bool {
        let settings = self.settings(queue);
        let waits = |m: &&Message| m.queue == *queue && m.shown.state != MessageState::Dead;
        let count = self.messages.iter().filter(waits).count() as u64;
        let bytes: u64 = self.messages.iter().filter(waits).map(|m| u64::from(m.shown.body.size)).sum();
        let over = |max: u64, value: u64| max > 0 && value > max;
        !over(settings.max_messages, count + 1) && !over(settings.max_bytes, bytes + size)
    }

    /// Whether one more message of that size may wait, after letting others die for it.
    fn make_room(&mut self, queue: &QueueName, size: u64) -> bool {
        let settings = self.settings(queue);
        loop {
            if self.has_room(queue, size) {
                return true;
            }
            let first = |state| {
                let of_queue = self.in_state(state).filter(|message| message.queue == *queue);
                of_queue.map(|message| message.shown.id).min()
            };
            let oldest = first(MessageState::Ready).or(first(MessageState::Delayed));
            match oldest {
                Some(id)
                    if settings.on_full == OnFull::DropOldest
                        && (settings.max_bytes == 0 || size <= settings.max_bytes) =>
                {
                    self.bury(id, DeadReason::Overflow);
                    self.turn();
                }
                _ => return false,
            }
        }
    }
}

/// Outcomes of single messages, joined where they fared alike.
fn in_runs(outcomes: Vec<PushOutcome>) -> Vec<PushOutcome> {
    let mut runs: Vec<PushOutcome> = Vec::new();
    for outcome in outcomes {
        match (runs.last_mut(), outcome) {
            (
                Some(PushOutcome::Stored { first_id, count }),
                PushOutcome::Stored { first_id: MessageId(id), .. },
            ) if first_id.0 + u64::from(*count) == id => *count += 1,
            (Some(PushOutcome::Refused { code, count }), PushOutcome::Refused { code: same, .. })
                if *code == same =>
            {
                *count += 1;
            }
            _ => runs.push(outcome),
        }
    }
    runs
}

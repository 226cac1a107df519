//! Sweeps and edits, message by message.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::request::{Action, Change, Cursor, MessageState, Sweep};
use queue_protocol::wire::response::{Edited, EventKind, Swept};

use super::super::reply::{Outcome, Refusal};
use super::ops::note;
use super::{Message, Model, make_ready, refusal_of};

impl Model {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Outcome, Refusal> {
        self.exists(&sweep.queue)?;
        match &sweep.action {
            Action::Move { to } if *to == sweep.queue => {
                return Err(refusal_of(ErrorCode::BadRequest, &sweep.queue));
            }
            Action::Move { to } | Action::Redrive { to: Some(to) } => self.exists(to)?,
            _ => {}
        }
        if sweep.limit == 0 {
            return Err(refusal_of(ErrorCode::BadRequest, &sweep.queue));
        }
        let place = |m: &Message| {
            (
                m.shown.state,
                if m.shown.state == MessageState::Ready { 31 - m.shown.priority } else { 0 },
                m.shown.id,
            )
        };
        let after = sweep.after.map(|at| {
            let rank = if at.state == MessageState::Ready { 31 - at.priority.min(31) } else { 0 };
            (at.state, rank, at.id)
        });
        let below = sweep.after.map_or(MessageId(self.ids + 1), |after| after.below);
        let by_id = sweep.select.ids.is_some();
        let mut order: Vec<Message> =
            self.messages.iter().filter(|message| message.queue == sweep.queue).cloned().collect();
        order.sort_by_key(
            |message| if by_id { (MessageState::Ready, 0, message.shown.id) } else { place(message) },
        );
        let (mut chosen, mut next) = (Vec::new(), None);
        for message in &order {
            if !by_id && after.is_some_and(|after| place(message) <= after) {
                continue;
            }
            if !selected(sweep, message, self.elapsed_ms) || (!by_id && message.shown.id >= below) {
                continue;
            }
            if by_id && chosen.len() as u64 >= sweep.limit {
                break;
            }
            chosen.push(message.shown.id);
            if !by_id && chosen.len() as u64 >= sweep.limit {
                let (state, priority, id) = (message.shown.state, message.shown.priority, message.shown.id);
                next = Some(Cursor { state, priority, id, below });
                break;
            }
        }
        let mut skipped = 0;
        if !sweep.dry_run {
            for id in &chosen {
                let done = match &sweep.action {
                    Action::Delete => {
                        self.messages.retain(|message| message.shown.id != *id);
                        true
                    }
                    Action::Redrive { to: Some(to) } | Action::Move { to } if *to != sweep.queue => {
                        self.send(*id, to)
                    }
                    _ => self.redrive(*id),
                };
                skipped += u64::from(!done);
                self.turn();
            }
        }
        Ok(Outcome::Swept(Swept { count: chosen.len() as u64 - skipped, next, skipped }))
    }

    pub(super) fn edit(
        &mut self,
        queue: &QueueName,
        ids: &[MessageId],
        change: &Change,
    ) -> Result<Outcome, Refusal> {
        self.exists(queue)?;
        match change {
            Change::Priority(32..) => return Err(refusal_of(ErrorCode::BadRequest, queue)),
            Change::Move(to) if to == queue => return Err(refusal_of(ErrorCode::BadRequest, queue)),
            Change::Move(to) => self.exists(to)?,
            _ => {}
        }
        let mut results = Vec::new();
        for id in ids {
            let found = self.messages.iter().find(|m| m.shown.id == *id && m.queue == *queue).cloned();
            let Some(found) = found else {
                results.push(Edited::Gone);
                continue;
            };
            let (is, leased) = (found.shown.state, found.shown.state == MessageState::Leased);
            results.push(match change {
                Change::Cancel if is != MessageState::Delayed => Edited::AlreadyReady,
                Change::Delete | Change::Kick | Change::Move(_) if leased => Edited::Leased,
                Change::Cancel | Change::Delete => {
                    self.messages.retain(|message| message.shown.id != *id);
                    Edited::Done
                }
                Change::Kick => match is {
                    MessageState::Delayed => {
                        make_ready(self.find(*id).unwrap());
                        Edited::Done
                    }
                    MessageState::Dead if !self.redrive(*id) => Edited::KeyHeld,
                    _ => Edited::Done,
                },
                Change::Priority(priority) => {
                    if is == MessageState::Ready {
                        // It leaves its line and comes back.
                        self.find(*id).unwrap().shown.state = MessageState::Dead;
                        self.turn();
                    }
                    let message = self.find(*id).unwrap();
                    message.shown.state = is;
                    message.shown.priority = *priority;
                    Edited::Done
                }
                Change::Move(to) if !self.send(*id, to) => Edited::KeyHeld,
                Change::Move(_) => Edited::Done,
            });
            self.turn();
        }
        Ok(Outcome::Edited(results))
    }

    /// Whether a message of the queue holds the unique key of this one, or of another queue if it goes there.
    fn key_is_held(&mut self, id: MessageId, queue: &QueueName) -> bool {
        let Some(key) = self.find(id).unwrap().unique.clone() else { return false };
        let holds = |m: &Message| m.queue == *queue && !m.rests && m.unique.as_ref() == Some(&key);
        self.messages.iter().any(|message| message.shown.id != id && holds(message))
    }

    /// A message that is in its queue anew holds its key if nobody else does.
    pub(super) fn take_key_up(&mut self, id: MessageId) {
        let queue = self.find(id).unwrap().queue.clone();
        let rests = self.key_is_held(id, &queue);
        self.find(id).unwrap().rests = rests;
    }

    fn redrive(&mut self, id: MessageId) -> bool {
        let wall_ms = self.wall_ms;
        let queue = self.find(id).unwrap().queue.clone();
        if self.find(id).unwrap().rests && self.key_is_held(id, &queue) {
            return false;
        }
        let expiry = self.expiry(&queue);
        let message = self.find(id).unwrap();
        message.shown.failures = 0;
        message.hops = 0;
        note(message, wall_ms, EventKind::Redriven);
        make_ready(message);
        message.rests = false;
        message.expires_ms = expiry;
        self.expire(|message| message.shown.id == id);
        true
    }

    fn send(&mut self, id: MessageId, to: &QueueName) -> bool {
        if self.key_is_held(id, to) {
            return false;
        }
        let (wall_ms, expiry) = (self.wall_ms, self.expiry(to));
        let due = self.find(id).unwrap().due;
        let is_due = due.is_some_and(|due| self.has_come(due));
        let message = self.find(id).unwrap();
        let from = std::mem::replace(&mut message.queue, to.clone());
        message.shown.failures = 0;
        message.hops = 0;
        message.rests = false;
        note(message, wall_ms, EventKind::Moved(from));
        if message.shown.state == MessageState::Dead || is_due {
            make_ready(message);
        }
        message.expires_ms = expiry;
        self.expire(|message| message.shown.id == id);
        true
    }
}

fn selected(sweep: &Sweep, message: &Message, elapsed_ms: u64) -> bool {
    let (select, shown) = (&sweep.select, &message.shown);
    let state = match (&sweep.action, select.state) {
        (Action::Redrive { .. }, _) => shown.state == MessageState::Dead,
        (Action::Delete, Some(only)) => shown.state == only,
        (_, only) => shown.state != MessageState::Leased && only.is_none_or(|only| only == shown.state),
    };
    let dead = shown.state == MessageState::Dead;
    state
        && select.ids.as_ref().is_none_or(|ids| ids.contains(&shown.id))
        && select.older_than_ms.is_none_or(|ms| elapsed_ms - message.pushed_ms > ms)
        && select.reason.is_none_or(|reason| shown.dead == Some(reason))
        && select.died_within_ms.is_none_or(|ms| dead && elapsed_ms - message.died_ms <= ms)
        && select
            .error
            .as_ref()
            .is_none_or(|part| shown.last_error.as_ref().is_some_and(|error| error.contains(&**part)))
}

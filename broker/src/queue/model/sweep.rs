//! Sweeps and edits, message by message.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::request::{Action, Change, Cursor, MessageState, Sweep};
use queue_protocol::response::{Edited, EventKind, Swept};

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
        if !sweep.dry_run {
            for id in &chosen {
                match &sweep.action {
                    Action::Delete => self.messages.retain(|message| message.shown.id != *id),
                    Action::Redrive { to: Some(to) } | Action::Move { to } if *to != sweep.queue => {
                        self.send(*id, to);
                    }
                    _ => self.redrive(*id),
                }
                self.turn();
            }
        }
        Ok(Outcome::Swept(Swept { count: chosen.len() as u64, next }))
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
                Change::Kick => {
                    match is {
                        MessageState::Delayed => make_ready(self.find(*id).unwrap()),
                        MessageState::Dead => self.redrive(*id),
                        _ => {}
                    }
                    Edited::Done
                }
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
                Change::Move(to) => {
                    self.send(*id, to);
                    Edited::Done
                }
            });
            self.turn();
        }
        Ok(Outcome::Edited(results))
    }

    fn redrive(&mut self, id: MessageId) {
        let wall_ms = self.wall_ms;
        let queue = self.find(id).unwrap().queue.clone();
        let expiry = self.expiry(&queue);
        let message = self.find(id).unwrap();
        message.shown.failures = 0;
        message.hops = 0;
        note(message, wall_ms, EventKind::Redriven);
        make_ready(message);
        message.expires_ms = expiry;
        self.expire(|message| message.shown.id == id);
    }

    fn send(&mut self, id: MessageId, to: &QueueName) {
        let (wall_ms, expiry) = (self.wall_ms, self.expiry(to));
        let due = self.find(id).unwrap().due;
        let is_due = due.is_some_and(|due| self.has_come(due));
        let message = self.find(id).unwrap();
        let from = std::mem::replace(&mut message.queue, to.clone());
        message.shown.failures = 0;
        message.hops = 0;
        message.unique = None;
        note(message, wall_ms, EventKind::Moved(from));
        if message.shown.state == MessageState::Dead || is_due {
            make_ready(message);
        }
        message.expires_ms = expiry;
        self.expire(|message| message.shown.id == id);
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

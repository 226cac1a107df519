//! Changing messages that are chosen: by id, or by a filter, a bounded part of the queue at a time.
//!
//! A sweep looks at no more than [`SWEPT_COUNT_MAX`] messages, in the order in which peek shows them, and answers with a
//! cursor if there may be more; who asked goes on from there. So a purge of ten million messages is many short entries,
//! between which everything else goes on, and nothing of it is kept in the state.

use std::collections::BTreeSet;

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::PRIORITY_MAX;
use queue_protocol::names::{Key, MessageId, QueueName, SessionId};
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::request::{Action, Change, Cursor, MessageState, Select, Sweep};
use queue_protocol::wire::response::{DeadReason, Edited, Swept};

use crate::queue::apply::{Apply, refusal_of};
use crate::queue::catalog::QueueNumber;
use crate::queue::due::clocks::Moment;
use crate::queue::messages::dead::Leaver;
use crate::queue::messages::message::{Dead, Message};
use crate::queue::queue::Queue;
use crate::queue::reply::{Outcome, Refusal};

/// Messages one sweep looks at, at most.
pub const SWEPT_COUNT_MAX: usize = 4_096;

impl Apply<'_> {
    /// Does something to the messages chosen.
    ///
    /// # Errors
    /// Refused if a queue does not exist, if messages would move to where they are, or if nothing may be changed.
    pub(in crate::queue) fn sweep(&mut self, sweep: &Sweep) -> Result<Outcome, Refusal> {
        let number = self.number(&sweep.queue)?;
        let to = match &sweep.action {
            Action::Delete | Action::Redrive { to: None } => None,
            Action::Redrive { to: Some(to) } if *to == sweep.queue => None,
            Action::Redrive { to: Some(to) } | Action::Move { to } => Some(self.other(&sweep.queue, to)?),
        };
        if sweep.limit == 0 {
            return Err(refusal_of(ErrorCode::BadRequest, &sweep.queue));
        }
        let queue = self.state.catalog().at(number);
        let (chosen, next) = queue.choose(sweep, self.state.numbers().id(), self.state.now());
        let (mut count, mut skipped) = (chosen.len() as u64, 0);
        if !sweep.dry_run {
            let now = self.state.now();
            let mut released = Vec::new();
            let kept_out = to.map(|to| self.kept_out(number, to, &chosen)).unwrap_or_default();
            self.change(number, |queue| {
                for id in chosen {
                    let done = match (&sweep.action, to) {
                        (Action::Delete, _) => {
                            released.push((queue.delete(id), id));
                            true
                        }
                        (_, Some(_)) if kept_out.contains(&id) => false,
                        (_, Some(to)) => {
                            queue.send(id, to);
                            true
                        }
                        (_, None) => queue.redrive(id, now),
                    };
                    skipped += u64::from(!done);
                }
            });
            count -= skipped;
            released.into_iter().for_each(|(session, id)| self.unhold(session, id));
        }
        Ok(Outcome::Swept(Swept { count, next, skipped }))
    }

    /// Changes messages by id, each by itself.
    ///
    /// # Errors
    /// Refused if a queue does not exist, or if the change makes no sense.
    pub(in crate::queue) fn edit(
        &mut self,
        name: &QueueName,
        ids: &[MessageId],
        change: &Change,
    ) -> Result<Outcome, Refusal> {
        let number = self.number(name)?;
        let to = match change {
            Change::Move(to) => Some(self.other(name, to)?),
            Change::Priority(priority) if *priority > PRIORITY_MAX => {
                return Err(refusal_of(ErrorCode::BadRequest, name));
            }
            _ => None,
        };
        let now = self.state.now();
        let kept_out = to.map(|to| self.kept_out(number, to, ids)).unwrap_or_default();
        let edited = self.change(number, |queue| {
            let edit = |id: &MessageId| match (queue.state_of(*id), change) {
                (None, _) => Edited::Gone,
                (Some(MessageState::Delayed), Change::Cancel) => queue.edit(*id, change, to, now),
                (_, Change::Cancel) => Edited::AlreadyReady,
                (Some(MessageState::Leased), Change::Delete | Change::Kick | Change::Move(_)) => {
                    Edited::Leased
                }
                (_, Change::Move(_)) if kept_out.contains(id) => Edited::KeyHeld,
                _ => queue.edit(*id, change, to, now),
            };
            ids.iter().map(edit).collect()
        });
        Ok(Outcome::Edited(edited))
    }

    /// Which of these messages cannot move to another queue because a message there, or one of them that moves before, has
    /// their unique key.
    fn kept_out(&self, from: QueueNumber, to: QueueNumber, ids: &[MessageId]) -> BTreeSet<MessageId> {
        let queue = |number| self.state.catalog().at(number);
        let (from, there): (&Queue, &Queue) = (queue(from), queue(to));
        let mut taken = BTreeSet::<&Key>::new();
        let (mut seen, mut kept_out) = (BTreeSet::new(), BTreeSet::new());
        for id in ids.iter().copied() {
            let Some(key) = from.unique.of(id) else { continue };
            if from.leased.contains_key(&id) || !seen.insert(id) {
                continue;
            }
            if there.unique.holder(key).is_some() || !taken.insert(key) {
                kept_out.insert(id);
            }
        }
        kept_out
    }

    /// The number of a queue that is not this one.
    fn other(&self, name: &QueueName, to: &QueueName) -> Result<QueueNumber, Refusal> {
        if name == to { Err(refusal_of(ErrorCode::BadRequest, name)) } else { self.number(to) }
    }
}

impl Queue {
    /// Where a message is.
    pub(super) fn state_of(&self, id: MessageId) -> Option<MessageState> {
        if self.leased.contains_key(&id) {
            Some(MessageState::Leased)
        } else if self.delayed.contains_key(&id) {
            Some(MessageState::Delayed)
        } else if self.dead.contains_key(&id) {
            Some(MessageState::Dead)
        } else {
            self.ready.find(id).map(|_| MessageState::Ready)
        }
    }

    /// Changes a message that may be changed.
    fn edit(&mut self, id: MessageId, change: &Change, to: Option<QueueNumber>, now: Moment) -> Edited {
        match change {
            Change::Delete | Change::Cancel => {
                self.delete(id);
            }
            Change::Kick if self.dead.contains_key(&id) => {
                if !self.redrive(id, now) {
                    return Edited::KeyHeld;
                }
            }
            Change::Kick => self.come_due(id),
            Change::Priority(priority) => self.set_priority(id, *priority),
            Change::Move(_) => to.into_iter().for_each(|to| self.send(id, to)),
        }
        Edited::Done
    }

    fn set_priority(&mut self, id: MessageId, priority: u8) {
        let leased = self.leased.message_mut(id);
        let delayed = leased.or_else(|| self.delayed.message_mut(id));
        if let Some(message) = delayed.or_else(|| self.dead.message_mut(id)) {
            message.priority = priority;
        } else if let Some(message) = self.ready.remove(id) {
            self.ready.put(id, Message { priority, ..message });
        }
    }

    /// Deletes a message, whatever its state. The session that loses a lease by it.
    fn delete(&mut self, id: MessageId) -> Option<SessionId> {
        self.delete_waiting(id, GoneHow::Deleted);
        self.delete_dead(id, GoneHow::Deleted);
        let leased = self.end_lease(id)?;
        self.let_go(id, &leased.message, GoneHow::Deleted);
        leased.session
    }

    /// Sends a message to another queue unless it is leased; there it is ready, or delayed as it was.
    fn send(&mut self, id: MessageId, to: QueueNumber) {
        let due = self.delayed.get(&id).map(|delayed| delayed.due);
        if let Some(message) = self.take_waiting(id).or_else(|| self.exhume(id)) {
            let key = self.unique.take(id);
            self.let_leave(id, &message);
            self.leaving.messages.push(Leaver { to, id, message: Message { hops: 0, ..message }, due, key });
        }
    }

    /// The messages a sweep is to change, and where the next one begins.
    fn choose(&self, sweep: &Sweep, next_id: MessageId, now: Moment) -> (Vec<MessageId>, Option<Cursor>) {
        let select = &sweep.select;
        let states = [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];
        let begin = sweep.after.unwrap_or(Cursor {
            state: MessageState::Ready,
            priority: PRIORITY_MAX,
            id: MessageId(0),
            below: next_id,
        });
        let allowed = |state: MessageState| match (select.state, &sweep.action) {
            (_, Action::Redrive { .. }) => state == MessageState::Dead,
            (Some(only), Action::Delete) => state == only,
            (only, _) => state != MessageState::Leased && only.is_none_or(|only| state == only),
        };
        let fits = |state, message: &Message, dead: Option<&Dead>| {
            allowed(state) && matches(select, message, dead, now)
        };
        if let Some(ids) = &select.ids {
            let mut chosen: Vec<MessageId> =
                ids.iter().copied().filter(|id| self.is_chosen(*id, &fits)).collect();
            chosen.sort_unstable();
            chosen.dedup();
            chosen.truncate(usize::try_from(sweep.limit).unwrap_or(usize::MAX));
            return (chosen, None);
        }
        let mut chosen = Vec::new();
        let mut seen = 0;
        for state in states.into_iter().filter(|state| *state >= begin.state && allowed(*state)) {
            let after =
                if state == begin.state { (begin.priority, begin.id) } else { (PRIORITY_MAX, MessageId(0)) };
            for (id, message, dead) in self.in_state(state, after) {
                seen += 1;
                if id < begin.below && fits(state, &message, dead) {
                    chosen.push(id);
                }
                if seen >= SWEPT_COUNT_MAX || chosen.len() as u64 >= sweep.limit {
                    let priority = message.priority;
                    return (chosen, Some(Cursor { state, priority, id, below: begin.below }));
                }
            }
        }
        (chosen, None)
    }

    fn is_chosen(
        &self,
        id: MessageId,
        fits: &impl Fn(MessageState, &Message, Option<&Dead>) -> bool,
    ) -> bool {
        let Some(state) = self.state_of(id) else { return false };
        let found = match state {
            MessageState::Ready => self.ready.find(id).map(|message| (message, None)),
            MessageState::Leased => self.leased.get(&id).map(|leased| (leased.message.clone(), None)),
            MessageState::Delayed => self.delayed.get(&id).map(|delayed| (delayed.message.clone(), None)),
            MessageState::Dead => self.dead.get(&id).map(|dead| (dead.message.clone(), Some(dead))),
        };
        found.is_some_and(|(message, dead)| fits(state, &message, dead))
    }

    /// Messages of one state behind a place: ready ones in delivery order, others by id.
    fn in_state(
        &self,
        state: MessageState,
        after: (u8, MessageId),
    ) -> Box<dyn Iterator<Item = (MessageId, Message, Option<&Dead>)> + '_> {
        let behind = MessageId(after.1.0.saturating_add(1))..;
        match state {
            MessageState::Ready => Box::new(self.ready.behind(after.0, after.1).map(|(id, m)| (id, m, None))),
            MessageState::Leased => {
                Box::new(self.leased.range(behind).map(|(id, leased)| (*id, leased.message.clone(), None)))
            }
            MessageState::Delayed => {
                Box::new(self.delayed.range(behind).map(|(id, delayed)| (*id, delayed.message.clone(), None)))
            }
            MessageState::Dead => {
                Box::new(self.dead.range(behind).map(|(id, dead)| (*id, dead.message.clone(), Some(dead))))
            }
        }
    }
}

/// Whether a message is of those selected, its state aside.
fn matches(select: &Select, message: &Message, dead: Option<&Dead>, now: Moment) -> bool {
    let reason = |reason: DeadReason| dead.is_some_and(|dead| dead.reason == reason);
    let within = |within_ms: u64| dead.is_some_and(|dead| now.since(dead.died) <= within_ms);
    let contains = |part: &str| message.last_error.as_deref().is_some_and(|error| error.contains(part));
    select.older_than_ms.is_none_or(|age_ms| now.since(message.pushed) > age_ms)
        && select.reason.is_none_or(reason)
        && select.died_within_ms.is_none_or(within)
        && select.error.as_deref().is_none_or(contains)
}

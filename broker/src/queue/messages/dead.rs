//! Dead messages of one queue: how they get there, how they leave, how long they are kept. One that leaves has the time
//! to live of the queue it comes to, from then on, and takes its unique key up again: put back by hand it stays where it is
//! if another message holds the key there.
//!
//! With `dead_to` a message does not stay: it is handed on, within the same apply, through [`Leaving`], and
//! [`Apply::change`](crate::queue::apply::Apply::change) puts it into the other queue.

use queue_protocol::limits::DEAD_HOPS_MAX;
use queue_protocol::names::{Key, MessageId, QueueName};
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::response::{DeadReason, EventKind};

use super::message::{Dead, Message};
use crate::queue::catalog::QueueNumber;
use crate::queue::due::clocks::{DueAt, Moment};
use crate::queue::queue::{Deadline, Queue};

/// Messages that leave a queue for another while it is being changed.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Leaving {
    /// The queue of `dead_to`, if there is one.
    pub(in crate::queue) dead_to: Option<QueueNumber>,
    /// The messages that leave, in order.
    pub(in crate::queue) messages: Vec<Leaver>,
}

/// A message that leaves.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Leaver {
    /// The queue that the message goes to.
    pub(in crate::queue) to: QueueNumber,
    /// The message, by id.
    pub(in crate::queue) id: MessageId,
    /// The message itself, its history included.
    pub(in crate::queue) message: Message,
    /// When it is due there; `None` is at once.
    pub(in crate::queue) due: Option<DueAt>,
    /// Its unique key, held or at rest.
    pub(in crate::queue) key: Option<Key>,
}

impl Queue {
    /// Lets a message die that is in no state.
    pub(in crate::queue) fn bury(
        &mut self,
        id: MessageId,
        mut message: Message,
        reason: DeadReason,
        now: Moment,
    ) {
        message.note(now, EventKind::Died(reason));
        self.turnover.died[reason as usize] += 1;
        if let Some(group) = message
            .group
            .as_ref()
            .filter(|_| matches!(reason, DeadReason::MaxFailures | DeadReason::Rejected))
        {
            self.ready.groups.poison(group);
        }
        match self.leaving.dead_to {
            Some(to) if message.hops < DEAD_HOPS_MAX => {
                self.bytes -= message.size();
                message.hops += 1;
                let key = self.unique.take(id);
                self.leaving.messages.push(Leaver { to, id, message, due: None, key });
            }
            _ => {
                self.unique.rest(id);
                self.keep_dead(id, Dead { reason, died: now, message });
            }
        }
    }

    /// Takes over a dead message.
    pub(in crate::queue) fn keep_dead(&mut self, id: MessageId, dead: Dead) {
        self.count_member(&dead.message, |members| members.dead += 1);
        self.dead.put(id, dead);
    }

    /// Takes a dead message out.
    pub(in crate::queue) fn exhume(&mut self, id: MessageId) -> Option<Message> {
        let message = self.dead.take(id)?;
        self.count_member(&message, |members| members.dead -= 1);
        Some(message)
    }

    /// Takes over a message of another queue.
    pub(in crate::queue) fn arrive(&mut self, leaver: Leaver, from: &QueueName, now: Moment) {
        let Leaver { id, mut message, due, key, .. } = leaver;
        key.into_iter().for_each(|key| self.unique.arrive(key, id));
        message.failures = 0;
        message.note(now, EventKind::Moved(from.clone()));
        self.bytes += message.size();
        self.wait(id, message, self.expiry(now), due, now);
    }

    /// The dead message that is to go first, and when: at once while there are more than may be.
    pub(in crate::queue) fn first_dead_end(&self) -> Option<Deadline> {
        let (died_ms, id) = self.dead.first()?;
        let (max, ttl_ms) = (self.settings.dead_max, self.settings.dead_ttl_ms);
        if max > 0 && self.dead.len() as u64 > max {
            Some((0, id))
        } else {
            (ttl_ms > 0).then(|| (died_ms.saturating_add(ttl_ms), id))
        }
    }

    /// Deletes a dead message.
    pub(in crate::queue) fn delete_dead(&mut self, id: MessageId, how: GoneHow) {
        if let Some(message) = self.exhume(id) {
            self.tell(id, &message, how);
            self.let_leave(id, &message);
        }
    }

    /// Makes a dead message ready, its failures forgotten. Whether it was dead and no other holds its unique key.
    pub(in crate::queue) fn redrive(&mut self, id: MessageId, now: Moment) -> bool {
        if !self.dead.contains_key(&id) || !self.unique.wake(id) {
            return false;
        }
        let mut message = self.exhume(id).expect("it was there");
        message.failures = 0;
        message.hops = 0;
        message.note(now, EventKind::Redriven);
        self.wait(id, message, self.expiry(now), None, now);
        true
    }
}

//! Why a queue or a message is not delivered now, and why pushes are refused, told from what dispatch itself asks: whether the queue hands anything
//! out, and which groups are closed. Changes nothing.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::HOLDS_COUNT_MAX;
use queue_protocol::names::{Key, MessageId, QueueName};
use queue_protocol::settings::OnFull;
use queue_protocol::wire::explain::{AHEAD_COUNT_MAX, Hold};

use crate::queue::apply::refusal_of;
use crate::queue::messages::message::Message;
use crate::queue::queue::Queue;
use crate::queue::reply::Refusal;
use crate::queue::state::State;
use crate::queue::waiting::groups::Closed;

/// Messages or groups looked at for one explanation, at most.
const LOOKED_COUNT_MAX: usize = AHEAD_COUNT_MAX;
/// Groups that are looked at for one that is blocked, at most.
const CLOSED_LOOKED_MAX: usize = 4_096;

impl State {
    /// What holds a queue back, or one message of it, and how many ready messages come before that one, at most
    /// 100,000. Nothing, if a lease would get something now, or with the next ones that message.
    ///
    /// # Errors
    /// Refused if there is no such queue or message.
    pub fn explain(
        &self,
        name: &QueueName,
        id: Option<MessageId>,
    ) -> Result<(Vec<Hold>, Option<u64>), Refusal> {
        let queue = self.queue(name).ok_or_else(|| self.queue_not_found(name))?;
        let paused = queue.settings.leases_paused.then_some(Hold::Paused);
        let rate = queue.rate_allows_at_ms().filter(|(_, holds)| *holds);
        let rate = rate.map(|(at_ms, _)| Hold::Rate { wait_ms: self.now().left(at_ms) });
        let active = queue.claim_end().and_then(|until_ms| {
            let left_ms = until_ms.saturating_sub(self.lease_clock_ms());
            Some(Hold::Active { session: queue.active.holder()?, epoch: queue.active.epoch(), left_ms })
        });
        let mut holds: Vec<Hold> = paused.into_iter().chain(rate).chain(active).collect();
        let mut ahead = None;
        match id {
            None => holds.extend(self.queue_holds(queue)),
            Some(id) => {
                let ready = queue.ready.find(id);
                ahead = ready.as_ref().map(|found| queue.ready.ahead(id, found, LOOKED_COUNT_MAX) as u64);
                let held = match ready {
                    Some(message) => message
                        .group
                        .as_ref()
                        .and_then(|key| Some(self.group_hold(queue, key, queue.ready.groups.closed(key)?))),
                    None => Some(
                        self.state_hold(queue, id)
                            .ok_or_else(|| refusal_of(ErrorCode::MessageNotFound, name))?,
                    ),
                };
                holds.extend(held);
            }
        }
        holds.truncate(HOLDS_COUNT_MAX);
        Ok((holds, ahead))
    }

    /// Why a queue takes no pushes; nothing, if it does or does not exist.
    pub fn push_refusals(&self, name: &QueueName) -> Vec<Refusal> {
        let Some(queue) = self.queue(name) else { return Vec::new() };
        let paused = queue.settings.pushes_paused.then_some(ErrorCode::QueuePaused);
        let full = queue.is_full().then_some(ErrorCode::QueueFull);
        paused.into_iter().chain(full).map(|code| refusal_of(code, name)).collect()
    }

    fn queue_holds(&self, queue: &Queue) -> Vec<Hold> {
        if queue.ready.open_count() > 0 {
            return Vec::new();
        }
        if queue.ready.count() > 0 {
            let closed = queue.ready.groups.closed_of(LOOKED_COUNT_MAX).take(HOLDS_COUNT_MAX);
            return closed.map(|(key, why)| self.group_hold(queue, key, why)).collect();
        }
        let due = queue.delayed.dues().first(self.now()).map(|(_, id)| id);
        let next = due.or_else(|| queue.leased.first_end().map(|(_, id)| id));
        let first = next.or_else(|| queue.dead.get_min().map(|(id, _)| *id));
        vec![first.and_then(|id| self.state_hold(queue, id)).unwrap_or(Hold::Empty)]
    }

    /// Why a message is not ready; `None` if it is, or is not here.
    fn state_hold(&self, queue: &Queue, id: MessageId) -> Option<Hold> {
        if let Some(leased) = queue.leased.get(&id) {
            let left_ms = leased.deadline_ms.saturating_sub(self.lease_clock_ms());
            return Some(Hold::Leased { id, left_ms });
        }
        if let Some(delayed) = queue.delayed.get(&id) {
            let (due_at_ms, left_ms) = (delayed.due.label(self.now()), delayed.due.left_ms(self.now()));
            return Some(Hold::Delayed { id, due_at_ms, left_ms });
        }
        queue.dead.get(&id).map(|dead| Hold::Dead { id, reason: dead.reason })
    }

    fn group_hold(&self, queue: &Queue, key: &Key, why: Closed) -> Hold {
        let group = key.clone();
        let of_group = |message: &Message| message.group.as_ref() == Some(key);
        match why {
            Closed::Leased => {
                let mut leased = queue.leased.iter().take(LOOKED_COUNT_MAX);
                let found = leased.find(|(_, leased)| of_group(&leased.message));
                let left = found.map(|(_, leased)| leased.deadline_ms.saturating_sub(self.lease_clock_ms()));
                Hold::GroupLeased { group, id: found.map(|(id, _)| *id), left_ms: left }
            }
            Closed::Waiting => {
                let mut delayed = queue.delayed.iter().take(LOOKED_COUNT_MAX);
                let found = delayed.find(|(_, d)| d.message.attempts > 0 && of_group(&d.message));
                let due_at_ms = found.map(|(_, delayed)| delayed.due.label(self.now()));
                let left_ms = found.and_then(|(_, delayed)| delayed.due.left_ms(self.now()));
                Hold::GroupWaits { group, id: found.map(|(id, _)| *id), due_at_ms, left_ms }
            }
            Closed::Poisoned => {
                let mut dead = queue.dead.iter().take(LOOKED_COUNT_MAX);
                let found = dead.find(|(_, dead)| of_group(&dead.message)).map(|(id, _)| *id);
                Hold::GroupBlocked { group, id: found }
            }
            Closed::Rate => {
                let at_ms = queue.ready.groups.rate_allows_at_ms(key);
                Hold::GroupRate { group, wait_ms: at_ms.map(|at_ms| self.now().left(at_ms)) }
            }
            Closed::Parking => Hold::GroupParked { group },
            Closed::Full | Closed::Empty => Hold::GroupFull { group },
        }
    }
}

impl Queue {
    /// It holds as much as it may, and takes no more for that.
    pub(super) fn is_full(&self) -> bool {
        self.settings.on_full == OnFull::Reject && !self.has_room(1, 1)
    }

    /// Something is ready and nothing is handed out, for dead messages block their groups.
    pub(super) fn is_blocked(&self) -> bool {
        let closed = || self.ready.groups.closed_of(CLOSED_LOOKED_MAX);
        let blocked = || closed().any(|(_, why)| why == Closed::Poisoned);
        self.ready.open_count() == 0 && self.ready.count() > 0 && blocked()
    }
}

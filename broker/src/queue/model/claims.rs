//! Claims in the model: which session a queue of one active consumer serves.

use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::Settled;

use super::{Model, Queue};

impl Model {
    /// Messages that leases of a session could get.
    pub fn available_to(&self, name: &QueueName, session: Option<SessionId>) -> u64 {
        let (holder, _, until_ms) = self.queues.iter().find(|queue| queue.name == *name).unwrap().active;
        if until_ms.is_some() && holder != session { 0 } else { self.available(name) }
    }

    /// A session gets a message. The epoch of it.
    pub(super) fn claim(&mut self, session: Option<SessionId>, name: &QueueName, lease_ms: u64) -> u64 {
        let stamped_ms = self.stamped_ms;
        let queue = self.queues.iter_mut().find(|queue| queue.name == *name).unwrap();
        if !queue.settings.single_active {
            return 0;
        }
        if session.is_some() {
            queue.active.1 += u64::from(queue.active.0 != session);
            let before = if queue.active.0 == session { queue.active.2 } else { None };
            queue.active.0 = session;
            queue.active.2 = before.max(Some(stamped_ms + 3 * lease_ms));
        }
        queue.active.1
    }

    /// A session has settled or extended something.
    pub(super) fn show(
        &mut self,
        session: Option<SessionId>,
        name: &QueueName,
        results: &[Settled],
        lease_ms: Option<u64>,
    ) {
        let stamped_ms = self.stamped_ms;
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.name == *name) else { return };
        let lease_ms = lease_ms.map_or(queue.settings.lease_ms, |ms| ms.clamp(1_000, 43_200_000));
        let claims = session.is_some() && queue.active.0 == session && queue.active.2.is_some();
        if claims && results.contains(&Settled::Ok) {
            queue.active.2 = queue.active.2.max(Some(stamped_ms + 3 * lease_ms));
        }
    }

    /// A session is gone.
    pub(super) fn resign(&mut self, session: SessionId) {
        let leased = |queue: &Queue| {
            let theirs = self.in_state(MessageState::Leased).filter(|m| m.holder == Some(session));
            theirs.filter(|m| m.queue == queue.name).map(|m| m.deadline_ms).max()
        };
        let ends: Vec<Option<u64>> = self.queues.iter().map(leased).collect();
        for (queue, end) in self.queues.iter_mut().zip(ends) {
            if queue.active.0 == Some(session) && queue.active.2.is_some() {
                queue.active.2 = end;
            }
        }
    }

    /// When claims end that keep messages from others.
    pub(super) fn claim_ends(&self) -> impl Iterator<Item = u64> + '_ {
        let kept = self.queues.iter().filter(|queue| self.available(&queue.name) > 0);
        kept.filter_map(|queue| queue.active.2)
    }

    /// Ends those that are over.
    pub(super) fn end_claims(&mut self) {
        for k in 0..self.queues.len() {
            let over = self.queues[k].active.2.is_some_and(|until_ms| until_ms <= self.lease_clock_ms);
            if over && self.available(&self.queues[k].name) > 0 {
                self.queues[k].active.2 = None;
            }
        }
    }
}

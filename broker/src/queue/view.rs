//! Reading: peek, listings and totals. Nothing here changes anything.

use queue_protocol::error::ErrorCode;
use queue_protocol::group::GroupView;
use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName};
use queue_protocol::request::MessageState;
use queue_protocol::response::{DeadReason, Event};
use queue_protocol::settings::Settings;

use super::apply::refusal_of;
use super::clocks::Moment;
use super::command::ErrorText;
use super::message::{Dead, Delayed, Leased, Message};
use super::messages::Queue;
use super::reply::{BodyRef, Refusal};
use super::state::State;
use super::turnover::DEAD_REASONS;

/// A message as peek shows it, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Which message.
    pub id: MessageId,
    /// Where it stands.
    pub state: MessageState,
    /// 0 to 31.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// Leases granted.
    pub attempts: u32,
    /// Failures and ended leases.
    pub failures: u32,
    /// Given back without blame.
    pub releases: u32,
    /// Wall time of the push, Unix milliseconds.
    pub pushed_at_ms: u64,
    /// Milliseconds since the push.
    pub age_ms: u64,
    /// Delayed: wall time when it is due. Leased: milliseconds left on the lease clock. Dead: wall time of death.
    pub until_ms: Option<u64>,
    /// Delayed for a duration: milliseconds left of it.
    pub left_ms: Option<u64>,
    /// Dead: milliseconds since its death.
    pub dead_ms: Option<u64>,
    /// The newest lease, if leased.
    pub token: Option<LeaseToken>,
    /// Why it is dead.
    pub dead: Option<DeadReason>,
    /// Text of the last failure.
    pub last_error: Option<ErrorText>,
    /// What happened last, from the first failure on, oldest first.
    pub history: Vec<Event>,
    /// Wall time when its time to live passes, if nobody sets the wall clock.
    pub expires_at_ms: Option<u64>,
    /// Where its content lies.
    pub body: BodyRef,
    /// Size of the checkpoint that its next attempt gets.
    pub checkpoint_size: Option<u32>,
}

/// A queue with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Its name.
    pub name: QueueName,
    /// Messages ready.
    pub ready: u64,
    /// Messages leased.
    pub leased: u64,
    /// Messages delayed.
    pub delayed: u64,
    /// Messages dead.
    pub dead: u64,
    /// Contents of all four.
    pub bytes: u64,
    /// Milliseconds since the push of the oldest ready message.
    pub oldest_ready_ms: Option<u64>,
    /// Milliseconds until the next delayed message is due.
    pub next_due_in_ms: Option<u64>,
    /// Messages pushed since the queue was made.
    pub pushed_total: u64,
    /// Leases granted since the queue was made, pops included.
    pub leased_total: u64,
    /// Messages acked or popped since the queue was made.
    pub acked_total: u64,
    /// Leases of messages that had been leased before.
    pub redelivered_total: u64,
    /// Messages that died, by [`DeadReason`].
    pub died_total: [u64; DEAD_REASONS],
    /// How it behaves.
    pub settings: Settings,
    /// 1 when it was made; 1 more with each change of its settings.
    pub version: u64,
    /// It holds as much as it may, and refuses pushes for that.
    pub full: bool,
    /// Messages are ready, and none is handed out: dead ones block their groups.
    pub blocked: bool,
}

/// Totals of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Queues.
    pub queues: u64,
    /// Messages ready.
    pub ready: u64,
    /// Messages leased.
    pub leased: u64,
    /// Messages delayed.
    pub delayed: u64,
    /// Messages dead.
    pub dead: u64,
    /// Contents of all four.
    pub bytes: u64,
    /// Sessions remembered.
    pub sessions: u64,
    /// Messages pushed since the cluster was made.
    pub pushed_total: u64,
    /// Leases granted since the cluster was made, pops included.
    pub leased_total: u64,
    /// Messages acked or popped since the cluster was made.
    pub acked_total: u64,
    /// Wall clock of the state, Unix milliseconds.
    pub wall_ms: u64,
}

impl State {
    /// Groups of a queue by name, behind one if it is given.
    ///
    /// # Errors
    /// Refused if there is no such queue.
    pub fn groups(
        &self,
        queue: &QueueName,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<GroupView>, Refusal> {
        let queue = self.queue(queue).ok_or_else(|| self.queue_not_found(queue))?;
        Ok(queue.ready.groups.views(after, max))
    }

    /// At most `max` messages of a queue, of at most `max_bytes` together but at least one: of one state or, with
    /// `None`, of all in the order of [`MessageState`]; ready ones in delivery order, others by id. With `id` only
    /// that message.
    ///
    /// # Errors
    /// Refused if there is no such queue, or no message of that id in that state.
    pub fn peek(
        &self,
        queue: &QueueName,
        state: Option<MessageState>,
        id: Option<MessageId>,
        max: usize,
        max_bytes: u64,
    ) -> Result<Vec<Peeked>, Refusal> {
        let found = self.queue(queue).ok_or_else(|| self.queue_not_found(queue))?;
        let is = |which| state.is_none_or(|state| state == which);
        if let Some(id) = id {
            let shown = self.find(found, id).filter(|shown| is(shown.state));
            return shown
                .map(|shown| vec![shown])
                .ok_or_else(|| refusal_of(ErrorCode::MessageNotFound, queue));
        }
        let now = self.now();
        let ready = found.ready.messages().map(|(id, message)| self.waiting(found, ready(id, message, now)));
        let leased = found.leased.iter().map(|(id, leased)| self.leased(*id, leased));
        let delayed =
            found.delayed.iter().map(|(id, message)| self.waiting(found, delayed(*id, message, now)));
        let dead = found.dead.iter().map(|(id, message)| dead(*id, message, now));
        let mut bytes = 0u64;
        let fits = |shown: &(usize, Peeked)| {
            bytes = bytes.saturating_add(u64::from(shown.1.body.size));
            shown.0 == 0 || bytes <= max_bytes
        };
        let take_if = |which, count| if is(which) { count } else { 0 };
        let shown = ready
            .take(take_if(MessageState::Ready, usize::MAX))
            .chain(leased.take(take_if(MessageState::Leased, usize::MAX)))
            .chain(delayed.take(take_if(MessageState::Delayed, usize::MAX)))
            .chain(dead.take(take_if(MessageState::Dead, usize::MAX)));
        Ok(shown.take(max).enumerate().take_while(fits).map(|(_, shown)| shown).collect())
    }

    fn find(&self, queue: &Queue, id: MessageId) -> Option<Peeked> {
        let now = self.now();
        let leased = queue.leased.get(&id).map(|leased| self.leased(id, leased));
        leased
            .or_else(|| queue.delayed.get(&id).map(|message| self.waiting(queue, delayed(id, message, now))))
            .or_else(|| queue.dead.get(&id).map(|message| dead(id, message, now)))
            .or_else(|| queue.ready.find(id).map(|message| self.waiting(queue, ready(id, message, now))))
    }

    /// A message that is ready or delayed, with its expiry.
    fn waiting(&self, queue: &Queue, shown: Peeked) -> Peeked {
        let expires_at_ms = queue.expiries.of(shown.id).map(|at_ms| self.now().label(at_ms));
        Peeked { expires_at_ms, ..shown }
    }

    fn leased(&self, id: MessageId, leased: &Leased) -> Peeked {
        Peeked {
            state: MessageState::Leased,
            until_ms: Some(leased.deadline_ms.saturating_sub(self.lease_clock_ms)),
            token: Some(leased.token),
            expires_at_ms: leased.expires_at_ms.map(|at_ms| self.now().label(at_ms)),
            ..ready(id, leased.message.clone(), self.now())
        }
    }

    /// Every lease with the lease clock at which it ends, in order of queue and id.
    pub fn leases(&self) -> impl Iterator<Item = (MessageId, LeaseToken, u64)> + '_ {
        let leased = self.queues.values().flat_map(|queue| queue.leased.iter());
        leased.map(|(id, leased)| (*id, leased.token, leased.deadline_ms))
    }

    /// At most `max` queues by name: only one, or those after a name.
    pub fn queues(&self, only: Option<&QueueName>, after: Option<&QueueName>, max: usize) -> Vec<QueueStats> {
        if let Some(name) = only {
            return self.queue(name).map(|queue| self.queue_stats(queue)).into_iter().take(max).collect();
        }
        let behind = |name: &&QueueName| after.is_none_or(|after| *name > after);
        let names: Box<dyn Iterator<Item = &QueueName>> = match after {
            Some(after) => Box::new(self.names.range(after.clone()..).map(|(name, _)| name)),
            None => Box::new(self.names.keys()),
        };
        let queues = names.filter(behind).filter_map(|name| self.queue(name));
        queues.take(max).map(|queue| self.queue_stats(queue)).collect()
    }

    fn queue_stats(&self, queue: &Queue) -> QueueStats {
        let (counts, now) = (queue.counts(), self.now());
        QueueStats {
            name: queue.name.clone(),
            ready: counts.ready,
            leased: counts.leased,
            delayed: counts.delayed,
            dead: counts.dead,
            bytes: counts.bytes,
            oldest_ready_ms: queue
                .ready
                .oldest_ms()
                .map(|pushed_ms| now.elapsed_ms.saturating_sub(pushed_ms)),
            next_due_in_ms: queue.dues.first(now).map(|(due, _)| due.label(now).saturating_sub(now.wall_ms)),
            pushed_total: queue.turnover.pushed,
            leased_total: queue.turnover.leased,
            acked_total: queue.turnover.acked,
            redelivered_total: queue.turnover.redelivered,
            died_total: queue.turnover.died,
            settings: Settings::clone(&queue.settings),
            version: queue.version,
            full: queue.is_full(),
            blocked: queue.is_blocked(),
        }
    }

    /// Totals over all queues and sessions.
    pub fn stats(&self) -> Totals {
        Totals {
            queues: self.queues.len() as u64,
            ready: self.counts.ready,
            leased: self.counts.leased,
            delayed: self.counts.delayed,
            dead: self.counts.dead,
            bytes: self.counts.bytes,
            sessions: self.sessions.count() as u64,
            pushed_total: self.turnover.pushed,
            leased_total: self.turnover.leased,
            acked_total: self.turnover.acked,
            wall_ms: self.wall_ms,
        }
    }
}

fn ready(id: MessageId, message: Message, now: Moment) -> Peeked {
    Peeked {
        id,
        state: MessageState::Ready,
        priority: message.priority,
        group: message.group,
        attempts: message.attempts,
        failures: message.failures,
        releases: message.releases,
        pushed_at_ms: message.pushed.wall_ms,
        age_ms: now.since(message.pushed),
        until_ms: None,
        left_ms: None,
        dead_ms: None,
        token: None,
        dead: None,
        last_error: message.last_error,
        history: message.history,
        expires_at_ms: None,
        checkpoint_size: message
            .checkpoint
            .as_ref()
            .map(|c| u32::try_from(c.as_bytes().len()).unwrap_or(u32::MAX)),
        body: message.body,
    }
}

fn delayed(id: MessageId, delayed: &Delayed, now: Moment) -> Peeked {
    Peeked {
        state: MessageState::Delayed,
        until_ms: Some(delayed.due.label(now)),
        left_ms: delayed.due.left_ms(now),
        ..ready(id, delayed.message.clone(), now)
    }
}

fn dead(id: MessageId, dead: &Dead, now: Moment) -> Peeked {
    Peeked {
        state: MessageState::Dead,
        until_ms: Some(dead.died.wall_ms),
        dead_ms: Some(now.since(dead.died)),
        dead: Some(dead.reason),
        ..ready(id, dead.message.clone(), now)
    }
}

//! Reading: peek, listings and totals. Nothing here changes anything.

use std::cmp::Ordering;

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::PRIORITY_MAX;
use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::group::GroupView;
use queue_protocol::wire::request::{Cursor, MessageState};
use queue_protocol::wire::response::{DeadReason, Event};

use super::turnover::DEAD_REASONS;
use crate::queue::apply::refusal_of;
use crate::queue::command::ErrorText;
use crate::queue::due::clocks::Moment;
use crate::queue::messages::message::{Dead, Delayed, Leased, Message};
use crate::queue::queue::Queue;
use crate::queue::reply::{BodyRef, Refusal};
use crate::queue::state::State;

/// Who has leased a message, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The session; none if the broker itself took it.
    pub session: Option<SessionId>,
    /// Wall time of the lease, Unix milliseconds.
    pub since_ms: u64,
    /// Milliseconds since the lease was granted.
    pub held_ms: u64,
}

/// A message as peek shows it, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The message, by id.
    pub id: MessageId,
    /// The state that it is in.
    pub state: MessageState,
    /// Priority, 0 to 31, higher first.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// How many leases were granted on it.
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
    /// Who has it, if leased.
    pub holding: Option<Holding>,
}

/// A queue with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// The name of the queue.
    pub name: QueueName,
    /// Messages that can be leased.
    pub ready: u64,
    /// Messages that are leased.
    pub leased: u64,
    /// Messages that become ready later.
    pub delayed: u64,
    /// Messages that are set aside.
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
    /// All settings of the queue.
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
    /// How many queues there are.
    pub queues: u64,
    /// Messages of all queues that can be leased.
    pub ready: u64,
    /// Messages of all queues that are leased.
    pub leased: u64,
    /// Messages of all queues that become ready later.
    pub delayed: u64,
    /// Messages of all queues that are set aside.
    pub dead: u64,
    /// Contents of all four.
    pub bytes: u64,
    /// How many sessions are remembered.
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
        self.page(queue, state, None, max, max_bytes).map(|(shown, _)| shown)
    }

    /// Messages behind a place, in order of state, priority and id, at least one if there is any, and where the next page
    /// begins if there is more. Costs what it shows, wherever it begins.
    ///
    /// # Errors
    /// Refused if there is no such queue.
    pub fn page(
        &self,
        queue: &QueueName,
        state: Option<MessageState>,
        after: Option<Cursor>,
        max: usize,
        max_bytes: u64,
    ) -> Result<(Vec<Peeked>, Option<Cursor>), Refusal> {
        let found = self.queue(queue).ok_or_else(|| self.queue_not_found(queue))?;
        let first = Cursor {
            state: MessageState::Ready,
            priority: PRIORITY_MAX,
            id: MessageId(0),
            below: self.numbers().id(),
        };
        let begin = after.unwrap_or(first);
        let (mut shown, mut bytes) = (Vec::<Peeked>::new(), 0u64);
        let states = [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];
        for which in states.into_iter().filter(|which| state.is_none_or(|only| only == *which)) {
            let from = match which.cmp(&begin.state) {
                Ordering::Less => continue,
                Ordering::Equal => (begin.priority, begin.id),
                Ordering::Greater => (first.priority, first.id),
            };
            for next in self.in_state(found, which, from).filter(|next| next.id < begin.below) {
                bytes = bytes.saturating_add(u64::from(next.body.size));
                let is_full = shown.len() >= max || (!shown.is_empty() && bytes > max_bytes);
                if let Some(last) = shown.last().filter(|_| is_full) {
                    let (state, priority, id) = (last.state, last.priority, last.id);
                    return Ok((shown, Some(Cursor { state, priority, id, below: begin.below })));
                }
                shown.push(next);
            }
        }
        Ok((shown, None))
    }

    /// Messages of one state behind a place: ready ones by priority and id, others by id.
    fn in_state<'a>(
        &'a self,
        queue: &'a Queue,
        state: MessageState,
        after: (u8, MessageId),
    ) -> Box<dyn Iterator<Item = Peeked> + 'a> {
        let now = self.now();
        let behind = MessageId(after.1.0.saturating_add(1))..;
        match state {
            MessageState::Ready => {
                let behind = queue.ready.behind(after.0, after.1);
                Box::new(behind.map(move |(id, message)| self.waiting(queue, ready(id, message, now))))
            }
            MessageState::Leased => {
                Box::new(queue.leased.range(behind).map(|(id, leased)| self.leased(*id, leased)))
            }
            MessageState::Delayed => {
                let behind = queue.delayed.range(behind);
                Box::new(behind.map(move |(id, message)| self.waiting(queue, delayed(*id, message, now))))
            }
            MessageState::Dead => {
                Box::new(queue.dead.range(behind).map(move |(id, message)| dead(*id, message, now)))
            }
        }
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
            until_ms: Some(leased.deadline_ms.saturating_sub(self.lease_clock_ms())),
            token: Some(leased.token),
            holding: Some(Holding {
                session: leased.session,
                since_ms: leased.granted.wall_ms,
                held_ms: self.now().since(leased.granted),
            }),
            expires_at_ms: leased.expires_at_ms.map(|at_ms| self.now().label(at_ms)),
            ..ready(id, leased.message.clone(), self.now())
        }
    }

    /// How many messages are leased to a session, counted up to `max`.
    pub fn leased_to(&self, session: SessionId, max: usize) -> usize {
        self.holders().of(session).take(max).count()
    }

    /// Every lease with the lease clock at which it ends, in order of queue and id.
    pub fn leases(&self) -> impl Iterator<Item = (MessageId, LeaseToken, u64)> + '_ {
        let leased = self.catalog().iter().flat_map(|(_, queue)| queue.leased.iter());
        leased.map(|(id, leased)| (*id, leased.token, leased.deadline_ms))
    }

    /// At most `max` queues by name: only one, or those after a name.
    pub fn queues(&self, only: Option<&QueueName>, after: Option<&QueueName>, max: usize) -> Vec<QueueStats> {
        self.queues_seen(only, after, max, |_| true)
    }

    /// The same of those that may be seen.
    pub fn queues_seen(
        &self,
        only: Option<&QueueName>,
        after: Option<&QueueName>,
        max: usize,
        seen: impl Fn(&QueueName) -> bool,
    ) -> Vec<QueueStats> {
        if let Some(name) = only {
            let found = self.queue(name).filter(|queue| seen(&queue.name));
            return found.map(|queue| self.queue_stats(queue)).into_iter().take(max).collect();
        }
        let behind = |name: &&QueueName| after.is_none_or(|after| *name > after);
        let names: Box<dyn Iterator<Item = &QueueName>> = match after {
            Some(after) => Box::new(self.catalog().names().range(after.clone()..).map(|(name, _)| name)),
            None => Box::new(self.catalog().names().keys()),
        };
        let queues = names.filter(behind).filter(|name| seen(name)).filter_map(|name| self.queue(name));
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
            next_due_in_ms: queue
                .delayed
                .dues()
                .first(now)
                .map(|(due, _)| due.label(now).saturating_sub(now.wall_ms)),
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
        let (counts, turnover) = (self.catalog().counts(), self.catalog().turnover());
        Totals {
            queues: self.catalog().len() as u64,
            ready: counts.ready,
            leased: counts.leased,
            delayed: counts.delayed,
            dead: counts.dead,
            bytes: counts.bytes,
            sessions: self.sessions().count() as u64,
            pushed_total: turnover.pushed,
            leased_total: turnover.leased,
            acked_total: turnover.acked,
            wall_ms: self.wall_ms(),
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
        holding: None,
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

//! The state machine again, too simple to be wrong: vectors, linear scans, no index, nothing shared. Slow, and
//! written from the design, not from the code beside it.

mod claims;
mod groups;
mod ops;
mod push;
mod rates;
mod schedules;
mod sessions;
mod sweep;
mod txn;

use queue_protocol::content::ContentSpec;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{SESSION_IDLE_MS, SESSIONS_MAX};
use queue_protocol::names::{Key, MessageId, QueueName, SessionId};
use queue_protocol::settings::{OnExpiry, Settings};
use queue_protocol::wire::checkpoint::Checkpoint;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::response::{At, DeadReason, EventKind};

use super::NextDue;
use super::command::{Batch, ErrorText, Opening};
use super::read::view::{Holding, Peeked};
use super::reply::{BodyRef, Outcome, Refusal, Reply};

#[derive(Clone, Debug)]
struct Message {
    queue: QueueName,
    shown: Peeked,
    /// Elapsed time of its push.
    pushed_ms: u64,
    /// While delayed: whether it waits on the wall clock, and until when.
    due: Option<(bool, u64)>,
    /// Elapsed time when its time to live passes.
    expires_ms: Option<u64>,
    /// Elapsed time of its death.
    died_ms: u64,
    deadline_ms: u64,
    holder: Option<SessionId>,
    hops: u8,
    unique: Option<Key>,
    /// It does not hold its unique key.
    rests: bool,
    /// When it was leased: wall clock and elapsed clock.
    granted: (u64, u64),
    checkpoint: Option<Checkpoint>,
}

#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    opening: Opening,
    done_below: u64,
    used_at_ms: u64,
    /// When it was seen to be in use.
    listed_ms: u64,
    grace_ms: Option<u64>,
    answers: Vec<(u64, RequestHash, Reply)>,
}

#[derive(Clone, Debug)]
struct Queue {
    name: QueueName,
    settings: Settings,
    version: u64,
    dedup: Vec<(Key, MessageId, u64)>,
    /// Of a fair queue: whose turn it is, in order, and how many messages they still get.
    round: Vec<(Option<Key>, u32)>,
    /// Groups with a weight of their own.
    weights: Vec<(Key, u32)>,
    /// Groups whose ready messages are to die.
    parking: Vec<Key>,
    /// Who claims or claimed it, if it serves one session: how many did until now, and until when this one does.
    active: (Option<SessionId>, u64, Option<u64>),
    /// What was taken from the bucket of the queue (no key) and of its groups.
    spent: Vec<rates::Spent>,
}

/// The state as the model keeps it, in plain lists.
#[derive(Clone, Debug)]
pub struct Model {
    level: Level,
    wall_ms: u64,
    elapsed_ms: u64,
    lease_clock_ms: u64,
    /// Where leases of the entry begin on the lease clock.
    stamped_ms: u64,
    ids: u64,
    tokens: u64,
    nodes: u64,
    queues: Vec<Queue>,
    messages: Vec<Message>,
    sessions: Vec<Session>,
    /// Id, index, and when the id is dropped.
    forgotten: Vec<(SessionId, u64, u64)>,
    /// Indices up to it belong to sessions that may have been forgotten.
    mark: Option<u64>,
    sessions_max: usize,
    schedules: Vec<schedules::Schedule>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            level: Level(1),
            wall_ms: 0,
            elapsed_ms: 0,
            lease_clock_ms: 0,
            stamped_ms: 0,
            ids: 0,
            tokens: 0,
            nodes: 0,
            queues: Vec::new(),
            messages: Vec::new(),
            sessions: Vec::new(),
            forgotten: Vec::new(),
            mark: None,
            sessions_max: SESSIONS_MAX,
            schedules: Vec::new(),
        }
    }
}

impl Model {
    /// As [`super::State::apply`].
    pub fn apply(&mut self, index: u64, batch: &Batch, table: &[ContentSpec]) -> Vec<Reply> {
        self.wall_ms = self.wall_ms.max(batch.stamps.wall_ms);
        self.elapsed_ms = self.elapsed_ms.max(batch.stamps.elapsed_ms);
        self.lease_clock_ms += batch.stamps.confirmed_ms;
        self.stamped_ms = self.lease_clock_ms + batch.stamps.unconfirmed_ms;
        self.fire();
        let mut rows = table.to_vec();
        let mut taken = 0;
        let mut replies = Vec::new();
        for (position, command) in (0..).zip(batch.commands.iter()) {
            let rest = rows.split_off(rows.len().min(usize::try_from(command.op.rows()).unwrap()));
            let mine = std::mem::replace(&mut rows, rest);
            let first = taken;
            taken += u32::try_from(mine.len()).unwrap();
            let body =
                |k: usize| BodyRef { index, ordinal: first + u32::try_from(k).unwrap(), size: mine[k].size };
            let bodies: Vec<BodyRef> = (0..mine.len()).map(body).collect();
            replies.push(self.command(At { index, position }, command, &bodies));
        }
        replies
    }

    fn fire(&mut self) {
        // All of one queue that is due, then those of the next.
        while let Some((_, _, queue)) = self.first_ended(|_| true) {
            while let Some((_, id, _)) = self.first_ended(|m| m.queue == queue) {
                self.fail(id, EventKind::LeaseEnded, None, ErrorText::new("lease ended").unwrap());
                self.turn();
            }
        }
        // Delays first, then the named times.
        let due = self.in_state(MessageState::Delayed).map(|m| (m.due.unwrap(), m.shown.id));
        let mut due: Vec<_> = due.filter(|(due, _)| self.has_come(*due)).collect();
        due.sort();
        for (_, id) in due {
            make_ready(self.find(id).unwrap());
            self.turn();
        }
        self.expire(|_| true);
        while let Some(id) = self.parked() {
            self.bury(id, DeadReason::Admin);
            self.turn();
        }
        while let Some(id) = self.queues.clone().iter().find_map(|queue| {
            self.dead_end(queue).filter(|(at_ms, _)| *at_ms <= self.elapsed_ms).map(|(_, id)| id)
        }) {
            self.messages.retain(|message| message.shown.id != id);
            self.turn();
        }
        self.refill();
        self.end_claims();
        while let Some(id) = self.unused(None, SESSION_IDLE_MS) {
            self.forget(id);
        }
        self.drop_forgotten();
    }

    /// Lets waiting messages go whose time has passed: all of one queue, then those of the next.
    fn expire(&mut self, which: impl Fn(&Message) -> bool) {
        while let Some((_, _, queue)) = self.first_expired(&which) {
            while let Some((_, id, _)) = self.first_expired(|m| m.queue == queue && which(m)) {
                match self.settings(&queue).on_expiry {
                    OnExpiry::Drop => self.messages.retain(|message| message.shown.id != id),
                    OnExpiry::Dead => self.bury(id, DeadReason::Expired),
                }
                self.turn();
            }
        }
    }

    fn first_expired(&self, which: impl Fn(&Message) -> bool) -> Option<(u64, MessageId, QueueName)> {
        let waiting = [MessageState::Ready, MessageState::Delayed].map(|state| self.in_state(state));
        let expired = waiting.into_iter().flatten().filter(|m| which(m));
        let expired = expired.filter_map(|m| Some((m.expires_ms?, m.shown.id, m.queue.clone())));
        expired.filter(|(at_ms, _, _)| *at_ms <= self.elapsed_ms).min()
    }

    fn first_ended(&self, which: impl Fn(&Message) -> bool) -> Option<(u64, MessageId, QueueName)> {
        let ended = self.in_state(MessageState::Leased).filter(|m| m.deadline_ms <= self.lease_clock_ms);
        ended.filter(|m| which(m)).map(|m| (m.deadline_ms, m.shown.id, m.queue.clone())).min()
    }

    /// The next dead message of a queue to go, and when: at once while there are too many.
    fn dead_end(&self, queue: &Queue) -> Option<(u64, MessageId)> {
        let dead = self.in_state(MessageState::Dead).filter(|message| message.queue == queue.name);
        let mut order: Vec<_> = dead.map(|m| (m.died_ms, m.shown.id)).collect();
        order.sort();
        let (died_ms, id) = *order.first()?;
        let (max, ttl_ms) = (queue.settings.dead_max, queue.settings.dead_ttl_ms);
        if max > 0 && order.len() as u64 > max {
            return Some((0, id));
        }
        (ttl_ms > 0).then_some((died_ms + ttl_ms, id))
    }

    fn has(&self, queue: &QueueName) -> bool {
        self.queues.iter().any(|known| known.name == *queue)
    }

    /// The names the tests use are far from each other or one edit apart.
    fn exists(&self, queue: &QueueName) -> Result<(), Refusal> {
        let near = |other: &&Queue| {
            let (a, b) = (queue.as_str(), other.name.as_str());
            a.len() == b.len() && a.bytes().zip(b.bytes()).filter(|(x, y)| x != y).count() == 1
        };
        if self.has(queue) {
            return Ok(());
        }
        let similar = self.queues.iter().filter(near).map(|other| other.name.clone()).min();
        Err(Refusal { code: ErrorCode::QueueNotFound, queue: Some(queue.clone()), similar })
    }

    fn find(&mut self, id: MessageId) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.shown.id == id)
    }

    fn in_state(&self, state: MessageState) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.shown.state == state)
    }

    /// Ready messages in delivery order.
    fn ready(&self, queue: &QueueName) -> Vec<MessageId> {
        let ready = self.in_state(MessageState::Ready).filter(|message| message.queue == *queue);
        let mut order: Vec<_> = ready.map(|m| (31 - m.shown.priority, m.shown.id)).collect();
        order.sort();
        order.into_iter().map(|(_, id)| id).collect()
    }

    /// All messages of a queue in one state, as peek shows them.
    pub fn peek(&self, queue: &QueueName, state: MessageState) -> Vec<Peeked> {
        let of_queue = self.in_state(state).filter(|message| message.queue == *queue);
        let mut shown: Vec<Peeked> = of_queue
            .map(|message| {
                let left_ms = message.deadline_ms.saturating_sub(self.lease_clock_ms);
                let (is_leased, is_dead) = (state == MessageState::Leased, state == MessageState::Dead);
                let delay_ms = message.due.filter(|(wall, _)| !wall).map(|(_, ms)| ms - self.elapsed_ms);
                let due_ms = message.due.map(|(_, ms)| delay_ms.map_or(ms, |left_ms| self.wall_ms + left_ms));
                let label = |ms: u64| self.wall_ms + ms.saturating_sub(self.elapsed_ms);
                Peeked {
                    age_ms: self.elapsed_ms - message.pushed_ms,
                    until_ms: if is_leased { Some(left_ms) } else { due_ms.or(message.shown.until_ms) },
                    left_ms: delay_ms,
                    dead_ms: is_dead.then(|| self.elapsed_ms - message.died_ms),
                    expires_at_ms: message.expires_ms.map(label),
                    holding: is_leased.then(|| Holding {
                        session: message.holder,
                        since_ms: message.granted.0,
                        held_ms: self.elapsed_ms - message.granted.1,
                    }),
                    ..message.shown.clone()
                }
            })
            .collect();
        let in_order =
            |shown: &Peeked| (if state == MessageState::Ready { 31 - shown.priority } else { 0 }, shown.id);
        shown.sort_by_key(in_order);
        shown
    }

    /// Names of the queues.
    pub fn queues(&self) -> Vec<QueueName> {
        let mut names: Vec<QueueName> = self.queues.iter().map(|queue| queue.name.clone()).collect();
        names.sort();
        names
    }

    /// Whether a time has come.
    fn has_come(&self, (wall, ms): (bool, u64)) -> bool {
        ms <= if wall { self.wall_ms } else { self.elapsed_ms }
    }

    /// Wall clock of the next named time, elapsed clock of the next duration, lease clock of the next lease end, leases.
    pub fn next_due(&self) -> NextDue {
        let dues = |of_wall| {
            let dues = self.in_state(MessageState::Delayed).filter_map(|message| message.due);
            dues.filter(move |(wall, _)| *wall == of_wall).map(|(_, ms)| ms)
        };
        let waiting = [MessageState::Ready, MessageState::Delayed].map(|state| self.in_state(state));
        let expiries = waiting.into_iter().flatten().filter_map(|message| message.expires_ms);
        let dead = self.queues.iter().filter_map(|queue| self.dead_end(queue)).map(|(at_ms, _)| at_ms);
        NextDue {
            wall_ms: dues(true).min(),
            elapsed_ms: dues(false)
                .chain(expiries)
                .chain(dead)
                .chain(self.parked().map(|_| 0))
                .chain(self.next_refill())
                .min(),
            lease_ms: self
                .in_state(MessageState::Leased)
                .map(|message| message.deadline_ms)
                .chain(self.claim_ends())
                .min(),
            leases: self.in_state(MessageState::Leased).count() as u64,
        }
    }

    /// Whether a deadline has passed that was not fired.
    pub fn is_due(&self) -> bool {
        let next = self.next_due();
        next.wall_ms.is_some_and(|ms| ms <= self.wall_ms)
            || next.elapsed_ms.is_some_and(|ms| ms <= self.elapsed_ms)
            || next.lease_ms.is_some_and(|ms| ms <= self.lease_clock_ms)
    }

    /// Whether a message came from another queue.
    pub fn was_moved(&self) -> bool {
        self.messages.iter().any(|message| message.hops > 0)
    }

    /// Every live row: index and ordinal, sorted, once each.
    pub fn live_rows(&self) -> Vec<(u64, u32)> {
        let mut rows: Vec<(u64, u32)> = self
            .messages
            .iter()
            .map(|message| (message.shown.body.index, message.shown.body.ordinal))
            .collect();
        for (.., answer) in self.sessions.iter().flat_map(|session| &session.answers) {
            if let Ok(Outcome::Delivered(grants)) = &answer.result {
                rows.extend(grants.iter().map(|grant| (grant.body.index, grant.body.ordinal)));
            }
        }
        rows.extend(self.schedules.iter().map(|schedule| (schedule.body.index, schedule.body.ordinal)));
        rows.sort();
        rows.dedup();
        rows
    }
}

fn make_ready(message: &mut Message) {
    message.shown.state = MessageState::Ready;
    message.shown.until_ms = None;
    message.due = None;
    message.shown.token = None;
    message.shown.dead = None;
    message.holder = None;
}

fn refusal(code: ErrorCode) -> Refusal {
    Refusal { code, queue: None, similar: None }
}

fn refusal_of(code: ErrorCode, queue: &QueueName) -> Refusal {
    Refusal { code, queue: Some(queue.clone()), similar: None }
}

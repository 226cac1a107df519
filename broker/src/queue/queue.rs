//! One queue: its messages by state, with the order in which leases end and delays pass.
//!
//! Each message is in exactly one of ready, leased, delayed, dead, and each of these keeps its own order. `bytes` is the
//! sum of the contents of all four.

use std::collections::BTreeMap;
use std::sync::Arc;

use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName};
use queue_protocol::settings::{OnExpiry, OnFull, Settings};
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::response::{DeadReason, EventKind, Settled};

use super::command::ErrorText;
use super::due::clocks::{DueAt, Moment};
use super::due::deadlines::Head;
use super::due::delays::Delays;
use super::due::expiries::Expiries;
use super::leased::active::Active;
use super::leased::leases::Leases;
use super::messages::dead::Leaving;
use super::messages::gone::Went;
use super::messages::graves::Graves;
use super::messages::line::Room;
use super::messages::message::{Delayed, Leased, Message, backoff_ms};
use super::read::turnover::Turnover;
use super::waiting::groups::Members;
use super::waiting::keys::{Dedup, UniqueKeys};
use super::waiting::rate::{Bucket, Rate};
use super::waiting::ready::Ready;

/// Messages that one push may force out, at most.
const DROPPED_COUNT_MAX: usize = 4_096;

/// Expired messages that one lease clears out of its way, at most.
const EXPIRED_TAKEN_MAX: usize = 4_096;

/// A message that was ready, and when it expires.
pub(super) type Taken = (MessageId, Message, Option<u64>);

/// A deadline and whose it is.
pub(super) type Deadline = (u64, MessageId);

/// A queue: its settings, its messages by state, and what limits them.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) name: QueueName,
    pub(super) settings: Arc<Settings>,
    /// 1 when it was made; 1 more with each change of its settings.
    pub(super) version: u64,
    pub(super) ready: Ready,
    /// Of the queue's rate.
    pub(super) bucket: Bucket,
    /// Whom it serves, if that is one session.
    pub(super) active: Active,
    pub(super) leased: Leases,
    pub(super) delayed: Delays,
    /// Of the ready and the delayed.
    pub(super) expiries: Expiries,
    pub(super) dedup: Dedup,
    /// Held by the ready, the delayed and the leased.
    pub(super) unique: UniqueKeys,
    pub(super) dead: Graves,
    pub(super) bytes: u64,
    /// Messages on their way to another queue, while the queue is being changed.
    pub(super) leaving: Leaving,
    /// Messages that went for good, while the queue is being changed.
    pub(super) going: Vec<Went>,
    pub(super) turnover: Turnover,
    /// Its first deadlines, as the state lists them.
    pub(super) head: Head,
}

/// How a delivery failed.
pub(super) struct Failure {
    /// Failed or lease ended.
    pub(super) kind: EventKind,
    /// Wait before it is ready again; the queue's back-off if `None`.
    pub(super) delay_ms: Option<u64>,
    /// Kept with the message.
    pub(super) error: ErrorText,
}

/// Messages by state, and bytes of their contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ready: u64,
    pub(super) leased: u64,
    pub(super) delayed: u64,
    pub(super) dead: u64,
    pub(super) bytes: u64,
    /// Queues whose pushes are paused.
    pub(super) paused: u64,
}

impl Counts {
    /// This with one part of the sum replaced.
    pub(super) fn replace(self, before: Self, after: Self) -> Self {
        Self {
            ready: self.ready - before.ready + after.ready,
            leased: self.leased - before.leased + after.leased,
            delayed: self.delayed - before.delayed + after.delayed,
            dead: self.dead - before.dead + after.dead,
            bytes: self.bytes - before.bytes + after.bytes,
            paused: self.paused - before.paused + after.paused,
        }
    }

    /// Messages in all four states together.
    pub(super) fn messages(self) -> u64 {
        self.ready + self.leased + self.delayed + self.dead
    }
}

impl Queue {
    /// A queue without messages.
    pub(super) fn new(name: QueueName, settings: Settings) -> Self {
        Self {
            name,
            ready: Ready::new(&settings),
            bucket: Bucket::default(),
            active: Active::default(),
            settings: Arc::new(settings),
            version: 1,
            leased: Leases::default(),
            delayed: Delays::default(),
            expiries: Expiries::default(),
            dedup: Dedup::default(),
            unique: UniqueKeys::default(),
            dead: Graves::default(),
            bytes: 0,
            leaving: Leaving::default(),
            going: Vec::new(),
            turnover: Turnover::default(),
            head: Head::default(),
        }
    }

    /// What is there now.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.count(),
            leased: self.leased.len() as u64,
            delayed: self.delayed.len() as u64,
            dead: self.dead.len() as u64,
            bytes: self.bytes,
            paused: u64::from(self.settings.pushes_paused),
        }
    }

    /// Ready messages that may be handed out: not fewer than this, and none only if this is 0.
    pub(super) fn available(&self) -> u64 {
        if self.settings.leases_paused {
            return 0;
        }
        self.ready.open_count().min(self.bucket.count(self.rate()))
    }

    /// How often it hands messages out.
    pub(super) fn rate(&self) -> Rate {
        Rate::new(self.settings.rate_max, self.settings.rate_ms)
    }

    /// When the rate lets the next message go, if it lets none go now, and whether it alone holds messages back.
    pub(super) fn rate_allows_at_ms(&self) -> Option<(u64, bool)> {
        let at_ms = self.bucket.next_ms(self.rate())?;
        Some((at_ms, !self.settings.leases_paused && self.ready.open_count() > 0))
    }

    /// Whether so many more messages of so many bytes stay within the queue's limits.
    pub(super) fn has_room(&self, count: u64, bytes: u64) -> bool {
        let Settings { max_messages, max_bytes, .. } = *self.settings;
        let waiting = self.ready.count() + self.leased.len() as u64 + self.delayed.len() as u64;
        (max_messages == 0 || waiting + count <= max_messages)
            && (max_bytes == 0 || self.bytes - self.dead.bytes() + bytes <= max_bytes)
    }

    /// Makes room for a message if the queue is one that does, by letting those die that were pushed first: ready ones,
    /// then delayed ones. Whether there is room.
    pub(super) fn make_room(&mut self, size: u64, now: Moment) -> bool {
        let mut dropped = 0;
        while !self.has_room(1, size) {
            let never = self.settings.max_bytes > 0 && size > self.settings.max_bytes;
            if self.settings.on_full == OnFull::Reject || never || dropped >= DROPPED_COUNT_MAX {
                return false;
            }
            let oldest = self.ready.oldest().or_else(|| self.delayed.get_min().map(|(id, _)| *id));
            let Some((id, message)) = oldest.and_then(|id| Some((id, self.take_waiting(id)?))) else {
                return false;
            };
            self.bury(id, message, DeadReason::Overflow, now);
            dropped += 1;
        }
        true
    }

    /// Takes what is next and fits into `room`, each with the time at which it expires; nothing if there is nothing to
    /// hand out. Those that have expired already go where that leads, and take no room.
    pub(super) fn take_ready(&mut self, room: &mut Room, now: Moment) -> Vec<Taken> {
        let mut live: Vec<Taken> = Vec::new();
        let mut expired = 0;
        while live.is_empty() && expired < EXPIRED_TAKEN_MAX {
            let before = *room;
            let taken = self.ready.take(room, now);
            if taken.is_empty() {
                break;
            }
            expired += taken.len();
            for (id, message) in taken {
                let expires_at_ms = self.expiries.remove(id);
                if expires_at_ms.is_some_and(|at_ms| at_ms <= now.elapsed_ms) {
                    self.expire(id, message, now);
                } else {
                    live.push((id, message, expires_at_ms));
                }
            }
            if live.is_empty() {
                *room = before;
            }
        }
        live
    }

    /// Takes a message out that is ready or delayed.
    pub(super) fn take_waiting(&mut self, id: MessageId) -> Option<Message> {
        let message = self.ready.remove(id).or_else(|| self.take_delayed(id))?;
        self.expiries.remove(id);
        Some(message)
    }

    /// Takes a message out that is delayed, but for its expiry.
    fn take_delayed(&mut self, id: MessageId) -> Option<Message> {
        let message = self.delayed.take(id)?;
        if message.attempts > 0 {
            self.count_member(&message, |members| members.waiting -= 1);
        }
        Some(message)
    }

    /// Lets a message go that is in no state, wherever.
    pub(super) fn let_leave(&mut self, id: MessageId, message: &Message) {
        self.bytes -= message.size();
        self.unique.take(id);
    }

    /// Puts a message that is in no state and whose time to live has passed where that leads.
    pub(super) fn expire(&mut self, id: MessageId, message: Message, now: Moment) {
        match self.settings.on_expiry {
            OnExpiry::Drop => self.let_go(id, &message, GoneHow::Expired),
            OnExpiry::Dead => self.bury(id, message, DeadReason::Expired, now),
        }
    }

    /// When a message expires that comes to this queue now and has no time to live of its own.
    pub(super) fn expiry(&self, now: Moment) -> Option<u64> {
        let ttl_ms = self.settings.ttl_ms;
        (ttl_ms > 0).then(|| now.elapsed_ms.saturating_add(ttl_ms))
    }

    /// Lets a message wait that is in no state, from `due` on as ready.
    pub(super) fn wait(
        &mut self,
        id: MessageId,
        message: Message,
        expires_at_ms: Option<u64>,
        due: Option<DueAt>,
        now: Moment,
    ) {
        if let Some(at_ms) = expires_at_ms {
            if at_ms <= now.elapsed_ms {
                return self.expire(id, message, now);
            }
            self.expiries.add(id, id, at_ms);
        }
        match due.filter(|due| !due.is_past(now)) {
            Some(due) => self.delay(id, Delayed { due, message }),
            None => self.ready.put(id, message),
        }
    }

    /// Whether the message is here, in any state.
    pub(super) fn holds(&self, id: MessageId) -> bool {
        self.leased.contains_key(&id)
            || self.delayed.contains_key(&id)
            || self.dead.contains_key(&id)
            || self.ready.find(id).is_some()
    }

    /// Hands a message out that was taken from `ready`.
    pub(super) fn lend(&mut self, id: MessageId, leased: Leased) {
        self.count_member(&leased.message, |members| members.leased += 1);
        self.leased.put(id, leased);
    }

    /// Takes back what was handed out, whatever its token.
    pub(super) fn end_lease(&mut self, id: MessageId) -> Option<Leased> {
        let leased = self.leased.take(id)?;
        self.count_member(&leased.message, |members| members.leased -= 1);
        Some(leased)
    }

    /// Takes back what was handed out under this token.
    ///
    /// # Errors
    /// What to answer for the receipt instead of [`Settled::Ok`].
    pub(super) fn settle(&mut self, id: MessageId, token: LeaseToken) -> Result<Leased, Settled> {
        if self.leased.is_under(id, token) {
            Ok(self.end_lease(id).expect("it was there"))
        } else {
            Err(self.unsettled(id))
        }
    }

    /// Moves the end of the lease under this token.
    ///
    /// # Errors
    /// What to answer for the receipt instead of [`Settled::Ok`].
    pub(super) fn extend(
        &mut self,
        id: MessageId,
        token: LeaseToken,
        deadline_ms: u64,
    ) -> Result<(), Settled> {
        if !self.leased.is_under(id, token) {
            return Err(self.unsettled(id));
        }
        self.leased.extend(id, deadline_ms);
        Ok(())
    }

    fn unsettled(&self, id: MessageId) -> Settled {
        if self.holds(id) { Settled::Stale } else { Settled::Gone }
    }

    /// Puts a message that was leased where its failure leads: dead, delayed or ready.
    pub(super) fn fail(&mut self, id: MessageId, mut leased: Leased, failure: Failure, now: Moment) {
        let Failure { kind, delay_ms, error } = failure;
        let message = &mut leased.message;
        message.note(now, kind);
        message.failures = message.failures.saturating_add(1);
        message.last_error = Some(error);
        if message.failures >= self.settings.max_failures {
            self.bury(id, leased.message, DeadReason::MaxFailures, now);
        } else {
            let delay_ms = delay_ms.unwrap_or_else(|| backoff_ms(&self.settings, id, message.failures));
            self.put_back(id, leased, delay_ms, now);
        }
    }

    /// Makes a message that was leased ready, at once or later.
    pub(super) fn put_back(&mut self, id: MessageId, leased: Leased, delay_ms: u64, now: Moment) {
        let Leased { message, expires_at_ms, .. } = leased;
        self.wait(id, message, expires_at_ms, Some(DueAt::after(delay_ms, now)), now);
    }

    /// Takes over a message that is due later.
    pub(super) fn delay(&mut self, id: MessageId, delayed: Delayed) {
        if delayed.message.attempts > 0 {
            self.count_member(&delayed.message, |members| members.waiting += 1);
        }
        self.delayed.put(id, delayed);
    }

    /// Counts a message in its group, if it has one.
    pub(super) fn count_member(&mut self, message: &Message, change: impl FnOnce(&mut Members)) {
        if let Some(group) = &message.group {
            self.ready.groups.count(group, change);
        }
    }

    /// Makes a delayed message ready.
    pub(super) fn come_due(&mut self, id: MessageId) {
        if let Some(message) = self.take_delayed(id) {
            self.ready.put(id, message);
        }
    }

    /// Deletes a message that is ready or delayed.
    pub(super) fn delete_waiting(&mut self, id: MessageId, how: GoneHow) {
        if let Some(message) = self.take_waiting(id) {
            self.let_go(id, &message, how);
        }
    }

    /// Asserts that each state holds together, that they agree, and that `bytes` is right.
    pub(super) fn check(&self) {
        self.leased.check();
        self.delayed.check();
        self.dead.check();
        assert!(self.keys_hold(), "{}: expiries and keys", self.name);
        let none = self.leaving.messages.is_empty() && self.going.is_empty();
        assert!(none, "{}: messages got lost on their way", self.name);
        assert_eq!(self.ready.messages().count() as u64, self.ready.count(), "{}: ready", self.name);
        let sizes = self.messages().map(|(_, message)| u64::from(message.body.size));
        assert_eq!(sizes.sum::<u64>(), self.bytes, "{}: bytes", self.name);
        assert!(self.bucket.fits(self.rate()), "{}: bucket", self.name);
        assert!(self.active.fits(self.settings.single_active), "{}: active", self.name);
        self.ready.check(self.members());
    }

    /// What each group holds beside its line, counted anew.
    fn members(&self) -> BTreeMap<Key, Members> {
        let mut members = BTreeMap::<Key, Members>::new();
        let mut count = |message: &Message, change: fn(&mut Members)| {
            if let Some(group) = &message.group {
                change(members.entry(group.clone()).or_default());
            }
        };
        self.leased.values().for_each(|leased| count(&leased.message, |members| members.leased += 1));
        self.dead.values().for_each(|dead| count(&dead.message, |members| members.dead += 1));
        for message in self.delayed.values().map(|delayed| &delayed.message).filter(|m| m.attempts > 0) {
            count(message, |members| members.waiting += 1);
        }
        members
    }

    /// Whether expiries and keys are of messages that can have them.
    pub(super) fn keys_hold(&self) -> bool {
        let waits = |id| self.delayed.contains_key(&id) || self.ready.find(id).is_some();
        self.expiries.holds(waits)
            && self.dedup.holds()
            && self.unique.holds(|id| waits(id) || self.leased.contains_key(&id), |id| self.holds(id))
    }

    /// All messages, in no order worth naming.
    fn messages(&self) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        let leased = self.leased.iter().map(|(id, leased)| (*id, leased.message.clone()));
        let delayed = self.delayed.iter().map(|(id, delayed)| (*id, delayed.message.clone()));
        let dead = self.dead.iter().map(|(id, dead)| (*id, dead.message.clone()));
        self.ready.messages().chain(leased).chain(delayed).chain(dead)
    }
}

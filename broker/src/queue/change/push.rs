//! Push: rules of the queue first, ids given in commit order, plain messages stored as runs.

use queue_protocol::content::ContentSpec;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{PRIORITY_MAX, PUSH_COUNT_MAX};
use queue_protocol::names::MessageId;
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::request::{PushOptions, Unique, UniqueHeld};
use queue_protocol::wire::response::PushOutcome;

use crate::queue::apply::{Apply, refusal_of};
use crate::queue::command::Push;
use crate::queue::due::clocks::{DueAt, Moment};
use crate::queue::messages::message::{Delayed, Message};
use crate::queue::messages::piece::{Piece, PushedRows};
use crate::queue::queue::Queue;
use crate::queue::reply::{Outcome, Refusal};

impl Apply<'_> {
    /// Stores messages whose contents are the rows of the body table from `first_row` on, each unless a rule of the
    /// queue is against it.
    ///
    /// # Errors
    /// Refused if the table is too short or an option is out of its range, if there is no such queue and none is to be
    /// made, if there are too many queues, or if its pushes are paused. If it is atomic, also if a message is refused.
    pub(in crate::queue) fn push(&mut self, push: &Push, first_row: u64) -> Result<Outcome, Refusal> {
        let bad = || refusal_of(ErrorCode::BadRequest, &push.queue);
        let ordinal = u32::try_from(first_row).map_err(|_| bad())?;
        let end = ordinal.checked_add(push.count).ok_or_else(bad)?;
        let rows = self.table.get(ordinal as usize..end as usize).ok_or_else(bad)?;
        let rising = push.special.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let in_range =
            push.special.iter().all(|(k, options)| *k < push.count && options.priority <= PRIORITY_MAX);
        if !rising || !in_range || rows.is_empty() || rows.len() > PUSH_COUNT_MAX {
            return Err(bad());
        }
        // A copy shares everything, and so makes everything that changes a copy of its own.
        let before = (push.atomic && !self.is_sure(push, rows)).then(|| self.savepoint());
        let number = match (self.state.catalog().number(&push.queue), &push.create) {
            (Some(number), _) => number,
            (None, Some(settings)) => self.make_queue(&push.queue, settings)?,
            (None, None) => return Err(self.queue_not_found(&push.queue)),
        };
        let (index, at) = (self.index, self.state.now());
        let mut next_id = self.state.numbers().id().0;
        let outcomes = self.change(number, |queue| {
            let pushed = PushedRows { index, ordinal, pushed: at, rows };
            (!queue.settings.pushes_paused).then(|| queue.push(pushed, &push.special, &mut next_id))
        });
        let outcomes = outcomes.ok_or_else(|| refusal_of(ErrorCode::QueuePaused, &push.queue))?;
        self.state.numbers_mut().give_ids_below(next_id);
        if let Some(before) = before
            && let Some(code) = outcomes.refused()
        {
            self.rollback(before);
            return Err(refusal_of(code, &push.queue));
        }
        Ok(Outcome::Pushed(outcomes.0))
    }

    /// All of it will be stored, if the queue takes pushes: there is room, and no message has a key.
    fn is_sure(&self, push: &Push, rows: &[ContentSpec]) -> bool {
        let queue = self.state.catalog().named(&push.queue);
        let bytes = rows.iter().map(|row| u64::from(row.size)).sum();
        let keyed = |options: &PushOptions| options.dedup_key.is_some() || options.unique.is_some();
        queue.is_some_and(|queue| queue.has_room(u64::from(push.count), bytes))
            && !push.special.iter().any(|(_, options)| keyed(options))
    }
}

/// What became of the messages of a push, in runs.
#[derive(Default)]
pub(in crate::queue) struct Outcomes(Vec<PushOutcome>);

impl Outcomes {
    fn stored(&mut self, id: MessageId, more: u32) {
        match self.0.last_mut() {
            Some(PushOutcome::Stored { first_id, count }) if first_id.0 + u64::from(*count) == id.0 => {
                *count += more;
            }
            last => {
                // Most pushes have no other outcome.
                if last.is_none() {
                    self.0.reserve_exact(1);
                }
                self.0.push(PushOutcome::Stored { first_id: id, count: more });
            }
        }
    }

    fn refuse(&mut self, why: ErrorCode) {
        match self.0.last_mut() {
            Some(PushOutcome::Refused { code, count }) if *code == why => *count += 1,
            _ => self.0.push(PushOutcome::Refused { code: why, count: 1 }),
        }
    }

    /// How many were stored.
    pub(in crate::queue) fn stored_count(&self) -> u64 {
        let stored = self.0.iter().map(|outcome| match outcome {
            PushOutcome::Stored { count, .. } => u64::from(*count),
            _ => 0,
        });
        stored.sum()
    }

    /// Why the first was refused that was.
    fn refused(&self) -> Option<ErrorCode> {
        self.0.iter().find_map(|outcome| match outcome {
            PushOutcome::Refused { code, .. } => Some(*code),
            _ => None,
        })
    }
}

/// Whether a message may come in.
enum Admitted {
    Yes,
    Duplicate(MessageId),
    Refused(ErrorCode),
}

impl Queue {
    /// Stores messages under ids from `next_id` on: stretches of plain ones as a whole if there is room for all.
    pub(in crate::queue) fn push(
        &mut self,
        pushed: PushedRows<'_>,
        special: &[(u32, PushOptions)],
        next_id: &mut u64,
    ) -> Outcomes {
        let count = u32::try_from(pushed.rows.len()).expect("a push has at most 1,000 messages");
        let mut outcomes = Outcomes::default();
        let plain = PushOptions::default();
        let mut specials = special.iter().peekable();
        let mut start = 0;
        while start < count {
            let options = specials.next_if(|(k, _)| *k == start).map_or(&plain, |(_, options)| options);
            let next_special = specials.peek().map_or(count, |(k, _)| *k);
            let stretch = pushed.slice(start, if *options == plain { next_special } else { start + 1 });
            let all = u64::from(stretch.count());
            let taken = if self.has_room(all, stretch.bytes()) { stretch } else { stretch.slice(0, 1) };
            start += taken.count();
            match self.admit(taken.bytes(), options, pushed.pushed) {
                Admitted::Yes => {
                    outcomes.stored(MessageId(*next_id), taken.count());
                    self.store(MessageId(*next_id), taken, options);
                    *next_id += u64::from(taken.count());
                }
                Admitted::Duplicate(id) => outcomes.0.push(PushOutcome::Duplicate { id }),
                Admitted::Refused(code) => outcomes.refuse(code),
            }
        }
        outcomes
    }

    /// Decides whether a message may come in, and makes way for it.
    fn admit(&mut self, size: u64, options: &PushOptions, now: Moment) -> Admitted {
        if let Some(key) = &options.dedup_key {
            if let Some(id) = self.dedup.known(key, now.elapsed_ms) {
                return Admitted::Duplicate(id);
            }
            if !self.dedup.has_room(key) {
                return Admitted::Refused(ErrorCode::DedupFull);
            }
        }
        if let Some(Unique { key, held }) = &options.unique
            && let Some(id) = self.unique.holder(key)
        {
            return match held {
                UniqueHeld::Keep => Admitted::Duplicate(id),
                UniqueHeld::Reject => Admitted::Refused(ErrorCode::UniqueHeld),
                UniqueHeld::Replace => self.replace(id, size),
            };
        }
        if self.make_room(size, now) { Admitted::Yes } else { Admitted::Refused(ErrorCode::QueueFull) }
    }

    /// Deletes the message whose place a new one of that size takes, unless it is leased.
    fn replace(&mut self, id: MessageId, size: u64) -> Admitted {
        if self.leased.contains_key(&id) {
            return Admitted::Refused(ErrorCode::UniqueHeld);
        }
        let old = self.ready.find(id).or_else(|| self.delayed.get(&id).map(|old| old.message.clone()));
        let grows = size.saturating_sub(old.map_or(0, |old| old.size()));
        if grows > 0 && !self.has_room(0, grows) {
            return Admitted::Refused(ErrorCode::QueueFull);
        }
        self.delete_waiting(id, GoneHow::Replaced);
        Admitted::Yes
    }

    /// Takes over new messages that have the same options.
    fn store(&mut self, first: MessageId, pushed: PushedRows<'_>, options: &PushOptions) {
        self.turnover.pushed += u64::from(pushed.count());
        self.bytes += pushed.bytes();
        let now = pushed.pushed;
        let own = options.ttl_ms.map(|ttl_ms| now.elapsed_ms.saturating_add(ttl_ms));
        if let Some(at_ms) = own.or_else(|| self.expiry(now)) {
            self.expiries.add(first, MessageId(first.0 + u64::from(pushed.count()) - 1), at_ms);
        }
        // Only single messages have keys: a plain one has none.
        if let Some(key) = &options.dedup_key
            && self.settings.dedup_window_ms > 0
        {
            let until_ms = now.elapsed_ms.saturating_add(self.settings.dedup_window_ms);
            self.dedup.remember(key.clone(), first, until_ms);
        }
        if let Some(Unique { key, .. }) = &options.unique {
            self.unique.hold(key.clone(), first);
        }
        let due = DueAt::of(options.due, now);
        if due.is_none() && options.group.is_none() {
            return self.ready.push(options.priority, first, pushed);
        }
        let piece = Piece::new(first, pushed);
        for k in 0..pushed.count() {
            let id = piece.id(k);
            let message = Message { group: options.group.clone(), ..piece.message(k, options.priority) };
            match due {
                None => self.ready.put(id, message),
                Some(due) => self.delay(id, Delayed { due, message }),
            }
        }
    }
}

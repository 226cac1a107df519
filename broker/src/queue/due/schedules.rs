//! Schedules: what is pushed again and again. When is computed by the leader and comes with the command; here are the
//! message, whose body lies in the entry that set the schedule, and the time that it waits for.

use imbl::{OrdMap, OrdSet};
use queue_protocol::content::ContentSpec;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{CATCH_UP_MAX, PRIORITY_MAX, SCHEDULES_MAX};
use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::request::PushOptions;
use queue_protocol::wire::schedule::{Missed, ScheduleView, When};
use serde::{Deserialize, Serialize};

use super::clocks::Moment;
use crate::queue::apply::{Apply, refusal, refusal_of};
use crate::queue::command::{Fire, SetSchedule};
use crate::queue::messages::piece::PushedRows;
use crate::queue::reply::{BodyRef, Outcome, Refusal};
use crate::queue::state::State;

/// A schedule: what it pushes, and when next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Schedule {
    queue: QueueName,
    when: When,
    missed: Missed,
    options: PushOptions,
    pub(in crate::queue) body: BodyRef,
    crc32c: u32,
    /// The time that it waits for: an interval on the elapsed clock, a pattern on the wall clock.
    next_ms: Option<u64>,
    /// The wall clock was set back: `next_ms` is to be computed anew before anything is pushed.
    recount: bool,
    /// Of a pattern: the last of its times that was pushed. This time and those before are not pushed again.
    pushed_ms: Option<u64>,
    /// Wall time of the last message.
    last_ms: Option<u64>,
    stored: u64,
    refused: u64,
}

impl Schedule {
    /// Where it pushes to.
    pub(in crate::queue) fn queue(&self) -> &QueueName {
        &self.queue
    }
}

/// All schedules, by name and by the time that each waits for.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Schedules {
    by_name: OrdMap<Key, Schedule>,
    /// Of intervals, on the elapsed clock.
    intervals: OrdSet<(u64, Key)>,
    /// Of patterns, on the wall clock; 0 is at once.
    patterns: OrdSet<(u64, Key)>,
}

/// A schedule whose time is the first to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextFire {
    /// The schedule, by name.
    pub name: Key,
    /// The time that it waits for: an interval on the elapsed clock, a pattern on the wall clock.
    pub due_ms: Option<u64>,
    /// The wall clock was set back: its next time is to be computed anew, nothing else.
    pub recount: bool,
    /// Of a pattern: the last of its times that was pushed.
    pub pushed_ms: Option<u64>,
    /// At which times it pushes.
    pub when: When,
    /// What becomes of missed ones.
    pub missed: Missed,
}

impl Schedule {
    /// When the leader has to look at it.
    fn listed_ms(&self) -> Option<u64> {
        if self.recount { Some(0) } else { self.next_ms }
    }

    /// The wall clock when it pushes next, if nobody sets it.
    fn next_label(&self, now: Moment) -> Option<u64> {
        let label = |ms| if is_interval(&self.when) { now.label(ms) } else { ms };
        self.next_ms.map(label)
    }
}

/// Whether a schedule runs on the elapsed clock.
fn is_interval(when: &When) -> bool {
    matches!(when, When::Every(_))
}

impl Schedules {
    /// All schedules, in order of their names.
    pub(in crate::queue) fn by_name(&self) -> &OrdMap<Key, Schedule> {
        &self.by_name
    }

    /// Takes one over, in the place of the one of that name.
    pub(in crate::queue) fn put(&mut self, name: Key, schedule: Schedule) -> Option<Schedule> {
        let before = self.take(&name);
        if let Some(next_ms) = schedule.listed_ms() {
            self.order(&schedule.when).insert((next_ms, name.clone()));
        }
        self.by_name.insert(name, schedule);
        before
    }

    fn take(&mut self, name: &Key) -> Option<Schedule> {
        let schedule = self.by_name.remove(name)?;
        if let Some(next_ms) = schedule.listed_ms() {
            self.order(&schedule.when).remove(&(next_ms, name.clone()));
        }
        Some(schedule)
    }

    fn order(&mut self, when: &When) -> &mut OrdSet<(u64, Key)> {
        if is_interval(when) { &mut self.intervals } else { &mut self.patterns }
    }

    /// The wall clock was set back: what patterns wait for is computed anew.
    pub(in crate::queue) fn recount(&mut self) {
        let patterns = self.by_name.iter().filter(|(_, schedule)| !is_interval(&schedule.when));
        let names: Vec<Key> = patterns.map(|(name, _)| name.clone()).collect();
        for name in names {
            let schedule = self.take(&name).expect("it was there");
            self.put(name, Schedule { recount: true, ..schedule });
        }
    }

    /// Asserts that those with a next time are listed under it.
    pub(in crate::queue) fn check(&self) {
        let mut fresh = Self::default();
        self.by_name.iter().for_each(|(name, schedule)| {
            fresh.put(name.clone(), schedule.clone());
        });
        assert!(fresh.intervals == self.intervals && fresh.patterns == self.patterns, "times of schedules");
        assert!(self.by_name.len() <= SCHEDULES_MAX, "number of schedules");
    }
}

impl Apply<'_> {
    /// Takes a schedule over; its message's content is the row `first_row` of the body table. Whether it is a new one.
    ///
    /// # Errors
    /// Refused if an option is out of its range, if the queue does not exist, if there is one of that name and it is not
    /// to be replaced, or if there are as many as there may be.
    pub(in crate::queue) fn set_schedule(
        &mut self,
        set: &SetSchedule,
        first_row: u64,
    ) -> Result<Outcome, Refusal> {
        let bad = || refusal_of(ErrorCode::BadRequest, &set.queue);
        let ordinal = u32::try_from(first_row).map_err(|_| bad())?;
        let ContentSpec { size, crc32c } = *self.table.get(ordinal as usize).ok_or_else(bad)?;
        if set.options.priority > PRIORITY_MAX {
            return Err(bad());
        }
        self.number(&set.queue)?;
        let schedules = self.state.schedules_mut();
        let exists = schedules.by_name.contains_key(&set.name);
        if exists && !set.replace {
            return Err(refusal(ErrorCode::ScheduleExists));
        }
        if !exists && schedules.by_name.len() >= SCHEDULES_MAX {
            return Err(refusal(ErrorCode::ScheduleLimit));
        }
        let schedule = Schedule {
            queue: set.queue.clone(),
            when: set.when.clone(),
            missed: set.missed,
            options: set.options.clone(),
            body: BodyRef { index: self.index, ordinal, size },
            crc32c,
            next_ms: set.next_ms,
            recount: false,
            pushed_ms: None,
            last_ms: None,
            stored: 0,
            refused: 0,
        };
        Ok(Outcome::Created(schedules.put(set.name.clone(), schedule).is_none()))
    }

    /// Removes a schedule; what it pushed stays.
    ///
    /// # Errors
    /// Refused if there is none of that name.
    pub(in crate::queue) fn remove_schedule(&mut self, name: &Key) -> Result<Outcome, Refusal> {
        let removed = self.state.schedules_mut().take(name);
        removed.map(|_| Outcome::Count(1)).ok_or_else(|| refusal(ErrorCode::ScheduleNotFound))
    }

    /// Pushes the message of a schedule, unless it was changed or the wall clock was set back since the leader looked. A time of
    /// a pattern is pushed once: not if it or a later one was.
    pub(in crate::queue) fn fire_schedule(&mut self, fire: &Fire) -> Outcome {
        let wall_ms = self.state.wall_ms();
        let waits =
            |schedule: &&Schedule| schedule.next_ms == fire.due_ms && schedule.recount == fire.recount;
        let Some(mut schedule) = self.state.all_schedules().by_name.get(&fire.name).filter(waits).cloned()
        else {
            return Outcome::Ticked;
        };
        let is_done = fire.pushed_ms.is_some_and(|ms| schedule.pushed_ms.is_some_and(|last| ms <= last));
        let count = if is_done { 0 } else { fire.count };
        for _ in 0..count.min(CATCH_UP_MAX) {
            if self.push_scheduled(&schedule) {
                schedule.stored += 1;
                schedule.last_ms = Some(wall_ms);
            } else {
                schedule.refused += 1;
            }
        }
        schedule.next_ms = fire.next_ms;
        schedule.recount = false;
        schedule.pushed_ms = schedule.pushed_ms.max(fire.pushed_ms);
        self.state.schedules_mut().put(fire.name.clone(), schedule);
        Outcome::Ticked
    }

    /// Whether the message was stored.
    fn push_scheduled(&mut self, schedule: &Schedule) -> bool {
        let Some(number) = self.state.catalog().number(&schedule.queue) else { return false };
        let BodyRef { index, ordinal, size } = schedule.body;
        let rows = &[ContentSpec { size, crc32c: schedule.crc32c }];
        let pushed = PushedRows { index, ordinal, pushed: self.state.now(), rows };
        let mut next_id = self.state.numbers().id().0;
        let stored = self.change(number, |queue| {
            if queue.settings.pushes_paused {
                return 0;
            }
            let outcomes = queue.push(pushed, &[(0, schedule.options.clone())], &mut next_id);
            outcomes.stored_count()
        });
        self.state.numbers_mut().give_ids_below(next_id);
        stored > 0
    }
}

impl State {
    /// The interval and the pattern whose times are the first to come.
    pub fn next_fires(&self) -> [Option<NextFire>; 2] {
        [&self.all_schedules().intervals, &self.all_schedules().patterns].map(|order| {
            let (_, name) = order.get_min()?.clone();
            let found = self.all_schedules().by_name.get(&name)?.clone();
            let Schedule { when, missed, next_ms, recount, pushed_ms, .. } = found;
            Some(NextFire { name, due_ms: next_ms, recount, pushed_ms, when, missed })
        })
    }

    /// Schedules by name, behind one if it is given.
    pub fn schedules(&self, after: Option<&Key>, max: usize) -> Vec<ScheduleView> {
        self.schedules_seen(after, max, |_| true)
    }

    /// The same of those whose queue may be seen.
    pub fn schedules_seen(
        &self,
        after: Option<&Key>,
        max: usize,
        seen: impl Fn(&QueueName) -> bool,
    ) -> Vec<ScheduleView> {
        let view = |(name, schedule): (&Key, &Schedule)| ScheduleView {
            name: name.clone(),
            queue: schedule.queue.clone(),
            when: schedule.when.clone(),
            missed: schedule.missed,
            next_at_ms: schedule.next_label(self.now()),
            next_in_ms: schedule
                .next_ms
                .filter(|_| is_interval(&schedule.when))
                .map(|ms| self.now().left(ms)),
            last_at_ms: schedule.last_ms,
            stored: schedule.stored,
            refused: schedule.refused,
        };
        let behind =
            self.all_schedules().by_name.iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
        behind.filter(|(_, schedule)| seen(&schedule.queue)).take(max).map(view).collect()
    }
}

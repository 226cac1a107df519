//! Schedules in the model: each message is a push of one.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::Key;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::response::PushOutcome;
use queue_protocol::wire::schedule::{ScheduleView, When};

use super::super::command::{Fire, Push, SetSchedule};
use super::super::reply::{BodyRef, Outcome, Refusal};
use super::{Model, refusal, refusal_of};

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    set: SetSchedule,
    pub(super) body: BodyRef,
    last_ms: Option<u64>,
    /// Nothing is pushed before its next time is known anew.
    recount: bool,
    /// The last time of a pattern that was pushed.
    done_ms: Option<u64>,
    stored: u64,
    refused: u64,
}

impl Schedule {
    fn is_interval(&self) -> bool {
        matches!(self.set.when, When::Every(_))
    }
}

impl Model {
    /// The wall clock was set back.
    pub(super) fn recount(&mut self) {
        for schedule in &mut self.schedules {
            schedule.recount |= !schedule.is_interval();
        }
    }

    /// Of the intervals, and of the patterns: when the first is to be looked at, and which.
    pub fn next_fires(&self) -> [Option<(u64, Key)>; 2] {
        [true, false].map(|interval| {
            let these = self.schedules.iter().filter(|schedule| schedule.is_interval() == interval);
            let next = these.filter_map(|schedule| {
                let ms = if schedule.recount { Some(0) } else { schedule.set.next_ms };
                Some((ms?, schedule.set.name.clone()))
            });
            next.min()
        })
    }

    pub(super) fn set_schedule(&mut self, set: &SetSchedule, bodies: &[BodyRef]) -> Result<Outcome, Refusal> {
        let Some(body) = bodies.first().filter(|_| set.options.priority <= 31) else {
            return Err(refusal_of(ErrorCode::BadRequest, &set.queue));
        };
        self.exists(&set.queue)?;
        let before = self.schedules.len();
        if !set.replace && self.schedules.iter().any(|schedule| schedule.set.name == set.name) {
            return Err(refusal(ErrorCode::ScheduleExists));
        }
        self.schedules.retain(|schedule| schedule.set.name != set.name);
        let is_new = before == self.schedules.len();
        let schedule = Schedule {
            set: set.clone(),
            body: *body,
            last_ms: None,
            recount: false,
            done_ms: None,
            stored: 0,
            refused: 0,
        };
        self.schedules.push(schedule);
        Ok(Outcome::Created(is_new))
    }

    pub(super) fn remove_schedule(&mut self, name: &Key) -> Result<Outcome, Refusal> {
        let before = self.schedules.len();
        self.schedules.retain(|schedule| schedule.set.name != *name);
        if self.schedules.len() < before {
            Ok(Outcome::Count(1))
        } else {
            Err(refusal(ErrorCode::ScheduleNotFound))
        }
    }

    pub(super) fn fire_schedule(&mut self, fire: &Fire) -> Outcome {
        let waits = |schedule: &Schedule| {
            schedule.set.name == fire.name
                && schedule.set.next_ms == fire.due_ms
                && schedule.recount == fire.recount
        };
        let Some(k) = self.schedules.iter().position(waits) else { return Outcome::Ticked };
        let was_pushed = fire.pushed_ms.is_some() && fire.pushed_ms <= self.schedules[k].done_ms;
        for _ in 0..if was_pushed { 0 } else { fire.count.min(100) } {
            let Schedule { set, body, .. } = self.schedules[k].clone();
            let special = Bounded::new(vec![(0, set.options)]).unwrap();
            let push = Push { queue: set.queue, create: None, atomic: false, count: 1, special };
            let stored = matches!(
                self.push(&push, &[body]),
                Ok(Outcome::Pushed(runs)) if matches!(runs[..], [PushOutcome::Stored { .. }])
            );
            let schedule = &mut self.schedules[k];
            if stored {
                schedule.stored += 1;
                schedule.last_ms = Some(self.wall_ms);
            } else {
                schedule.refused += 1;
            }
        }
        let schedule = &mut self.schedules[k];
        schedule.set.next_ms = fire.next_ms;
        schedule.recount = false;
        schedule.done_ms = schedule.done_ms.max(fire.pushed_ms);
        Outcome::Ticked
    }

    /// All schedules by name.
    pub fn schedules(&self) -> Vec<ScheduleView> {
        let view = |schedule: &Schedule| ScheduleView {
            name: schedule.set.name.clone(),
            queue: schedule.set.queue.clone(),
            when: schedule.set.when.clone(),
            missed: schedule.set.missed,
            next_at_ms: schedule.set.next_ms.map(|ms| {
                let left_ms = ms.saturating_sub(self.elapsed_ms);
                if schedule.is_interval() { self.wall_ms + left_ms } else { ms }
            }),
            next_in_ms: schedule
                .set
                .next_ms
                .filter(|_| schedule.is_interval())
                .map(|ms| ms.saturating_sub(self.elapsed_ms)),
            last_at_ms: schedule.last_ms,
            stored: schedule.stored,
            refused: schedule.refused,
        };
        let mut views: Vec<ScheduleView> = self.schedules.iter().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }
}

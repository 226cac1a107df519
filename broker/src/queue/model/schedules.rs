//! Schedules in the model: each message is a push of one.

use queue_protocol::bounded::Bounded;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::Key;
use queue_protocol::response::PushOutcome;
use queue_protocol::schedule::ScheduleView;

use super::super::command::{Fire, Push, SetSchedule};
use super::super::reply::{BodyRef, Outcome, Refusal};
use super::{Model, refusal, refusal_of};

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    set: SetSchedule,
    pub(super) body: BodyRef,
    last_ms: Option<u64>,
    stored: u64,
    refused: u64,
}

impl Model {
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
        let schedule = Schedule { set: set.clone(), body: *body, last_ms: None, stored: 0, refused: 0 };
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
        let waits =
            |schedule: &Schedule| schedule.set.name == fire.name && schedule.set.next_ms == Some(fire.due_ms);
        let Some(k) = self.schedules.iter().position(waits) else { return Outcome::Ticked };
        for _ in 0..fire.count.min(100) {
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
        self.schedules[k].set.next_ms = fire.next_ms;
        Outcome::Ticked
    }

    /// All schedules by name.
    pub fn schedules(&self) -> Vec<ScheduleView> {
        let view = |schedule: &Schedule| ScheduleView {
            name: schedule.set.name.clone(),
            queue: schedule.set.queue.clone(),
            when: schedule.set.when.clone(),
            missed: schedule.set.missed,
            next_at_ms: schedule.set.next_ms,
            last_at_ms: schedule.last_ms,
            stored: schedule.stored,
            refused: schedule.refused,
        };
        let mut views: Vec<ScheduleView> = self.schedules.iter().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }
}

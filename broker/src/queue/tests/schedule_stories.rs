//! Stories of schedules: what they push, what the queue makes of it, and where its body lies.

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{Unique, UniqueHeld};
use queue_protocol::wire::schedule::{Missed, When};

use super::super::command::{Fire, SetSchedule};
use super::settings_stories::alter;
use super::*;

pub(super) fn set(name_of: &str, options: PushOptions, replace: bool, next_ms: u64) -> Op {
    Op::SetSchedule(Box::new(SetSchedule {
        name: key(name_of),
        replace,
        queue: name("jobs"),
        when: When::Every(60_000),
        missed: Missed::Once,
        options,
        next_ms: Some(next_ms),
    }))
}

fn fire(name_of: &str, due_ms: u64, count: u32) -> Op {
    let next_ms = Some(due_ms + 60_000);
    let (due_ms, recount, pushed_ms) = (Some(due_ms), false, None);
    Op::Fire(Box::new(Fire { name: key(name_of), due_ms, recount, pushed_ms, count, next_ms }))
}

#[test]
fn a_schedule_pushes_its_message_at_each_of_its_times_and_once() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let options = PushOptions { priority: 9, ttl_ms: Some(90_000), ..PushOptions::default() };
    assert_eq!(broker.run(set("daily", options.clone(), false, 1_060_000)), Ok(Outcome::Created(true)));
    assert_eq!(broker.run(set("daily", options, false, 5)).unwrap_err().code, ErrorCode::ScheduleExists);
    let next = broker.state.next_fires()[0].clone().unwrap();
    assert_eq!((next.name, next.due_ms), (key("daily"), Some(1_060_000)));
    broker.wall_ms = 1_060_000;
    let entry = vec![Command { session: None, op: fire("daily", 1_060_000, 1) }];
    assert_eq!(broker.entry(entry).effects.ready, [name("jobs")], "who waits hears of it");
    // Two leaders may see the same time: it counts once.
    broker.run(fire("daily", 1_060_000, 1)).unwrap();
    assert_eq!(broker.state.next_fires()[0].clone().unwrap().due_ms, Some(1_120_000));
    let grants = broker.lease("jobs", 9);
    assert_eq!((ids(&grants), grants[0].priority, grants[0].pushed_at_ms), (vec![2, 1], 9, 1_060_000));
    assert_eq!(grants[0].body.index, 2, "its body is where it was set");
    let view = broker.state.schedules(None, 9).remove(0);
    assert_eq!((view.stored, view.refused, view.last_at_ms), (1, 0, Some(1_060_000)));
}

#[test]
fn the_rules_of_the_queue_hold_for_what_is_scheduled() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let unique = Some(Unique { key: key("one"), held: UniqueHeld::Keep });
    broker.run(set("daily", PushOptions { unique, ..PushOptions::default() }, false, 1)).unwrap();
    let counted = |broker: &Broker| {
        let view = broker.state.schedules(None, 1).remove(0);
        (view.stored, view.refused)
    };
    // No second one while the first is there.
    broker.run(fire("daily", 1, 3)).unwrap();
    assert_eq!(counted(&broker), (1, 2));
    delivered(broker.run(pop("jobs", 9)));
    broker.run(alter("jobs", QueueSettings { pushes_paused: Some(true), ..Default::default() })).unwrap();
    broker.run(fire("daily", 60_001, 1)).unwrap();
    assert_eq!(counted(&broker), (1, 3));
    let remove = Op::RemoveQueue { queue: name("jobs"), if_exists: false, if_empty: false };
    broker.run(remove).unwrap();
    broker.run(fire("daily", 120_001, 1)).unwrap();
    assert_eq!(counted(&broker), (1, 4));
    // It goes on when the queue is there again.
    broker.run(push("jobs", 1)).unwrap();
    broker.run(fire("daily", 180_001, 1)).unwrap();
    assert_eq!((counted(&broker), broker.count("jobs")), ((2, 4), [2, 0, 0, 0]));
}

#[test]
fn the_body_of_a_schedule_lives_as_long_as_it_and_its_messages() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    delivered(broker.run(pop("jobs", 1)));
    broker.run(set("daily", PushOptions::default(), false, 1)).unwrap();
    let first = broker.index;
    broker.run(fire("daily", 1, 2)).unwrap();
    assert_eq!(broker.state.live_bodies(), [(first, 0..1)]);
    assert_eq!(broker.run(set("daily", PushOptions::default(), true, 1)), Ok(Outcome::Created(false)));
    assert_eq!(broker.state.live_bodies(), [(first, 0..1), (broker.index, 0..1)]);
    assert_eq!(broker.run(Op::RemoveSchedule(key("daily"))), Ok(Outcome::Count(1)));
    assert_eq!(delivered(broker.run(pop("jobs", 1))).len(), 1);
    assert_eq!(broker.state.live_bodies(), [(first, 0..1)], "one of its messages is left");
    assert_eq!(delivered(broker.run(pop("jobs", 1))).len(), 1);
    assert_eq!(broker.state.live_bodies(), []);
    let gone = broker.run(Op::RemoveSchedule(key("daily"))).unwrap_err();
    assert_eq!(gone.code, ErrorCode::ScheduleNotFound);
}

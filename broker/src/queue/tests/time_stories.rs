//! Time: durations, absolute times, and a wall clock that is wrong for a while.

use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::NackKind;
use queue_protocol::wire::response::PushOutcome;
use queue_protocol::wire::schedule::{Missed, When};

use super::super::Moment;
use super::super::command::{ErrorText, Fire, SetSchedule};
use super::*;

const HOUR_MS: u64 = 3_600_000;

fn set_wall(from_ms: u64, to_ms: u64) -> Op {
    Op::SetWall { from_ms, to_ms }
}

#[test]
fn the_wall_clock_goes_back_by_a_command_alone_and_once() {
    let mut broker = Broker::new();
    let right = broker.wall_ms;
    broker.pass_wall(HOUR_MS);
    let wrong = broker.wall_ms;
    broker.wall_ms = right + 5;
    broker.tick();
    assert_eq!(broker.state.wall_ms(), wrong, "a stamp does not set it back");
    let before = broker.state.digest();
    assert_eq!(broker.run(set_wall(wrong, right + 5)), Ok(Outcome::Ticked));
    assert_eq!(broker.state.wall_ms(), right + 5);
    assert_ne!(broker.state.digest(), before);
    broker.pass_wall(10);
    broker.run(set_wall(wrong, right + 5)).unwrap();
    assert_eq!(broker.state.wall_ms(), right + 15, "it came twice");
}

#[test]
fn what_was_said_about_another_wall_clock_holds_for_a_minute() {
    let mut broker = Broker::new();
    let begin = broker.wall_ms;
    broker.pass_wall(59_999);
    broker.run(set_wall(begin, begin - 7)).unwrap();
    assert_eq!(broker.state.wall_ms(), begin - 7);
    broker.pass_wall(1);
    broker.run(set_wall(begin, begin - 7)).unwrap();
    assert_eq!(broker.state.wall_ms(), begin + 60_000, "it has moved on");
    broker.run(set_wall(7, begin + HOUR_MS)).unwrap();
    assert_eq!(broker.state.wall_ms(), begin + HOUR_MS, "a later time is taken in any case");
}

const DAY_MS: i64 = 86_400_000;

/// Runs `begin`; then the wall clock is a month ahead for two seconds, and is set back; `is_over` holds when `ms` have
/// passed since the beginning, and not a millisecond before.
fn lasts(ms: u64, begin: impl Fn(&mut Broker), is_over: impl Fn(&mut Broker) -> bool) {
    for jump_ms in [30 * DAY_MS, -(1_000_000 - 7), 0] {
        let mut broker = Broker::new();
        begin(&mut broker);
        broker.jump_wall(jump_ms);
        broker.pass_wall(2_000);
        let wrong_ms = broker.state.wall_ms();
        broker.jump_wall(-jump_ms);
        broker.run(set_wall(wrong_ms, broker.wall_ms)).unwrap();
        assert_eq!(broker.state.wall_ms(), broker.wall_ms);
        broker.pass_wall(ms - 2_001);
        assert!(!is_over(&mut broker.clone()), "too early, after a jump of {jump_ms} ms");
        broker.pass_wall(1);
        assert!(is_over(&mut broker), "too late, after a jump of {jump_ms} ms");
    }
}

fn is_ready(broker: &mut Broker) -> bool {
    broker.count("jobs")[0] > 0
}

fn is_empty(broker: &mut Broker) -> bool {
    broker.count("jobs") == [0; 4]
}

#[test]
fn a_delay_lasts_as_long_as_it_says_whatever_the_wall_clock_does() {
    lasts(3_000, |broker| drop(broker.run(push_delayed("jobs", 3_000))), is_ready);
}

#[test]
fn a_back_off_lasts_as_long_as_it_says_whatever_the_wall_clock_does() {
    let begin = |broker: &mut Broker| {
        broker.run(push("jobs", 1)).unwrap();
        let leases = receipts("jobs", &broker.lease("jobs", 1));
        let kind = NackKind::Fail { delay_ms: Some(4_000), error: ErrorText::cut("no answer") };
        broker.run(Op::Nack { leases, kind }).unwrap();
    };
    lasts(4_000, begin, is_ready);
}

#[test]
fn a_time_to_live_lasts_as_long_as_it_says_whatever_the_wall_clock_does() {
    let begin = |broker: &mut Broker| {
        let options = PushOptions { ttl_ms: Some(5_000), ..PushOptions::default() };
        broker.run(push_with("jobs", 1, vec![(0, options)])).unwrap();
    };
    lasts(5_000, begin, |broker| broker.count("jobs")[0] == 0);
}

#[test]
fn a_dedup_window_lasts_as_long_as_it_says_whatever_the_wall_clock_does() {
    let again = || {
        let options = PushOptions { dedup_key: Some(key("a")), ..PushOptions::default() };
        push_with("jobs", 1, vec![(0, options)])
    };
    let is_over = |broker: &mut Broker| {
        let result = broker.run(again());
        matches!(result, Ok(Outcome::Pushed(runs)) if matches!(runs[..], [PushOutcome::Stored { .. }]))
    };
    lasts(settings().dedup_window_ms, |broker| drop(broker.run(again())), is_over);
}

#[test]
fn a_rate_lasts_as_long_as_it_says_whatever_the_wall_clock_does() {
    let begin = |broker: &mut Broker| {
        let settings = Settings { rate_max: 1, rate_ms: 6_000, ..settings() };
        let (queue, settings) = (name("jobs"), Box::new(settings));
        broker.run(Op::CreateQueue { queue, settings, if_not_exists: false }).unwrap();
        broker.run(push("jobs", 2)).unwrap();
        assert_eq!(broker.lease("jobs", 2).len(), 1);
    };
    lasts(6_000, begin, |broker| !broker.lease("jobs", 1).is_empty());
}

#[test]
fn dead_messages_are_kept_as_long_as_it_says_whatever_the_wall_clock_does() {
    let begin = |broker: &mut Broker| {
        let settings = Settings { dead_ttl_ms: 7_000, ..settings() };
        let (queue, settings) = (name("jobs"), Box::new(settings));
        broker.run(Op::CreateQueue { queue, settings, if_not_exists: false }).unwrap();
        broker.run(push("jobs", 1)).unwrap();
        let leases = receipts("jobs", &broker.lease("jobs", 1));
        broker.run(Op::Nack { leases, kind: NackKind::Reject { reason: ErrorText::cut("bad") } }).unwrap();
    };
    lasts(7_000, begin, is_empty);
}

#[test]
fn a_named_time_follows_the_wall_clock() {
    let push_at = |at_ms| push_special("jobs", 1, &[(0, PRIORITY_DEFAULT, Due::AtMs(at_ms))]);
    let hour = i64::try_from(HOUR_MS).unwrap();
    // Forward beyond it: it has come.
    let mut broker = Broker::new();
    let at_ms = broker.wall_ms + HOUR_MS / 2;
    broker.run(push_at(at_ms)).unwrap();
    assert_eq!(broker.state.next_due().wall_ms, Some(at_ms));
    assert_eq!(broker.jump_wall(hour).effects.ready, [name("jobs")]);
    // What is ready stays so when the wall clock is set back; what is pushed then waits.
    broker.run(set_wall(broker.wall_ms, broker.wall_ms - HOUR_MS)).unwrap();
    broker.jump_wall(-hour);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
    broker.run(push_at(at_ms)).unwrap();
    assert_eq!(broker.count("jobs"), [1, 0, 1, 0]);
    // Back by an hour: it waits an hour longer.
    let mut broker = Broker::new();
    broker.wall_ms += 2 * HOUR_MS;
    broker.run(push_at(broker.wall_ms + 1_000)).unwrap();
    let at_ms = broker.wall_ms;
    broker.jump_wall(-hour);
    broker.run(set_wall(at_ms, broker.wall_ms)).unwrap();
    broker.pass_wall(HOUR_MS + 999);
    assert_eq!(broker.count("jobs"), [0, 0, 1, 0]);
    broker.pass_wall(1);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
}

#[test]
fn ages_are_elapsed_and_shown_times_are_labels() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(push_delayed("jobs", 10_000)).unwrap();
    let pushed_at_ms = broker.wall_ms;
    broker.jump_wall(DAY_MS);
    broker.pass_wall(400);
    let view = broker.state.queues(None, None, 1).remove(0);
    assert_eq!((view.oldest_ready_ms, view.next_due_in_ms), (Some(400), Some(9_600)));
    let [ready, delayed] = [MessageState::Ready, MessageState::Delayed]
        .map(|state| broker.state.peek(&name("jobs"), Some(state), None, 1, 0).unwrap().remove(0));
    assert_eq!((ready.pushed_at_ms, ready.age_ms, ready.left_ms), (pushed_at_ms, 400, None));
    assert_eq!((delayed.left_ms, delayed.until_ms), (Some(9_600), Some(broker.wall_ms + 9_600)));
    // Who looks later sees it older, and nothing comes due by looking.
    let later = Moment { wall_ms: 5, elapsed_ms: broker.state.elapsed_ms() + 20_000 };
    let seen = broker.state.at(later);
    assert_eq!(seen.queues(None, None, 1).remove(0).oldest_ready_ms, Some(20_400));
    assert_eq!(
        seen.peek(&name("jobs"), Some(MessageState::Delayed), None, 1, 0).unwrap()[0].left_ms,
        Some(0)
    );
    let select = |select| Op::Sweep(Box::new(Sweep::all(name("jobs"), select, Action::Delete)));
    let older = |ms| select(Select { older_than_ms: Some(ms), ..Select::default() });
    assert_eq!(broker.run(older(400)), swept(0));
    assert_eq!(broker.run(older(399)), swept(2));
}

#[test]
fn an_interval_keeps_its_pace_whatever_the_wall_clock_does() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let due_ms = broker.wall_ms + 60_000;
    broker.run(set_schedule(When::Every(60_000), due_ms)).unwrap();
    broker.jump_wall(30 * DAY_MS);
    let [interval, pattern] = broker.state.next_fires();
    assert_eq!((interval.unwrap().due_ms, pattern), (Some(due_ms), None));
    let view = broker.state.schedules(None, 1).remove(0);
    assert_eq!((view.next_in_ms, view.next_at_ms), (Some(60_000), Some(broker.wall_ms + 60_000)));
    broker.jump_wall(-30 * DAY_MS);
    broker.run(set_wall(broker.state.wall_ms(), broker.wall_ms)).unwrap();
    assert!(!broker.state.next_fires()[0].as_ref().unwrap().recount);
}

fn set_schedule(when: When, next_ms: u64) -> Op {
    Op::SetSchedule(Box::new(SetSchedule {
        name: key("s"),
        replace: false,
        queue: name("jobs"),
        when,
        missed: Missed::Once,
        options: PushOptions::default(),
        next_ms: Some(next_ms),
    }))
}

#[test]
fn a_time_of_a_pattern_is_pushed_once_however_the_wall_clock_is_set() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let hour = i64::try_from(HOUR_MS).unwrap();
    let [one, two, three] = [1, 2, 3].map(|hours| broker.wall_ms + hours * HOUR_MS);
    let pattern = When::Cron { pattern: Text::cut("0 * * * *"), zone: Text::cut("UTC") };
    broker.run(set_schedule(pattern, one)).unwrap();
    let fire = |due_ms, recount, pushed_ms, count, next_ms| {
        let (due_ms, next_ms) = (Some(due_ms), Some(next_ms));
        Op::Fire(Box::new(Fire { name: key("s"), due_ms, recount, pushed_ms, count, next_ms }))
    };
    let stored = |broker: &Broker| broker.state.schedules(None, 1).remove(0).stored;
    // Forward: what was missed comes as the schedule says.
    broker.jump_wall(2 * hour + 5);
    broker.run(fire(one, false, Some(one), 1, three)).unwrap();
    assert_eq!(stored(&broker), 1);
    // Back: what it waits for is to be computed anew, and until then nothing is pushed.
    broker.jump_wall(-2 * hour);
    broker.run(set_wall(broker.state.wall_ms(), broker.wall_ms)).unwrap();
    let next = broker.state.next_fires()[1].clone().unwrap();
    assert_eq!((next.due_ms, next.recount, next.pushed_ms), (Some(three), true, Some(one)));
    broker.run(fire(three, false, Some(three), 1, three + HOUR_MS)).unwrap();
    assert_eq!((stored(&broker), broker.state.next_fires()[1].clone()), (1, Some(next)));
    // A leader that forgets what was pushed cannot push it again.
    broker.run(fire(three, true, None, 0, one)).unwrap();
    broker.run(fire(one, false, Some(one), 1, two)).unwrap();
    assert_eq!(stored(&broker), 1);
    broker.run(fire(two, false, Some(two), 1, three)).unwrap();
    assert_eq!(stored(&broker), 2);
}

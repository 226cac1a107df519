//! Time: durations, absolute times, and a wall clock that is wrong for a while.

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

//! What sessions remember and when they forget, told one thing at a time.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{SESSION_FORGOTTEN_MS, SESSION_IDLE_MS, SESSION_NUMBERS_MAX};
use queue_protocol::wire::response::{At, PushOutcome};

use super::*;

fn code(reply: &Reply) -> ErrorCode {
    reply.result.as_ref().expect_err("refused").code
}

#[test]
fn a_repeated_command_gets_the_first_answer_and_does_nothing() {
    let mut broker = Broker::new();
    let first = broker.call(7, 1, 1, push("jobs", 2));
    let again = broker.call(7, 1, 1, push("jobs", 2));
    assert_eq!(again, Reply { repeated: true, ..first });
    assert_eq!(again.at, At { index: 1, position: 0 });
    assert_eq!(broker.count("jobs"), [2, 0, 0, 0]);
    assert_eq!(broker.state.recorded(SessionId(7), 1), Some(again));
}

#[test]
fn a_repeat_still_takes_its_rows_of_the_body_table() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    let mut stamp = |number| Some(broker.stamp(7, number, 1));
    let table = [11, 22].map(|size| ContentSpec { size, crc32c: 0 });
    let commands = [1, 2].map(|number| Command { session: stamp(number), op: push("jobs", 1) });
    broker.entry_with(commands.to_vec(), &table);
    let body = delivered(broker.run(pop("jobs", 2)))[1].body;
    assert_eq!((body.index, body.ordinal, body.size), (2, 1, 22));
}

#[test]
fn a_refused_push_takes_its_rows_and_one_without_rows_is_refused() {
    let mut broker = Broker::new();
    let nowhere = Push { queue: name("none"), create: None, atomic: false, count: 1, special: bounded([]) };
    let commands =
        [Op::Push(nowhere), push("jobs", 1), push("mail", 1)].map(|op| Command { session: None, op });
    let table = [11, 22].map(|size| ContentSpec { size, crc32c: 0 });
    let replies = broker.entry_with(commands.to_vec(), &table).replies;
    assert_eq!(code(&replies[0]), ErrorCode::QueueNotFound);
    assert_eq!(delivered(broker.run(pop("jobs", 1)))[0].body.size, 22);
    assert_eq!(code(&replies[2]), ErrorCode::BadRequest);
    assert!(!broker.state.has_queue(&name("mail")));
}

/// In the program this one follows a pop whose answer is lost has lost its messages.
#[test]
fn a_repeated_pop_hands_out_the_same_bodies() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    let first = delivered(broker.call(7, 1, 1, pop("jobs", 2)).result);
    broker.pass_lease(100_000);
    assert_eq!(delivered(broker.call(7, 1, 1, pop("jobs", 2)).result), first);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
}

#[test]
fn an_answer_that_arrived_is_forgotten_and_its_number_is_too_old() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    broker.call(7, 2, 2, push("jobs", 1));
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::TooOld);
    assert_eq!(broker.state.recorded(SessionId(7), 1), None);
    assert_eq!(broker.count("jobs"), [2, 0, 0, 0]);
}

#[test]
fn a_lease_that_finds_nothing_leaves_no_trace() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(pop("jobs", 1)).unwrap();
    assert_eq!(broker.call(7, 1, 1, lease("jobs", 1)).result, Ok(Outcome::Nothing));
    assert_eq!(broker.state.stats().sessions, 0);
    broker.run(push("jobs", 1)).unwrap();
    assert_eq!(delivered(broker.call(7, 1, 1, lease("jobs", 1)).result).len(), 1);
    assert_eq!(broker.state.stats().sessions, 1);
}

#[test]
fn a_refusal_is_remembered_like_any_answer() {
    let mut broker = Broker::new();
    let pop_early = broker.call(7, 1, 1, pop("jobs", 1));
    broker.run(push("jobs", 1)).unwrap();
    assert_eq!(code(&pop_early), ErrorCode::QueueNotFound);
    assert_eq!(broker.call(7, 1, 1, pop("jobs", 1)), Reply { repeated: true, ..pop_early });
}

#[test]
fn another_request_under_a_number_is_refused_and_the_first_keeps_its_answer() {
    let mut broker = Broker::new();
    let first = broker.call(7, 1, 1, push("jobs", 1));
    let other = SessionStamp { request: RequestHash([1; 8]), ..broker.stamp(7, 1, 1) };
    let refused = broker.entry(vec![Command { session: Some(other), op: push("jobs", 2) }]).replies.remove(0);
    assert_eq!((code(&refused), refused.repeated), (ErrorCode::NumberReused, false));
    assert!(broker.state.is_lost(&other), "nobody waits for it");
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
    assert_eq!(broker.call(7, 1, 1, push("jobs", 1)), Reply { repeated: true, ..first });
}

#[test]
fn a_session_of_which_the_leader_knew_that_it_was_open_has_expired_if_it_is_not() {
    let mut broker = Broker::new();
    let known = SessionStamp { opening: None, ..broker.stamp(7, 5, 2) };
    let refused = broker.entry(vec![Command { session: Some(known), op: push("jobs", 1) }]).replies.remove(0);
    assert_eq!(code(&refused), ErrorCode::SessionExpired);
    assert_eq!(broker.state.stats().sessions, 0);
    assert!(
        broker.call(7, 5, 2, push("jobs", 1)).result.is_ok(),
        "it never was open: its numbers say nothing"
    );
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::TooOld);
}

#[test]
fn an_unused_session_expires_and_a_repeat_of_its_first_command_is_refused_for_ever() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    broker.pass_wall(SESSION_IDLE_MS - 1);
    assert_eq!(broker.state.stats().sessions, 1);
    broker.pass_wall(1);
    assert_eq!(broker.state.stats().sessions, 0);
    for later_ms in [0, SESSION_FORGOTTEN_MS - 1, 1, 1, SESSION_IDLE_MS, 1 << 40] {
        broker.wall_ms += later_ms;
        assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::SessionExpired);
    }
    assert_eq!(broker.state.sessions().forgotten().len(), 0);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
}

#[test]
fn when_an_id_is_dropped_sessions_that_opened_stay_and_older_ones_open_no_more() {
    let mut broker = Broker::new();
    broker.call(1, 1, 1, push("jobs", 1));
    let [never, early] = [2, 3].map(|session| broker.stamp(session, 1, 1));
    broker.tick();
    let late = broker.stamp(4, 1, 1);
    let push_of = |stamp| vec![Command { session: Some(stamp), op: push("jobs", 1) }];
    assert!(broker.entry(push_of(early)).replies[0].result.is_ok());
    broker.call(5, 1, 1, push("jobs", 1));
    broker.call(5, 2, 1, Op::CloseSession);
    broker.pass_wall(SESSION_FORGOTTEN_MS - 1);
    assert!(!broker.state.is_lost(&never));
    broker.pass_wall(1);
    let mark = broker.state.sessions().forgotten().mark();
    assert_eq!(mark, broker.openings.get(&5).map(|opening| opening.index));
    assert_eq!(code(&broker.entry(push_of(never)).replies[0]), ErrorCode::SessionExpired);
    assert_eq!(
        code(&broker.entry(push_of(late)).replies[0]),
        ErrorCode::SessionExpired,
        "it is below the mark"
    );
    assert!(broker.entry(push_of(early)).replies[0].repeated);
    assert!(broker.call(3, 2, 2, push("jobs", 1)).result.is_ok());
    assert!(broker.call(6, 1, 1, push("jobs", 1)).result.is_ok(), "who learns an index now is above it");
}

#[test]
fn a_session_opens_under_no_index_that_is_still_to_come() {
    let mut broker = Broker::new();
    broker.tick();
    let next = broker.index + 1;
    for index in [next, u64::MAX] {
        let opening = Some(Opening { index, source: broker.source });
        let session = Some(SessionStamp { opening, ..broker.stamp(7, 1, 1) });
        let commands = [push("jobs", 1), Op::CloseSession].map(|op| Command { session, op });
        let refused = broker.entry(commands.to_vec()).replies.remove(0);
        assert_eq!(code(&refused), ErrorCode::SessionExpired);
        broker.index = next - 1;
    }
    assert_eq!(broker.state.sessions().forgotten().len(), 0);
}

#[test]
fn a_session_that_is_closed_before_it_opens_never_opens() {
    let mut broker = Broker::new();
    assert_eq!(broker.call(7, 2, 1, Op::CloseSession).result, Ok(Outcome::Closed));
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::SessionExpired);
    broker.pass_wall(SESSION_FORGOTTEN_MS);
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::SessionExpired);
}

#[test]
fn an_idle_state_with_forgotten_sessions_has_nothing_due() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    broker.call(7, 2, 1, Op::CloseSession);
    assert_eq!(broker.state.next_due(), super::super::NextDue::default());
}

#[test]
fn a_session_in_use_or_with_leases_does_not_expire() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    broker.call(8, 1, 1, lease("jobs", 1));
    broker.pass_wall(SESSION_IDLE_MS / 2);
    broker.call(7, 2, 2, push("jobs", 1));
    broker.pass_wall(SESSION_IDLE_MS / 2);
    assert_eq!(broker.state.stats().sessions, 2);
    broker.pass_lease(2_000);
    broker.pass_wall(SESSION_IDLE_MS);
    assert_eq!(broker.state.stats().sessions, 0);
}

#[test]
fn a_closed_session_stays_closed_while_its_leases_run_on() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 2));
    let grants = delivered(broker.call(7, 2, 1, lease("jobs", 1)).result);
    for _ in 0..2 {
        assert_eq!(broker.call(7, 3, 3, Op::CloseSession).result, Ok(Outcome::Closed));
    }
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 2))), ErrorCode::SessionExpired);
    assert_eq!(broker.count("jobs"), [1, 1, 0, 0]);
    assert_eq!(broker.ack("jobs", &grants), [Settled::Ok]);
}

#[test]
fn numbers_beyond_the_window_wait_for_answers_to_arrive() {
    let mut broker = Broker::new();
    let last = SESSION_NUMBERS_MAX;
    assert_eq!(code(&broker.call(7, last + 1, 1, push("jobs", 1))), ErrorCode::SessionFull);
    assert!(broker.call(7, last, 1, push("jobs", 1)).result.is_ok());
    assert_eq!(code(&broker.call(7, last + 1, 1, push("jobs", 1))), ErrorCode::SessionFull);
    assert!(broker.call(7, last + 1, 2, push("jobs", 1)).result.is_ok());
    assert_eq!(code(&broker.call(9, 0, 0, push("jobs", 1))), ErrorCode::TooOld);
}

#[test]
fn numbers_skipped_by_empty_leases_do_not_keep_a_session_from_opening() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    broker.run(pop("jobs", 1)).unwrap();
    for number in [1, 2, 2_000] {
        assert_eq!(broker.call(7, number, number, lease("jobs", 1)).result, Ok(Outcome::Nothing));
    }
    let stored = PushOutcome::Stored { first_id: MessageId(2), count: 1 };
    assert_eq!(broker.call(7, 5_000, 4_000, push("jobs", 1)).result, Ok(Outcome::Pushed(vec![stored])));
    assert_eq!(code(&broker.call(7, 5_024, 4_000, push("jobs", 1))), ErrorCode::SessionFull);
}

//! What sessions remember and when they forget, told one thing at a time.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{SESSION_IDLE_MS, SESSION_NUMBERS_MAX};
use queue_protocol::response::{At, PushOutcome};

use super::super::SESSION_FORGOTTEN_MS;
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
    let stamp = |number| Some(SessionStamp { session: SessionId(7), number, done_below: 1 });
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
fn a_session_that_is_not_known_but_was_open_has_expired() {
    let mut broker = Broker::new();
    assert_eq!(code(&broker.call(7, 5, 2, push("jobs", 1))), ErrorCode::SessionExpired);
    assert_eq!(broker.state.stats().sessions, 0);
    assert!(broker.call(7, 5, 1, push("jobs", 1)).result.is_ok());
}

#[test]
fn an_unused_session_expires_and_a_repeat_of_its_first_command_is_refused() {
    let mut broker = Broker::new();
    broker.call(7, 1, 1, push("jobs", 1));
    broker.pass_wall(SESSION_IDLE_MS - 1);
    assert_eq!(broker.state.stats().sessions, 1);
    broker.pass_wall(1);
    assert_eq!(broker.state.stats().sessions, 0);
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::SessionExpired);
    broker.pass_wall(SESSION_FORGOTTEN_MS - 1);
    assert_eq!(code(&broker.call(7, 1, 1, push("jobs", 1))), ErrorCode::SessionExpired);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
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
    for number in 1..=9 {
        assert_eq!(broker.call(7, number, 1, lease("jobs", 1)).result, Ok(Outcome::Nothing));
    }
    let opened = broker.call(7, 10, 1, Op::Extend { leases: None, lease_ms: 1_000 });
    assert_eq!(opened.result, Ok(Outcome::Extended { results: vec![], count: 0, deadline_ms: 1_000 }));
    let stored = PushOutcome::Stored { first_id: MessageId(2), count: 1 };
    assert_eq!(broker.call(7, 11, 11, push("jobs", 1)).result, Ok(Outcome::Pushed(vec![stored])));
}

//! What happens at the limits.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{
    DEDUP_KEYS_MAX, LEASE_COUNT_MAX, LEASE_MS_MAX, LEASE_MS_MIN, QUEUES_MAX, SCHEDULES_MAX,
    SESSION_ANSWERS_SIZE_MAX, SESSION_BODIES_SIZE_MAX, TAIL_SIZE_MAX,
};
use queue_protocol::wire::response::PushOutcome;

use super::*;

fn batch(commands: Vec<Command>) -> Batch {
    Batch { stamps: Stamps::of(1_000, 0), commands: bounded(commands) }
}

#[test]
fn one_queue_too_many_is_refused() {
    let mut state = State::new();
    let create = |k: usize| {
        let queue = name(&format!("queue-{k}"));
        Command {
            session: None,
            op: Op::CreateQueue { queue, settings: Box::new(settings()), if_not_exists: false },
        }
    };
    for first in (0..QUEUES_MAX).step_by(1_000) {
        state.apply(1, &batch((first..first + 1_000).map(create).collect()), &[]);
    }
    let refused = state.apply(2, &batch(vec![create(QUEUES_MAX)]), &[]).replies.remove(0).result;
    assert_eq!(refused.unwrap_err().code, ErrorCode::QueueLimit);
    let push = Command { session: None, op: push("one-more", 1) };
    let refused =
        state.apply(3, &batch(vec![push]), &[ContentSpec { size: 1, crc32c: 0 }]).replies.remove(0).result;
    assert_eq!(refused.unwrap_err().code, ErrorCode::QueueLimit);
    assert_eq!(state.queues(None, None, usize::MAX).len(), QUEUES_MAX);
    assert_eq!(state.similar(&name("queue-999999")), Some(name("queue-99999")));
    state.check();
}

#[test]
fn one_dedup_key_too_many_is_refused_until_others_are_forgotten() {
    const PUSHED: usize = 1_000;
    let mut state = State::new();
    let mut index = 0;
    let mut keyed = |elapsed_ms: u64, first: usize, count: usize| {
        let count_u32 = u32::try_from(count).unwrap();
        let key = |k: u32| Some(format!("key {}", first + k as usize).parse().unwrap());
        let options = |k| PushOptions { dedup_key: key(k), ..PushOptions::default() };
        let special = (0..count_u32).map(|k| (k, options(k))).collect();
        let Op::Push(push) = push("jobs", count_u32) else { unreachable!("it is one") };
        let op = Op::Push(Push { special: Bounded::new(special).unwrap(), ..push });
        index += 1;
        let batch = Batch {
            stamps: Stamps { elapsed_ms, ..Stamps::of(1_000, 0) },
            commands: bounded(vec![Command { session: None, op }]),
        };
        let rows = vec![ContentSpec { size: 1, crc32c: 0 }; count];
        match state.apply(index, &batch, &rows).replies.remove(0).result {
            Ok(Outcome::Pushed(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        }
    };
    for first in (0..DEDUP_KEYS_MAX).step_by(PUSHED) {
        keyed(1_000, first, PUSHED);
    }
    let refused = keyed(1_000, DEDUP_KEYS_MAX - 1, 2);
    assert!(
        matches!(
            refused[..],
            [PushOutcome::Duplicate { .. }, PushOutcome::Refused { code: ErrorCode::DedupFull, count: 1 }]
        ),
        "{refused:?}"
    );
    let later = keyed(1_000 + settings().dedup_window_ms, DEDUP_KEYS_MAX, 1);
    assert!(matches!(later[..], [PushOutcome::Stored { count: 1, .. }]), "{later:?}");
    state.check();
}

#[test]
fn one_schedule_too_many_is_refused() {
    let mut state = State::new();
    let row = ContentSpec { size: 1, crc32c: 0 };
    let set = |k: usize| {
        let op =
            super::schedule_stories::set(&format!("schedule-{k}"), PushOptions::default(), false, 60_000);
        Command { session: None, op }
    };
    let create =
        Op::CreateQueue { queue: name("jobs"), settings: Box::new(settings()), if_not_exists: false };
    state.apply(1, &batch(vec![Command { session: None, op: create }]), &[]);
    for first in (0..SCHEDULES_MAX).step_by(1_000) {
        let made = state.apply(2, &batch((first..first + 1_000).map(set).collect()), &[row; 1_000]);
        assert!(made.replies.iter().all(|reply| reply.result.is_ok()));
    }
    let refused = state.apply(3, &batch(vec![set(SCHEDULES_MAX)]), &[row]).replies.remove(0).result;
    assert_eq!(refused.unwrap_err().code, ErrorCode::ScheduleLimit);
    state.check();
}

#[test]
fn bodies_held_by_answers_are_bounded_before_a_lease_is_executed() {
    let mut broker = Broker::new();
    let size = u32::try_from(TAIL_SIZE_MAX).unwrap();
    let table = vec![ContentSpec { size, crc32c: 0 }; 10];
    broker.entry_with(vec![Command { session: None, op: push("jobs", 10) }], &table);
    let fit = SESSION_BODIES_SIZE_MAX / u64::from(size);
    for number in 1..=fit {
        assert_eq!(delivered(broker.call(7, number, 1, lease("jobs", 1)).result).len(), 1);
    }
    let full = broker.call(7, fit + 1, 1, lease("jobs", 1));
    assert_eq!(full.result.unwrap_err().code, ErrorCode::SessionFull);
    assert_eq!(broker.count("jobs"), [2, 8, 0, 0]);
    assert!(broker.call(7, fit + 2, 1, push("mail", 1)).result.is_ok());
    assert_eq!(delivered(broker.call(7, fit + 1, 2, lease("jobs", 1)).result).len(), 1);
}

#[test]
fn answers_of_a_session_are_bounded_in_size() {
    let mut state = State::new();
    let table = vec![ContentSpec { size: 1, crc32c: 0 }; 1_000];
    for index in 1..=100 {
        state.apply(index, &batch(vec![Command { session: None, op: push("jobs", 1_000) }]), &table);
    }
    let take = |number| {
        let opening = Some(Opening::default());
        let session = Some(SessionStamp {
            session: SessionId(7),
            number,
            done_below: 1,
            opening,
            request: RequestHash::default(),
            by: None,
        });
        Command { session, op: pop("jobs", u16::MAX) }
    };
    let replies = state.apply(200, &batch((1..=300).map(take).collect()), &[]).replies;
    let done = replies.iter().take_while(|reply| reply.result.is_ok()).count();
    assert!(
        replies[done..].iter().all(|reply| reply.result.as_ref().unwrap_err().code == ErrorCode::SessionFull)
    );
    assert_eq!(state.stats().acked_total, (done * LEASE_COUNT_MAX) as u64);
    assert!((50..100).contains(&done), "{done} answers of {LEASE_COUNT_MAX} messages");
    assert!(state.sessions().answers_size() <= SESSION_ANSWERS_SIZE_MAX as u64);
    state.check();
}

#[test]
fn leases_are_held_between_the_shortest_and_the_longest() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    let for_ms = |lease_ms| Op::Lease(Lease { lease_ms, ..take("jobs", 1) });
    let leased = |result| delivered(result)[0].lease_ms;
    assert_eq!(leased(broker.run(for_ms(Some(0)))), LEASE_MS_MIN);
    assert_eq!(leased(broker.run(for_ms(Some(u64::MAX)))), LEASE_MS_MAX);
    assert_eq!(leased(broker.run(for_ms(None))), settings().lease_ms);
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let before = contents(&broker.state);
    let empty = || Lease { queues: bounded([]), ..take("jobs", 1) };
    let nonsense = [
        push("mail", 0),
        push_special("mail", 2, &[(2, 4, Due::Now)]),
        push_special("mail", 2, &[(1, 4, Due::Now), (0, 4, Due::Now)]),
        push_special("mail", 2, &[(0, 32, Due::Now)]),
        Op::Lease(empty()),
        Op::Pop(empty()),
        Op::Extend { leases: None, lease_ms: 1_000 },
        Op::CloseSession,
    ];
    for op in nonsense {
        assert_eq!(broker.run(op.clone()).unwrap_err().code, ErrorCode::BadRequest, "{op:?}");
    }
    for many in [1_001, u32::MAX] {
        let push = Command { session: None, op: push("mail", many) };
        let table = vec![ContentSpec { size: 1, crc32c: 0 }; 1_001];
        let refused = broker.entry_with(vec![push.clone(), push], &table).replies;
        assert!(refused.iter().all(|reply| reply.result.as_ref().unwrap_err().code == ErrorCode::BadRequest));
    }
    assert_eq!(contents(&broker.state), before);
    assert_eq!(settled(broker.run(Op::Ack(receipt("jobs", u64::MAX, u64::MAX)))), [Settled::Gone]);
}

#[test]
fn clocks_at_the_end_of_time_do_not_overflow() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    broker.call(7, 1, 1, lease("jobs", 1));
    for (wall_ms, confirmed_ms) in [(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)] {
        (broker.wall_ms, broker.confirmed_ms) = (wall_ms, confirmed_ms);
        broker.call(7, 2, 1, lease("jobs", 1));
        broker.run(push_delayed("jobs", u64::MAX)).unwrap();
        broker.call(8, 1, 1, Op::Tick);
        broker.call(8, 2, 1, Op::CloseSession);
        broker.tick();
    }
    assert_eq!(broker.state.stats().pushed_total, 6);
}

//! Stories of bound sessions: what becomes of the work of a client that is away.

use queue_protocol::limits::{GRACE_MS_MAX, GRACE_MS_MIN, RECEIPTS_COUNT_MAX, SESSION_IDLE_MS};

use super::*;

fn bind(grace_ms: impl Into<Option<u64>>) -> Op {
    Op::BindSession { grace_ms: grace_ms.into() }
}

fn absent(session: u128) -> Op {
    Op::ReleaseAbsent(SessionId(session))
}

fn bound(broker: &Broker) -> Vec<(u128, u64)> {
    broker.state.bound().iter().map(|(session, grace_ms)| (session.0, grace_ms)).collect()
}

#[test]
fn what_an_absent_client_holds_goes_back_at_once_without_blame_to_its_place() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    assert_eq!(broker.call(1, 1, 1, bind(5_000)).result, Ok(Outcome::Bound(Some(5_000))));
    let theirs = delivered(broker.call(1, 2, 1, lease("jobs", 2)).result);
    let others = delivered(broker.call(2, 1, 1, lease("jobs", 1)).result);
    assert_eq!(broker.count("jobs"), [1, 3, 0, 0]);
    let applied = broker.entry(vec![Command { session: None, op: absent(1) }]);
    assert_eq!(applied.replies[0].result, Ok(Outcome::Count(2)));
    assert_eq!(applied.effects.ready, [name("jobs")], "who waits hears of it");
    assert_eq!(broker.count("jobs"), [3, 1, 0, 0]);
    assert!(!broker.state.holds_anything(SessionId(1)) && broker.state.holds_anything(SessionId(2)));
    // Those who were never leased stand behind those who come back, and no failure was counted.
    let again = broker.lease("jobs", 9);
    assert_eq!(ids(&again), [1, 2, 4]);
    assert_eq!((again[0].failures, again[0].attempt), (0, 2));
    let seen = broker.state.peek(&name("jobs"), None, Some(MessageId(1)), 1, 0).unwrap();
    assert_eq!((seen[0].releases, seen[0].failures), (1, 0));
    // The client is back: what it thinks to hold is stale. What others hold was not touched.
    assert_eq!(broker.ack("jobs", &theirs), [Settled::Stale; 2]);
    assert_eq!(broker.ack("jobs", &others), [Settled::Ok]);
}

#[test]
fn a_session_that_is_not_bound_or_not_any_more_loses_nothing() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 2)).unwrap();
    broker.call(1, 1, 1, lease("jobs", 1));
    broker.call(2, 1, 1, bind(GRACE_MS_MIN));
    broker.call(2, 2, 1, lease("jobs", 1));
    assert_eq!(bound(&broker), [(2, GRACE_MS_MIN)]);
    assert_eq!(broker.call(2, 3, 1, bind(None)).result, Ok(Outcome::Bound(None)));
    assert_eq!(bound(&broker), []);
    for session in [1, 2, 3] {
        assert_eq!(broker.run(absent(session)), Ok(Outcome::Count(0)));
    }
    assert_eq!(broker.count("jobs"), [0, 2, 0, 0]);
}

#[test]
fn a_grace_has_a_range_and_needs_a_session() {
    let mut broker = Broker::new();
    let refused = [bind(GRACE_MS_MIN - 1), bind(GRACE_MS_MAX + 1)];
    for (number, op) in (1..).zip(refused) {
        assert_eq!(broker.call(1, number, 1, op).result.unwrap_err().code, ErrorCode::BadRequest);
    }
    assert_eq!(broker.run(bind(GRACE_MS_MIN)).unwrap_err().code, ErrorCode::BadRequest);
    assert_eq!(bound(&broker), []);
    broker.call(1, 3, 1, bind(GRACE_MS_MAX));
    assert_eq!(bound(&broker), [(1, GRACE_MS_MAX)]);
}

#[test]
fn many_leases_go_back_in_parts_and_the_claim_passes_on_with_the_last() {
    let mut broker = Broker::new();
    let settings = Settings { single_active: true, ..settings() };
    let create = Op::CreateQueue { queue: name("jobs"), settings: Box::new(settings), if_not_exists: false };
    broker.run(create).unwrap();
    let count = RECEIPTS_COUNT_MAX as u64 + 24;
    broker.run(push("jobs", 1_000)).unwrap();
    broker.run(push("jobs", u32::try_from(count - 1_000).unwrap())).unwrap();
    broker.call(1, 1, 1, bind(GRACE_MS_MIN));
    for number in 2..=5 {
        assert_eq!(delivered(broker.call(1, number, number, lease("jobs", 256)).result).len(), 256);
    }
    assert_eq!(broker.count("jobs"), [0, count, 0, 0]);
    assert_eq!(broker.run(absent(1)), Ok(Outcome::Count(count - 24)));
    assert_eq!(broker.count("jobs"), [count - 24, 24, 0, 0]);
    assert!(broker.call(2, 1, 1, lease("jobs", 1)).result == Ok(Outcome::Nothing), "it has its claim still");
    assert_eq!(broker.run(absent(1)), Ok(Outcome::Count(24)));
    assert!(!broker.state.holds_anything(SessionId(1)));
    let grants = delivered(broker.call(2, 1, 1, lease("jobs", 1)).result);
    assert_eq!((ids(&grants), grants[0].epoch), (vec![1], 2));
}

#[test]
fn a_claim_without_a_lease_passes_on_too() {
    let mut broker = Broker::new();
    let settings = Settings { single_active: true, ..settings() };
    let create = Op::CreateQueue { queue: name("jobs"), settings: Box::new(settings), if_not_exists: false };
    broker.run(create).unwrap();
    broker.run(push("jobs", 2)).unwrap();
    broker.call(1, 1, 1, bind(GRACE_MS_MIN));
    let grants = delivered(broker.call(1, 2, 1, lease("jobs", 1)).result);
    broker.call(1, 3, 1, Op::Ack(receipts("jobs", &grants)));
    assert!(broker.state.holds_anything(SessionId(1)));
    assert_eq!(broker.call(2, 1, 1, lease("jobs", 1)).result, Ok(Outcome::Nothing));
    let applied = broker.entry(vec![Command { session: None, op: absent(1) }]);
    assert_eq!(applied.replies[0].result, Ok(Outcome::Count(0)));
    assert_eq!(applied.effects.ready, [name("jobs")]);
    assert_eq!(delivered(broker.call(2, 1, 1, lease("jobs", 1)).result).len(), 1);
}

#[test]
fn a_binding_goes_with_its_session() {
    let mut broker = Broker::new();
    broker.call(1, 1, 1, bind(GRACE_MS_MIN));
    broker.call(2, 1, 1, bind(GRACE_MS_MIN));
    broker.call(1, 2, 1, Op::CloseSession);
    assert_eq!(bound(&broker), [(2, GRACE_MS_MIN)]);
    broker.pass_wall(SESSION_IDLE_MS);
    assert_eq!(bound(&broker), []);
}

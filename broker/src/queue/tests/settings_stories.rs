//! Stories of settings: changed, paused, limited.

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::{OnFull, QueueSettings};
use queue_protocol::wire::request::{MessageState, NackKind};
use queue_protocol::wire::response::{DeadReason, EventKind, PushOutcome};

use super::super::command::ErrorText;
use super::*;

pub(super) fn alter(queue: &str, change: QueueSettings) -> Op {
    Op::AlterQueue { queue: name(queue), change: Box::new(change), if_version: None }
}

#[test]
fn a_queue_has_a_version_that_rises_with_each_change() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let change = QueueSettings { max_failures: Some(9), ..Default::default() };
    let at = |version| Op::AlterQueue {
        queue: name("jobs"),
        change: Box::new(change.clone()),
        if_version: Some(version),
    };
    assert_eq!(broker.run(at(2)).unwrap_err().code, ErrorCode::QueueChanged);
    assert_eq!(broker.run(at(1)), Ok(Outcome::Altered(2)));
    assert_eq!(broker.run(at(1)).unwrap_err().code, ErrorCode::QueueChanged);
    // It is so already: nothing changes.
    assert_eq!(broker.run(at(2)), Ok(Outcome::Altered(2)));
    let stats = broker.state.queues(Some(&name("jobs")), None, 1).remove(0);
    assert_eq!((stats.version, stats.settings), (2, Settings { max_failures: 9, ..settings() }));
    assert_eq!(
        broker.run(alter("mail", QueueSettings::default())).unwrap_err().code,
        ErrorCode::QueueNotFound
    );
    let both = QueueSettings { ordered: Some(true), fair: Some(true), ..Default::default() };
    assert_eq!(broker.run(alter("jobs", both)).unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn a_paused_queue_takes_or_gives_nothing_until_it_is_resumed() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 2)).unwrap();
    broker.run(alter("jobs", QueueSettings { leases_paused: Some(true), ..Default::default() })).unwrap();
    assert_eq!(broker.run(lease("jobs", 1)), Ok(Outcome::Nothing));
    assert_eq!(broker.run(pop("jobs", 1)), Ok(Outcome::Nothing));
    assert_eq!(broker.state.available(&name("jobs")), 0);
    broker.run(push("jobs", 1)).unwrap();

    let resume =
        QueueSettings { leases_paused: Some(false), pushes_paused: Some(true), ..Default::default() };
    let applied = broker.entry(vec![Command { session: None, op: alter("jobs", resume) }]);
    assert_eq!(applied.effects.ready, [name("jobs")], "who waits is served again");
    assert_eq!(broker.run(push("jobs", 1)).unwrap_err().code, ErrorCode::QueuePaused);
    let grants = broker.lease("jobs", 9);
    assert_eq!(ids(&grants), [1, 2, 3]);
    assert_eq!(broker.ack("jobs", &grants), [Settled::Ok; 3]);
}

pub(super) fn with(queue: &str, change: QueueSettings) -> Op {
    let settings = Box::new(settings().with(&change));
    Op::CreateQueue { queue: name(queue), settings, if_not_exists: false }
}

fn stored(first_id: u64, count: u32) -> PushOutcome {
    PushOutcome::Stored { first_id: MessageId(first_id), count }
}

#[test]
fn a_full_queue_refuses_what_does_not_fit_and_only_that() {
    let mut broker = Broker::new();
    broker.run(with("jobs", QueueSettings { max_messages: Some(3), ..Default::default() })).unwrap();
    let full = |count| PushOutcome::Refused { code: ErrorCode::QueueFull, count };
    assert_eq!(broker.run(push("jobs", 2)), Ok(Outcome::Pushed(vec![stored(1, 2)])));
    assert_eq!(broker.run(push("jobs", 3)), Ok(Outcome::Pushed(vec![stored(3, 1), full(2)])));
    // Leased messages count: they may come back. Settled ones do not.
    let grants = broker.lease("jobs", 1);
    assert_eq!(broker.run(push("jobs", 1)), Ok(Outcome::Pushed(vec![full(1)])));
    broker.ack("jobs", &grants);
    assert_eq!(broker.run(push("jobs", 1)), Ok(Outcome::Pushed(vec![stored(4, 1)])), "no id was wasted");

    broker.run(with("mail", QueueSettings { max_bytes: Some(25), ..Default::default() })).unwrap();
    assert_eq!(broker.run(push("mail", 3)), Ok(Outcome::Pushed(vec![stored(5, 2), full(1)])));
}

#[test]
fn an_atomic_push_is_stored_whole_or_not_at_all() {
    let mut broker = Broker::new();
    broker.run(with("jobs", QueueSettings { max_messages: Some(3), ..Default::default() })).unwrap();
    let atomic = |count| match push("jobs", count) {
        Op::Push(push) => Op::Push(Push { atomic: true, ..push }),
        other => other,
    };
    let before = contents(&broker.state);
    assert_eq!(broker.run(atomic(4)).unwrap_err().code, ErrorCode::QueueFull);
    assert_eq!(contents(&broker.state), before);
    assert_eq!(broker.run(atomic(3)), Ok(Outcome::Pushed(vec![stored(1, 3)])));
}

#[test]
fn a_queue_that_drops_the_oldest_keeps_them_as_dead() {
    let mut broker = Broker::new();
    let change =
        QueueSettings { max_messages: Some(3), on_full: Some(OnFull::DropOldest), ..Default::default() };
    broker.run(with("jobs", change)).unwrap();
    let urgent = [(0, 31, Due::Now)];
    broker.run(push_special("jobs", 1, &urgent)).unwrap();
    broker.run(push("jobs", 2)).unwrap();
    assert_eq!(broker.run(push("jobs", 2)), Ok(Outcome::Pushed(vec![stored(4, 2)])));
    let dead = broker.state.peek(&name("jobs"), Some(MessageState::Dead), None, 9, u64::MAX).unwrap();
    let reasons: Vec<_> = dead.iter().map(|shown| (shown.id.0, shown.dead)).collect();
    assert_eq!(reasons, [(1, Some(DeadReason::Overflow)), (2, Some(DeadReason::Overflow))]);
    // What is leased is in somebody's hands and cannot be dropped.
    broker.lease("jobs", 3);
    let full = PushOutcome::Refused { code: ErrorCode::QueueFull, count: 1 };
    assert_eq!(broker.run(push("jobs", 1)), Ok(Outcome::Pushed(vec![full])));
}

/// Fails a message until it is dead.
fn kill(broker: &mut Broker, queue: &str) {
    let error = ErrorText::cut("exit 1");
    for _ in 0..settings().max_failures {
        let grants = broker.lease(queue, 1);
        let kind = NackKind::Fail { delay_ms: Some(0), error: error.clone() };
        settled(broker.run(Op::Nack { leases: receipts(queue, &grants), kind }));
    }
}

#[test]
fn dead_letters_move_in_the_very_entry_that_decides_it() {
    let mut broker = Broker::new();
    broker
        .run(with("jobs", QueueSettings { dead_to: Some(Some(name("morgue"))), ..Default::default() }))
        .unwrap();
    // There is no such queue yet: nothing may be lost.
    broker.run(push("jobs", 1)).unwrap();
    kill(&mut broker, "jobs");
    assert_eq!(broker.count("jobs"), [0, 0, 0, 1]);

    broker.run(with("morgue", QueueSettings::default())).unwrap();
    broker.run(push("jobs", 1)).unwrap();
    let held = broker.state.stats().bytes;
    kill(&mut broker, "jobs");
    // Broker checks after each entry that no message is missing or in two places.
    assert_eq!((broker.count("jobs"), broker.count("morgue")), ([0, 0, 0, 1], [1, 0, 0, 0]));
    assert_eq!(broker.state.stats().bytes, held);
    let moved = broker.state.peek(&name("morgue"), None, Some(MessageId(2)), 1, 9).unwrap().remove(0);
    assert_eq!((moved.failures, moved.attempts, moved.last_error.as_deref()), (0, 3, Some("exit 1")));
    let kinds: Vec<EventKind> = moved.history.into_iter().map(|event| event.kind).collect();
    let failed = EventKind::Failed;
    let died = EventKind::Died(DeadReason::MaxFailures);
    let from = EventKind::Moved(name("jobs"));
    assert_eq!(kinds, [failed.clone(), failed.clone(), failed, died, from]);
}

#[test]
fn dead_letters_never_go_in_circles_or_too_far() {
    let mut broker = Broker::new();
    let to = |queue: &str| QueueSettings { dead_to: Some(Some(name(queue))), ..Default::default() };
    assert_eq!(broker.run(with("a", to("a"))).unwrap_err().code, ErrorCode::DeadToCycle);
    broker.run(with("a", to("b"))).unwrap();
    broker.run(with("b", to("c"))).unwrap();
    assert_eq!(broker.run(with("c", to("a"))).unwrap_err().code, ErrorCode::DeadToCycle);
    broker.run(with("c", QueueSettings::default())).unwrap();
    assert_eq!(broker.run(alter("c", to("a"))).unwrap_err().code, ErrorCode::DeadToCycle);

    // Links made behind what exists are seen from one side only: the message counts its hops.
    for k in (0..9).rev() {
        broker.run(with(&format!("q{k}"), to(&format!("q{}", k + 1)))).unwrap_or_else(|refusal| {
            assert_eq!((k, refusal.code), (0, ErrorCode::DeadToCycle));
            Outcome::Ticked
        });
    }
    broker.run(push("q1", 1)).unwrap();
    for k in 1..9 {
        kill(&mut broker, &format!("q{k}"));
    }
    assert_eq!(broker.count("q8"), [0, 0, 0, 1], "q9 was never made");
}

#[test]
fn dead_messages_are_kept_as_many_and_as_long_as_the_queue_says() {
    let mut broker = Broker::new();
    broker.run(with("jobs", QueueSettings { dead_max: Some(2), ..Default::default() })).unwrap();
    broker.run(push("jobs", 4)).unwrap();
    for _ in 0..4 {
        kill(&mut broker, "jobs");
        broker.pass_wall(10);
    }
    let dead = broker.state.peek(&name("jobs"), Some(MessageState::Dead), None, 9, u64::MAX).unwrap();
    assert_eq!(dead.iter().map(|shown| shown.id.0).collect::<Vec<_>>(), [3, 4]);

    broker.run(alter("jobs", QueueSettings { dead_ttl_ms: Some(1_000), ..Default::default() })).unwrap();
    assert_eq!(broker.state.next_due().elapsed_ms, Some(broker.wall_ms - 20 + 1_000));
    broker.pass_wall(985);
    assert_eq!(broker.count("jobs"), [0, 0, 0, 1]);
    broker.pass_wall(10);
    assert_eq!(broker.count("jobs"), [0; 4]);
    assert_eq!(broker.state.stats().bytes, 0);
}

#[test]
fn history_begins_with_the_first_failure_and_keeps_the_last_eight() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let history = |broker: &Broker| -> Vec<EventKind> {
        let shown = broker.state.peek(&name("jobs"), None, Some(MessageId(1)), 1, 9).unwrap().remove(0);
        shown.history.into_iter().map(|event| event.kind).collect()
    };
    let release = |broker: &mut Broker| {
        let grants = broker.lease("jobs", 1);
        let kind = NackKind::Release { delay_ms: 0 };
        settled(broker.run(Op::Nack { leases: receipts("jobs", &grants), kind }));
    };
    release(&mut broker);
    assert_eq!(history(&broker), []);
    broker.lease("jobs", 1);
    broker.pass_lease(2_000);
    release(&mut broker);
    assert_eq!(history(&broker), [EventKind::LeaseEnded, EventKind::Released]);
    for _ in 0..9 {
        release(&mut broker);
    }
    assert_eq!(history(&broker), vec![EventKind::Released; 8]);
}

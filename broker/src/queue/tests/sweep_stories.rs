//! Stories of sweeps and edits: messages changed by filter or by id, and what they must leave alone.

use queue_protocol::error::ErrorCode;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{Change, NackKind};
use queue_protocol::wire::response::{DeadReason, Edited, EventKind};

use super::super::change::sweep::SWEPT_COUNT_MAX;
use super::super::command::ErrorText;
use super::super::read::view::Peeked;
use super::*;

const DELETE: Action = Action::Delete;

pub(super) fn edit(broker: &mut Broker, ids: &[u64], change: Change) -> Vec<Edited> {
    let ids = bounded(ids.iter().copied().map(MessageId));
    match broker.run(Op::Edit { queue: name("jobs"), ids, change }) {
        Ok(Outcome::Edited(results)) => results,
        other => panic!("not an edit: {other:?}"),
    }
}

pub(super) fn run(broker: &mut Broker, sweep: Sweep) -> Swept {
    match broker.run(Op::Sweep(Box::new(sweep))) {
        Ok(Outcome::Swept(swept)) => swept,
        other => panic!("not a sweep: {other:?}"),
    }
}

pub(super) fn all(select: Select, action: Action) -> Sweep {
    Sweep::all(name("jobs"), select, action)
}

pub(super) fn seen(broker: &Broker, queue: &str, id: u64) -> Peeked {
    broker.state.peek(&name(queue), None, Some(MessageId(id)), 1, 0).unwrap().remove(0)
}

/// Leases so many and rejects them one by one, a second apart, with these texts.
pub(super) fn reject(broker: &mut Broker, texts: &[&str]) {
    for text in texts {
        let grants = broker.lease("jobs", 1);
        let kind = NackKind::Reject { reason: ErrorText::cut(*text) };
        broker.run(Op::Nack { leases: receipts("jobs", &grants), kind }).unwrap();
        broker.pass_wall(1_000);
    }
}

#[test]
fn a_large_purge_goes_by_parts_and_spares_what_is_pushed_meanwhile() {
    let mut broker = Broker::new();
    for _ in 0..10 {
        broker.run(push("jobs", 1_000)).unwrap();
    }
    let (mut purge, mut parts) = (all(Select::default(), DELETE), Vec::new());
    loop {
        let part = run(&mut broker, purge.clone());
        assert!(part.count <= SWEPT_COUNT_MAX as u64);
        parts.push(part.count);
        let Some(next) = part.next else { break };
        purge.after = Some(next);
        broker.run(push("jobs", 7)).unwrap();
    }
    assert_eq!(parts.iter().sum::<u64>(), 10_000);
    assert_eq!(parts.len(), 10_000_usize.div_ceil(SWEPT_COUNT_MAX));
    assert_eq!(broker.count("jobs"), [7 * (parts.len() as u64 - 1), 0, 0, 0]);
    assert_eq!(ids(&broker.lease("jobs", 1)), [10_001]);
}

#[test]
fn a_sweep_looks_at_a_bounded_part_even_if_it_finds_nothing() {
    let mut broker = Broker::new();
    for _ in 0..5 {
        broker.run(push("jobs", 1_000)).unwrap();
    }
    let none = Select { older_than_ms: Some(9_000_000), ..Select::default() };
    let first = run(&mut broker, all(none.clone(), DELETE));
    assert_eq!((first.count, first.next.unwrap().id), (0, MessageId(SWEPT_COUNT_MAX as u64)));
    let rest = run(&mut broker, Sweep { after: first.next, ..all(none, DELETE) });
    assert_eq!(rest, Swept { count: 0, next: None, skipped: 0 });
}

#[test]
fn a_purge_by_age_takes_only_the_old_and_a_dry_run_only_counts_them() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    broker.run(push_delayed("jobs", 90_000)).unwrap();
    broker.pass_wall(5_000);
    broker.run(push("jobs", 2)).unwrap();
    let old = all(Select { older_than_ms: Some(4_999), ..Select::default() }, DELETE);
    let before = contents(&broker.state);
    assert_eq!(run(&mut broker, Sweep { dry_run: true, ..old.clone() }).count, 4);
    assert_eq!(contents(&broker.state), before, "nothing changed");
    assert_eq!(run(&mut broker, old).count, 4);
    assert_eq!(broker.count("jobs"), [2, 0, 0, 0]);
    assert_eq!(broker.state.stats().bytes, 20);
}

#[test]
fn a_redrive_takes_the_dead_it_is_told_to_and_no_more_than_its_limit() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 5)).unwrap();
    reject(&mut broker, &["bad json", "no such user", "bad json", "bad number", "late"]);
    let redrive = || Action::Redrive { to: None };
    let dry = |select| Sweep { dry_run: true, ..all(select, redrive()) };
    let error = |text| Select { error: Some(Text::cut(text)), ..Select::default() };
    assert_eq!(run(&mut broker, dry(error("json"))).count, 2);
    assert_eq!(run(&mut broker, dry(error("bad"))).count, 3);
    let expired = Select { reason: Some(DeadReason::Expired), ..Select::default() };
    assert_eq!(run(&mut broker, dry(expired)).count, 0);
    let since = Select { died_within_ms: Some(2_000), ..Select::default() };
    assert_eq!(run(&mut broker, dry(since)).count, 2);
    let these = Select { ids: Some(bounded([5, 1, 5, 77].map(MessageId))), ..error("late") };
    assert_eq!(run(&mut broker, dry(these)).count, 1);
    assert_eq!(broker.count("jobs"), [0, 0, 0, 5]);

    let two = run(&mut broker, Sweep { limit: 2, ..all(error("bad"), redrive()) });
    assert_eq!((two.count, broker.count("jobs")), (2, [2, 0, 0, 3]));
    let back = seen(&broker, "jobs", 3);
    assert_eq!((back.failures, back.attempts, back.last_error.as_deref()), (0, 1, Some("bad json")));
    assert_eq!(back.history.last().unwrap().kind, EventKind::Redriven);
    // From where the limit ended it.
    let rest = Sweep { after: two.next, ..all(error("bad"), redrive()) };
    assert_eq!(run(&mut broker, rest), Swept { count: 1, next: None, skipped: 0 });
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 3, 4]);
}

#[test]
fn a_redrive_may_lead_elsewhere_and_a_move_keeps_delays() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 3)).unwrap();
    broker.run(push_delayed("jobs", 9_000)).unwrap();
    broker.run(push("mail", 1)).unwrap();
    reject(&mut broker, &["no"]);
    let mail = || Some(name("mail"));
    assert_eq!(run(&mut broker, all(Select::default(), Action::Redrive { to: mail() })).count, 1);
    assert_eq!((broker.count("jobs"), broker.count("mail")), ([2, 0, 1, 0], [2, 0, 0, 0]));
    let leased = broker.lease("jobs", 1);
    assert_eq!(run(&mut broker, all(Select::default(), Action::Move { to: name("mail") })).count, 2);
    assert_eq!((broker.count("jobs"), broker.count("mail")), ([0, 1, 0, 0], [3, 0, 1, 0]));
    assert_eq!(broker.ack("jobs", &leased), [Settled::Ok], "a lease is left alone");
    // They take their place by age.
    assert_eq!(ids(&broker.lease("mail", 9)), [1, 3, 5]);
    broker.pass_wall(9_000);
    assert_eq!(ids(&broker.lease("mail", 9)), [4]);
}

#[test]
fn a_sweep_that_makes_no_sense_is_refused_as_a_whole() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let mut code = |sweep| broker.run(Op::Sweep(Box::new(sweep))).unwrap_err().code;
    let to = |to| all(Select::default(), Action::Move { to: name(to) });
    assert_eq!(code(to("jobs")), ErrorCode::BadRequest);
    assert_eq!(code(to("nowhere")), ErrorCode::QueueNotFound);
    assert_eq!(code(Sweep { limit: 0, ..to("jobs") }), ErrorCode::BadRequest);
    assert_eq!(code(Sweep { queue: name("nowhere"), ..to("jobs") }), ErrorCode::QueueNotFound);
    assert_eq!(broker.count("jobs"), [1, 0, 0, 0]);
}

#[test]
fn a_message_is_cancelled_only_as_long_as_it_is_delayed() {
    let mut broker = Broker::new();
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    broker.run(push_delayed("jobs", 1_000)).unwrap();
    assert_eq!(edit(&mut broker, &[1, 1, 9], Change::Cancel), [Edited::Done, Edited::Gone, Edited::Gone]);
    broker.pass_wall(1_000);
    assert_eq!(edit(&mut broker, &[2], Change::Cancel), [Edited::AlreadyReady]);
    assert_eq!(ids(&broker.lease("jobs", 9)), [2]);
    assert_eq!(edit(&mut broker, &[2], Change::Cancel), [Edited::AlreadyReady]);
}

#[test]
fn edits_by_id_spare_what_a_worker_holds() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    broker.run(push("mail", 1)).unwrap();
    let held = broker.lease("jobs", 1);
    let fates = [Edited::Leased, Edited::Done, Edited::Gone];
    assert_eq!(edit(&mut broker, &[1, 3, 5], Change::Delete), fates, "5 is of another queue");
    assert_eq!(edit(&mut broker, &[1, 2], Change::Move(name("mail"))), fates[..2]);
    assert_eq!(edit(&mut broker, &[1], Change::Kick), fates[..1]);
    assert_eq!(broker.ack("jobs", &held), [Settled::Ok]);
    assert_eq!((broker.count("jobs"), broker.count("mail")), ([1, 0, 0, 0], [2, 0, 0, 0]));
}

#[test]
fn a_kick_makes_delayed_and_dead_messages_ready_and_whoever_waits_is_told() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    reject(&mut broker, &["no"]);
    broker.run(push_delayed("jobs", 90_000)).unwrap();
    let op = Op::Edit { queue: name("jobs"), ids: bounded([1, 2].map(MessageId)), change: Change::Kick };
    let applied = broker.entry(vec![Command { session: None, op }]);
    assert_eq!(applied.replies[0].result, Ok(Outcome::Edited(vec![Edited::Done; 2])));
    assert_eq!(applied.effects.ready, [name("jobs")]);
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 2]);
    assert_eq!(broker.state.next_due().elapsed_ms, None, "its delay is forgotten");
}

#[test]
fn a_new_priority_moves_a_message_and_a_leased_one_when_it_comes_back() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    let held = broker.lease("jobs", 1);
    assert_eq!(edit(&mut broker, &[1, 3], Change::Priority(9)), [Edited::Done; 2]);
    broker
        .run(Op::Nack { leases: receipts("jobs", &held), kind: NackKind::Release { delay_ms: 0 } })
        .unwrap();
    assert_eq!(ids(&broker.lease("jobs", 9)), [1, 3, 2, 4]);
    let op = Op::Edit { queue: name("jobs"), ids: bounded([MessageId(2)]), change: Change::Priority(32) };
    assert_eq!(broker.run(op).unwrap_err().code, ErrorCode::BadRequest);
}

//! Stories of transactions: all of it or nothing, whatever the reason.

use queue_protocol::error::ErrorCode;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{Change, NackKind};
use queue_protocol::wire::txn::{Condition, StepDone, TxnOutcome, TxnPart};

use super::super::command::{ErrorText, Step, Txn};
use super::settings_stories::alter;
use super::*;

fn txn(conditions: &[Condition], steps: &[Step]) -> Op {
    let (conditions, steps) = (bounded(conditions.iter().cloned()), bounded(steps.iter().cloned()));
    Op::Txn(Box::new(Txn { conditions, steps }))
}

fn step_push(queue: &str, count: u32) -> Step {
    match push(queue, count) {
        Op::Push(push) => Step::Push(push),
        other => panic!("{other:?} is no push"),
    }
}

fn edit(queue: &str, id: u64, change: Change) -> Step {
    Step::Edit { queue: name(queue), ids: bounded([MessageId(id)]), change }
}

fn failed(at: TxnPart, code: ErrorCode) -> Result<Outcome, Refusal> {
    Ok(Outcome::Txn(TxnOutcome::Failed { at, code }))
}

fn done(steps: Vec<StepDone>) -> Result<Outcome, Refusal> {
    Ok(Outcome::Txn(TxnOutcome::Done(bounded(steps))))
}

fn stored(first: u64, count: u32) -> StepDone {
    let first_id = MessageId(first);
    StepDone::Pushed(bounded([queue_protocol::wire::response::PushOutcome::Stored { first_id, count }]))
}

#[test]
fn a_result_is_pushed_and_its_job_acked_in_one_entry() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 2)).unwrap();
    broker.run(push("results", 1)).unwrap();
    let grants = broker.lease("jobs", 1);
    let (queue, id, token) = (name("jobs"), grants[0].id, grants[0].token);
    let mine = [Condition::Leased { queue, id, token }];
    let steps = [step_push("results", 2), Step::Ack(receipts("jobs", &grants)), step_push("mail", 1)];
    let applied = broker.run(txn(&mine, &steps));
    assert_eq!(applied, done(vec![stored(4, 2), StepDone::Done, stored(6, 1)]));
    assert_eq!([broker.count("jobs"), broker.count("results")], [[1, 0, 0, 0], [3, 0, 0, 0]]);
    // Each body is the one that was pushed with it.
    let popped = delivered(broker.run(pop("mail", 1)));
    assert_eq!((popped[0].body.index, popped[0].body.ordinal), (broker.index - 1, 2));
    // Asked again, by who has not heard the answer: the lease is no more.
    assert_eq!(broker.run(txn(&mine, &steps)), failed(TxnPart::Condition(0), ErrorCode::ConditionFailed));
}

#[test]
fn one_step_that_cannot_be_done_undoes_all_before() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 4)).unwrap();
    broker.run(push("full", 1)).unwrap();
    broker.run(alter("full", QueueSettings { max_messages: Some(1), ..Default::default() })).unwrap();
    let grants = broker.lease("jobs", 2);
    let stale = broker.lease("jobs", 1);
    broker.ack("jobs", &stale);
    let no = || ErrorText::cut("no");
    let good = [
        step_push("new", 1),
        Step::Ack(receipts("jobs", &grants[..1])),
        Step::Nack { leases: receipts("jobs", &grants[1..]), kind: NackKind::Reject { reason: no() } },
        edit("jobs", 4, Change::Delete),
    ];
    let beyond = Step::Ack(Receipts { queue: name("jobs"), ..receipt("jobs", 1, 99) });
    let elsewhere = Step::Ack(receipt("nowhere", 1, 1));
    let bad = [
        (step_push("full", 1), ErrorCode::QueueFull),
        (Step::Ack(receipts("jobs", &stale)), ErrorCode::MessageNotFound),
        (beyond, ErrorCode::MessageNotFound),
        (elsewhere, ErrorCode::MessageNotFound),
        (edit("jobs", 4, Change::Delete), ErrorCode::MessageNotFound),
        (edit("nowhere", 4, Change::Delete), ErrorCode::QueueNotFound),
        (Step::Extend { leases: receipts("jobs", &grants), lease_ms: 5_000 }, ErrorCode::MessageNotFound),
    ];
    let (before, ids_before) = (contents(&broker.state), broker.state.stats());
    for (step, code) in bad {
        let steps: Vec<Step> = good.iter().cloned().chain([step.clone()]).collect();
        assert_eq!(broker.run(txn(&[], &steps)), failed(TxnPart::Step(4), code), "{step:?}");
        assert_eq!(contents(&broker.state), before, "{step:?}");
        assert_eq!(broker.state.stats(), ids_before);
    }
    let done_all = vec![stored(6, 1), StepDone::Done, StepDone::Done, StepDone::Done];
    assert_eq!(broker.run(txn(&[], &good)), done(done_all), "ids were not used up");
    assert_eq!(broker.count("jobs"), [0, 0, 0, 1]);
}

#[test]
fn nothing_is_done_unless_every_condition_holds() {
    let mut broker = Broker::new();
    let keyed = PushOptions { dedup_key: Some(key("k")), ..PushOptions::default() };
    broker.run(push_with("jobs", 2, vec![(0, keyed)])).unwrap();
    let grants = broker.lease("jobs", 1);
    let leased = |token| Condition::Leased { queue: name("jobs"), id: grants[0].id, token };
    let exists = |id| Condition::Exists { queue: name("jobs"), id: MessageId(id) };
    let at_most = |count| Condition::AtMost { queue: name("jobs"), count };
    let version = |version| Condition::Version { queue: name("jobs"), version };
    let no_key = |text| Condition::NoDedupKey { queue: name("jobs"), key: key(text) };
    let hold = [leased(grants[0].token), exists(2), at_most(2), version(1), no_key("other")];
    let fail = [leased(LeaseToken(99)), exists(3), at_most(1), version(2), no_key("k")];
    for (k, condition) in fail.into_iter().enumerate() {
        let mut conditions = hold.to_vec();
        conditions[k] = condition;
        let at = TxnPart::Condition(u16::try_from(k).unwrap());
        let ran = broker.run(txn(&conditions, &[step_push("jobs", 1)]));
        assert_eq!(ran, failed(at, ErrorCode::ConditionFailed));
    }
    assert_eq!(broker.run(txn(&hold, &[step_push("jobs", 1)])), done(vec![stored(3, 1)]));
    let nowhere = Condition::AtMost { queue: name("nowhere"), count: 9 };
    assert_eq!(broker.run(txn(&[nowhere], &[])), failed(TxnPart::Condition(0), ErrorCode::ConditionFailed));
}

#[test]
fn a_transaction_counts_once_and_is_not_too_long() {
    let mut broker = Broker::new();
    broker.run(push("jobs", 1)).unwrap();
    let steps = [step_push("jobs", 600), step_push("jobs", 400)];
    let first = broker.call(7, 1, 1, txn(&[], &steps));
    assert_eq!(first.result, done(vec![stored(2, 600), stored(602, 400)]));
    assert_eq!(broker.call(7, 1, 1, txn(&[], &steps)), Reply { repeated: true, ..first });
    let more = [step_push("jobs", 600), step_push("jobs", 401)];
    assert_eq!(broker.run(txn(&[], &more)).unwrap_err().code, ErrorCode::BadRequest);
    assert_eq!(broker.count("jobs"), [1_001, 0, 0, 0]);
}

/// RabbitMQ: a message that is dead-lettered and its acks are separate; here they are steps of one entry or none.
#[test]
fn a_dead_letter_and_what_takes_its_place_come_together() {
    let mut broker = Broker::new();
    broker.run(push("morgue", 1)).unwrap();
    broker.run(push("jobs", 1)).unwrap();
    let to = QueueSettings { dead_to: Some(Some(name("morgue"))), ..Default::default() };
    broker.run(alter("jobs", to)).unwrap();
    let grants = broker.lease("jobs", 1);
    let kind = NackKind::Reject { reason: ErrorText::cut("no") };
    let reject = Step::Nack { leases: receipts("jobs", &grants), kind };
    let stale = Step::Ack(receipts("jobs", &grants));
    let ran = broker.run(txn(&[], &[reject.clone(), stale]));
    assert_eq!(ran, failed(TxnPart::Step(1), ErrorCode::MessageNotFound));
    assert_eq!([broker.count("jobs"), broker.count("morgue")], [[0, 1, 0, 0], [1, 0, 0, 0]]);
    broker.run(txn(&[], &[reject, step_push("jobs", 1)])).unwrap();
    assert_eq!([broker.count("jobs"), broker.count("morgue")], [[1, 0, 0, 0], [2, 0, 0, 0]]);
}

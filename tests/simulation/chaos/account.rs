//! The account at the end: what clients were told, message by message, without looking into any node.
//!
//! The check of the whole history ([`harness::history::check`]) knows what replicas applied. This one does not: it holds if
//! clients alone compare notes.

use std::collections::{BTreeMap, BTreeSet};

use harness::history::{Operation, Outcome};
use queue_protocol::names::{LeaseToken, MessageId};
use queue_protocol::wire::request::{Push, Request};
use queue_protocol::wire::response::{Answer, PushOutcome, Settled};
use queue_protocol::wire::txn::{Step, StepDone, TxnOutcome};

/// What clients know together.
#[derive(Default)]
struct Notes {
    /// Stored messages, and the queue of each.
    stored: BTreeMap<MessageId, String>,
    /// When the ack of a message was answered.
    acked: BTreeMap<MessageId, u64>,
    /// Messages whose ack got no answer.
    perhaps: BTreeSet<MessageId>,
    tokens: BTreeMap<LeaseToken, MessageId>,
    /// Messages that pops without an answer may have taken.
    unknown: u64,
    wrong: Vec<String>,
}

/// What clients hold against the broker, after everything was taken out. `kept` names queues that drop nothing.
pub(crate) fn account(operations: &[Operation], kept: impl Fn(&str) -> bool) -> Vec<String> {
    let mut notes = Notes::default();
    operations.iter().for_each(|operation| notes.write(operation));
    operations.iter().for_each(|operation| notes.compare(operation));
    let is_there = |id: &MessageId| notes.acked.contains_key(id) || notes.perhaps.contains(id);
    let lost = notes.stored.iter().filter(|(id, queue)| kept(queue) && !is_there(id));
    let lost: Vec<MessageId> = lost.map(|(id, _)| *id).collect();
    if lost.len() as u64 > notes.unknown {
        let what = format!("{} messages were acknowledged and never came out: {lost:?}", lost.len());
        notes.wrong.push(what);
    }
    notes.wrong
}

impl Notes {
    fn write(&mut self, operation: &Operation) {
        let Outcome::Ok(answered) = &operation.outcome else {
            match (&operation.request, &operation.outcome) {
                (Request::Ack(receipts), Outcome::Unknown) => {
                    self.perhaps.extend(receipts.receipts.iter().map(|(id, _)| *id));
                }
                (Request::Txn(txn), Outcome::Unknown) => {
                    let acked = txn.steps.iter().filter_map(|step| match step {
                        Step::Ack(receipts) => Some(&receipts.receipts),
                        _ => None,
                    });
                    self.perhaps.extend(acked.flat_map(|receipts| receipts.iter().map(|(id, _)| *id)));
                }
                (Request::Pop(lease), Outcome::Unknown) => self.unknown += u64::from(lease.max_messages),
                _ => {}
            }
            return;
        };
        match (&operation.request, &answered.answer) {
            (Request::Push(push), Answer::Pushed(runs)) => self.pushed(push, runs),
            (Request::Ack(receipts), Answer::Settled(results)) => {
                let done = receipts.receipts.iter().zip(results.iter());
                for ((id, _), _) in done.filter(|(_, result)| **result == Settled::Ok) {
                    self.acked(*id, operation.completed);
                }
            }
            (Request::Txn(txn), Answer::Txn(TxnOutcome::Done(done))) => {
                for (step, done) in txn.steps.iter().zip(done.iter()) {
                    match (step, done) {
                        (Step::Push(push), StepDone::Pushed(runs)) => self.pushed(push, runs),
                        (Step::Ack(receipts), _) => {
                            receipts.receipts.iter().for_each(|(id, _)| self.acked(*id, operation.completed));
                        }
                        _ => {}
                    }
                }
            }
            (Request::Pop(_), Answer::Delivered(deliveries)) => {
                for delivery in deliveries.iter() {
                    if self.acked.insert(delivery.id, operation.completed).is_some() {
                        self.wrong.push(format!("message {} was popped and settled before", delivery.id.0));
                    }
                }
            }
            _ => {}
        }
    }

    fn pushed(&mut self, push: &Push, runs: &[PushOutcome]) {
        for run in runs {
            let PushOutcome::Stored { first_id, count } = run else { continue };
            for id in first_id.0..first_id.0 + u64::from(*count) {
                if self.stored.insert(MessageId(id), push.queue.to_string()).is_some() {
                    self.wrong.push(format!("message {id} was stored twice"));
                }
            }
        }
    }

    fn acked(&mut self, id: MessageId, completed: u64) {
        if self.acked.insert(id, completed).is_some() {
            self.wrong.push(format!("message {} was acked twice", id.0));
        }
    }

    fn compare(&mut self, operation: &Operation) {
        let Outcome::Ok(answered) = &operation.outcome else { return };
        let Answer::Delivered(deliveries) = &answered.answer else { return };
        for delivery in deliveries.iter() {
            if let Some(other) = self.tokens.insert(delivery.token, delivery.id) {
                self.wrong.push(format!(
                    "token {} was given for message {} and for {}",
                    delivery.token.0, other.0, delivery.id.0
                ));
            }
            let acked_before = self.acked.get(&delivery.id).is_some_and(|at| *at < operation.invoked);
            if acked_before {
                self.wrong.push(format!("message {} was acked, and came back", delivery.id.0));
            }
        }
    }
}

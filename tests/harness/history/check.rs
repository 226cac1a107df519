//! The check of a whole history: one pass over the log with the naive model beside it.

use std::collections::{BTreeMap, BTreeSet};

use queue_broker::queue::command::Command;
use queue_broker::queue::model::Model;
use queue_broker::queue::reply::Outcome as Replied;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::request::{MessageState, Request};
use queue_protocol::wire::response::{Answer, At, PushOutcome};
use queue_protocol::wire::txn::{StepDone, TxnOutcome};

use super::answers::{wrong, wrong_read};
use super::{Applied, Operation, Outcome};

/// What a check found and saw.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What must not be; empty if all is well.
    pub violations: Vec<String>,
    /// Answers compared.
    pub answers: u64,
    /// Of these, repeated ones.
    pub repeated: u64,
    /// Of these, reads.
    pub reads: u64,
    /// Operations of unknown outcome.
    pub unknown: u64,
    /// Operations that surely were not done.
    pub failed: u64,
    /// Messages handed out for the second time or more.
    pub redelivered: u64,
    /// Transactions that were done.
    pub done: u64,
    /// Transactions that were not, for a reason of theirs.
    pub undone: u64,
    /// Messages that are dead in the end.
    pub dead: u64,
    /// Messages ready, leased or delayed in the end.
    pub left: u64,
}

/// Checks what clients were told against what replicas applied.
pub fn check(operations: &[Operation], entries: &BTreeMap<u64, Applied>) -> Checked {
    let mut checked = Checked::default();
    real_time(operations, &mut checked);
    contents(operations, entries, &mut checked);
    replay(operations, entries, &mut checked);
    checked
}

fn answered(operation: &Operation) -> Option<At> {
    match &operation.outcome {
        // What concerns no queue has no place.
        Outcome::Ok(answered) if answered.at.index > 0 => Some(answered.at),
        _ => None,
    }
}

/// Who began after another was answered stands behind it.
fn real_time(operations: &[Operation], checked: &mut Checked) {
    let mut by_call: Vec<&Operation> = operations.iter().filter(|op| answered(op).is_some()).collect();
    let mut by_return = by_call.clone();
    by_call.sort_by_key(|operation| operation.invoked);
    by_return.sort_by_key(|operation| operation.completed);
    let mut returned = by_return.into_iter().peekable();
    let mut highest = At::default();
    for operation in by_call {
        while let Some(before) = returned.next_if(|before| before.completed < operation.invoked) {
            highest = highest.max(answered(before).unwrap_or_default());
        }
        let at = answered(operation).unwrap_or_default();
        if at < highest {
            checked.violations.push(format!(
                "{:?} was answered as of {at:?} though {highest:?} was answered before it began",
                operation.request
            ));
        }
    }
}

/// The rows of a push in the table of its entry.
fn rows(applied: &Applied, position: usize) -> &[ContentSpec] {
    let count = |command: &Command| usize::try_from(command.op.rows()).unwrap_or(usize::MAX);
    let first: usize = applied.batch.commands.iter().take(position).map(count).sum();
    let size = applied.batch.commands.get(position).map_or(0, count);
    applied.table.get(first..first + size).unwrap_or_default()
}

/// Every body was pushed by a client, took effect once, and not at all if its client was told so.
fn contents(operations: &[Operation], entries: &BTreeMap<u64, Applied>, checked: &mut Checked) {
    let pushes = || operations.iter().filter(|operation| pushes(&operation.request));
    let known: BTreeSet<(u32, u32)> =
        pushes().flat_map(|op| op.contents.iter().map(|c| key(&ContentSpec::of(c)))).collect();
    let mut stored: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for applied in entries.values() {
        for (position, reply) in applied.replies.iter().enumerate().filter(|(_, reply)| !reply.repeated) {
            let stored_rows = match &reply.result {
                Ok(Replied::Pushed(runs)) => each(runs).collect(),
                Ok(Replied::Txn(outcome)) => each_of_txn(outcome),
                _ => continue,
            };
            let rows = rows(applied, position).iter().zip(stored_rows);
            for (spec, _) in rows.filter(|(_, is_stored)| *is_stored) {
                *stored.entry(key(spec)).or_default() += 1;
            }
        }
    }
    let mut wrong = |what: &str, spec: &(u32, u32)| {
        checked.violations.push(format!("a body of {} bytes, checksum {:x}, {what}", spec.0, spec.1));
    };
    for (spec, count) in &stored {
        if !known.contains(spec) {
            wrong("was stored and pushed by nobody", spec);
        } else if *count > 1 {
            wrong(&format!("was stored {count} times and pushed once"), spec);
        }
    }
    for operation in pushes() {
        let told = told(operation);
        let specs = operation.contents.iter().map(|content| key(&ContentSpec::of(content)));
        for (spec, is_told) in specs.zip(told.into_iter().map(Some).chain(std::iter::repeat(None))) {
            match &operation.outcome {
                Outcome::Ok(_) if is_told.is_none() => wrong("is not told of by its answer", &spec),
                Outcome::Ok(_) if is_told == Some(true) && !stored.contains_key(&spec) => {
                    wrong("was acknowledged and is not stored", &spec);
                }
                Outcome::Ok(_) if is_told == Some(false) && stored.contains_key(&spec) => {
                    wrong("was stored, its client was told that it was not", &spec);
                }
                Outcome::Fail(why) if stored.contains_key(&spec) => {
                    wrong(&format!("was stored, its client was told that it was not: {why}"), &spec);
                }
                _ => {}
            }
        }
    }
}

/// Of each message of a push, whether it is stored.
fn each(runs: &[PushOutcome]) -> impl Iterator<Item = bool> {
    runs.iter().flat_map(|run| match run {
        PushOutcome::Stored { count, .. } => std::iter::repeat_n(true, *count as usize),
        PushOutcome::Refused { count, .. } => std::iter::repeat_n(false, *count as usize),
        PushOutcome::Duplicate { .. } => std::iter::repeat_n(false, 1),
    })
}

/// Of each message of all pushes of a transaction, whether it is stored; nothing if nothing was done.
fn each_of_txn(outcome: &TxnOutcome) -> Vec<bool> {
    let TxnOutcome::Done(steps) = outcome else { return Vec::new() };
    let runs = steps.iter().filter_map(|step| match step {
        StepDone::Pushed(runs) => Some(&runs[..]),
        _ => None,
    });
    runs.flat_map(each).collect()
}

/// Whether a request has contents to store.
fn pushes(request: &Request) -> bool {
    matches!(request, Request::Push(_) | Request::Txn(_))
}

/// The same as its client was told.
fn told(operation: &Operation) -> Vec<bool> {
    let Outcome::Ok(answered) = &operation.outcome else { return Vec::new() };
    match &answered.answer {
        Answer::Pushed(runs) => each(runs).collect(),
        Answer::Txn(TxnOutcome::Failed { .. }) => vec![false; operation.contents.len()],
        Answer::Txn(outcome) => each_of_txn(outcome),
        _ => Vec::new(),
    }
}

fn key(spec: &ContentSpec) -> (u32, u32) {
    (spec.size, spec.crc32c)
}

/// Runs the log through the model, and compares every answer where it says it stands.
fn replay(operations: &[Operation], entries: &BTreeMap<u64, Applied>, checked: &mut Checked) {
    let mut by_index: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        match answered(operation) {
            Some(at) => by_index.entry(at.index).or_default().push(operation),
            None if matches!(operation.outcome, Outcome::Unknown) => checked.unknown += 1,
            None => checked.failed += 1,
        }
    }
    let mut model = Model::default();
    let last = entries.keys().chain(by_index.keys()).max().copied().unwrap_or(0);
    for index in 0..=last {
        if let Some(applied) = entries.get(&index) {
            let expected = model.apply(index, &applied.batch, &applied.table);
            if expected != applied.replies {
                let at = expected.iter().zip(&applied.replies).position(|(a, b)| a != b).unwrap_or(0);
                checked.violations.push(format!(
                    "entry {index}, command {at}: {:?} was answered {:?}, the model says {:?}",
                    applied.batch.commands.get(at),
                    applied.replies.get(at),
                    expected.get(at)
                ));
                // From here on the model is about something else.
                return;
            }
        }
        for operation in by_index.remove(&index).unwrap_or_default() {
            if let Some(what) = wrong_answer(operation, index, entries, &model, checked) {
                let request = &operation.request;
                checked.violations.push(format!("{request:?} was answered wrongly at entry {index}: {what}"));
            }
        }
    }
    for queue in model.queues() {
        let count = |state| model.peek(&queue, state).len() as u64;
        checked.dead += count(MessageState::Dead);
        checked.left +=
            count(MessageState::Ready) + count(MessageState::Leased) + count(MessageState::Delayed);
    }
}

fn wrong_answer(
    operation: &Operation,
    index: u64,
    entries: &BTreeMap<u64, Applied>,
    model: &Model,
    checked: &mut Checked,
) -> Option<String> {
    let Outcome::Ok(answered) = &operation.outcome else { return None };
    checked.answers += 1;
    checked.repeated += u64::from(answered.repeated);
    if answered.at.position == u32::MAX {
        checked.reads += 1;
        return wrong_read(operation.session, &operation.request, answered, model);
    }
    let Some(applied) = entries.get(&index) else { return Some("there is no such entry".to_owned()) };
    let position = answered.at.position as usize;
    let Some(reply) = applied.replies.get(position) else {
        return Some("there is no such command".to_owned());
    };
    if let Ok(Replied::Delivered(grants)) = &reply.result {
        checked.redelivered += grants.iter().filter(|grant| grant.attempt > 1).count() as u64;
    }
    match &answered.answer {
        Answer::Txn(TxnOutcome::Done(_)) => checked.done += 1,
        Answer::Txn(TxnOutcome::Failed { .. }) => checked.undone += 1,
        _ => {}
    }
    if pushes(&operation.request) {
        let pushed = operation.contents.iter().map(|content| ContentSpec::of(content));
        if !pushed.eq(rows(applied, position).iter().copied()) {
            return Some("the command there has other bodies".to_owned());
        }
    }
    wrong(answered, reply, |index, ordinal| entries.get(&index)?.table.get(ordinal as usize).copied())
}

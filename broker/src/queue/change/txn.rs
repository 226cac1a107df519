//! Transactions: the steps are the commands of the same names; the first that cannot be done in full undoes those before.

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::TXN_ITEMS_MAX;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::response::{Edited, PushOutcome, Settled};
use queue_protocol::wire::txn::{Condition, StepDone, TxnOutcome, TxnPart};

use crate::queue::apply::{Apply, refusal};
use crate::queue::command::{Step, Txn};
use crate::queue::reply::{Outcome, Refusal};
use crate::queue::state::State;

impl Apply<'_> {
    /// Does all steps, or nothing.
    ///
    /// # Errors
    /// Refused if it names more than one entry may change.
    pub(in crate::queue) fn txn(
        &mut self,
        session: Option<SessionId>,
        txn: &Txn,
        first_row: u64,
    ) -> Result<Outcome, Refusal> {
        if txn.items() > TXN_ITEMS_MAX {
            return Err(refusal(ErrorCode::BadRequest));
        }
        let failed = |at, code| Ok(Outcome::Txn(TxnOutcome::Failed { at, code }));
        for (k, condition) in (0..).zip(txn.conditions.iter()) {
            if !self.state.holds(condition) {
                return failed(TxnPart::Condition(k), ErrorCode::ConditionFailed);
            }
        }
        let before = self.savepoint();
        let mut row = first_row;
        let mut done = Vec::with_capacity(txn.steps.len());
        for (k, step) in (0..).zip(txn.steps.iter()) {
            match self.step(session, step, row) {
                Ok(one) => done.push(one),
                Err(code) => {
                    self.rollback(before);
                    return failed(TxnPart::Step(k), code);
                }
            }
            row += step.push().map_or(0, |push| u64::from(push.count));
        }
        Ok(Outcome::Txn(TxnOutcome::Done(Bounded::new(done).expect("as many as there are steps"))))
    }

    /// Does one step, or a part of it: then it says why not all.
    fn step(
        &mut self,
        session: Option<SessionId>,
        step: &Step,
        first_row: u64,
    ) -> Result<StepDone, ErrorCode> {
        let outcome = match step {
            Step::Push(push) => self.push(push, first_row),
            Step::Ack(leases) => Ok(self.ack(session, leases)),
            Step::Nack { leases, kind } => Ok(self.nack(session, leases, kind)),
            Step::Extend { leases, lease_ms } => self.extend(session, Some(leases), *lease_ms),
            Step::Edit { queue, ids, change } => self.edit(queue, ids, change),
        };
        match outcome.map_err(|refusal| refusal.code)? {
            Outcome::Pushed(runs) => {
                all(runs.iter().map(|run| match run {
                    PushOutcome::Refused { code, .. } => Err(*code),
                    PushOutcome::Stored { .. } | PushOutcome::Duplicate { .. } => Ok(()),
                }))?;
                Ok(StepDone::Pushed(Bounded::new(runs).expect("no more than there are messages")))
            }
            Outcome::Extended { results, deadline_ms, .. } => {
                all(results.into_iter().map(settled))?;
                Ok(StepDone::Extended(deadline_ms))
            }
            Outcome::Settled(results) => {
                all(results.into_iter().map(settled))?;
                Ok(StepDone::Done)
            }
            Outcome::Edited(results) => {
                all(results.into_iter().map(edited))?;
                Ok(StepDone::Done)
            }
            other => unreachable!("no step comes to {other:?}"),
        }
    }
}

fn all(mut results: impl Iterator<Item = Result<(), ErrorCode>>) -> Result<(), ErrorCode> {
    results.find(Result::is_err).unwrap_or(Ok(()))
}

fn settled(result: Settled) -> Result<(), ErrorCode> {
    match result {
        Settled::Ok => Ok(()),
        Settled::Stale => Err(ErrorCode::ReceiptStale),
        Settled::Gone => Err(ErrorCode::MessageNotFound),
    }
}

fn edited(result: Edited) -> Result<(), ErrorCode> {
    match result {
        Edited::Done => Ok(()),
        Edited::Gone => Err(ErrorCode::MessageNotFound),
        Edited::Leased => Err(ErrorCode::MessageLeased),
        Edited::AlreadyReady => Err(ErrorCode::AlreadyReady),
        Edited::KeyHeld => Err(ErrorCode::UniqueHeld),
    }
}

impl State {
    fn holds(&self, condition: &Condition) -> bool {
        let (Condition::Leased { queue, .. }
        | Condition::Exists { queue, .. }
        | Condition::AtMost { queue, .. }
        | Condition::Version { queue, .. }
        | Condition::NoDedupKey { queue, .. }) = condition;
        let Some(queue) = self.queue(queue) else { return false };
        match condition {
            Condition::Leased { id, token, .. } => queue.leased.is_under(*id, *token),
            Condition::Exists { id, .. } => queue.holds(*id),
            Condition::AtMost { count, .. } => {
                let counts = queue.counts();
                counts.messages() - counts.dead <= *count
            }
            Condition::Version { version, .. } => queue.version == *version,
            Condition::NoDedupKey { key, .. } => queue.dedup.known(key, self.elapsed_ms()).is_none(),
        }
    }
}

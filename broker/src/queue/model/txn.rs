//! Transactions in the model: everything is copied first.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::SessionId;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::{Edited, PushOutcome, Settled};
use queue_protocol::wire::txn::{Condition, StepDone, TxnOutcome, TxnPart};

use super::super::command::{Op, Step, Txn};
use super::super::reply::{BodyRef, Outcome, Refusal};
use super::{Model, refusal};

impl Model {
    pub(super) fn txn(
        &mut self,
        session: Option<SessionId>,
        txn: &Txn,
        bodies: &[BodyRef],
    ) -> Result<Outcome, Refusal> {
        if txn.items() > 1_000 {
            return Err(refusal(ErrorCode::BadRequest));
        }
        if let Some(k) = txn.conditions.iter().position(|condition| !self.is_so(condition)) {
            let at = TxnPart::Condition(u16::try_from(k).unwrap());
            return Ok(Outcome::Txn(TxnOutcome::Failed { at, code: ErrorCode::ConditionFailed }));
        }
        let before = self.clone();
        let mut rest = bodies;
        let mut done = Vec::new();
        for (k, step) in (0..).zip(txn.steps.iter()) {
            let op = match step.clone() {
                Step::Push(push) => Op::Push(push),
                Step::Ack(leases) => Op::Ack(leases),
                Step::Nack { leases, kind } => Op::Nack { leases, kind },
                Step::Extend { leases, lease_ms } => Op::Extend { leases: Some(leases), lease_ms },
                Step::Edit { queue, ids, change } => Op::Edit { queue, ids, change },
            };
            let (mine, others) = rest.split_at(rest.len().min(usize::try_from(op.rows()).unwrap()));
            rest = others;
            let outcome = self.act(session, &op, mine);
            self.turn();
            match why_not(&outcome) {
                Some(code) => {
                    *self = before;
                    return Ok(Outcome::Txn(TxnOutcome::Failed { at: TxnPart::Step(k), code }));
                }
                None => done.push(match outcome.unwrap() {
                    Outcome::Pushed(runs) => StepDone::Pushed(Bounded::new(runs).unwrap()),
                    Outcome::Extended { deadline_ms, .. } => StepDone::Extended(deadline_ms),
                    _ => StepDone::Done,
                }),
            }
        }
        Ok(Outcome::Txn(TxnOutcome::Done(Bounded::new(done).unwrap())))
    }

    fn is_so(&self, condition: &Condition) -> bool {
        let of = |message: &super::Message, queue: &_, id| message.queue == *queue && message.shown.id == id;
        match condition {
            Condition::Leased { queue, id, token } => self
                .in_state(MessageState::Leased)
                .any(|message| of(message, queue, *id) && message.shown.token == Some(*token)),
            Condition::Exists { queue, id } => self.messages.iter().any(|message| of(message, queue, *id)),
            Condition::AtMost { queue, count } => {
                let live = |m: &&super::Message| m.queue == *queue && m.shown.state != MessageState::Dead;
                self.has(queue) && self.messages.iter().filter(live).count() as u64 <= *count
            }
            Condition::Version { queue, version } => {
                self.queues.iter().any(|known| known.name == *queue && known.version == *version)
            }
            Condition::NoDedupKey { queue, key } => self.queues.iter().any(|known| {
                let knows = |(is, _, until_ms): &(_, _, u64)| is == key && *until_ms > self.elapsed_ms;
                known.name == *queue && !known.dedup.iter().any(knows)
            }),
        }
    }
}

/// Why a step was not done in full: the first reason.
fn why_not(outcome: &Result<Outcome, Refusal>) -> Option<ErrorCode> {
    match outcome {
        Err(refusal) => Some(refusal.code),
        Ok(Outcome::Pushed(runs)) => runs.iter().find_map(|run| match run {
            PushOutcome::Refused { code, .. } => Some(*code),
            _ => None,
        }),
        Ok(Outcome::Settled(results) | Outcome::Extended { results, .. }) => {
            results.iter().find_map(|result| match result {
                Settled::Ok => None,
                Settled::Stale => Some(ErrorCode::ReceiptStale),
                Settled::Gone => Some(ErrorCode::MessageNotFound),
            })
        }
        Ok(Outcome::Edited(results)) => results.iter().find_map(|result| match result {
            Edited::Done => None,
            Edited::Gone => Some(ErrorCode::MessageNotFound),
            Edited::Leased => Some(ErrorCode::MessageLeased),
            Edited::AlreadyReady => Some(ErrorCode::AlreadyReady),
            Edited::KeyHeld => Some(ErrorCode::UniqueHeld),
        }),
        Ok(_) => None,
    }
}

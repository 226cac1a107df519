//! Ack, nack and extend: only the newest token of a message speaks for it.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{LeaseToken, MessageId, SessionId};
use queue_protocol::wire::checkpoint::{Checkpoint, SaveCheckpoint};
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::request::NackKind;
use queue_protocol::wire::response::{DeadReason, EventKind, Settled};

use super::deliver::clamp_lease;
use crate::queue::apply::{Apply, refusal};
use crate::queue::catalog::QueueNumber;
use crate::queue::command::Receipts;
use crate::queue::due::clocks::Moment;
use crate::queue::messages::message::Leased;
use crate::queue::queue::{Failure, Queue};
use crate::queue::reply::{Outcome, Refusal};

impl Apply<'_> {
    /// Settles leases for good.
    pub(in crate::queue) fn ack(&mut self, session: Option<SessionId>, receipts: &Receipts) -> Outcome {
        self.settle(session, receipts, |queue, id, leased| {
            queue.turnover.acked += 1;
            queue.let_go(id, &leased.message, GoneHow::Acked);
        })
    }

    /// Gives leased messages back.
    pub(in crate::queue) fn nack(
        &mut self,
        session: Option<SessionId>,
        receipts: &Receipts,
        kind: &NackKind,
    ) -> Outcome {
        let now = self.state.now();
        self.settle(session, receipts, |queue, id, mut leased| match kind {
            NackKind::Release { delay_ms } => queue.release(id, leased, *delay_ms, now),
            NackKind::Fail { delay_ms, error } => {
                let failure = Failure { kind: EventKind::Failed, delay_ms: *delay_ms, error: error.clone() };
                queue.fail(id, leased, failure, now);
            }
            NackKind::Reject { reason } => {
                leased.message.last_error = Some(reason.clone());
                queue.bury(id, leased.message, DeadReason::Rejected, now);
            }
        })
    }

    /// Takes leases back and gives each to `take_over`. A receipt of a queue that was removed is gone.
    fn settle(
        &mut self,
        session: Option<SessionId>,
        receipts: &Receipts,
        take_over: impl Fn(&mut Queue, MessageId, Leased),
    ) -> Outcome {
        let stamped_ms = self.stamped_ms;
        let Some(number) = self.state.catalog().number(&receipts.queue) else {
            return Outcome::Settled(gone(receipts));
        };
        let mut released = Vec::with_capacity(receipts.receipts.len());
        let results = self.change(number, |queue| {
            let settle = |(id, token): &(MessageId, LeaseToken)| match queue.settle(*id, *token) {
                Ok(leased) => {
                    released.push((leased.session, *id));
                    take_over(queue, *id, leased);
                    Settled::Ok
                }
                Err(settled) => settled,
            };
            let results: Vec<Settled> = receipts.receipts.iter().map(settle).collect();
            if results.contains(&Settled::Ok) {
                queue.renew(session, queue.settings.lease_ms, stamped_ms);
            }
            results
        });
        for (session, id) in released {
            self.unhold(session, id);
        }
        Outcome::Settled(results)
    }

    /// Lets leases end `lease_ms` from now: those of the receipts, or all of the session.
    ///
    /// # Errors
    /// Refused if neither is given.
    pub(in crate::queue) fn extend(
        &mut self,
        session: Option<SessionId>,
        receipts: Option<&Receipts>,
        lease_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let lease_ms = clamp_lease(lease_ms);
        let deadline_ms = self.lease_deadline(lease_ms);
        let (results, count) = match (receipts, session) {
            (Some(receipts), _) => {
                let results = self.extend_receipts(session, receipts, lease_ms);
                let count = results.iter().filter(|settled| **settled == Settled::Ok).count() as u64;
                (results, count)
            }
            (None, Some(session)) => (Vec::new(), self.extend_session(session, lease_ms)),
            (None, None) => return Err(refusal(ErrorCode::BadRequest)),
        };
        Ok(Outcome::Extended { results, count, deadline_ms })
    }

    /// Lets a lease end later, and keeps a checkpoint with its message.
    pub(in crate::queue) fn save_checkpoint(
        &mut self,
        session: Option<SessionId>,
        save: &SaveCheckpoint,
    ) -> Outcome {
        let SaveCheckpoint { queue, id, token, lease_ms, checkpoint } = save;
        let (stamped_ms, lease_ms) = (self.stamped_ms, clamp_lease(*lease_ms));
        let deadline_ms = self.lease_deadline(lease_ms);
        let number = self.state.catalog().number(queue);
        let result = number.map_or(Settled::Gone, |number| {
            self.change(number, |queue| match queue.extend(*id, *token, deadline_ms) {
                Ok(()) => {
                    queue.keep_checkpoint(*id, checkpoint.clone());
                    queue.renew(session, lease_ms, stamped_ms);
                    Settled::Ok
                }
                Err(settled) => settled,
            })
        });
        Outcome::Extended { results: vec![result], count: u64::from(result == Settled::Ok), deadline_ms }
    }

    fn extend_receipts(
        &mut self,
        session: Option<SessionId>,
        receipts: &Receipts,
        lease_ms: u64,
    ) -> Vec<Settled> {
        let (stamped_ms, deadline_ms) = (self.stamped_ms, self.lease_deadline(lease_ms));
        let Some(number) = self.state.catalog().number(&receipts.queue) else { return gone(receipts) };
        self.change(number, |queue| {
            let extend = |(id, token): &(MessageId, LeaseToken)| {
                queue.extend(*id, *token, deadline_ms).err().unwrap_or(Settled::Ok)
            };
            let results: Vec<Settled> = receipts.receipts.iter().map(extend).collect();
            if results.contains(&Settled::Ok) {
                queue.renew(session, lease_ms, stamped_ms);
            }
            results
        })
    }

    fn extend_session(&mut self, session: SessionId, lease_ms: u64) -> u64 {
        let (stamped_ms, deadline_ms) = (self.stamped_ms, self.lease_deadline(lease_ms));
        let held: Vec<(MessageId, QueueNumber)> = self.state.holders().of(session).collect();
        for run in held.chunk_by(|a, b| a.1 == b.1) {
            self.change(run[0].1, |queue| {
                run.iter().for_each(|(id, _)| queue.leased.extend(*id, deadline_ms));
                queue.renew(Some(session), lease_ms, stamped_ms);
            });
        }
        held.len() as u64
    }
}

fn gone(receipts: &Receipts) -> Vec<Settled> {
    vec![Settled::Gone; receipts.receipts.len()]
}

impl Queue {
    /// Puts back what was leased, without blame.
    pub(in crate::queue) fn release(
        &mut self,
        id: MessageId,
        mut leased: Leased,
        delay_ms: u64,
        now: Moment,
    ) {
        let message = &mut leased.message;
        message.releases = message.releases.saturating_add(1);
        message.note(now, EventKind::Released);
        self.put_back(id, leased, delay_ms, now);
    }

    /// Keeps a checkpoint with a message that is leased.
    fn keep_checkpoint(&mut self, id: MessageId, checkpoint: Checkpoint) {
        if let Some(message) = self.leased.message_mut(id) {
            message.checkpoint = Some(checkpoint);
        }
    }
}

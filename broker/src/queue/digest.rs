//! The state hash: one number, folded from what every entry answered and what it left behind.
//!
//! Replicas that applied the same entries compare it. A walk over the state would cost more than apply does, so a
//! difference shows when something is answered or counted differently for it. What is folded belongs to the feature level.

use queue_protocol::wire::response::{PushOutcome, Settled};
use serde::Serialize;

use super::reply::{Grant, Outcome, Reply};
use super::state::State;

/// Odd, so that multiplying is a bijection.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number so far; 0 before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(pub(super) u64);

impl Digest {
    /// A bijection of the number so far: what once differs stays different under equal additions.
    fn add(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(FACTOR);
        self.0 ^= self.0 >> 32;
    }

    fn add_all<const N: usize>(&mut self, numbers: [u64; N]) {
        numbers.into_iter().for_each(|number| self.add(number));
    }

    /// Anything that is rare.
    fn add_encoded(&mut self, value: &impl Serialize) {
        let bytes = postcard::to_allocvec(value).expect("plain values always encode");
        self.add(bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..piece.len()].copy_from_slice(piece);
            self.add(u64::from_le_bytes(number));
        }
    }

    fn add_pushed(&mut self, outcomes: &[PushOutcome]) {
        for outcome in outcomes {
            match outcome {
                PushOutcome::Stored { first_id, count } => self.add_all([1, first_id.0, (*count).into()]),
                PushOutcome::Refused { code, count } => {
                    self.add_all([2, code.number().into(), (*count).into()]);
                }
                PushOutcome::Duplicate { id } => self.add_all([3, id.0]),
            }
        }
    }

    /// Multiplied once a message, for it is done for every one that is delivered: no change of one field leaves the sum as
    /// it is.
    fn add_grants(&mut self, grants: &[Grant]) {
        let mut sum = grants.len() as u64;
        for Grant { id, token, attempt, failures, body, checkpoint, .. } in grants {
            let counts = u64::from(*attempt) << 32 | u64::from(*failures);
            let place = u64::from(body.ordinal) << 32 | u64::from(body.size);
            let fields = id.0 ^ token.0.rotate_left(13) ^ counts.rotate_left(26);
            let fields = fields ^ body.index.rotate_left(39) ^ place.rotate_left(52);
            sum = (sum ^ fields).wrapping_mul(FACTOR);
            if let Some(checkpoint) = checkpoint {
                self.add_encoded(checkpoint);
            }
        }
        self.add(sum);
    }

    fn add_settled(&mut self, settled: &[Settled]) {
        let sum =
            settled.iter().fold(1_u64, |sum, settled| sum.wrapping_mul(3).wrapping_add(*settled as u64));
        self.add(sum);
    }

    fn add_reply(&mut self, reply: &Reply) {
        self.add(reply.at.index << 1 | u64::from(reply.repeated));
        match &reply.result {
            Ok(Outcome::Pushed(outcomes)) => self.add_pushed(outcomes),
            Ok(Outcome::Delivered(grants)) => self.add_grants(grants),
            Ok(Outcome::Settled(settled)) => self.add_settled(settled),
            Ok(outcome) => self.add_encoded(outcome),
            Err(refusal) => self.add_encoded(refusal),
        }
    }
}

impl State {
    /// Folds one entry in: its replies and what it left behind.
    pub(super) fn fold(&mut self, replies: &[Reply]) {
        let mut digest = self.digest_so_far();
        replies.iter().for_each(|reply| digest.add_reply(reply));
        let (counts, turnover) = (self.catalog().counts(), self.catalog().turnover());
        let (numbers, nodes) = (self.numbers(), self.nodes().count());
        let clocks = [self.wall_ms(), self.elapsed_ms(), self.lease_clock_ms()];
        let [held, open] = [self.holders().len(), self.sessions().count()].map(|count| count as u64);
        let sum = |numbers: &[u64]| numbers.iter().fold(0_u64, |sum, number| sum.rotate_left(13) ^ number);
        digest.add_all([
            sum(&[self.level().0.into(), clocks[0], clocks[1], clocks[2], held, open]),
            sum(&[numbers.id().0, numbers.token().0, numbers.node().0, self.catalog().next(), nodes]),
            self.auth().count(),
            self.journal().count(),
            sum(&[counts.ready, counts.leased, counts.delayed, counts.dead, counts.bytes]),
            sum(&[turnover.pushed, turnover.leased, turnover.acked, turnover.redelivered]),
            sum(&turnover.died),
        ]);
        self.set_digest(digest);
    }

    /// The state hash: replicas that applied the same entries at the same feature levels have the same.
    pub fn digest(&self) -> u64 {
        self.digest_so_far().0
    }

    /// Loses a lease token, which no state ever does: for a planted bug.
    pub(crate) fn skip_token(&mut self) {
        self.numbers_mut().give_tokens(1);
    }
}

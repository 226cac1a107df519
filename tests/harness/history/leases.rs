//! No lease ends early, told by a clock from outside of the cluster: the simulator's. The lease clock itself proves nothing
//! here, for it may lag behind both where a lease begins and where it ends.
//!
//! ```text
//! stamping of the entry that gives or extends it ──── its length at least ───► stamping of the entry that ends it
//! ```

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use queue_broker::queue::State;
use queue_broker::queue::command::{Batch, Command, Op, Receipts, Step};
use queue_broker::queue::reply::{Outcome, Reply};
use queue_protocol::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use queue_protocol::names::{LeaseToken, MessageId, SessionId};
use queue_protocol::wire::level::Level;
use queue_protocol::wire::response::Settled;
use queue_protocol::wire::txn::TxnOutcome;

/// What is rounded up, in milliseconds.
const ROUNDED_MS: u64 = 2;

/// A lease that has not ended.
struct Held {
    session: Option<SessionId>,
    /// When the entry was stamped with which it begins, or was last extended; by the simulator's clock.
    begun_ms: u64,
    length_ms: u64,
    /// What the state says of its end, on the lease clock.
    deadline_ms: u64,
}

/// The leases of one cluster, as of the last entry that any node applied.
#[derive(Default)]
pub(super) struct Leases {
    /// Leaders take it that they lead for so long without a quorum.
    leader_lease_ms: Option<u64>,
    /// When entries were stamped first, by their commands.
    stamped: BTreeMap<u64, u64>,
    held: BTreeMap<(MessageId, LeaseToken), Held>,
    ended: u64,
}

fn hash(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&batch.encode(Level::FIRST));
    hasher.finish()
}

impl Leases {
    /// Leases are longer than they were asked for by no more than this.
    pub(super) fn expect(&mut self, leader_lease_ms: u64) {
        self.leader_lease_ms = Some(leader_lease_ms);
    }

    /// Leases that ended because their time was over.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// A leader stamps an entry.
    pub(super) fn stamp(&mut self, batch: &Batch, now_ms: u64) {
        self.stamped.entry(hash(batch)).or_insert(now_ms);
    }

    /// When an entry was stamped first, in milliseconds of simulated time.
    pub(super) fn stamped_ms(&self, batch: &Batch) -> Option<u64> {
        self.stamped.get(&hash(batch)).copied()
    }

    /// The next entry was applied. What is wrong with it.
    pub(super) fn apply(
        &mut self,
        index: u64,
        batch: &Batch,
        replies: &[Reply],
        state: &State,
    ) -> Vec<String> {
        // Two entries can be equal, if they were stamped in the same millisecond.
        let Some(now_ms) = self.stamped_ms(batch) else {
            return vec![format!("entry {index} was applied and is not as any leader stamped it")];
        };
        let mut wrong = self.end(index, state.lease_clock_ms(), now_ms);
        let begun: Vec<_> = batch.commands.iter().zip(replies).collect();
        let begun: Vec<_> =
            begun.into_iter().flat_map(|(command, reply)| self.begin(command, reply, now_ms)).collect();
        let mut held = std::mem::take(&mut self.held);
        for (id, token, deadline_ms) in state.leases() {
            if let Some(mut lease) = held.remove(&(id, token)) {
                lease.deadline_ms = deadline_ms;
                self.held.insert((id, token), lease);
            } else {
                wrong.push(format!("after entry {index} message {id} has a lease that nobody was given"));
            }
        }
        let longest_ms = self.leader_lease_ms.map_or(u64::MAX, |lease_ms| lease_ms + ROUNDED_MS);
        let unconfirmed_ms = batch.stamps.unconfirmed_ms;
        if unconfirmed_ms > longest_ms {
            wrong.push(format!(
                "entry {index} was stamped when no quorum had answered for {unconfirmed_ms} ms"
            ));
        }
        for (id, token) in begun {
            let Some(lease) = self.held.get(&(id, token)) else { continue };
            let left_ms = lease.deadline_ms.saturating_sub(state.lease_clock_ms());
            if left_ms > lease.length_ms.saturating_add(longest_ms) {
                wrong.push(format!(
                    "entry {index} gives message {id} a lease of {left_ms} ms, {} ms were asked for",
                    lease.length_ms
                ));
            }
        }
        wrong
    }

    /// Ends the leases whose deadlines the clock has reached with an entry that was stamped at `now_ms`.
    fn end(&mut self, index: u64, clock_ms: u64, now_ms: u64) -> Vec<String> {
        let over = self.held.extract_if(.., |_, lease| lease.deadline_ms <= clock_ms);
        let over: Vec<_> = over.collect();
        self.ended += over.len() as u64;
        let early = over.into_iter().filter(|(_, lease)| now_ms < lease.begun_ms + lease.length_ms);
        early
            .map(|((id, _), lease)| {
                format!(
                    "entry {index} ends the lease of message {id} {} ms after it began, {} ms were asked for",
                    now_ms - lease.begun_ms,
                    lease.length_ms
                )
            })
            .collect()
    }

    /// Notes the leases that a command begins or extends.
    fn begin(&mut self, command: &Command, reply: &Reply, now_ms: u64) -> Vec<(MessageId, LeaseToken)> {
        let session = command.session.map(|stamp| stamp.session);
        if reply.repeated {
            return Vec::new();
        }
        match (&command.op, &reply.result) {
            (Op::Lease(_), Ok(Outcome::Delivered(grants))) => {
                let begun = grants.iter().map(|grant| {
                    let (length_ms, deadline_ms) = (grant.lease_ms, u64::MAX);
                    let lease = Held { session, begun_ms: now_ms, length_ms, deadline_ms };
                    self.held.insert((grant.id, grant.token), lease);
                    (grant.id, grant.token)
                });
                begun.collect()
            }
            (Op::Extend { leases: Some(receipts), lease_ms }, Ok(Outcome::Extended { results, .. })) => {
                self.extend(&settled(receipts, results), *lease_ms, now_ms)
            }
            (Op::Extend { leases: None, lease_ms }, Ok(Outcome::Extended { .. })) => {
                let theirs = self.held.iter().filter(|(_, lease)| lease.session == session);
                let theirs: Vec<_> = theirs.map(|(lease, _)| *lease).collect();
                self.extend(&theirs, *lease_ms, now_ms)
            }
            (Op::SaveCheckpoint(save), Ok(Outcome::Extended { count: 1, .. })) => {
                self.extend(&[(save.id, save.token)], save.lease_ms, now_ms)
            }
            (Op::Txn(txn), Ok(Outcome::Txn(TxnOutcome::Done(_)))) => {
                let extends = txn.steps.iter().filter_map(|step| match step {
                    Step::Extend { leases, lease_ms } => Some((leases.receipts.to_vec(), *lease_ms)),
                    _ => None,
                });
                let extends: Vec<_> = extends.collect();
                extends.iter().flat_map(|(leases, ms)| self.extend(leases, *ms, now_ms)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn extend(
        &mut self,
        leases: &[(MessageId, LeaseToken)],
        lease_ms: u64,
        now_ms: u64,
    ) -> Vec<(MessageId, LeaseToken)> {
        for lease in leases {
            if let Some(lease) = self.held.get_mut(lease) {
                lease.begun_ms = now_ms;
                lease.length_ms = lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX);
            }
        }
        leases.to_vec()
    }
}

fn settled(receipts: &Receipts, results: &[Settled]) -> Vec<(MessageId, LeaseToken)> {
    let settled = receipts.receipts.iter().zip(results).filter(|(_, result)| **result == Settled::Ok);
    settled.map(|(receipt, _)| *receipt).collect()
}

//! The leases a worker holds, each from its delivery until its verdict is settled.
//!
//! ```text
//! Waiting → Running → Verdict (to be settled) → gone
//!     └─────────┴─── lost: the cluster says so; a verdict counts no more
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::job::{Told, Verdict};
use crate::limits::RECEIPTS_COUNT_MAX;
use crate::names::{LeaseToken, MessageId, QueueName};
use crate::wire::request::NackKind;
use crate::wire::response::Delivery;

/// Message and token, as requests name leases.
pub(super) type Pair = (MessageId, LeaseToken);

/// One lease.
pub(super) struct Lease {
    pub(super) delivery: Arc<Delivery>,
    /// When it is to be renewed.
    renew_at: Instant,
    tell: watch::Sender<Option<Told>>,
    pub(super) began: Instant,
    /// The cluster said that it is lost.
    lost: bool,
    /// What the handler decided, and how long it took.
    pub(super) verdict: Option<(Verdict, Duration)>,
    /// The verdict was sent and not answered: what the cluster says next may be about that.
    pub(super) in_doubt: bool,
}

/// All leases, by token.
#[derive(Default)]
pub(super) struct Held(BTreeMap<LeaseToken, Lease>);

/// Leases of one queue that are renewed with one request.
pub(super) struct Renewal {
    pub(super) queue: QueueName,
    pub(super) lease_ms: u64,
    pub(super) pairs: Vec<Pair>,
}

/// Verdicts of one kind in one queue, which go in one request.
pub(super) struct Settling {
    pub(super) queue: QueueName,
    pub(super) nack: Option<NackKind>,
    pub(super) pairs: Vec<Pair>,
}

/// A third of a lease of so many milliseconds.
fn third(lease_ms: u64) -> Duration {
    Duration::from_millis(lease_ms / 3)
}

impl Held {
    /// Keeps a lease that ends in `left_ms` or later; what its handler is to be told comes out of the receiver.
    pub(super) fn add(&mut self, delivery: Arc<Delivery>, left_ms: u64) -> watch::Receiver<Option<Told>> {
        let (tell, told) = watch::channel(None);
        let began = Instant::now();
        let renew_at = began + third(left_ms.min(delivery.lease_ms));
        let token = delivery.token;
        let lease = Lease { delivery, renew_at, tell, began, lost: false, verdict: None, in_doubt: false };
        self.0.insert(token, lease);
        told
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get_mut(&mut self, token: LeaseToken) -> Option<&mut Lease> {
        self.0.get_mut(&token)
    }

    pub(super) fn remove(&mut self, token: LeaseToken) -> Option<Lease> {
        self.0.remove(&token)
    }

    /// The handler begins now.
    pub(super) fn begin(&mut self, token: LeaseToken) {
        if let Some(lease) = self.0.get_mut(&token) {
            lease.began = Instant::now();
        }
    }

    /// The handler has decided. If the lease is lost nothing is left to settle, and it is handed out.
    pub(super) fn decide(&mut self, token: LeaseToken, verdict: Verdict) -> Option<Lease> {
        let lease = self.0.get_mut(&token)?;
        lease.verdict = Some((verdict, lease.began.elapsed()));
        if lease.lost { self.0.remove(&token) } else { None }
    }

    /// Whether a lease was lost before its handler began.
    pub(super) fn is_lost(&self, token: LeaseToken) -> bool {
        self.0.get(&token).is_none_or(|lease| lease.lost)
    }

    /// The cluster says that a lease is lost: its handler is told. One whose verdict is on its way hears it there.
    pub(super) fn lose(&mut self, token: LeaseToken) {
        if let Some(lease) = self.0.get_mut(&token).filter(|lease| lease.verdict.is_none()) {
            lease.lost = true;
            lease.tell.send_replace(Some(Told::LeaseLost));
        }
    }

    /// Every handler that runs is told to come to an end.
    pub(super) fn give_back(&self) {
        for lease in self.0.values().filter(|lease| !lease.lost && lease.verdict.is_none()) {
            lease.tell.send_replace(Some(Told::GiveBack));
        }
    }

    /// When the next lease is to be renewed.
    pub(super) fn next_renewal(&self) -> Option<Instant> {
        self.0.values().filter(|lease| !lease.lost).map(|lease| lease.renew_at).min()
    }

    /// The leases to be renewed now, and those that soon would be, so that few requests do; each is next due after
    /// another third.
    pub(super) fn renewals(&mut self) -> Vec<Renewal> {
        let now = Instant::now();
        let mut renewals: Vec<Renewal> = Vec::new();
        for lease in self.0.values_mut().filter(|lease| !lease.lost) {
            let (queue, lease_ms) = (&lease.delivery.queue, lease.delivery.lease_ms);
            let third = third(lease_ms);
            if lease.renew_at > now + third / 2 {
                continue;
            }
            lease.renew_at = now + third;
            let pair = (lease.delivery.id, lease.delivery.token);
            let joins = |renewal: &&mut Renewal| {
                renewal.queue == *queue
                    && renewal.lease_ms == lease_ms
                    && renewal.pairs.len() < RECEIPTS_COUNT_MAX
            };
            match renewals.iter_mut().find(joins) {
                Some(renewal) => renewal.pairs.push(pair),
                None => renewals.push(Renewal { queue: queue.clone(), lease_ms, pairs: vec![pair] }),
            }
        }
        renewals
    }

    /// A renewal was not answered: it is tried again after `pause`.
    pub(super) fn renew_again(&mut self, renewal: &Renewal, pause: Duration) {
        let at = Instant::now() + pause;
        for (_, token) in &renewal.pairs {
            if let Some(lease) = self.0.get_mut(token) {
                lease.renew_at = lease.renew_at.min(at);
            }
        }
    }

    /// All verdicts that are to be settled, in few requests.
    pub(super) fn settlings(&self) -> Vec<Settling> {
        let mut settlings: Vec<Settling> = Vec::new();
        for lease in self.0.values() {
            let Some((verdict, _)) = &lease.verdict else { continue };
            let (queue, nack) = (&lease.delivery.queue, verdict.nack());
            let pair = (lease.delivery.id, lease.delivery.token);
            let joins = |settling: &&mut Settling| {
                settling.queue == *queue && settling.nack == nack && settling.pairs.len() < RECEIPTS_COUNT_MAX
            };
            match settlings.iter_mut().find(joins) {
                Some(settling) => settling.pairs.push(pair),
                None => settlings.push(Settling { queue: queue.clone(), nack, pairs: vec![pair] }),
            }
        }
        settlings
    }
}

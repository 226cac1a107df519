//! The memory that clients may have at this node: one [`Budget`] for all input that is unfinished and all requests in
//! flight, of which each connection has a [`Share`]. What peers append, and their snapshots, are not in it.
//!
//! | used of the budget | a connection gets |
//! |---|---|
//! | up to a half | what it asks for |
//! | beyond | up to an equal share: the budget divided by those who hold something |
//! | three quarters | no more for unfinished input: the rest is for requests, which end by themselves |
//!
//! Input that gets nothing is not read; a whole request that gets nothing is refused. So that nobody waits for someone who
//! sends half a request and then nothing: if there is no room for a connection within its equal share, the oldest
//! unfinished input of one beyond its own gives way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use queue_protocol::values::milliseconds;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// What a request costs beside its bytes, while it is in flight.
pub(super) const REQUEST_SIZE: usize = 512;
/// Unfinished input younger than this does not give way.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(1);
/// Who waits for room looks again so often, whether it was told of some or not.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nobody is asked to give way more often.
const ASK_EVERY: Duration = Duration::from_millis(20);

const ASKED: u64 = u64::MAX;

/// Memory of all clients of this node.
pub(crate) struct Budget {
    size_max: usize,
    used: AtomicUsize,
    /// Shares that hold something.
    holders: AtomicUsize,
    /// Connections that wait for room.
    waiting: AtomicUsize,
    freed: Notify,
    began: Instant,
    shares: Mutex<Shares>,
}

#[derive(Default)]
struct Shares {
    all: BTreeMap<u64, Weak<Share>>,
    asked: Option<Instant>,
}

/// What one connection holds of the budget.
pub(crate) struct Share {
    budget: Arc<Budget>,
    connection: u64,
    held: AtomicUsize,
    /// Since when its unfinished input is there: milliseconds of the budget's life, counted from 1; 0 for none, [`ASKED`]
    /// if it is to give way.
    since: AtomicU64,
    asked: Notify,
}

/// Memory of one request, given back when this is dropped.
pub(crate) struct Charge {
    share: Arc<Share>,
    size: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.share.give_back(self.size);
    }
}

impl Budget {
    pub(crate) fn new(size_max: usize) -> Arc<Self> {
        Arc::new(Self {
            size_max,
            used: 0.into(),
            holders: 0.into(),
            waiting: 0.into(),
            freed: Notify::new(),
            began: Instant::now(),
            shares: Mutex::default(),
        })
    }

    /// Bytes that are held, and that may be.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), self.size_max)
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.locked()
    }

    /// The share of a connection; nothing at first.
    pub(crate) fn share(self: &Arc<Self>, connection: u64) -> Arc<Share> {
        let (budget, asked) = (Arc::clone(self), Notify::new());
        let share = Arc::new(Share { budget, connection, held: 0.into(), since: 0.into(), asked });
        self.shares().all.insert(connection, Arc::downgrade(&share));
        share
    }

    /// What each gets of `of`, where one who asks holds `held`: it counts, whether it holds something yet or not. So
    /// whenever there is no room for it within its own, somebody else is beyond theirs.
    fn equal_share(&self, of: usize, held: usize) -> usize {
        let others = self.holders.load(Ordering::Relaxed).saturating_sub(usize::from(held > 0));
        of / (others + 1)
    }

    /// Most that is used when unfinished input gets some.
    fn input_max(&self) -> usize {
        self.size_max / 4 * 3
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).map_or(u64::MAX, |ms| ms + 1)
    }

    /// There is no room for one within its equal share, which is `fair`: the oldest input of those beyond it is to end.
    fn make_way(&self, fair: usize) {
        let now = Instant::now();
        let mut shares = self.shares();
        if shares.asked.is_some_and(|asked| now < asked + ASK_EVERY) {
            return;
        }
        shares.asked = Some(now);
        let young = self.now().saturating_sub(milliseconds(GIVES_WAY_AFTER));
        let beyond = shares.all.values().filter_map(Weak::upgrade).filter_map(|share| {
            let (held, since) = (share.held.load(Ordering::Relaxed), share.since.load(Ordering::Relaxed));
            (held >= fair && (1..=young).contains(&since)).then_some((since, share))
        });
        let oldest = beyond.min_by_key(|(since, share)| (*since, share.connection));
        drop(shares);
        if let Some((_, share)) = oldest {
            share.since.store(ASKED, Ordering::Relaxed);
            share.asked.notify_one();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.shares().all.remove(&self.connection);
    }
}

impl Share {
    /// Takes memory for a whole request; `None` if there is none.
    pub(crate) fn request(self: &Arc<Self>, size: usize) -> Option<Charge> {
        let size = size + REQUEST_SIZE;
        self.take(size, self.budget.size_max).then(|| Charge { share: Arc::clone(self), size })
    }

    /// Takes memory for unfinished input, if there is some.
    fn input(&self, size: usize) -> bool {
        mutants::on(Mutant::InputNotCounted) || self.take(size, self.budget.input_max())
    }

    /// Takes memory for unfinished input as soon as there is some.
    pub(super) async fn room(&self, size: usize) {
        if self.input(size) {
            return;
        }
        let budget = &self.budget;
        let _waiting = Waiting::begin(&budget.waiting);
        loop {
            let freed = budget.freed.notified();
            if self.input(size) {
                return;
            }
            let held = self.held.load(Ordering::Relaxed);
            let fair = budget.equal_share(budget.input_max(), held);
            if held + size <= fair {
                budget.make_way(fair);
            }
            let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
        }
    }

    /// Takes memory unless more than `max` of the budget were used.
    fn take(&self, size: usize, max: usize) -> bool {
        let budget = &*self.budget;
        let held = self.held.load(Ordering::Relaxed);
        let fair = held + size <= budget.equal_share(budget.size_max, held);
        let taken = budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let used = used + size;
            (used <= budget.size_max / 2 || (used <= max && fair)).then_some(used)
        });
        if taken.is_ok() && self.held.fetch_add(size, Ordering::Relaxed) == 0 && size > 0 {
            budget.holders.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    pub(super) fn give_back(&self, size: usize) {
        if size == 0 || (mutants::on(Mutant::InputNotCounted) && self.held.load(Ordering::Relaxed) < size) {
            return;
        }
        let budget = &*self.budget;
        if self.held.fetch_sub(size, Ordering::Relaxed) == size {
            budget.holders.fetch_sub(1, Ordering::Relaxed);
        }
        budget.used.fetch_sub(size, Ordering::Relaxed);
        if budget.waiting.load(Ordering::Relaxed) > 0 {
            budget.freed.notify_one();
        }
    }

    /// Unfinished input is there, from now on if it was not before; or none is.
    pub(super) fn set_unfinished(&self, unfinished: bool) {
        if !unfinished {
            self.since.store(0, Ordering::Relaxed);
        } else if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(self.budget.now(), Ordering::Relaxed);
        }
    }

    /// Waits until its unfinished input is to give way.
    pub(super) async fn asked(&self) {
        loop {
            self.asked.notified().await;
            // It may have become whole just before it was asked.
            if self.since.load(Ordering::Relaxed) == ASKED {
                return;
            }
        }
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_half_nobody_gets_more_than_an_equal_share() {
        let budget = Budget::new(8_000_000);
        let [greedy, modest] = [1, 2].map(|connection| budget.share(connection));
        assert!(greedy.input(4_000_000), "the first half is for whoever comes");
        assert!(modest.input(100_000));
        assert!(!greedy.input(1), "it has a half of all, and two hold something");
        assert!(modest.input(1_000_000));
        assert!(!modest.input(1_000_000), "the last quarter is not for what is unfinished");
        let charge = modest.request(1_000_000).expect("it is for whole requests");
        assert!(greedy.request(1).is_none());
        assert!(modest.request(5_000_000).is_none(), "there is no more");
        drop(charge);
        greedy.give_back(4_000_000);
        assert!(modest.request(1_000_000).is_some());
        modest.give_back(1_100_000);
        assert_eq!((used(&budget), budget.holders.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_room_when_some_is_given_back() {
        let budget = Budget::new(1_000_000);
        let [one, other] = [1, 2].map(|connection| budget.share(connection));
        assert!(one.input(500_000) && one.input(250_000));
        let mut waits = std::pin::pin!(other.room(100_000));
        assert!(futures_util::poll!(&mut waits).is_pending());
        one.give_back(300_000);
        let began = Instant::now();
        waits.await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(used(&budget), 550_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_unfinished_input_beyond_its_share_gives_way() {
        let budget = Budget::new(1_000_000);
        let [old, young, small, good] = [1, 2, 3, 4].map(|connection| budget.share(connection));
        assert!(small.input(10_000));
        small.set_unfinished(true);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(old.input(370_000));
        old.set_unfinished(true);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(young.input(110_000) && young.input(220_000));
        young.set_unfinished(true);
        let gives_way = async {
            tokio::select! {
                () = old.asked() => old.give_back(370_000),
                () = young.asked() => panic!("it is younger"),
                () = small.asked() => panic!("it has less than its share"),
            }
        };
        let began = Instant::now();
        tokio::join!(good.room(100_000), gives_way);
        let waited = began.elapsed();
        assert!(waited >= GIVES_WAY_AFTER - Duration::from_millis(20), "after {waited:?}");
        assert!(waited <= GIVES_WAY_AFTER + 2 * LOOK_EVERY, "after {waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_nothing_yet_has_a_share_too() {
        const HELD: usize = 93_750;
        let budget = Budget::new(1_000_000);
        let others: Vec<_> = (1..=8).map(|connection| budget.share(connection)).collect();
        for share in &others {
            // Together three quarters but for 8 bytes; none has more than an eighth of that.
            assert!(share.input(HELD - 1));
            share.set_unfinished(true);
        }
        let good = budget.share(9);
        let gives_way = others.iter().map(|share| {
            Box::pin(async move {
                share.asked().await;
                share.give_back(HELD - 1);
                std::future::pending::<()>().await;
            })
        });
        let gives_way = futures_util::future::select_all(gives_way);
        tokio::select! {
            () = good.room(10_000) => {}
            _ = gives_way => unreachable!("none of them ends"),
            () = tokio::time::sleep(GIVES_WAY_AFTER + 2 * LOOK_EVERY) => panic!("nobody gives way"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_gone_has_no_share() {
        let budget = Budget::new(1_000_000);
        let share = budget.share(1);
        let charge = share.request(100).expect("there is room");
        drop(share);
        assert_eq!(used(&budget), 100 + REQUEST_SIZE, "its request is in flight");
        drop(charge);
        assert_eq!((used(&budget), budget.shares().all.len()), (0, 0));
    }
}

//! How often messages are handed out: a token bucket, in whole numbers, on the elapsed clock of the entries.
//!
//! A bucket holds as many messages as the rate allows in its time, and is refilled evenly. One message costs as many units
//! as that time has milliseconds, so that each millisecond gives back as many units as the rate allows messages. What is
//! kept is what was spent: a bucket that nobody used is full, and costs nothing.

use serde::{Deserialize, Serialize};

/// How often a bucket that gave all it had is refilled, at most, in milliseconds: each time costs an entry.
const REFILL_MS_MIN: u64 = 20;

/// So many messages in so many milliseconds; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::queue) struct Rate {
    max: u64,
    ms: u64,
}

/// What was taken out of a bucket and is not refilled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::queue) struct Bucket {
    /// Units; 0 is full.
    spent: u64,
    /// Elapsed time as of which that is so; 0 if it is full.
    at_ms: u64,
}

impl Rate {
    /// So many messages in so many milliseconds; 0 messages is no limit.
    pub(in crate::queue) fn new(max: u32, ms: u64) -> Self {
        if max == 0 { Self::default() } else { Self { max: max.into(), ms: ms.max(1) } }
    }

    /// Whether it limits anything.
    pub(super) fn is_limit(self) -> bool {
        self.max > 0
    }

    fn size(self) -> u64 {
        self.max.saturating_mul(self.ms)
    }
}

impl Bucket {
    /// Messages it still gives; without limit, all.
    pub(in crate::queue) fn count(self, rate: Rate) -> u64 {
        if rate.is_limit() { rate.size().saturating_sub(self.spent) / rate.ms } else { u64::MAX }
    }

    /// This at a later time.
    pub(in crate::queue) fn refilled(self, rate: Rate, elapsed_ms: u64) -> Self {
        let back = elapsed_ms.saturating_sub(self.at_ms).saturating_mul(rate.max);
        let spent = self.spent.saturating_sub(back);
        if spent == 0 { Self::default() } else { Self { spent, at_ms: elapsed_ms.max(self.at_ms) } }
    }

    /// This when so many messages were taken from it, not more than it gives.
    pub(in crate::queue) fn less(self, rate: Rate, count: u64, elapsed_ms: u64) -> Self {
        if !rate.is_limit() || count == 0 {
            return self;
        }
        let refilled = self.refilled(rate, elapsed_ms);
        let spent = refilled.spent.saturating_add(count.saturating_mul(rate.ms)).min(rate.size());
        Self { spent, at_ms: elapsed_ms.max(refilled.at_ms) }
    }

    /// When it gives a message again, if it gives none now.
    pub(in crate::queue) fn next_ms(self, rate: Rate) -> Option<u64> {
        let lacking = self.spent.saturating_add(rate.ms).saturating_sub(rate.size());
        let wait_ms = || lacking.div_ceil(rate.max).max(REFILL_MS_MIN);
        (rate.is_limit() && self.count(rate) == 0).then(|| self.at_ms.saturating_add(wait_ms()))
    }

    /// When it is full, if it is not now.
    pub(super) fn full_ms(self, rate: Rate) -> Option<u64> {
        (self.spent > 0).then(|| self.at_ms.saturating_add(self.spent.div_ceil(rate.max.max(1))))
    }

    /// Whether it can have come from using one of this rate.
    pub(in crate::queue) fn fits(self, rate: Rate) -> bool {
        self.spent <= rate.size() && (self.spent > 0 || self.at_ms == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_its_rate_allows_and_no_more() {
        let rate = Rate::new(3, 1_000);
        let mut bucket = Bucket::default();
        assert_eq!((bucket.count(rate), bucket.next_ms(rate), bucket.full_ms(rate)), (3, None, None));
        bucket = bucket.less(rate, 3, 10_000);
        assert_eq!(
            (bucket.count(rate), bucket.next_ms(rate), bucket.full_ms(rate)),
            (0, Some(10_334), Some(11_000))
        );
        assert_eq!(bucket.refilled(rate, 10_333).count(rate), 0);
        assert_eq!(bucket.refilled(rate, 10_334).count(rate), 1);
        assert_eq!(bucket.refilled(rate, 10_999).count(rate), 2);
        assert_eq!(bucket.refilled(rate, 11_000), Bucket::default());
        // A second's worth at once, then as the time goes.
        let mut given = 3;
        for elapsed_ms in 10_001..=20_000 {
            bucket = bucket.refilled(rate, elapsed_ms);
            let count = bucket.count(rate);
            bucket = bucket.less(rate, count, elapsed_ms);
            given += count;
        }
        assert_eq!(given, 3 + 30);
    }

    #[test]
    fn a_fast_rate_is_refilled_in_steps() {
        let rate = Rate::new(100_000, 1_000);
        let bucket = Bucket::default().less(rate, 100_000, 5_000);
        assert_eq!(bucket.next_ms(rate), Some(5_020));
        assert_eq!(bucket.refilled(rate, 5_020).count(rate), 2_000);
    }

    #[test]
    fn no_number_is_too_large() {
        let rate = Rate::new(u32::MAX, u64::MAX);
        let bucket = Bucket::default().less(rate, u64::MAX, u64::MAX);
        assert!(bucket.fits(rate) && bucket.refilled(rate, u64::MAX).fits(rate));
        assert!(bucket.next_ms(rate).is_none_or(|at| at == u64::MAX));
        assert_eq!(Bucket::default().count(Rate::new(0, 0)), u64::MAX);
    }
}

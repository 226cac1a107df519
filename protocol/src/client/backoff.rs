//! How long to wait before the next try: doubling, with jitter that depends on nothing but the seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// First wait, in milliseconds.
const FIRST_MS: u64 = 10;
/// Longest wait, in milliseconds: what an election may cost on top of itself.
const LAST_MS: u64 = 160;

/// A sequence of numbers that look random (splitmix64).
#[derive(Debug)]
pub(super) struct Jitter(AtomicU64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between half of `wait` and all of it.
    pub(super) fn spread(&self, wait: Duration) -> Duration {
        let half = wait / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.next() % span)
    }
}

/// Time that a try needs: one that is begun with less is rarely answered, and what was refused would end as unknown.
pub(super) const TRY_MIN: Duration = Duration::from_millis(50);

/// Waits of one request, or of whoever else keeps asking.
#[derive(Debug)]
pub(super) struct Backoff {
    first_ms: u64,
    last_ms: u64,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST_MS, LAST_MS)
    }
}

impl Backoff {
    /// Waits that begin with `first_ms` and end with `last_ms`.
    pub(super) fn new(first_ms: u64, last_ms: u64) -> Self {
        Self { first_ms, last_ms, tries: 0 }
    }

    /// The next wait, at least `floor`.
    pub(super) fn next(&mut self, jitter: &Jitter, floor: Duration) -> Duration {
        let wait = (self.first_ms << self.tries.min(10)).min(self.last_ms);
        self.tries += 1;
        floor + jitter.spread(Duration::from_millis(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_differ() {
        let jitter = Jitter::new(1);
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(&jitter, Duration::ZERO)).collect();
        assert!(waits[0] >= Duration::from_millis(5) && waits[0] <= Duration::from_millis(10), "{waits:?}");
        assert!(waits[7] >= Duration::from_millis(80) && waits[7] <= Duration::from_millis(160), "{waits:?}");
        assert_ne!(waits[6], waits[7], "no jitter");
    }
}

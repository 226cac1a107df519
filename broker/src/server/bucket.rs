//! A bucket that leaks: how much of something there was lately.

use std::time::Duration;

use tokio::time::Instant;

/// What is in it, and when a unit leaked last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    level: u32,
    at: Instant,
}

impl Bucket {
    pub(super) fn empty(now: Instant) -> Self {
        Self { level: 0, at: now }
    }

    pub(super) fn level(self) -> u32 {
        self.level
    }

    /// The same at `now`, if a unit leaks each `leak`.
    pub(super) fn leaked(self, now: Instant, leak: Duration) -> Self {
        let whole = now.saturating_duration_since(self.at).as_nanos() / leak.as_nanos();
        let gone = u32::try_from(whole).unwrap_or(u32::MAX);
        if gone >= self.level {
            return Self::empty(now);
        }
        Self { level: self.level - gone, at: self.at + leak * gone }
    }

    /// With one unit more, up to `most`.
    pub(super) fn filled(self, most: u32) -> Self {
        Self { level: self.level.saturating_add(1).min(most), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_leaks_each_time_and_parts_of_it_are_not_lost() {
        let (begin, leak) = (Instant::now(), Duration::from_millis(100));
        let full = (0..9).fold(Bucket::empty(begin), |bucket, _| bucket.filled(5));
        assert_eq!(full.level(), 5);
        // Looked at ever so often, it leaks as fast.
        let looks = (1..=15).map(|look| begin + leak / 10 * 3 * look);
        assert_eq!(looks.fold(full, |bucket, now| bucket.leaked(now, leak)).level(), 1);
        assert_eq!(full.leaked(begin + leak * 4, leak).level(), 1);
        assert_eq!(full.leaked(begin + Duration::from_secs(1 << 30), leak).level(), 0);
    }
}

//! How much time has passed, as one node knows it: the replicated clock that durations run on. It goes at the rate of the
//! machine's time since boot, whatever happens to the time of day.
//!
//! ```text
//! leader    stamp 500 ──────────── stamp 900 ─────────── pong: 1,700
//! follower      a pong within 4 ms: 1,700 to 1,704 ──► goes on from there by its own time since boot, also as a leader
//! ```

/// What this node knows of the elapsed clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Elapsed {
    /// A time since boot, and what the clock showed then.
    known: Option<(u64, u64)>,
}

impl Elapsed {
    /// What it shows at a time since boot; `None` if this is not known.
    pub(in crate::raft) fn at(self, boot_ms: u64) -> Option<u64> {
        self.known.map(|(since, elapsed_ms)| elapsed_ms.saturating_add(boot_ms.saturating_sub(since)))
    }

    /// At this time since boot it shows this.
    pub(in crate::raft) fn set(&mut self, boot_ms: u64, elapsed_ms: u64) {
        self.known = Some((boot_ms, elapsed_ms));
    }

    /// If it is known, it shows between `low_ms` and `high_ms`.
    pub(in crate::raft) fn bound(&mut self, boot_ms: u64, low_ms: u64, high_ms: u64) {
        if let Some(now) = self.at(boot_ms) {
            let bounded = now.clamp(low_ms, high_ms.max(low_ms));
            if bounded != now {
                self.set(boot_ms, bounded);
            }
        }
    }

    /// Moves it by a few milliseconds, fewer than passed since it was read last.
    pub(super) fn shift(&mut self, by_ms: i64) {
        if let Some((_, elapsed_ms)) = &mut self.known {
            *elapsed_ms = elapsed_ms.saturating_add_signed(by_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_at_the_rate_of_the_time_since_boot() {
        let mut elapsed = Elapsed::default();
        assert_eq!(elapsed.at(7), None);
        elapsed.bound(7, 1, 2);
        assert_eq!(elapsed.at(7), None, "a bound alone says nothing");
        elapsed.set(1_000, 50);
        assert_eq!((elapsed.at(1_000), elapsed.at(1_250)), (Some(50), Some(300)));
        elapsed.bound(1_250, 200, 400);
        assert_eq!(elapsed.at(1_250), Some(300));
        elapsed.bound(1_250, 310, 400);
        assert_eq!(elapsed.at(1_260), Some(320));
        elapsed.bound(1_260, 100, 301);
        assert_eq!(elapsed.at(1_260), Some(301));
        elapsed.shift(-1);
        assert_eq!(elapsed.at(1_260), Some(300));
    }
}

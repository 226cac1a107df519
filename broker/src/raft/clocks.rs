//! The leader's side of the two replicated clocks (design 3.1): what it stamps its entries with.

use std::time::Duration;

use openraft::alias::InstantOf;

use super::types::TypeConfig;
use crate::mutants::{self, Mutant};
use crate::queue::command::Stamps;

/// Monotonic time as openraft reports it.
pub(super) type Instant = InstantOf<TypeConfig>;

/// Turns quorum acknowledgements and wall clocks into stamps. One per leadership.
///
/// ```text
/// acks      a1 --- a2 ------------------------ a3 -- a4
/// counted      all     at most two heartbeats     all
/// ```
#[derive(Debug)]
pub(crate) struct Stamper {
    heartbeat: Duration,
    acked: Option<Instant>,
    unstamped: Duration,
}

impl Stamper {
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, acked: None, unstamped: Duration::ZERO }
    }

    /// A quorum has acknowledged what was sent at `acked`. Earlier or equal times change nothing.
    pub(crate) fn acknowledge(&mut self, acked: Instant) {
        if let Some(before) = self.acked {
            let gone = if acked > before { acked - before } else { Duration::ZERO };
            self.unstamped += gone.min(2 * self.heartbeat);
            if mutants::on(Mutant::LeaseClockTooFast) {
                self.unstamped += gone;
            }
        }
        self.acked = Some(self.acked.map_or(acked, |before| before.max(acked)));
    }

    /// The newest acknowledgement.
    pub(crate) fn acked(&self) -> Option<Instant> {
        self.acked
    }

    /// Milliseconds confirmed and not stamped yet.
    pub(crate) fn pending_ms(&self) -> u64 {
        u64::try_from(self.unstamped.as_millis()).unwrap_or(u64::MAX)
    }

    /// Stamps an entry: what was confirmed since the last one goes into this one, to the millisecond.
    pub(crate) fn stamp(&mut self, wall_ms: u64) -> Stamps {
        let confirmed_ms = self.pending_ms();
        self.unstamped -= Duration::from_millis(confirmed_ms);
        Stamps::of(wall_ms, confirmed_ms)
    }
}

#[cfg(test)]
mod tests {
    use openraft::type_config::TypeConfigExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gap_between_acknowledgements_counts_for_two_heartbeats_at_most() {
        let heartbeat = Duration::from_millis(150);
        let start = TypeConfig::now();
        let mut stamper = Stamper::new(heartbeat);
        stamper.acknowledge(start);
        assert_eq!(stamper.stamp(7), Stamps::of(7, 0));
        stamper.acknowledge(start + Duration::from_millis(100));
        stamper.acknowledge(start + Duration::from_secs(600));
        assert_eq!(stamper.stamp(8).confirmed_ms, 400);
        stamper.acknowledge(start);
        assert_eq!(stamper.stamp(9).confirmed_ms, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fractions_of_a_millisecond_are_kept_for_the_next_stamp() {
        let start = TypeConfig::now();
        let mut stamper = Stamper::new(Duration::from_millis(150));
        stamper.acknowledge(start);
        let mut total = 0;
        for step in 1..=10 {
            stamper.acknowledge(start + Duration::from_micros(500 * step));
            total += stamper.stamp(0).confirmed_ms;
        }
        assert_eq!(total, 5);
    }
}

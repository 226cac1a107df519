//! The pulse of a node: loops that look again and again wake at times that their periods divide, counted from the start of
//! the node. So those of one period wake together, and a node without work wakes a few times a second instead of once for
//! each loop.

use std::time::Duration;

use tokio::time::Instant;

use crate::raft::Consensus;

/// Where the count begins. Copies are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse(Instant);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Since it began.
    pub(crate) fn age(self) -> Duration {
        self.0.elapsed()
    }

    /// The next time that `every` divides: within one period.
    pub(crate) fn next(self, every: Duration) -> Instant {
        let periods = self.0.elapsed().as_nanos() / every.as_nanos().max(1) + 1;
        let nanos = periods * every.as_nanos();
        self.0 + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits for it.
    pub(crate) async fn beat(self, every: Duration) {
        tokio::time::sleep_until(self.next(every)).await;
    }
}

impl Consensus {
    /// One turn of the loop of Raft: it has answered. `None` when it has ended.
    pub(crate) async fn turn(&self) -> Option<()> {
        self.raft().with_raft_state(|_| ()).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_began_at_any_time_wakes_at_times_that_its_period_divides() {
        let ms = Duration::from_millis;
        let begin = Instant::now();
        let pulse = Pulse::new();
        tokio::time::advance(ms(130)).await;
        pulse.beat(ms(100)).await;
        assert_eq!(begin.elapsed(), ms(200));
        pulse.beat(ms(100)).await;
        assert_eq!(begin.elapsed(), ms(300));
        pulse.beat(ms(250)).await;
        assert_eq!(begin.elapsed(), ms(500));
        assert_eq!(pulse.next(ms(150)) - begin, ms(600));
    }
}

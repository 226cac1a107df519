//! The pulse of a node: loops that look again and again wake at whole beats, counted from the start of the node. So they
//! wake together, and a node without work wakes a few times a second instead of once for each loop.

use std::time::Duration;

use tokio::time::Instant;

use crate::raft::Consensus;

/// The pause between two looks of a loop that nobody waits for: at disks, clocks, learners.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Where the count begins, and the length of a beat. Copies are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    begin: Instant,
    /// The leader's heartbeat: what is sent as often is sent with the rest.
    step: Duration,
}

impl Pulse {
    pub(crate) fn new(step: Duration) -> Self {
        Self { begin: Instant::now(), step }
    }

    /// Time since this node began.
    pub(crate) fn age(self) -> Duration {
        self.begin.elapsed()
    }

    /// The next time that `every` divides, as a whole number of beats: within one period. What is shorter than a beat is
    /// taken as it is.
    pub(crate) fn next(self, every: Duration) -> Instant {
        let (step, every) = (self.step.as_nanos().max(1), every.as_nanos().max(1));
        let every = if every < step { every } else { (every + step / 2) / step * step };
        let nanos = (self.begin.elapsed().as_nanos() / every + 1) * every;
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits for the next time that `every` divides.
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
    async fn what_began_at_any_time_wakes_at_whole_beats() {
        let ms = Duration::from_millis;
        let begin = Instant::now();
        let pulse = Pulse::new(ms(150));
        tokio::time::advance(ms(130)).await;
        pulse.beat(ms(150)).await;
        assert_eq!(begin.elapsed(), ms(150));
        pulse.beat(ms(150)).await;
        assert_eq!(begin.elapsed(), ms(300));
        pulse.beat(ms(500)).await;
        assert_eq!(begin.elapsed(), ms(450), "three beats");
        assert_eq!(pulse.next(ms(1_000)) - begin, ms(1_050), "seven beats");
        assert_eq!(pulse.next(ms(20)) - begin, ms(460), "shorter than a beat");
    }
}

//! The leader's side of the two replicated clocks (design 3.1): what it stamps its entries with.

use std::time::Duration;

use openraft::alias::InstantOf;
use queue_protocol::values::milliseconds;

use crate::mutants::{self, Mutant};
use crate::raft::openraft::types::TypeConfig;

/// Monotonic time as openraft reports it.
pub(in crate::raft) type Instant = InstantOf<TypeConfig>;

/// Turns quorum acknowledgements and wall clocks into stamps. One per leadership.
///
/// ```text
/// time      begin --- a1 --- a2 ----------------------- a3 -- a4 ------ stamping
/// counted        all     all     at most two heartbeats    all    none: unconfirmed
/// ```
///
/// The lease clock counts what is confirmed, so it shows less than has passed. What it lacks at the stamping of an entry is
/// the entry's `unconfirmed_ms`, by which a lease that begins with the entry ends later on that clock: the clock may
/// catch up afterwards. No entry is stamped once that exceeds the leader's lease: another may lead by then, and leases
/// would become longer than they were asked for.
///
/// Source: design 3.1. A quorum that acknowledges what was sent at `a` has elected nobody else before `a`; so the times
/// that two leaders count never overlap.
#[derive(Debug)]
pub(crate) struct Stamper {
    heartbeat: Duration,
    /// How long a leader without an acknowledgement may still take it that it leads.
    lease: Duration,
    /// The newest acknowledgement; from there on nothing is counted. Before the first it is the begin of the leadership.
    counted: Instant,
    acked: Option<Instant>,
    unstamped: Duration,
}

/// What is added to the lease clock and what it lacks then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseStamp {
    pub(crate) confirmed_ms: u64,
    pub(crate) unconfirmed_ms: u64,
}

impl Stamper {
    pub(crate) fn new(heartbeat: Duration, lease: Duration, begin: Instant) -> Self {
        Self { heartbeat, lease, counted: begin, acked: None, unstamped: Duration::ZERO }
    }

    /// A quorum has acknowledged what was sent at `acked`. Earlier or equal times change nothing.
    pub(crate) fn acknowledge(&mut self, acked: Instant) {
        let gone = since(self.counted, acked);
        self.unstamped += gone.min(2 * self.heartbeat);
        if mutants::on(Mutant::LeaseClockTooFast) {
            self.unstamped += gone;
        }
        self.counted = self.counted.max(acked);
        self.acked = Some(self.acked.map_or(acked, |before| before.max(acked)));
    }

    /// When the newest acknowledgement of a quorum came, if one has.
    pub(crate) fn acked(&self) -> Option<Instant> {
        self.acked
    }

    /// Milliseconds that have passed and are on no entry yet, confirmed or not, rounded up.
    pub(crate) fn unstamped_ms(&self, now: Instant) -> u64 {
        ceil_ms(self.unstamped + since(self.counted, now))
    }

    /// Milliseconds confirmed and not stamped yet.
    pub(crate) fn pending_ms(&self) -> u64 {
        milliseconds(self.unstamped)
    }

    /// A quorum has answered within the lease.
    pub(crate) fn is_confirmed(&self, now: Instant) -> bool {
        since(self.counted, now) <= self.lease
    }

    /// Stamps an entry: what was confirmed since the last one goes into this one, to the millisecond. The rest of a
    /// millisecond is added to the clock later, so it counts as unconfirmed. `None` if no quorum has acknowledged
    /// anything for longer than the leader's lease.
    pub(crate) fn stamp(&mut self, now: Instant) -> Option<LeaseStamp> {
        if !self.is_confirmed(now) && !mutants::on(Mutant::StampedWithoutQuorum) {
            return None;
        }
        let confirmed_ms = self.pending_ms();
        self.unstamped -= Duration::from_millis(confirmed_ms);
        let unconfirmed_ms = if mutants::on(Mutant::LeaseWithoutLag) { 0 } else { self.unstamped_ms(now) };
        Some(LeaseStamp { confirmed_ms, unconfirmed_ms })
    }
}

/// From one moment to another; nothing if that is not later.
fn since(from: Instant, to: Instant) -> Duration {
    if to > from { to - from } else { Duration::ZERO }
}

fn ceil_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use openraft::type_config::TypeConfigExt;

    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(150);
    const LEASE: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stamps(confirmed_ms: u64, unconfirmed_ms: u64) -> Option<LeaseStamp> {
        Some(LeaseStamp { confirmed_ms, unconfirmed_ms })
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_between_acknowledgements_counts_for_two_heartbeats_at_most() {
        let begin = TypeConfig::now();
        let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin);
        stamper.acknowledge(begin);
        assert_eq!(stamper.stamp(begin), stamps(0, 0));
        stamper.acknowledge(begin + ms(100));
        stamper.acknowledge(begin + ms(600_000));
        assert_eq!(stamper.stamp(begin + ms(600_000)), stamps(400, 0));
        stamper.acknowledge(begin);
        assert_eq!(stamper.stamp(begin + ms(600_000)), stamps(0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn fractions_of_a_millisecond_are_kept_for_the_next_stamp_and_are_unconfirmed_until_then() {
        let begin = TypeConfig::now();
        let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin);
        let mut total = 0;
        for step in 1..=10 {
            let now = begin + Duration::from_micros(500 * step);
            stamper.acknowledge(now);
            let stamp = stamper.stamp(now).expect("it was just acknowledged");
            total += stamp.confirmed_ms;
            assert_eq!(stamp.unconfirmed_ms, step % 2);
        }
        assert_eq!(total, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_clock_lacks_is_unconfirmed_in_whole_though_a_gap_counts_for_two_heartbeats() {
        let begin = TypeConfig::now();
        let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin);
        stamper.acknowledge(begin + ms(50));
        assert_eq!(stamper.stamp(begin + ms(950)), stamps(50, 900));
        assert_eq!(stamper.unstamped_ms(begin + ms(960)), 910);
        // An acknowledgement that was sent before the stamping and comes after it.
        stamper.acknowledge(begin + ms(200));
        assert_eq!(stamper.stamp(begin + ms(1_000)), stamps(150, 800));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_acknowledgement_counts_from_the_begin_of_the_leadership_if_it_was_sent_before() {
        let begin = TypeConfig::now();
        let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin + ms(100));
        assert_eq!(stamper.stamp(begin + ms(130)), stamps(0, 30));
        stamper.acknowledge(begin);
        assert_eq!(stamper.stamp(begin + ms(140)), stamps(0, 40));
        stamper.acknowledge(begin + ms(110));
        assert_eq!(stamper.stamp(begin + ms(140)), stamps(10, 30));
        assert_eq!(stamper.acked(), Some(begin + ms(110)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_stamped_when_no_quorum_has_answered_for_longer_than_the_lease_and_nothing_is_lost() {
        let begin = TypeConfig::now();
        let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin);
        stamper.acknowledge(begin + ms(200));
        assert_eq!(stamper.stamp(begin + ms(1_201)), None);
        stamper.acknowledge(begin + ms(600_000));
        assert_eq!(stamper.stamp(begin + ms(600_010)), stamps(500, 10));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_leader_that_stamps_without_a_quorum_is_noticed() {
        let test = "raft::group::clocks::tests::nothing_is_stamped_when_no_quorum_has_answered_for_longer_than_the_lease_and_nothing_is_lost";
        assert!(mutants::is_caught_by(test, Mutant::StampedWithoutQuorum));
    }

    #[test]
    fn a_clock_made_of_any_acknowledgements_reaches_no_deadline_early() {
        use proptest::prelude::*;
        let event = (0u64..400_000, prop::bool::ANY, 0u64..300_000);
        proptest!(|(events in prop::collection::vec(event, 1..60), length_ms in 1u64..2_000)| {
            let begin = TypeConfig::now();
            let mut stamper = Stamper::new(HEARTBEAT, LEASE, begin);
            let (mut now, mut clock_ms) = (begin, 0);
            let mut deadlines = Vec::new();
            for (pause_us, stamped, lag_us) in events {
                now += Duration::from_micros(pause_us);
                if !stamped {
                    stamper.acknowledge(begin.max(now - Duration::from_micros(lag_us)));
                    continue;
                }
                let Some(stamp) = stamper.stamp(now) else { continue };
                clock_ms += stamp.confirmed_ms;
                for (end, deadline_ms) in &deadlines {
                    prop_assert!(clock_ms < *deadline_ms || now >= *end, "{clock_ms} {deadline_ms}");
                }
                let longest_ms = ceil_ms(LEASE) + 1;
                prop_assert!(stamp.unconfirmed_ms <= longest_ms);
                deadlines.push((now + ms(length_ms), clock_ms + stamp.unconfirmed_ms + length_ms));
            }
        });
    }
}

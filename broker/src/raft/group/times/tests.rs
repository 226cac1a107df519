//! Clocks that jump, nodes that are booted anew, peers that tell what they know.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use queue_protocol::wire::level::Levels;
use queue_protocol::wire::peer::Lead;

use super::*;

const BEGIN_MS: u64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// The clocks of a machine: how far its time of day is off, and the time since boot.
#[derive(Default)]
struct Hand {
    off_ms: AtomicI64,
    boot_ms: AtomicU64,
    boot_id: u128,
}

impl Clock for Hand {
    fn wall_ms(&self) -> u64 {
        (BEGIN_MS + self.boot_ms()).saturating_add_signed(self.off_ms.load(Ordering::Relaxed))
    }
    fn boot_ms(&self) -> u64 {
        self.boot_ms.load(Ordering::Relaxed)
    }
    fn boot_id(&self) -> Option<u128> {
        Some(self.boot_id)
    }
}

fn node(anchor: Option<Anchor>) -> (Arc<Hand>, Arc<Times>) {
    let hand = Arc::new(Hand { boot_id: 7, ..Hand::default() });
    let times = Times::new(NodeId(1), hand.clone(), anchor, Witness::default());
    (hand, times)
}

fn ping(off_ms: i64, hand: &Hand, elapsed_ms: Option<u64>, leads: bool) -> PeerPing {
    PeerPing {
        wall_ms: (BEGIN_MS + hand.boot_ms()).saturating_add_signed(off_ms),
        elapsed_ms,
        disk_free_bytes: 0,
        disk_spare_bytes: 0,
        last_index: 0,
        disk_low: false,
        descriptors_short: false,
        durable_index: 0,
        durable_vote: None,
        levels: Levels::OURS,
        lead: leads.then_some(Lead { commit_index: 0, confirmed_age_ms: 0 }),
        hashes: [None; queue_protocol::wire::peer::HASHES_TOLD],
    }
}

/// Time passes, with a look at the clocks every 100 ms; what they ask for at the end.
fn pass(hand: &Hand, times: &Times, ms: u64) -> Look {
    let mut last = Look::default();
    for _ in 0..ms / 100 {
        hand.boot_ms.fetch_add(100, Ordering::Relaxed);
        last = times.look();
    }
    last
}

#[test]
fn a_lone_node_whose_clock_is_a_month_ahead_for_a_moment_stamps_what_it_would_have() {
    let (hand, times) = node(None);
    assert!(!times.may_stamp());
    times.lead(vec![1]);
    assert!(!times.may_stamp(), "it has not applied what was committed");
    times.applied_all();
    assert_eq!(times.now(), Now { wall_ms: BEGIN_MS, elapsed_ms: 0 });
    times.applied(times.now());
    pass(&hand, &times, 1_000);
    hand.off_ms.store(30 * DAY_MS, Ordering::Relaxed);
    pass(&hand, &times, 2_000);
    assert_eq!(times.now(), Now { wall_ms: BEGIN_MS + 3_000, elapsed_ms: 3_000 });
    assert_eq!(times.off_ms(), 30 * DAY_MS);
    hand.off_ms.store(0, Ordering::Relaxed);
    assert_eq!(pass(&hand, &times, 40_000).correct, None);
    assert_eq!(times.now(), Now { wall_ms: BEGIN_MS + 43_000, elapsed_ms: 43_000 });
}

#[test]
fn a_jump_that_lasts_is_believed_and_set_and_moves_no_elapsed_time() {
    let (hand, times) = node(None);
    times.lead(vec![1]);
    times.applied_all();
    times.applied(times.now());
    hand.off_ms.store(30 * DAY_MS, Ordering::Relaxed);
    assert_eq!(pass(&hand, &times, 30_000).correct, None);
    assert_eq!(pass(&hand, &times, 200).correct, Some(Correction::Forward));
    times.applied(times.now());
    assert_eq!((pass(&hand, &times, 100).correct, times.off_ms()), (None, 0));
    hand.off_ms.store(0, Ordering::Relaxed);
    let from_ms = times.inner().applied.wall_ms;
    let Look { correct, .. } = pass(&hand, &times, 30_200);
    let to_ms = BEGIN_MS + 60_500;
    assert_eq!(correct, Some(Correction::Back { from_ms, to_ms }));
    assert_eq!(times.now(), Now { wall_ms: to_ms, elapsed_ms: 60_500 });
}

#[test]
fn a_node_of_the_same_boot_goes_on_from_its_anchor_and_of_another_it_waits() {
    let anchor = |boot_id| Some(Anchor { boot_id, boot_ms: 0, elapsed_ms: 500 });
    let (hand, times) = node(anchor(7));
    hand.boot_ms.store(250, Ordering::Relaxed);
    assert_eq!(times.elapsed_ms(), Some(750));
    let (_, times) = node(anchor(8));
    assert_eq!(times.elapsed_ms(), None);
}

#[test]
fn a_new_leader_goes_on_from_what_a_majority_knows_else_from_the_time_of_day() {
    for (told, expected) in [(Some(5_000), 5_000), (None, 700 + 9_000)] {
        let (hand, times) = node(None);
        hand.boot_ms.store(20_000, Ordering::Relaxed);
        times.applied(Now { wall_ms: BEGIN_MS + 11_000, elapsed_ms: 700 });
        times.lead(vec![1, 2, 3]);
        times.applied_all();
        assert!(!times.may_stamp(), "nobody was heard");
        times.hear(NodeId(3), &ping(0, &hand, told, false), 20_000);
        assert!(times.may_stamp());
        assert_eq!(times.now().elapsed_ms, expected);
    }
}

#[test]
fn a_follower_keeps_to_what_the_leader_tells_as_nearly_as_it_can_know() {
    let (hand, times) = node(None);
    hand.boot_ms.store(10_000, Ordering::Relaxed);
    times.hear(NodeId(2), &ping(0, &hand, Some(400), true), 9_000);
    assert_eq!(times.elapsed_ms(), Some(900), "in the middle of the second that it took");
    times.hear(NodeId(2), &ping(0, &hand, Some(850), true), 9_990);
    assert_eq!(times.elapsed_ms(), Some(860));
    times.hear(NodeId(2), &ping(0, &hand, Some(9_999), false), 9_990);
    times.hear(NodeId(2), &ping(0, &hand, Some(9_999), true), 8_000);
    assert_eq!(times.elapsed_ms(), Some(860), "no leader, and too late");
    times.applied(Now { wall_ms: BEGIN_MS + 10_000, elapsed_ms: 870 });
    assert_eq!(times.elapsed_ms(), Some(870));
}

#[test]
fn a_leader_whose_clock_a_majority_contradicts_stamps_their_time() {
    let (hand, times) = node(Some(Anchor { boot_id: 7, boot_ms: 0, elapsed_ms: 0 }));
    times.applied(Now { wall_ms: BEGIN_MS, elapsed_ms: 0 });
    times.lead(vec![1, 2, 3]);
    hand.off_ms.store(-DAY_MS, Ordering::Relaxed);
    for _ in 0..60 {
        for peer in [2, 3] {
            times.hear(NodeId(peer), &ping(0, &hand, None, false), hand.boot_ms());
        }
        pass(&hand, &times, 1_000);
    }
    assert_eq!(times.now(), Now { wall_ms: BEGIN_MS + 60_000, elapsed_ms: 60_000 });
}

#[test]
fn elapsed_time_follows_a_clock_that_is_fast_by_a_thousandth_at_most() {
    let (hand, times) = node(None);
    times.lead(vec![1]);
    times.applied_all();
    times.applied(times.now());
    for _ in 0..1_000 {
        hand.off_ms.fetch_add(3, Ordering::Relaxed);
        pass(&hand, &times, 1_000);
    }
    let elapsed_ms = times.now().elapsed_ms;
    assert!((1_000_990..=1_001_001).contains(&elapsed_ms), "{elapsed_ms}");
}

#[test]
fn an_anchor_is_kept_once_and_again_when_it_is_off() {
    let (hand, times) = node(None);
    assert_eq!(times.look().anchor, None);
    hand.boot_ms.store(10_000, Ordering::Relaxed);
    times.hear(NodeId(2), &ping(0, &hand, Some(400), true), 10_000);
    assert_eq!(times.look().anchor, Some(Anchor { boot_id: 7, boot_ms: 10_000, elapsed_ms: 400 }));
    assert_eq!(pass(&hand, &times, 60_000).anchor, None);
    times.applied(Now { wall_ms: BEGIN_MS, elapsed_ms: 60_600 });
    assert_eq!(times.look().anchor, Some(Anchor { boot_id: 7, boot_ms: 70_000, elapsed_ms: 60_600 }));
}

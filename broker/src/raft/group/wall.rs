//! Which time of day a leader believes. It goes on from what the cluster said before; what clocks show is followed while it
//! is near that. A jump must be shown by a majority of the voters, or last.
//!
//! Times of day are told here as their distance from the time since boot of this machine: a clock that is right, or wrong
//! by the same all the time, has a constant one.

use queue_protocol::limits::CLOCK_OFF_MS_MAX;

use crate::mutants::{self, Mutant};

/// Times of day that are this near are the same.
pub(super) const NEAR_MS: u64 = CLOCK_OFF_MS_MAX;
/// How long a jump must last to be believed if no majority shows it.
const DOUBT_MS: u64 = 30_000;
/// At one look the believed time moves by this much at most while it follows: less than passes between two looks.
const STEP_MS: i64 = 50;

/// What a leader believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wall {
    base: i64,
    /// Since when, in time since boot, another distance is shown: which.
    doubt: Option<(u64, i64)>,
}

fn near(a: i64, b: i64) -> bool {
    a.abs_diff(b) <= NEAR_MS
}

impl Wall {
    /// Believes that the distance is `base`.
    pub(in crate::raft) fn new(base: i64) -> Self {
        Self { base, doubt: None }
    }

    /// The believed time of day at a time since boot, Unix milliseconds.
    pub(in crate::raft) fn at(&self, boot_ms: u64) -> u64 {
        boot_ms.saturating_add_signed(self.base)
    }

    /// Looks at what the clocks of some of the `voters` show, that of this node first. Whether the time of day jumped.
    pub(in crate::raft) fn look(&mut self, boot_ms: u64, shown: &[i64], voters: usize) -> bool {
        let Some(own) = shown.first().copied() else { return false };
        if mutants::on(Mutant::JumpBelievedAtOnce) {
            let jumped = !near(own, self.base);
            self.base = own;
            return jumped;
        }
        let mut sorted = shown.to_vec();
        sorted.sort_unstable();
        let quorum = voters / 2 + 1;
        let nearest = sorted.iter().copied().min_by_key(|shown| shown.abs_diff(self.base)).unwrap_or(own);
        if let Some(agreed) = agreed(&sorted, quorum).filter(|_| voters > 1) {
            self.doubt = None;
            return self.follow(agreed);
        }
        if near(nearest, self.base) {
            self.doubt = None;
            // Of several none is better than another; alone there is but one.
            return voters == 1 && self.follow(nearest);
        }
        if sorted.len() < quorum {
            self.doubt = None;
            return false;
        }
        let median = sorted[sorted.len() / 2];
        match self.doubt {
            Some((since, doubted)) if near(doubted, median) => {
                let lasts = boot_ms.saturating_sub(since) >= DOUBT_MS;
                if lasts {
                    self.doubt = None;
                }
                lasts && self.follow(median)
            }
            _ => {
                self.doubt = Some((boot_ms, median));
                false
            }
        }
    }

    /// Takes a small difference in steps, a large one at once. Whether it was a large one.
    fn follow(&mut self, to: i64) -> bool {
        let jumps = !near(to, self.base);
        self.base = if jumps { to } else { self.base + (to - self.base).clamp(-STEP_MS, STEP_MS) };
        jumps
    }
}

/// What `quorum` of the sorted distances show. Any two quorums share a clock: where several agree, so do they, nearly.
fn agreed(sorted: &[i64], quorum: usize) -> Option<i64> {
    let agreeing = sorted.windows(quorum).filter(|shown| near(shown[0], shown[quorum - 1]));
    agreeing.min_by_key(|shown| shown[0].abs_diff(shown[quorum - 1])).map(|shown| shown[quorum / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Looks ten times a second for a while; when it jumped first, in milliseconds from the begin.
    fn jumps(wall: &mut Wall, for_ms: u64, voters: usize, shown: impl Fn(u64) -> Vec<i64>) -> Option<u64> {
        let mut first = None;
        for at in (0..for_ms).step_by(100) {
            if wall.look(at, &shown(at), voters) {
                first = first.or(Some(at));
            }
        }
        first
    }

    #[test]
    fn a_lone_node_believes_a_jump_that_lasts() {
        let mut wall = Wall::new(7);
        assert_eq!(jumps(&mut wall, 29_000, 1, |_| vec![720 * HOUR]), None);
        assert_eq!(wall.at(10), 17);
        assert_eq!(jumps(&mut wall, 10_000, 1, |_| vec![7]), None);
        for jump in [720 * HOUR, 7, -HOUR] {
            assert_eq!(jumps(&mut wall, 40_000, 1, |_| vec![jump]), Some(30_000));
            assert_eq!(wall, Wall::new(jump));
        }
    }

    #[test]
    fn a_clock_that_never_rests_is_not_believed() {
        let mut wall = Wall::new(0);
        let restless = |at| vec![if at / 20_000 % 2 == 0 { HOUR } else { -HOUR }];
        assert_eq!(jumps(&mut wall, 300_000, 1, restless), None);
    }

    #[test]
    fn what_a_majority_shows_is_believed_at_once_and_a_minority_never() {
        let mut wall = Wall::new(0);
        for shown in [vec![HOUR, 3, 5], vec![3, HOUR], vec![HOUR, 3, -HOUR]] {
            assert_eq!(jumps(&mut wall, 100_000, 3, |_| shown.clone()), None, "{shown:?}");
            assert!(near(wall.base, 0));
        }
        assert_eq!(jumps(&mut wall, 100_000, 5, |_| vec![HOUR, HOUR, 4]), None);
        assert_eq!(jumps(&mut wall, 1_000, 3, |_| vec![0, HOUR, HOUR + 9]), Some(0));
        assert_eq!(jumps(&mut wall, 1_000, 5, |_| vec![0, 1, 2, HOUR, HOUR]), Some(0));
        assert_eq!(jumps(&mut wall, 1_000, 3, |_| vec![-HOUR, HOUR, -HOUR]), Some(0));
        assert_eq!(wall.base, -HOUR);
    }

    #[test]
    fn clocks_that_all_disagree_are_followed_in_the_middle_after_a_while() {
        let mut wall = Wall::new(0);
        assert_eq!(jumps(&mut wall, 100_000, 3, |_| vec![9 * HOUR, HOUR, 4 * HOUR]), Some(30_000));
        assert_eq!(wall.base, 4 * HOUR);
        assert_eq!(jumps(&mut wall, 100_000, 5, |_| vec![HOUR, 2 * HOUR]), None, "too few are heard");
    }

    #[test]
    fn small_differences_are_followed_in_steps() {
        let mut wall = Wall::new(0);
        assert!(!wall.look(0, &[900], 1));
        assert_eq!(wall.base, STEP_MS);
        assert_eq!(jumps(&mut wall, 3_000, 1, |_| vec![900]), None);
        assert_eq!(wall.base, 900);
        assert_eq!(jumps(&mut wall, 3_000, 3, |_| vec![900, 400, 402]), None);
        assert_eq!(wall.base, 402);
    }
}

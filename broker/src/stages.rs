//! Where the time of a write goes: one histogram a stage, always on. Most are recorded once an entry or a group, not once
//! a message. What the last entries passed is remembered besides, for a look at requests that were slow.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use queue_protocol::limits::STAGES_MAX;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::response::{StageView, WriteStage};

use crate::locked::Locked as _;

/// Digits of a duration that are kept.
const DIGITS: u8 = 2;
/// Longer ones count as this: the histograms of all stages take 130 KiB and never more.
const LONGEST: Duration = Duration::from_secs(60);

/// Measurements of entries that are remembered: some seconds under load, 160 KiB.
const REMEMBERED_MAX: usize = 4_096;

/// The histograms of one node. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Stages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    histograms: Box<[Mutex<Histogram<u64>>]>,
    last: Mutex<VecDeque<Passed>>,
}

/// A stage that some entries have passed together.
#[derive(Clone, Debug)]
struct Passed {
    stage: WriteStage,
    entries: RangeInclusive<u64>,
    took: Duration,
}

/// How the durations of a stage are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// How many lie within each bound and not within the one before.
    pub counts: Vec<u64>,
    /// All.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
}

impl Default for Stages {
    fn default() -> Self {
        let empty = || Histogram::new_with_max(nanos(LONGEST), DIGITS).expect("so many digits can be kept");
        let histograms = WriteStage::ALL.iter().map(|_| Mutex::new(empty())).collect();
        Self(Arc::new(Inner { histograms, last: Mutex::default() }))
    }
}

impl Stages {
    /// Takes note that `stage` took so long.
    pub fn record(&self, stage: WriteStage, took: Duration) {
        self.record_all(stage, [took]);
    }

    /// The same of several at once.
    pub fn record_all(&self, stage: WriteStage, took: impl IntoIterator<Item = Duration>) {
        let mut histogram = self.0.histograms[stage as usize].locked();
        for took in took {
            histogram.saturating_record(nanos(took.min(LONGEST)));
        }
    }

    /// The same of these entries, and remembers it.
    pub fn record_of(&self, stage: WriteStage, entries: RangeInclusive<u64>, took: Duration) {
        self.record(stage, took);
        let mut last = self.0.last.locked();
        if last.len() == REMEMBERED_MAX {
            last.pop_front();
        }
        last.push_back(Passed { stage, entries, took });
    }

    /// How long the stages of an entry took, as far as that is remembered, in their order; where a stage was passed several
    /// times the shortest: an entry does not wait for the last follower.
    pub fn passed(&self, index: u64) -> Vec<(WriteStage, Duration)> {
        let last = self.0.last.locked();
        let of_stage = |stage: &WriteStage| {
            let all = last.iter().filter(|one| one.stage == *stage && one.entries.contains(&index));
            all.map(|one| one.took).min().map(|took| (*stage, took))
        };
        WriteStage::ALL.iter().filter_map(of_stage).collect()
    }

    /// What was measured so far; stages that were not passed are left out.
    pub fn view(&self) -> Bounded<StageView, STAGES_MAX> {
        let views = WriteStage::ALL.iter().filter_map(|stage| self.view_of(*stage)).collect();
        Bounded::new(views).expect("there are no more stages")
    }

    /// How often a stage took so long as lies within each of these bounds, in rising nanoseconds.
    pub fn spread(&self, stage: WriteStage, bounds_ns: &[u64]) -> Spread {
        // A copy: whoever records does not wait.
        let histogram = self.0.histograms[stage as usize].locked().clone();
        let mut low = 0;
        let count = |bound: &u64| {
            let count = histogram.count_between(low, *bound);
            // Values that are told apart no further are counted once.
            low = histogram.next_non_equivalent(*bound);
            count
        };
        let counts = bounds_ns.iter().map(count).collect();
        #[expect(clippy::cast_precision_loss, reason = "a sum for people")]
        let sum_seconds = histogram.mean() * histogram.len() as f64 / 1e9;
        Spread { counts, count: histogram.len(), sum_seconds }
    }

    fn view_of(&self, stage: WriteStage) -> Option<StageView> {
        let histogram = self.0.histograms[stage as usize].locked();
        let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an average of u64")]
        let mean_ns = histogram.mean() as u64;
        (!histogram.is_empty()).then(|| StageView {
            stage,
            count: histogram.len(),
            mean_ns,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: histogram.max(),
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_shows_what_it_took_to_a_hundredth() {
        let stages = Stages::default();
        stages.record_all(WriteStage::Sync, (1..=1_000).map(Duration::from_micros));
        stages.record(WriteStage::Apply, Duration::ZERO);
        let view = stages.view();
        assert_eq!(
            view.iter().map(|view| view.stage).collect::<Vec<_>>(),
            [WriteStage::Sync, WriteStage::Apply]
        );
        let sync = view[0];
        assert_eq!(sync.count, 1_000);
        let near = |ns: u64, micros: u64| ns.abs_diff(micros * 1_000) <= micros * 10;
        let measures = [sync.mean_ns, sync.p50_ns, sync.p90_ns, sync.p99_ns, sync.p999_ns, sync.max_ns];
        for (measure, micros) in measures.into_iter().zip([500, 500, 900, 990, 999, 1_000]) {
            assert!(near(measure, micros), "{measure} ns are not {micros} µs");
        }
    }

    #[test]
    fn the_stages_of_an_entry_are_remembered_for_a_while() {
        let stages = Stages::default();
        let ms = Duration::from_millis;
        stages.record_of(WriteStage::Apply, 7..=7, ms(1));
        stages.record_of(WriteStage::Sync, 6..=8, ms(300));
        for took in [40, 20] {
            stages.record_of(WriteStage::Replicate, 7..=9, ms(took));
        }
        let passed =
            [(WriteStage::Sync, ms(300)), (WriteStage::Replicate, ms(20)), (WriteStage::Apply, ms(1))];
        assert_eq!(stages.passed(7), passed);
        assert_eq!(stages.passed(9), [(WriteStage::Replicate, ms(20))]);
        assert!(stages.passed(5).is_empty());
        (0..REMEMBERED_MAX as u64).for_each(|_| stages.record_of(WriteStage::Sync, 10..=10, ms(1)));
        assert!(stages.passed(7).is_empty());
        assert_eq!(stages.view().iter().map(|view| view.count).sum::<u64>(), 4 + REMEMBERED_MAX as u64);
    }

    #[test]
    fn the_place_of_a_stage_is_its_number() {
        assert!(WriteStage::ALL.iter().enumerate().all(|(at, stage)| at == *stage as usize));
    }

    #[test]
    fn what_takes_too_long_counts_as_the_longest() {
        let stages = Stages::default();
        stages.record(WriteStage::Wait, Duration::MAX);
        assert_eq!(stages.view()[0].max_ns / 1_000_000_000, 60);
    }

    #[test]
    fn each_duration_is_within_one_bound() {
        let stages = Stages::default();
        stages.record_all(WriteStage::Sync, (1..=1_000).map(Duration::from_micros));
        stages.record(WriteStage::Sync, LONGEST * 2);
        let spread = stages.spread(WriteStage::Sync, &[100_000, 500_000, 1_000_000, 2_000_000]);
        let [first, second, third, fourth] = spread.counts[..] else { panic!("{spread:?}") };
        assert!(
            first.abs_diff(100) <= 2 && second.abs_diff(400) <= 4 && third.abs_diff(500) <= 6,
            "{spread:?}"
        );
        assert_eq!((first + second + third + fourth, spread.count), (1_000, 1_001));
        assert!((60.4..60.9).contains(&spread.sum_seconds), "{spread:?}");
    }
}

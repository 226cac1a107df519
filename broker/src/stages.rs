//! Where the time of a write goes: one histogram a stage, always on. Most are recorded once an entry or a group, not once
//! a message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use queue_protocol::bounded::Bounded;
use queue_protocol::limits::STAGES_MAX;
use queue_protocol::response::{StageView, WriteStage};

use crate::locked::Locked as _;

/// Digits of a duration that are kept.
const DIGITS: u8 = 2;
/// Longer ones count as this: the histograms of all stages take 130 KiB and never more.
const LONGEST: Duration = Duration::from_secs(60);

/// The histograms of one node. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Stages(Arc<[Mutex<Histogram<u64>>]>);

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
        Self(WriteStage::ALL.iter().map(|_| Mutex::new(empty())).collect())
    }
}

impl Stages {
    /// Takes note that `stage` took so long.
    pub fn record(&self, stage: WriteStage, took: Duration) {
        self.record_all(stage, [took]);
    }

    /// The same of several at once.
    pub fn record_all(&self, stage: WriteStage, took: impl IntoIterator<Item = Duration>) {
        let mut histogram = self.0[stage as usize].locked();
        for took in took {
            histogram.saturating_record(nanos(took.min(LONGEST)));
        }
    }

    /// What was measured so far; stages that were not passed are left out.
    pub fn view(&self) -> Bounded<StageView, STAGES_MAX> {
        let views = WriteStage::ALL.iter().filter_map(|stage| self.view_of(*stage)).collect();
        Bounded::new(views).expect("there are no more stages")
    }

    /// How often a stage took so long as lies within each of these bounds, in rising nanoseconds.
    pub fn spread(&self, stage: WriteStage, bounds_ns: &[u64]) -> Spread {
        // A copy: whoever records does not wait.
        let histogram = self.0[stage as usize].locked().clone();
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
        let histogram = self.0[stage as usize].locked();
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

//! Stands in for the crate of this name, of which openraft records a few batch sizes into one scale. The original makes
//! the tables of all sixteen scales at the first use: 27 MiB of every node, more than everything else it holds at rest.
//! This one is `hdrhistogram` behind the names that openraft calls. Upstream: databendlabs/openraft#1708 took up version
//! 0.2.3, which scales by a width chosen at run time; this can go when a version makes only the tables that are used.

use std::fmt;
use std::marker::PhantomData;

/// Values by size, to two digits. `T` is what the original hangs on its slots, which openraft leaves empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<T = ()> {
    values: hdrhistogram::Histogram<u64>,
    slots: PhantomData<T>,
}

/// A summary of the values of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// Values recorded.
    pub samples: u64,
    /// One of a thousand is at most this.
    pub p0_1: u64,
    /// One of a hundred is at most this.
    pub p1: u64,
    /// Five of a hundred are at most this.
    pub p5: u64,
    /// Ten of a hundred are at most this.
    pub p10: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 90 of a hundred are at most this.
    pub p90: u64,
    /// 99 of a hundred are at most this.
    pub p99: u64,
    /// 999 of a thousand are at most this.
    pub p99_9: u64,
}

/// Several histograms, one below the other.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    series: Vec<(String, PercentileStats)>,
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        let mut values = hdrhistogram::Histogram::new(2).expect("two digits are possible");
        values.auto(true);
        Self { values, slots: PhantomData }
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.values.record_n(value, count).expect("it grows with what is recorded");
    }

    /// The summary.
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |quantile| self.values.value_at_quantile(quantile);
        PercentileStats {
            samples: self.values.len(),
            p0_1: at(0.001),
            p1: at(0.01),
            p5: at(0.05),
            p10: at(0.1),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
        }
    }
}

impl<T: Eq> Eq for Histogram<T> {}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(f, "{samples} values, p0.1 {p0_1}, p1 {p1}, p5 {p5}, p10 {p10}, ")?;
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram below the others.
    #[must_use]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram.percentile_stats()));
        self
    }

    /// As text.
    pub fn detailed(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| self.series.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_summed_up() {
        let mut histogram = Histogram::<()>::new();
        (1..=100).for_each(|value| histogram.record(value));
        histogram.record_n(50_000, 900);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p5, stats.p10), (1_000, 10, 50, 100));
        assert!((50_000..51_000).contains(&stats.p50), "{stats}");
        let chart = AsciiChart::new().add("batches", histogram);
        assert_eq!(chart.detailed().to_string(), format!("batches: {stats}\n"));
    }
}

//! A complaint that comes again and again: one line at once, then one line a minute with the count of those in between.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// The least time between two lines of one complaint.
const WINDOW: Duration = Duration::from_secs(60);

/// One kind of complaint. The line itself is written by its caller.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    /// When the last line was due, and how many were not written since.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Complaint {
    /// A complaint nobody has made yet.
    pub(crate) const fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    /// Counts this one. `Some(count)` if a line is due now: `count` were left out since the line before.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut last = self.last.locked();
        let now = Instant::now();
        match &mut *last {
            Some((since, count)) if now.saturating_duration_since(*since) < WINDOW => {
                *count += 1;
                mutants::on(Mutant::LineForEachComplaint).then_some(0)
            }
            before => Some(before.replace((now, 0)).map_or(0, |(_, count)| count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complaint_is_one_line_a_minute_with_the_count_of_those_left_out() {
        let complaint = Complaint::new();
        let mut lines = Vec::new();
        for second in 0..150 {
            lines.extend(complaint.due().map(|count| (second, count)));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines, [(0, 0), (60, 59), (120, 59)]);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_line_for_each_complaint_is_noticed() {
        let test = "complaint::tests::a_complaint_is_one_line_a_minute_with_the_count_of_those_left_out";
        assert!(mutants::is_caught_by(test, Mutant::LineForEachComplaint));
    }
}

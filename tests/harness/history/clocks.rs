//! The replicated clocks against simulated time, which no node can read: what an entry says of time, when it was first
//! applied.

use std::time::Duration;

use crate::simulation::BEGIN_MS;

/// How far the elapsed clock may be off time, beside a thousandth of it.
const OFF_MS_MAX: i128 = 2_000;

/// Time was taken from the time of day, since all nodes that could know it were booted anew.
#[derive(Clone, Copy, Debug)]
pub struct TimeTaken {
    /// How far what was taken is off the time that passed.
    pub off_ms: i128,
    /// How far the label of the state was off.
    pub label_off_ms: i128,
}

/// What the entries say of time.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    /// Elapsed less simulated time.
    base: Option<i128>,
    /// What it is if a leader that took the time from the time of day has stamped an entry since: it may have been deposed
    /// before it did, and the next one may know better.
    perhaps: Vec<i128>,
    newest: u64,
    off_ms: i128,
    label_off_ms: i128,
    taken: Vec<TimeTaken>,
}

fn off_ms_max(now: Duration) -> i128 {
    OFF_MS_MAX + i128::try_from(now.as_millis()).unwrap_or(i128::MAX) / 1_000
}

impl Clocks {
    /// An entry was applied, perhaps for the first time. What is wrong with it: it may have waited since it was
    /// stamped, but it is not from the future.
    pub(super) fn applied(
        &mut self,
        index: u64,
        now: Duration,
        wall_ms: u64,
        elapsed_ms: u64,
    ) -> Option<String> {
        if index <= self.newest || wall_ms == 0 {
            return None;
        }
        self.newest = index;
        let shown = i128::from(elapsed_ms) - now.as_millis().cast_signed();
        let base = *self.base.get_or_insert(shown);
        let nearest = self.perhaps.iter().copied().chain([base]).min_by_key(|base| (shown - base).abs());
        self.base = nearest;
        self.off_ms = shown - nearest.unwrap_or(base);
        self.label_off_ms = self.label(wall_ms, elapsed_ms);
        (self.off_ms > off_ms_max(now)).then(|| {
            format!(
                "after entry {index} the elapsed clock is {} ms ahead of the time that passed",
                self.off_ms
            )
        })
    }

    /// How far a label is off, by the elapsed time of the same stamp.
    fn label(&self, wall_ms: u64, elapsed_ms: u64) -> i128 {
        i128::from(wall_ms) - i128::from(BEGIN_MS) - i128::from(elapsed_ms) + self.base.unwrap_or_default()
    }

    /// A leader took `gone_ms` from the time of day. The clocks of its state are those of its newest entry.
    pub(super) fn taken(&mut self, now: Duration, wall_ms: u64, elapsed_ms: u64, gone_ms: u64) {
        let label_off_ms = self.label(wall_ms, elapsed_ms);
        let Some(base) = self.base else { return };
        let right = now.as_millis().cast_signed() + base - i128::from(elapsed_ms);
        let off_ms = i128::from(gone_ms) - right;
        self.perhaps.push(base + off_ms);
        self.taken.push(TimeTaken { off_ms, label_off_ms });
    }

    /// How far the label of the newest entry is off the time of day when it was stamped, in milliseconds.
    pub fn label_off_ms(&self) -> i128 {
        self.label_off_ms
    }

    /// Since the last call.
    pub(super) fn take(&mut self) -> Vec<TimeTaken> {
        std::mem::take(&mut self.taken)
    }

    /// What is wrong if the newest entry was stamped just now.
    pub fn contradiction(&self, now: Duration) -> Option<String> {
        let off_ms = self.off_ms;
        (off_ms.abs() > off_ms_max(now))
            .then(|| format!("the elapsed clock is {off_ms} ms off the time that passed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_taken_counts_from_the_first_entry_that_has_it() {
        let at = Duration::from_secs;
        let wall = BEGIN_MS + 1;
        let begun = || {
            let mut clocks = Clocks::default();
            assert_eq!(clocks.applied(1, at(1), wall, 1_000), None);
            clocks.taken(at(7), wall, 1_000, 0);
            clocks
        };
        // Who took it is deposed, and the next leader knows better.
        assert_eq!(begun().applied(2, at(8), wall, 8_000), None);
        let mut clocks = begun();
        assert_eq!(clocks.applied(2, at(8), wall, 2_000), None);
        assert_eq!(clocks.applied(3, at(9), wall, 3_000), None);
        assert!(clocks.applied(4, at(10), wall, 7_500).is_some(), "it is ahead of both");
        assert!(begun().applied(2, at(8), wall, 13_000).is_some());
    }
}

//! The replicated clocks against simulated time, which no node can read: what a leader stamps, and what entries come to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::BEGIN_MS;

/// How far the elapsed clock may be off time, beside a thousandth of it.
const OFF_MS_MAX: i128 = 2_000;

/// Time was taken from the time of day, since all nodes that could know it were booted anew.
#[derive(Clone, Copy, Debug)]
pub struct TimeTaken {
    /// How far what was taken is off the time that passed, by every way of counting it.
    pub off_ms: i128,
    /// How far the label of the state was off.
    pub label_off_ms: i128,
}

/// The elapsed clock less simulated time, as leaders may have it. It is one number until time is taken from the time of
/// day; who took it may be deposed before anybody hears of it, and a state that two leaders have stamped shows the later of
/// both, which is between them.
#[derive(Clone, Copy, Debug)]
struct Bases {
    low: i128,
    high: i128,
}

impl Bases {
    /// How far `base` is outside: positive if it is ahead.
    fn off_ms(self, base: i128) -> i128 {
        base - base.clamp(self.low, self.high)
    }
}

/// What the entries say of time.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    bases: Option<Bases>,
    newest: u64,
    /// How far the label of the newest entry is off.
    label_off_ms: i128,
    /// When the entry was stamped that gave a state its clocks: time of day and elapsed, in milliseconds.
    stated: BTreeMap<(u64, u64), Duration>,
    taken: Vec<TimeTaken>,
}

fn off_ms_max(now: Duration) -> i128 {
    OFF_MS_MAX + i128::try_from(now.as_millis()).unwrap_or(i128::MAX) / 1_000
}

fn base(elapsed_ms: u64, at: Duration) -> i128 {
    i128::from(elapsed_ms) - at.as_millis().cast_signed()
}

/// How far a label is off that was stamped at `at`.
fn label_off_ms(wall_ms: u64, at: Duration) -> i128 {
    i128::from(wall_ms) - i128::from(BEGIN_MS) - at.as_millis().cast_signed()
}

impl Clocks {
    /// A leader stamps an entry now. What is wrong with it.
    pub(super) fn stamped(&mut self, now: Duration, elapsed_ms: u64) -> Option<String> {
        let base = base(elapsed_ms, now);
        let off_ms = self.bases.get_or_insert(Bases { low: base, high: base }).off_ms(base);
        (off_ms.abs() > off_ms_max(now))
            .then(|| format!("a leader stamps an elapsed clock that is {off_ms} ms off the time that passed"))
    }

    /// An entry that was stamped at `at` was applied, perhaps for the first time: the clocks of the state. What is wrong.
    pub(super) fn applied(
        &mut self,
        index: u64,
        at: Duration,
        wall_ms: u64,
        elapsed_ms: u64,
    ) -> Option<String> {
        if index <= self.newest || wall_ms == 0 {
            return None;
        }
        self.newest = index;
        self.stated.entry((wall_ms, elapsed_ms)).or_insert(at);
        self.label_off_ms = label_off_ms(wall_ms, at);
        let off_ms = self.bases?.off_ms(base(elapsed_ms, at));
        (off_ms.abs() > off_ms_max(at))
            .then(|| format!("after entry {index} the elapsed clock is {off_ms} ms off the time that passed"))
    }

    /// A leader took `gone_ms` from the time of day. The clocks of its state are those of its newest entry.
    pub(super) fn taken(&mut self, now: Duration, wall_ms: u64, elapsed_ms: u64, gone_ms: u64) {
        let Some(bases) = &mut self.bases else { return };
        let base = base(elapsed_ms, now) + i128::from(gone_ms);
        let off_ms = bases.off_ms(base);
        bases.low = bases.low.min(base);
        bases.high = bases.high.max(base);
        let label_off_ms = self.stated.get(&(wall_ms, elapsed_ms)).map_or(0, |at| label_off_ms(wall_ms, *at));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    /// Entry 1 was stamped after a second, and time was taken at the seventh: none of six seconds.
    fn begun() -> Clocks {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.stamped(AT(1), 1_000), None);
        assert_eq!(clocks.applied(1, AT(1), BEGIN_MS + 1_000, 1_000), None);
        clocks.taken(AT(7), BEGIN_MS + 1_000, 1_000, 0);
        let taken = clocks.take();
        assert_eq!((taken[0].off_ms, taken[0].label_off_ms), (-6_000, 0));
        clocks
    }

    #[test]
    fn an_entry_is_held_against_the_time_of_its_stamp() {
        // It waited for long, and is neither ahead nor behind.
        let mut clocks = begun();
        assert_eq!(clocks.stamped(AT(8), 8_000), None);
        assert_eq!(clocks.applied(2, AT(8), BEGIN_MS + 8_000, 8_000), None);
        assert!(clocks.stamped(AT(20), 8_000).is_some(), "it stands still");
        assert!(begun().applied(2, AT(8), BEGIN_MS + 8_000, 13_000).is_some());
        assert!(Clocks::default().applied(1, AT(1), BEGIN_MS + 1_000, 1_000).is_none(), "nothing is known");
    }

    #[test]
    fn leaders_go_on_from_what_was_taken_or_what_was_before() {
        for elapsed_ms in [8_000, 2_000, 5_000] {
            assert_eq!(begun().stamped(AT(8), elapsed_ms), None);
        }
        assert!(begun().stamped(AT(8), 13_000).is_some(), "ahead of all");
        assert!(begun().stamped(AT(8), 0).is_none(), "within the tolerance");
        let mut clocks = Clocks::default();
        assert_eq!(clocks.stamped(AT(1), 1_000), None);
        assert!(clocks.stamped(AT(8), 3_000).is_some(), "behind all");
    }

    #[test]
    fn a_label_counts_from_the_stamp_of_the_entry_that_a_state_has_it_from() {
        let mut clocks = begun();
        assert_eq!(clocks.applied(2, AT(8), BEGIN_MS + 9_500, 8_000), None);
        assert_eq!(clocks.label_off_ms(), 1_500);
        clocks.taken(AT(30), BEGIN_MS + 9_500, 8_000, 20_500);
        let taken = clocks.take();
        assert_eq!((taken[0].off_ms, taken[0].label_off_ms), (0, 1_500));
    }
}

//! When a schedule is due: computed by the node that leads, from the schedule and a time alone, and carried in the entry.
//! Intervals run on the elapsed clock, patterns on the wall clock ([`pattern`]).

mod pattern;

use queue_protocol::limits::{CATCH_UP_MAX, EVERY_MS_MIN, FUTURE_MS_MAX};
use queue_protocol::wire::schedule::{Missed, When};

use self::pattern::Pattern;
use crate::queue::Moment;

pub(crate) use self::pattern::zone_data;

/// What is later than this was missed.
const LATE_MS: u64 = 10_000;

/// What a schedule is to do when a time of it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Messages to push.
    pub(crate) count: u32,
    /// The next time.
    pub(crate) next_ms: Option<u64>,
    /// Of a pattern: the last of its times that is pushed by this.
    pub(crate) pushed_ms: Option<u64>,
}

/// The times of a schedule.
enum Times {
    Cron(Box<Pattern>),
    /// From a time on, so many milliseconds apart.
    Every(u64, u64),
}

impl Times {
    /// `base_ms` is one of the times of an interval.
    fn of(when: &When, base_ms: u64) -> Result<Self, String> {
        match when {
            When::Every(ms) if (EVERY_MS_MIN..=FUTURE_MS_MAX).contains(ms) => Ok(Self::Every(base_ms, *ms)),
            When::Every(_) => Err("a schedule goes off every 1 s to 366 d".to_owned()),
            When::Cron { pattern, zone } => Ok(Self::Cron(Box::new(Pattern::parse(pattern, zone)?))),
        }
    }

    /// The first time after one.
    fn after(&self, ms: u64) -> Option<u64> {
        match self {
            Self::Every(base_ms, every_ms) => {
                let passed = ms.checked_sub(*base_ms).map_or(0, |since_ms| since_ms / every_ms + 1);
                base_ms.checked_add(passed.checked_mul(*every_ms)?)
            }
            Self::Cron(pattern) => pattern.after(ms),
        }
    }
}

/// The first time of a schedule that is set now.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn first_ms(when: &When, missed: Missed, now: Moment) -> Result<u64, String> {
    let now_ms = on_its_clock(when, now);
    if matches!(missed, Missed::CatchUp(count) if !(1..=CATCH_UP_MAX).contains(&count)) {
        return Err(format!("a schedule catches up with 1 to {CATCH_UP_MAX} messages"));
    }
    let times = Times::of(when, now_ms)?;
    times.after(now_ms).ok_or_else(|| "no time of this schedule is to come".to_owned())
}

/// Now, on the clock that a schedule runs on.
pub(crate) fn on_its_clock(when: &When, now: Moment) -> u64 {
    match when {
        When::Every(_) => now.elapsed_ms,
        When::Cron { .. } => now.wall_ms,
    }
}

/// The next time of a pattern when the wall clock was set back: from now on, and later than the last that was pushed.
pub(crate) fn anew(when: &When, pushed_ms: Option<u64>, now: Moment) -> Option<u64> {
    let times = Times::of(when, 0).ok()?;
    times.after(now.wall_ms.saturating_sub(1).max(pushed_ms.unwrap_or(0)))
}

/// What is to be done now for a schedule that waited for `due_ms`.
pub(crate) fn due(when: &When, missed: Missed, due_ms: u64, now: Moment) -> Due {
    let now_ms = on_its_clock(when, now);
    // What was checked when it was set can only fail if another version knows less: it is not tried again.
    let Ok(times) = Times::of(when, due_ms) else { return Due { count: 1, next_ms: None, pushed_ms: None } };
    let now_ms = now_ms.max(due_ms);
    let next_ms = times.after(now_ms);
    let passed = |from: Option<u64>| {
        let times = &times;
        let rest = std::iter::successors(from, move |ms| times.after(*ms));
        rest.take_while(move |ms| *ms <= now_ms)
    };
    let (count, pushed_ms) = match missed {
        Missed::Once => (1, Some(due_ms)),
        Missed::CatchUp(max) => {
            let missed = || passed(Some(due_ms)).take(max as usize);
            (u32::try_from(missed().count()).unwrap_or(max), missed().last())
        }
        // The last time is near only if one lies within the span before now.
        Missed::Skip => {
            let is_near = due_ms.saturating_add(LATE_MS) >= now_ms;
            let first = if is_near { Some(due_ms) } else { times.after(now_ms - LATE_MS - 1) };
            let last = passed(first).last();
            (last.is_some().into(), last)
        }
    };
    Due { count, next_ms, pushed_ms: pushed_ms.filter(|_| matches!(when, When::Cron { .. })) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn cron(pattern: &str, zone: &str) -> When {
        When::Cron { pattern: Text::cut(pattern), zone: Text::cut(zone) }
    }

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn shown(ms: u64) -> String {
        Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string()
    }

    fn at(ms: u64) -> Moment {
        Moment { wall_ms: ms, elapsed_ms: ms }
    }

    /// The first times after one.
    fn times(when: &When, from: &str, count: usize) -> Vec<String> {
        let times = Times::of(when, ms(from)).unwrap();
        let next = std::iter::successors(times.after(ms(from)), |ms| times.after(*ms));
        next.take(count).map(shown).collect()
    }

    #[test]
    fn a_pattern_is_read_in_its_time_zone() {
        let weekdays = cron("0 9 * * MON-FRI", "Europe/Berlin");
        let expected = ["2026-11-27T08:00:00Z", "2026-11-30T08:00:00Z", "2026-12-01T08:00:00Z"];
        assert_eq!(times(&weekdays, "2026-11-26T10:00:00Z", 3), expected);
        assert_eq!(times(&weekdays, "2026-06-30T10:00:00Z", 1), ["2026-07-01T07:00:00Z"]);
        let seconds = cron("*/20 * * * * *", "UTC");
        assert_eq!(
            times(&seconds, "2026-11-26T10:00:05Z", 2),
            ["2026-11-26T10:00:20Z", "2026-11-26T10:00:40Z"]
        );
    }

    #[test]
    fn an_interval_keeps_its_pace_whenever_it_is_looked_at() {
        let minute = When::Every(60_000);
        assert_eq!(first_ms(&minute, Missed::Once, at(5)), Ok(60_005));
        let next = |now_ms| due(&minute, Missed::Once, 60_005, Moment { wall_ms: 7, elapsed_ms: now_ms });
        assert_eq!(next(60_030), Due { count: 1, next_ms: Some(120_005), pushed_ms: None });
        assert_eq!(next(600_000), Due { count: 1, next_ms: Some(600_005), pushed_ms: None });
    }

    #[test]
    fn missed_times_are_made_up_for_as_the_schedule_says() {
        let minute = When::Every(60_000);
        let count = |missed, now_ms| due(&minute, missed, 60_000, at(now_ms)).count;
        assert_eq!(count(Missed::CatchUp(3), 60_000), 1);
        assert_eq!(count(Missed::CatchUp(3), 120_000), 2);
        assert_eq!(count(Missed::CatchUp(3), 900_000), 3);
        assert_eq!(count(Missed::Skip, 60_900), 1);
        assert_eq!(count(Missed::Skip, 100_000), 0, "40 s late");
        assert_eq!(count(Missed::Skip, 600_900), 1, "the last of them is just now");
        let daily = cron("0 9 * * *", "UTC");
        let late = due(&daily, Missed::Skip, ms("2026-11-26T09:00:00Z"), at(ms("2026-11-28T12:00:00Z")));
        assert_eq!(late, Due { count: 0, next_ms: Some(ms("2026-11-29T09:00:00Z")), pushed_ms: None });
    }

    #[test]
    fn it_is_said_which_of_its_times_a_pattern_pushes() {
        let hourly = cron("0 * * * *", "UTC");
        let [nine, ten, eleven, noon] =
            [9, 10, 11, 12].map(|hour| ms(&format!("2026-11-26T{hour:02}:00:00Z")));
        let pushed = |missed, now_ms| due(&hourly, missed, nine, at(now_ms)).pushed_ms;
        for missed in [Missed::Once, Missed::CatchUp(2), Missed::Skip] {
            assert_eq!(pushed(missed, nine + 3), Some(nine));
        }
        assert_eq!(pushed(Missed::Once, noon), Some(nine), "one for all of them: the first");
        assert_eq!(pushed(Missed::CatchUp(2), noon), Some(ten));
        assert_eq!(pushed(Missed::Skip, noon + 5), Some(noon));
        assert_eq!(pushed(Missed::Skip, noon + 60_000), None);
        // The wall clock was set back from the afternoon.
        assert_eq!(anew(&hourly, Some(nine), at(nine - 5)), Some(ten), "nine was pushed");
        assert_eq!(anew(&hourly, Some(nine), at(ten)), Some(ten));
        assert_eq!(anew(&hourly, Some(nine), at(ten + 1)), Some(eleven));
        assert_eq!(anew(&hourly, None, at(nine - 5)), Some(nine));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (when, missed, why) in [
            (cron("0 25 * * *", "UTC"), Missed::Once, "0 25 * * *"),
            (cron("0 9 * * *", "Europe/Atlantis"), Missed::Once, "Europe/Atlantis"),
            (cron("0 0 9 * * * 2027", "UTC"), Missed::Once, "5 fields"),
            (cron("0 9 * *", "UTC"), Missed::Once, "5 fields"),
            (cron("@fortnightly", "UTC"), Missed::Once, "5 fields"),
            (cron("0 0 30 2 *", "UTC"), Missed::Once, "no time"),
            (When::Every(999), Missed::Once, "1 s"),
            (When::Every(1_000), Missed::CatchUp(0), "1 to 100"),
        ] {
            let error = first_ms(&when, missed, at(0)).unwrap_err();
            assert!(error.contains(why), "{when:?}: {error}");
        }
    }
}

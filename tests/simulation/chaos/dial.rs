//! Clocks that are wrong for a while, by anything from milliseconds to a month, and what must hold meanwhile.

use std::time::Duration;

use super::machine::{Machine, Role};
use super::world::{Checked, Violation, World};

/// A clock that is off by no more is right.
const RIGHT_MS: u64 = 500;
/// A label that is off by more is wrong.
const LABEL_OFF_MS_MAX: u128 = 2_500;
/// Labels follow right clocks in this time.
pub(crate) const LABELS_WITHIN: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;
/// A node that was booted anew counts what its peers said of their clocks this long ago at most.
const SAID_WITHIN: Duration = Duration::from_secs(11);

/// What was seen of clocks.
#[derive(Default)]
pub(crate) struct Dial {
    /// Until then a label may be wrong: so many clocks were that nobody could know.
    doubt_until: Duration,
    /// How far the clock that was worst was off, and when it last was.
    worst: Vec<(Duration, u64)>,
}

impl Dial {
    /// How far any clock was off that may still be counted.
    fn worst_of_late(&mut self, now: Duration, off_ms: u64) -> u64 {
        self.worst.retain(|(at, off)| *at + SAID_WITHIN > now && *off != off_ms);
        self.worst.push((now, off_ms));
        self.worst.iter().map(|(_, off)| *off).max().unwrap_or(0)
    }
}

/// How far a clock goes wrong.
pub(super) fn excursion(world: &mut World) -> i64 {
    let by = match world.dice.within(0..4) {
        0 => world.dice.within(1..2_000),
        1 => world.dice.within(2_000..120_000),
        2 => world.dice.within(120_000..DAY_MS),
        _ => world.dice.within(DAY_MS..40 * DAY_MS),
    };
    if by >= DAY_MS {
        world.covered.add("clock_far", 1);
    } else if by < 2_000 {
        world.covered.add("clock_near", 1);
    }
    let by = by.cast_signed();
    if world.dice.chance(1, 2) { by } else { -by }
}

/// For how long; `None` until peace.
pub(super) fn length(world: &mut World) -> Option<Duration> {
    match world.dice.within(0..4) {
        0 => Some(world.dice.ms(1..1_000)),
        1 | 2 => Some(world.dice.ms(1_000..90_000)),
        _ => {
            world.covered.add("clock_long", 1);
            None
        }
    }
}

impl World {
    /// Sets the clocks of these machines so far ahead of the right time.
    pub(super) fn set_clocks(&mut self, names: &[String], offset_ms: i64) {
        self.note(&format!("the clocks of {names:?} are {offset_ms} ms ahead"));
        names.iter().for_each(|name| self.machines[name].hands().set(offset_ms));
    }

    /// No label is wrong unless about half of the clocks were.
    pub(super) fn look_at_clocks(&mut self) -> Checked {
        let now = self.now();
        let off = |machine: &Machine| machine.hands().offset_ms().unsigned_abs();
        let wrong = |machine: &&Machine| machine.role != Role::Removed && off(machine) > RIGHT_MS;
        let wrong = self.machines.values().filter(wrong).count();
        let voters = self.picture().map_or(3, |picture| picture.voters());
        let off = self.machines.values().map(off).max().unwrap_or(0);
        let excursion = self.dial.worst_of_late(now, off);
        let clocks = self.replicas.clocks();
        for taken in self.replicas.times_taken() {
            self.covered.add("times_taken", 1);
            self.note(&format!("{taken:?}"));
            let may_be = u128::from(excursion) + taken.label_off_ms.unsigned_abs() + LABEL_OFF_MS_MAX;
            if taken.off_ms.unsigned_abs() > may_be {
                return Err(Violation(format!("{taken:?}, and clocks were off by {excursion} ms at most")));
            }
            self.dial.doubt_until = now + LABELS_WITHIN;
        }
        if wrong * 2 >= voters {
            self.dial.doubt_until = now + LABELS_WITHIN;
        }
        let label_off_ms = clocks.label_off_ms();
        if label_off_ms.unsigned_abs() > LABEL_OFF_MS_MAX {
            self.covered.add("label_wrong", 1);
            if now > self.dial.doubt_until {
                let what =
                    format!("the label is {label_off_ms} ms off, and {wrong} clocks of {voters} are wrong");
                return Err(Violation(what));
            }
        }
        Ok(())
    }

    /// The newest entry tells the time of day.
    pub(super) fn label_is_right(&self) -> Result<(), String> {
        let off_ms = self.replicas.clocks().label_off_ms();
        if off_ms.unsigned_abs() <= LABEL_OFF_MS_MAX {
            Ok(())
        } else {
            Err(format!("the label is {off_ms} ms off"))
        }
    }
}

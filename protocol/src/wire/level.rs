//! Feature levels: what the members of a cluster may write, so that nodes of two versions can be members of one.
//!
//! A build speaks a range of levels. The cluster is at one level, which is replicated state: everything that is replicated
//! is written as that level has it. An operator raises it, once all members speak the next one; it never falls.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A feature level, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Level(pub u32);

impl Level {
    /// That of a cluster just made, and of every one before there were levels.
    pub const FIRST: Level = Level(1);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels a build speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// The lowest.
    pub min: Level,
    /// The highest.
    pub max: Level,
}

impl Levels {
    /// Those of this build.
    pub const OURS: Levels = Levels { min: Level::FIRST, max: Level::FIRST };

    /// Whether a build that speaks these can be a member of a cluster at `level`.
    pub fn speak(self, level: Level) -> bool {
        self.min <= level && level <= self.max
    }
}

/// `1`, or `1 to 3`.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_speaks_what_lies_between_both_ends() {
        let levels = Levels { min: Level(2), max: Level(3) };
        assert_eq!([1, 2, 3, 4].map(|level| levels.speak(Level(level))), [false, true, true, false]);
        assert_eq!((levels.to_string(), Levels::OURS.to_string()), ("2 to 3".to_owned(), "1".to_owned()));
    }
}

//! How the command section of an entry is written at each feature level. A state says in [`super::State::encode`] how it
//! is.
//!
//! ```text
//! level (1 byte) | what that level writes
//!       1        | stamps, commands                    postcard
//!       2        | commands, stamps                    for tests alone, so that there are two
//! ```

use queue_protocol::wire::level::Level;

use super::command::Batch;

/// The highest level that this build can write and read.
#[cfg(any(test, feature = "sim"))]
pub const LEVEL_KNOWN_MAX: Level = Level(2);
/// The highest level that this build can write and read.
#[cfg(not(any(test, feature = "sim")))]
pub const LEVEL_KNOWN_MAX: Level = Level::FIRST;

const _: () = assert!(LEVEL_KNOWN_MAX.0 <= u8::MAX as u32);

/// Why bytes are not a command section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSection {
    /// It is of a level that this build does not know.
    #[error("it is of feature level {0}, which this program does not know")]
    Level(Level),
    /// It is of a level known here, and does not decode.
    #[error("it does not decode")]
    Malformed,
}

pub(super) fn is_known(level: Level) -> bool {
    (Level::FIRST..=LEVEL_KNOWN_MAX).contains(&level)
}

impl Batch {
    /// The command section at `level`.
    ///
    /// # Panics
    /// If this build does not know the level.
    pub fn encode(&self, level: Level) -> Vec<u8> {
        assert!(is_known(level), "nothing is written at a level that is not known");
        let begin = vec![u8::try_from(level.0).expect("checked above")];
        let section = match level {
            Level::FIRST => postcard::to_extend(&(&self.stamps, &self.commands), begin),
            _ => postcard::to_extend(&(&self.commands, &self.stamps), begin),
        };
        section.expect("commands hold nothing that does not encode")
    }

    /// Reads what [`Batch::encode`] wrote, and says at which level. The bytes may be anything.
    ///
    /// # Errors
    /// [`BadSection`] if they are not a whole section and nothing else.
    pub fn decode(section: &[u8]) -> Result<(Level, Self), BadSection> {
        let (level, rest) = section.split_first().ok_or(BadSection::Malformed)?;
        let level = Level(u32::from(*level));
        if !is_known(level) {
            return Err(BadSection::Level(level));
        }
        let whole = match level {
            Level::FIRST => postcard::take_from_bytes(rest)
                .map(|((stamps, commands), rest)| (Self { stamps, commands }, rest)),
            _ => postcard::take_from_bytes(rest)
                .map(|((commands, stamps), rest)| (Self { stamps, commands }, rest)),
        };
        match whole {
            Ok((batch, [])) => Ok((level, batch)),
            _ => Err(BadSection::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Bounded;

    use super::super::command::{Command, Op, Stamps};
    use super::*;

    fn batch() -> Batch {
        let tick = Command { session: None, op: Op::Tick };
        let stamps = Stamps::of(7, 300);
        Batch { stamps, commands: Bounded::new(vec![tick]).unwrap() }
    }

    #[test]
    fn each_level_reads_what_it_wrote_and_says_so() {
        for level in [Level(1), Level(2)] {
            assert_eq!(Batch::decode(&batch().encode(level)), Ok((level, batch())));
        }
        assert_ne!(batch().encode(Level(1))[1..], batch().encode(Level(2))[1..]);
    }

    #[test]
    fn a_level_that_is_not_known_is_named_and_no_other_bytes_are_a_section() {
        let mut section = batch().encode(Level(1));
        section[0] = 3;
        assert_eq!(Batch::decode(&section), Err(BadSection::Level(Level(3))));
        section[0] = 0;
        assert_eq!(Batch::decode(&section), Err(BadSection::Level(Level(0))));
        assert_eq!(Batch::decode(&[]), Err(BadSection::Malformed));
        section[0] = 1;
        assert_eq!(Batch::decode(&section[..section.len() - 1]), Err(BadSection::Malformed));
        section.push(0);
        assert_eq!(Batch::decode(&section), Err(BadSection::Malformed));
    }
}

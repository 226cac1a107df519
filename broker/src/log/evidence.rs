//! Whether the stream may end where it seems to: a table over facts.

use super::LogError;
use super::format::record::HEADER_SIZE;
use super::format::{BLOCK_SIZE, block_up, usize_of};
use super::scan::Scan;
use crate::mutants::{self, Mutant};

/// What is known about X, the first place without the expected record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// A record at a later group boundary, valid under this file's salt, was built when the one at X was synced.
    pub(crate) proven: bool,
    /// A later segment holds a record, which is written only after all before it is synced.
    pub(crate) succeeded: bool,
    /// A published snapshot covers an index at or after X; it is published only after the log is synced that far.
    pub(crate) covered: bool,
    /// Something was being written there.
    pub(crate) remains: bool,
}

/// What follows from the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The stream ends here.
    Clean,
    /// It ends here, after a write that was not finished and that nobody was told of.
    Torn,
    /// Something that was durable is not there any more, and how that is known.
    Corrupt(&'static str),
}

/// One line of the table; `None` matches both.
struct Line {
    proven: Option<bool>,
    succeeded: Option<bool>,
    covered: Option<bool>,
    remains: Option<bool>,
    verdict: Verdict,
}

const fn line(
    proven: Option<bool>,
    succeeded: Option<bool>,
    covered: Option<bool>,
    remains: Option<bool>,
    verdict: Verdict,
) -> Line {
    Line { proven, succeeded, covered, remains, verdict }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const ANY: Option<bool> = None;

/// Every combination of facts matches exactly one line.
#[rustfmt::skip]
const TABLE: [Line; 5] = [
    //   proven succeeded covered remains
    line(YES,   ANY,      ANY,    ANY,  Verdict::Corrupt("a later record proves that it was durable")),
    line(NO,    YES,      ANY,    ANY,  Verdict::Corrupt("a later segment proves that it was durable")),
    line(NO,    NO,       YES,    ANY,  Verdict::Corrupt("a snapshot covers it, so it was durable")),
    line(NO,    NO,       NO,     YES,  Verdict::Torn),
    line(NO,    NO,       NO,     NO,   Verdict::Clean),
];

impl Line {
    fn matches(&self, facts: Facts) -> bool {
        let agrees = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
        agrees(self.proven, facts.proven)
            && agrees(self.succeeded, facts.succeeded)
            && agrees(self.covered, facts.covered)
            && agrees(self.remains, facts.remains)
    }
}

/// The verdict on `facts`.
pub(crate) fn judge(facts: Facts) -> Verdict {
    if mutants::on(Mutant::CutAtAnyDamage) && !facts.succeeded {
        return Verdict::Torn;
    }
    TABLE.iter().find(|line| line.matches(facts)).expect("the table is complete").verdict
}

/// What lies at X and behind it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Rest {
    /// Where the record at X started, as well as that can be told: at X, or at the group boundary after padding.
    pub(crate) place: u64,
    /// Offset of the first record that proves that the one at X was durable.
    pub(crate) proof: Option<u64>,
    /// Blocks behind X to be blanked: with a header of this file, or anything in a file that was zeroed.
    pub(crate) blanks: Vec<u64>,
    /// Bytes from X to the end of what was being written, as far as that can be told.
    pub(crate) remains: u64,
    /// All bytes from X to the end of the file are zero.
    pub(crate) blank: bool,
}

/// Looks at the file from `x` to its end. What should be at `x` has `sequence`. In a file that was zeroed before it was
/// opened every other byte is a remainder; in a recycled one only what has a header of this file.
pub(crate) fn look(scan: &mut Scan, x: u64, sequence: u64, zeroed: bool) -> Result<Rest, LogError> {
    let mut rest = Rest { blank: true, place: block_up(x), ..Rest::default() };
    let mut end = x;
    if let Some((header, _)) = scan.header_at(x)? {
        end = x + u64::from(header.size);
    }
    let mut offset = block_up(x);
    if let Some(bytes) = scan.bytes(x, usize_of(offset - x))?
        && let Some(last) = bytes.iter().rposition(|byte| *byte != 0)
    {
        rest.blank = false;
        rest.place = x;
        if zeroed {
            end = end.max(x + last as u64 + 1);
        }
    }
    while offset + BLOCK_SIZE <= scan.size {
        let bytes = scan.bytes(offset, usize_of(BLOCK_SIZE))?.unwrap_or_default();
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            rest.blank = false;
            let header = scan.header_at(offset)?;
            if zeroed || header.is_some() {
                rest.blanks.push(offset);
            }
            if zeroed {
                end = end.max(offset + last as u64 + 1);
            }
            if let Some((header, _)) = header {
                end = end.max(offset + u64::from(header.size));
                if header.durable >= sequence && rest.proof.is_none() {
                    rest.proof = Some(offset);
                }
            }
        }
        offset += BLOCK_SIZE;
    }
    rest.remains = end - x;
    Ok(rest)
}

const _: () = assert!(HEADER_SIZE as u64 <= BLOCK_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_facts_matches_exactly_one_line() {
        for bits in 0..16_u8 {
            let bit = |n: u8| bits & 1 << n != 0;
            let facts = Facts { proven: bit(0), succeeded: bit(1), covered: bit(2), remains: bit(3) };
            let lines: Vec<&Line> = TABLE.iter().filter(|line| line.matches(facts)).collect();
            assert_eq!(lines.len(), 1, "{facts:?}");
            let verdict = judge(facts);
            assert_eq!(verdict, lines[0].verdict);
            let evidence = facts.proven || facts.succeeded || facts.covered;
            assert_eq!(matches!(verdict, Verdict::Corrupt(_)), evidence, "{facts:?}");
            assert_eq!(verdict == Verdict::Torn, !evidence && facts.remains, "{facts:?}");
        }
    }

    #[test]
    fn every_line_is_needed() {
        for (place, line) in TABLE.iter().enumerate() {
            let others = (0..16_u8).any(|bits| {
                let bit = |n: u8| bits & 1 << n != 0;
                let facts = Facts { proven: bit(0), succeeded: bit(1), covered: bit(2), remains: bit(3) };
                line.matches(facts)
            });
            assert!(others, "line {place} matches nothing");
        }
    }
}

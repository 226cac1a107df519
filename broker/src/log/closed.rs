//! A closed file read to its footer, table included: what the scrub does to each in its turn, and `store verify` to all.

use std::collections::BTreeMap;

use super::LogError;
use super::format::footer::{Footer, Row, decode_rows};
use super::format::payload::Payload;
use super::format::usize_of;
use super::scan::{Expected, Found, Scan};

/// How far a closed file was read.
pub(crate) struct Closed {
    end: u64,
    expected: Expected,
    /// Its entries so far, by index.
    rows: BTreeMap<u64, Row>,
}

impl Closed {
    /// Begins to read a file that was closed.
    ///
    /// # Errors
    /// Its opening is damaged, or the disk.
    pub(crate) fn begin(scan: &mut Scan) -> Result<Self, LogError> {
        let opening = scan.opening()?.ok_or_else(|| scan.corrupt(0, "the opening is damaged"))?;
        Ok(Self { end: opening.end(), expected: opening.next(), rows: BTreeMap::new() })
    }

    /// Reads the next record, all of it; gives its bytes, or `None` behind the footer.
    ///
    /// # Errors
    /// The record, or the table of the footer, is not as it was written; or the disk.
    pub(crate) fn step(&mut self, scan: &mut Scan) -> Result<Option<u64>, LogError> {
        let Some(found) = scan.next(self.end, self.expected)? else {
            return Err(
                scan.corrupt(self.end, "the record there is damaged: it was whole when the file was closed")
            );
        };
        (self.end, self.expected) = (found.end(), found.next());
        note(&mut self.rows, &found);
        if let Payload::Footer(footer) = &found.payload {
            return match wrong_table(scan, footer, Some(&self.rows))? {
                Some(what) => Err(scan.corrupt(footer.table_offset, what)),
                None => Ok(None),
            };
        }
        Ok(Some(u64::from(found.header.size)))
    }
}

/// What a record does to the entries of its file.
pub(crate) fn note(rows: &mut BTreeMap<u64, Row>, found: &Found) {
    match &found.payload {
        Payload::Entry(head) => {
            let index = found.header.id.index;
            let row = Row {
                index,
                offset: u32::try_from(found.offset).unwrap_or(u32::MAX),
                size: found.header.size,
                bodies: head.rows,
                bodies_size: u32::try_from(head.bodies_size).unwrap_or(u32::MAX),
            };
            rows.insert(index, row);
        }
        Payload::Truncate(keep) => rows.retain(|index, _| Some(*index) <= keep.map(|keep| keep.index)),
        _ => {}
    }
}

/// What is wrong with the table of a footer; `rows` are all entries of the file, if they are known.
pub(crate) fn wrong_table(
    scan: &mut Scan,
    footer: &Footer,
    rows: Option<&BTreeMap<u64, Row>>,
) -> Result<Option<&'static str>, LogError> {
    let bytes = scan.bytes(footer.table_offset, usize_of(footer.table_size()))?;
    let Some(table) = bytes.and_then(|bytes| decode_rows(bytes, footer.table_crc)) else {
        return Ok(Some("the footer's table does not match its checksum"));
    };
    let same = rows.is_none_or(|rows| table.iter().eq(rows.values()));
    Ok((!same).then_some("the footer's table does not match the file's entries"))
}

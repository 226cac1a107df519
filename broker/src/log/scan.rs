//! Reads a file record by record, believing nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogError;
use super::format::file_id::FileId;
use super::format::footer::Footer;
use super::format::payload::{Flaw, Payload};
use super::format::record::{HEADER_SIZE, Header, Kind};
use super::format::{BLOCK_SIZE, block_up, record_up, u64_of, usize_of};
use crate::fs::{Disk, DiskResult, File, Open};

/// Bytes read at once.
const WINDOW_SIZE: usize = 256 << 10;

/// The place a scan has come to: what the next record must say of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
}

/// A record that is whole.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) header: Header,
    pub(crate) crc: u32,
    pub(crate) payload: Payload,
}

impl Found {
    /// What the record after it says of it.
    pub(crate) fn next(&self) -> Expected {
        Expected { sequence: self.header.sequence + 1, chain: self.crc }
    }

    /// The first offset behind it.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.header.size)
    }
}

/// An open file and a window on its bytes.
pub(crate) struct Scan {
    pub(crate) id: FileId,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) size: u64,
    salt: u32,
    window: Vec<u8>,
    window_offset: u64,
}

impl Scan {
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, id: FileId, seed: u64, how: Open) -> DiskResult<Self> {
        let path = dir.join(id.name());
        let file = disk.open(&path, how)?;
        let size = file.size()?;
        Ok(Self { id, path, file, size, salt: id.salt(seed), window: Vec::new(), window_offset: 0 })
    }

    /// An error about this file.
    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> LogError {
        LogError::Corrupt { path: self.path.clone(), offset, what: what.into() }
    }

    /// `count` bytes from `offset`; `None` if the file is shorter.
    pub(crate) fn bytes(&mut self, offset: u64, count: usize) -> DiskResult<Option<&[u8]>> {
        let Some(end) = offset.checked_add(u64_of(count)).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        let window_end = self.window_offset + u64_of(self.window.len());
        if offset < self.window_offset || end > window_end {
            let wanted = u64_of(count.max(WINDOW_SIZE)).min(self.size - offset);
            self.window.resize(usize_of(wanted), 0);
            self.window_offset = offset;
            self.file.read_at(&mut self.window, offset).inspect_err(|_| self.window.clear())?;
        }
        let start = usize_of(offset - self.window_offset);
        Ok(Some(&self.window[start..start + count]))
    }

    /// The header at `offset`, if one of this file is there and the file is long enough for its record.
    pub(crate) fn header_at(&mut self, offset: u64) -> DiskResult<Option<(Header, u32)>> {
        let (salt, size) = (self.salt, self.size);
        let Some(bytes) = self.bytes(offset, HEADER_SIZE)? else { return Ok(None) };
        let bytes = bytes.first_chunk().expect("a header was asked for");
        Ok(Header::decode(bytes, salt).filter(|(header, _)| offset + u64::from(header.size) <= size))
    }

    /// The record whose `header` is at `offset`, if all of it is there.
    pub(crate) fn record(
        &mut self,
        offset: u64,
        header: Header,
        crc: u32,
    ) -> DiskResult<Result<Found, Flaw>> {
        let size = header.size as usize - HEADER_SIZE;
        let Some(payload) = self.bytes(offset + u64_of(HEADER_SIZE), size)? else {
            return Ok(Err(Flaw::Damaged("the file is shorter than the record")));
        };
        Ok(Payload::decode(&header, payload).map(|payload| Found { offset, header, crc, payload }))
    }

    /// Where the record after one that ends at `end` may lie: at once, at the next group boundary, or (a footer) in
    /// the last block.
    pub(crate) fn places(&self, end: u64) -> [u64; 3] {
        [record_up(end), block_up(end), self.footer_offset()]
    }

    pub(crate) fn footer_offset(&self) -> u64 {
        self.size.saturating_sub(BLOCK_SIZE)
    }

    /// The expected record after `end`, if it is there and whole.
    ///
    /// # Errors
    /// Also if it is there, but of a kind, version or group unknown here: that is no reason to cut it off.
    pub(crate) fn next(&mut self, end: u64, expected: Expected) -> Result<Option<Found>, LogError> {
        for offset in self.places(end) {
            let Some((header, crc)) = self.header_at(offset)? else { continue };
            let footer = header.kind == Kind::Footer as u8;
            if header.sequence != expected.sequence
                || header.chain != expected.chain
                || footer != (offset == self.footer_offset())
            {
                continue;
            }
            match self.record(offset, header, crc)? {
                Ok(found) => return Ok(Some(found)),
                Err(Flaw::Damaged(_)) => {}
                Err(Flaw::Unknown) => return Err(self.unknown(offset, &header)),
            }
        }
        Ok(None)
    }

    /// The opening at the start, if there is a whole one of this file.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub(crate) fn opening(&mut self) -> Result<Option<Found>, LogError> {
        let Some((header, crc)) = self.header_at(0)? else { return Ok(None) };
        match self.record(0, header, crc)? {
            Ok(found) => Ok(Some(found).filter(|found| match &found.payload {
                Payload::Opening(opening) => {
                    let size = if matches!(self.id, FileId::Sparse(_)) { 0 } else { self.size };
                    opening.file == self.id && opening.file_size == size
                }
                _ => false,
            })),
            Err(Flaw::Damaged(_)) => Ok(None),
            Err(Flaw::Unknown) => Err(self.unknown(0, &header)),
        }
    }

    /// The footer in the last block, if there is a whole one of this file. Its table is not looked at.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub(crate) fn footer(&mut self) -> Result<Option<(Found, Footer)>, LogError> {
        let offset = self.footer_offset();
        let Some((header, crc)) = self.header_at(offset)? else { return Ok(None) };
        let found = match self.record(offset, header, crc)? {
            Ok(found) => found,
            Err(Flaw::Damaged(_)) => return Ok(None),
            Err(Flaw::Unknown) => return Err(self.unknown(offset, &header)),
        };
        Ok(match found.payload {
            Payload::Footer(footer) if footer.file == self.id => Some((found, footer)),
            _ => None,
        })
    }

    fn unknown(&self, offset: u64, header: &Header) -> LogError {
        let Header { kind, version, group, .. } = *header;
        LogError::Unknown { path: self.path.clone(), offset, kind, version, group }
    }
}

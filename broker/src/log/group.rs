//! What one sync makes durable: records as they will lie on disk, bodies by reference.

use std::io::IoSlice;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::{EntryKind, LogId};

use super::Entry;
use super::format::entry::{
    EntryHead, HEAD_SIZE, PREFIX_SIZE, ROW_SIZE, SPARSE_ROW_SIZE, put_rows, put_sparse_rows,
};
use super::format::footer::Row;
use super::format::record::{GROUP, HEADER_SIZE, Header, Kind, VERSION};
use super::format::{block_up, record_up, u32_of, u64_of, usize_of};
use super::scan::Expected;
use crate::fs::{DiskResult, File};

/// Pieces smaller than this are copied: a slice of its own costs more.
const COPY_SIZE_MAX: usize = 256;

/// Where the stream has come to, in one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub(crate) salt: u32,
    pub(crate) epoch: u32,
    /// What the next record gets.
    pub(crate) next: Expected,
    /// The highest sequence that is synced.
    pub(crate) durable: u64,
    /// Sequence of the file's opening.
    pub(crate) first: u64,
    /// Records of the file.
    pub(crate) records: u32,
    /// CRC32C over their headers.
    pub(crate) headers: u32,
}

impl Cursor {
    /// A cursor at the start of a file.
    pub(crate) fn new(salt: u32, epoch: u32, next: Expected, durable: u64) -> Self {
        Self { salt, epoch, next, durable, first: next.sequence, records: 0, headers: 0 }
    }

    /// Takes note of a record that is there.
    pub(crate) fn pass(&mut self, header: &[u8; HEADER_SIZE], next: Expected) {
        self.headers = crc32c::crc32c_append(self.headers, header);
        self.records += 1;
        self.next = next;
    }

    fn stamp(&mut self, kind: Kind, flags: u16, id: LogId, size: u64, check: u32) -> [u8; HEADER_SIZE] {
        let header = Header {
            size: u32::try_from(size).expect("a record is far below 4 GiB"),
            sequence: self.next.sequence,
            durable: self.durable,
            chain: self.next.chain,
            epoch: self.epoch,
            kind: kind as u8,
            version: VERSION,
            flags,
            check,
            id,
            group: GROUP,
        };
        let (bytes, crc) = header.encode(self.salt);
        self.pass(&bytes, Expected { sequence: self.next.sequence + 1, chain: crc });
        bytes
    }
}

/// Bytes of the record of `entry`.
pub(crate) fn entry_size(entry: &Entry) -> u64 {
    let bodies: u64 = entry.table.iter().map(|spec| u64::from(spec.size)).sum();
    u64_of(PREFIX_SIZE + entry.commands.len() + entry.table.len() * ROW_SIZE) + bodies
}

/// Bytes of the record that holds some bodies of an entry.
pub(crate) fn sparse_size(rows: &[(u32, ContentSpec)]) -> u64 {
    let bodies: u64 = rows.iter().map(|(_, spec)| u64::from(spec.size)).sum();
    u64_of(PREFIX_SIZE + rows.len() * SPARSE_ROW_SIZE) + bodies
}

enum Piece {
    /// Bytes of the arena.
    Copied(usize, usize),
    Shared(Bytes),
}

/// Records from one group boundary on.
pub(crate) struct Group {
    start: u64,
    end: u64,
    arena: Vec<u8>,
    /// Arena bytes that are in no piece yet start here.
    loose: usize,
    pieces: Vec<Piece>,
}

impl Group {
    /// An empty group at a group boundary.
    pub(crate) fn new(start: u64) -> Self {
        assert_eq!(block_up(start), start, "a group starts on a block");
        Self { start, end: start, arena: Vec::new(), loose: 0, pieces: Vec::new() }
    }

    pub(crate) fn restart(&mut self, start: u64) {
        assert_eq!(block_up(start), start, "a group starts on a block");
        self.start = start;
        self.end = start;
        self.loose = 0;
        self.arena.clear();
        self.pieces.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes gathered so far.
    pub(crate) fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Where the next record starts.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// A record that is no entry.
    pub(crate) fn record(&mut self, cursor: &mut Cursor, kind: Kind, flags: u16, id: LogId, payload: &[u8]) {
        let size = u64_of(HEADER_SIZE + payload.len());
        let header = cursor.stamp(kind, flags, id, size, crc32c::crc32c(payload));
        self.arena.extend_from_slice(&header);
        self.arena.extend_from_slice(payload);
        self.finish(size);
    }

    /// A whole entry; gives its place.
    pub(crate) fn entry(&mut self, cursor: &mut Cursor, entry: &Entry) -> Row {
        let mut table = Vec::with_capacity(entry.table.len() * ROW_SIZE);
        put_rows(&mut table, &entry.table);
        let contents = entry.contents.as_deref().unwrap_or_default();
        self.put_entry(
            cursor,
            Kind::Entry,
            entry.id,
            entry.kind,
            &entry.commands,
            &table,
            entry.table.len(),
            contents,
        )
    }

    /// Some bodies of an entry; gives their place.
    pub(crate) fn sparse(
        &mut self,
        cursor: &mut Cursor,
        id: LogId,
        rows: &[(u32, ContentSpec)],
        contents: &[Bytes],
    ) -> Row {
        let mut table = Vec::with_capacity(rows.len() * SPARSE_ROW_SIZE);
        put_sparse_rows(&mut table, rows);
        let commands = Bytes::new();
        self.put_entry(
            cursor,
            Kind::SparseEntry,
            id,
            EntryKind::Commands,
            &commands,
            &table,
            rows.len(),
            contents,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record, in their order on disk")]
    fn put_entry(
        &mut self,
        cursor: &mut Cursor,
        kind: Kind,
        id: LogId,
        entry_kind: EntryKind,
        commands: &Bytes,
        table: &[u8],
        rows: usize,
        contents: &[Bytes],
    ) -> Row {
        let bodies_size: u64 = contents.iter().map(|bytes| u64_of(bytes.len())).sum();
        let head = EntryHead {
            commands_size: u32_of(commands.len()),
            commands_crc: crc32c::crc32c(commands),
            rows: u32_of(rows),
            table_crc: crc32c::crc32c(table),
            bodies_size,
            kind: entry_kind,
        }
        .encode();
        let size = u64_of(PREFIX_SIZE + commands.len() + table.len()) + bodies_size;
        let header = cursor.stamp(kind, 0, id, size, crc32c::crc32c(&head));
        let row = Row {
            index: id.index,
            offset: u32::try_from(self.end).expect("a file is below 4 GiB"),
            size: u32::try_from(size).expect("stamped"),
            bodies: u32_of(rows),
            bodies_size: u32::try_from(bodies_size).expect("less than the record"),
        };
        self.arena.reserve(HEADER_SIZE + HEAD_SIZE + table.len());
        self.arena.extend_from_slice(&header);
        self.arena.extend_from_slice(&head);
        self.share(commands);
        self.arena.extend_from_slice(table);
        for bytes in contents {
            self.share(bytes);
        }
        self.finish(size);
        row
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_SIZE_MAX {
            self.arena.extend_from_slice(bytes);
        } else {
            self.gather();
            self.pieces.push(Piece::Shared(bytes.clone()));
        }
    }

    fn gather(&mut self) {
        if self.loose < self.arena.len() {
            self.pieces.push(Piece::Copied(self.loose, self.arena.len()));
            self.loose = self.arena.len();
        }
    }

    /// Pads behind a record of `size` bytes.
    fn finish(&mut self, size: u64) {
        let end = self.end + size;
        self.end = record_up(end);
        self.pad(self.end - end);
    }

    fn pad(&mut self, count: u64) {
        self.arena.resize(self.arena.len() + usize_of(count), 0);
    }

    /// Pads to the next group boundary and writes everything; gives that boundary.
    pub(crate) fn write(&mut self, file: &dyn File) -> DiskResult<u64> {
        let end = block_up(self.end);
        self.pad(end - self.end);
        self.gather();
        let slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(start, end) => IoSlice::new(&self.arena[*start..*end]),
                Piece::Shared(bytes) => IoSlice::new(bytes),
            })
            .collect();
        file.write_at(&slices, self.start)?;
        self.restart(end);
        Ok(end)
    }
}

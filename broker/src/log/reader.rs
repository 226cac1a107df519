//! Reads entries and bodies from files, and believes nothing it reads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use queue_protocol::content::ContentSpec;

use super::cache::Cache;
use super::format::entry::{BodyTable, EntryHead, HEAD_SIZE};
use super::format::file_id::FileId;
use super::format::footer::{ROW_SIZE, Row, decode_rows};
use super::format::record::{GROUP, HEADER_SIZE, Header, Kind, VERSION};
use super::format::usize_of;
use super::scan::Scan;
use super::segment::{Pin, Segment};
use super::{Contents, Entry, LogError};
use crate::fs::{Disk, DiskResult, File, Open};

/// Bytes of footers' tables kept.
const TABLES_SIZE_MAX: usize = 16 << 20;
/// Bytes of body tables kept.
const BODY_TABLES_SIZE_MAX: usize = 4 << 20;

/// Where an entry lies; its file stays as it is as long as this is held.
pub(crate) struct Spot {
    pub(crate) pin: Pin,
    pub(crate) row: Row,
}

/// The head of an entry's record, verified.
struct Prefix {
    header: Header,
    head: EntryHead,
    sparse: bool,
    commands: Bytes,
    table: Arc<BodyTable>,
}

/// Where the bodies of a record start, and its table.
type Bodies = (u64, Arc<BodyTable>);

/// Opens and reads files; keeps handles and tables.
pub(crate) struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    seed: u64,
    handles: Mutex<Cache<FileId, Arc<dyn File>>>,
    tables: Mutex<Cache<FileId, Arc<[Row]>>>,
    bodies: Mutex<Cache<(FileId, u32), Bodies>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, seed: u64, handles_max: usize) -> Self {
        Self {
            disk,
            dir,
            seed,
            handles: Mutex::new(Cache::new(handles_max)),
            tables: Mutex::new(Cache::new(TABLES_SIZE_MAX)),
            bodies: Mutex::new(Cache::new(BODY_TABLES_SIZE_MAX)),
        }
    }

    /// The table of a file that has just been closed.
    pub(crate) fn keep_table(&self, file: FileId, rows: Vec<Row>) {
        let size = rows.len() * ROW_SIZE;
        lock(&self.tables).insert(file, rows.into(), size);
    }

    /// Does what opens a file; if no descriptor is left, again without the files kept open here.
    fn having_descriptors<T>(&self, open: impl Fn() -> DiskResult<T>) -> DiskResult<T> {
        match open() {
            Err(error) if error.is_out_of_descriptors() => {
                lock(&self.handles).clear();
                open()
            }
            opened => opened,
        }
    }

    /// Forgets a file that is no longer part of the log.
    pub(crate) fn forget(&self, file: FileId) {
        lock(&self.handles).remove(file);
        lock(&self.tables).remove(file);
    }

    /// The place of entry `index` in a closed file, by its footer.
    pub(crate) fn locate(&self, pin: Pin, index: u64) -> Result<Option<Spot>, LogError> {
        let rows = self.table(&pin)?;
        Ok(rows
            .binary_search_by_key(&index, |row| row.index)
            .ok()
            .map(|place| Spot { pin, row: rows[place] }))
    }

    /// The places of all entries in a closed file.
    pub(crate) fn table(&self, segment: &Segment) -> Result<Arc<[Row]>, LogError> {
        let kept = lock(&self.tables).get(segment.id);
        if let Some(rows) = kept {
            return Ok(rows);
        }
        let rows: Arc<[Row]> = self.load_table(segment)?.into();
        lock(&self.tables).insert(segment.id, Arc::clone(&rows), rows.len() * ROW_SIZE);
        Ok(rows)
    }

    fn load_table(&self, segment: &Segment) -> Result<Vec<Row>, LogError> {
        let open = || Scan::open(&*self.disk, &self.dir, segment.id, self.seed, Open::Read);
        let mut scan = self.having_descriptors(open)?;
        let offset = scan.footer_offset();
        let Some((_, footer)) = scan.footer()? else {
            return Err(scan.corrupt(offset, "the footer does not match its checksum"));
        };
        let bytes = scan.bytes(footer.table_offset, usize_of(footer.table_size()))?;
        bytes.and_then(|bytes| decode_rows(bytes, footer.table_crc)).ok_or_else(|| {
            scan.corrupt(footer.table_offset, "the footer's table does not match its checksum")
        })
    }

    fn read(&self, segment: &Segment, offset: u64, count: usize) -> DiskResult<Vec<u8>> {
        let kept = lock(&self.handles).get(segment.id);
        let file = match kept {
            Some(file) => file,
            None => {
                let file = self.having_descriptors(|| self.disk.open(&segment.path, Open::Read))?;
                lock(&self.handles).insert(segment.id, Arc::clone(&file), 1);
                file
            }
        };
        let mut bytes = vec![0; count];
        file.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The entry at `spot`. A sparse one has no commands, and a table without ordinals.
    pub(crate) fn entry(&self, spot: &Spot, contents: Contents) -> Result<Entry, LogError> {
        let wanted = match contents {
            Contents::With => spot.row.size,
            Contents::Without => spot.row.size.saturating_sub(spot.row.bodies_size),
        };
        let bytes = Bytes::from(self.read(&spot.pin, u64::from(spot.row.offset), wanted as usize)?);
        let prefix = self.prefix(spot, &bytes)?;
        let contents = match contents {
            Contents::Without => None,
            Contents::With => {
                let bodies = bytes.slice(usize_of(prefix.head.bodies_offset(prefix.sparse))..);
                for row in 0..prefix.table.rows() {
                    self.body(spot, &prefix.table, row, &bodies, 0)?;
                }
                Some([bodies].into())
            }
        };
        let Prefix { header, head, commands, table, .. } = prefix;
        Ok(Entry { id: header.id, kind: head.kind, commands, table: Arc::clone(&table.specs), contents })
    }

    /// Bodies of the entry at `spot`, by rising ordinal; those that follow each other are read at once.
    pub(crate) fn bodies(
        &self,
        spot: &Spot,
        ordinals: &[u32],
    ) -> Result<Vec<(ContentSpec, Bytes)>, LogError> {
        let (start, table) = self.body_table(spot)?;
        let mut rows = Vec::with_capacity(ordinals.len());
        for ordinal in ordinals {
            let row = table.row_of(*ordinal);
            rows.push(row.ok_or(LogError::NoBody { index: spot.row.index, ordinal: *ordinal })?);
        }
        let mut found = Vec::with_capacity(rows.len());
        for together in rows.chunk_by(|a, b| a + 1 == *b) {
            let first = table.span(together[0]).0;
            let last = table.span(together[together.len() - 1]).1;
            let offset = u64::from(spot.row.offset) + start + first;
            let bytes = Bytes::from(self.read(&spot.pin, offset, usize_of(last - first))?);
            for row in together {
                found.push((table.specs[*row], self.body(spot, &table, *row, &bytes, first)?));
            }
        }
        Ok(found)
    }

    /// Header, commands and table alone.
    pub(crate) fn header(&self, spot: &Spot) -> Result<Header, LogError> {
        let bytes = self.read(&spot.pin, u64::from(spot.row.offset), HEADER_SIZE)?;
        self.check_header(spot, &bytes)
    }

    fn body_table(&self, spot: &Spot) -> Result<Bodies, LogError> {
        let key = (spot.pin.id, spot.row.offset);
        if let Some(kept) = lock(&self.bodies).get(key) {
            return Ok(kept);
        }
        let wanted = spot.row.size.saturating_sub(spot.row.bodies_size);
        let bytes = Bytes::from(self.read(&spot.pin, u64::from(spot.row.offset), wanted as usize)?);
        let prefix = self.prefix(spot, &bytes)?;
        let kept = (prefix.head.bodies_offset(prefix.sparse), prefix.table);
        lock(&self.bodies).insert(key, kept.clone(), bytes.len());
        Ok(kept)
    }

    fn check_header(&self, spot: &Spot, bytes: &[u8]) -> Result<Header, LogError> {
        let header = bytes.first_chunk().and_then(|bytes| Header::decode(bytes, spot.pin.id.salt(self.seed)));
        match header {
            Some((header, _))
                if header.size == spot.row.size
                    && header.id.index == spot.row.index
                    && (header.version, header.group) == (VERSION, GROUP)
                    && matches!(Kind::from_number(header.kind), Some(Kind::Entry | Kind::SparseEntry)) =>
            {
                Ok(header)
            }
            _ => Err(damaged(spot, "its header does not match its checksum")),
        }
    }

    fn prefix(&self, spot: &Spot, bytes: &Bytes) -> Result<Prefix, LogError> {
        let header = self.check_header(spot, bytes)?;
        let sparse = header.kind == Kind::SparseEntry as u8;
        let head = EntryHead::decode(&bytes[HEADER_SIZE..], header.check, header.size, sparse)
            .filter(|head| head.bodies_size == u64::from(spot.row.bodies_size))
            .ok_or_else(|| damaged(spot, "its head does not match its checksum"))?;
        let commands_start = HEADER_SIZE + HEAD_SIZE;
        let table_start = usize_of(head.table_offset());
        let commands = bytes.slice(commands_start..table_start);
        if crc32c::crc32c(&commands) != head.commands_crc {
            return Err(damaged(spot, "its commands do not match their checksum"));
        }
        let table = &bytes[table_start..usize_of(head.bodies_offset(sparse))];
        let table = BodyTable::decode(table, &head, sparse)
            .ok_or_else(|| damaged(spot, "its body table does not match its checksum"))?;
        Ok(Prefix { header, head, sparse, commands, table: Arc::new(table) })
    }

    /// The body of `row` in `bytes`, which start `skipped` bytes into the bodies.
    fn body(
        &self,
        spot: &Spot,
        table: &BodyTable,
        row: usize,
        bytes: &Bytes,
        skipped: u64,
    ) -> Result<Bytes, LogError> {
        let (start, end) = table.span(row);
        let body = bytes.slice(usize_of(start - skipped)..usize_of(end - skipped));
        match table.specs[row].verify(&body) {
            Ok(()) => Ok(body),
            Err(_) => {
                let ordinal = table.ordinal(row);
                Err(damaged(spot, &format!("its body {ordinal} does not match its checksum")))
            }
        }
    }
}

fn damaged(spot: &Spot, what: &str) -> LogError {
    LogError::Corrupt {
        path: spot.pin.path.clone(),
        offset: u64::from(spot.row.offset),
        what: format!("entry {}: {what}", spot.row.index),
    }
}

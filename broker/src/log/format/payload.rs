//! A whole record, decoded and verified.

use queue_protocol::wire::peer::{LogId, Vote};

use super::entry::{BodyTable, EntryHead, HEAD_SIZE};
use super::file_id::FileId;
use super::footer::Footer;
use super::opening::{Opening, put_run, take_anchor, take_floor, take_import, take_run};
use super::record::{FLAG_SET, GROUP, HEADER_SIZE, Header, Kind, VERSION};
use super::{Fields, usize_of};
use crate::log::index::{Imported, Run};
use crate::log::state::{Anchor, Floor};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Opening(Box<Opening>),
    Vote(Vote),
    /// Whole or sparse; commands, table and bodies are as they were written.
    Entry(EntryHead),
    Truncate(Option<LogId>),
    Purge(LogId),
    Commit(Option<LogId>),
    Seal,
    Import(Imported),
    Retire(Retired),
    Footer(Footer),
    Compact(Compacted),
    Floors(Vec<Floor>),
    Anchor(Anchor),
}

/// Payload of a retire record: 8 bytes a file, its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(crate) files: Vec<FileId>,
    /// Imports of snapshots that end at or above this never happened.
    pub(crate) imports_from: Option<u64>,
}

/// Payload of a compact record: u64 how many runs, 24 bytes a run, then 8 bytes a file that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// Where the bodies that are left lie now, by rising index.
    pub(crate) runs: Vec<Run>,
    /// The files that held them.
    pub(crate) files: Vec<FileId>,
}

/// Why bytes behind a valid header are not its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The payload is not what was written.
    Damaged(&'static str),
    /// A program of another version wrote it, or it belongs to another Raft group.
    Unknown,
}

impl Payload {
    /// The payload of `header`, all of it verified: of an entry also commands, table and each body.
    pub(crate) fn decode(header: &Header, payload: &[u8]) -> Result<Self, Flaw> {
        let kind = Kind::from_number(header.kind).ok_or(Flaw::Unknown)?;
        if header.version != VERSION || header.group != GROUP || header.flags & !FLAG_SET != 0 {
            return Err(Flaw::Unknown);
        }
        if payload.len() + HEADER_SIZE != header.size as usize {
            return Err(Flaw::Damaged("the record is cut off"));
        }
        if matches!(kind, Kind::Entry | Kind::SparseEntry) {
            return verify_entry(header, payload, kind == Kind::SparseEntry).map(Self::Entry);
        }
        if crc32c::crc32c(payload) != header.check {
            return Err(Flaw::Damaged("the payload does not match its checksum"));
        }
        let decoded = match kind {
            Kind::Opening => Opening::decode(payload).map(|opening| Self::Opening(Box::new(opening))),
            Kind::Footer => Footer::decode(payload).map(Self::Footer),
            Kind::Import => {
                let mut fields = Fields(payload);
                take_import(&mut fields).filter(|_| fields.end().is_some()).map(Self::Import)
            }
            Kind::Retire => decode_files(payload).map(|files| {
                let imports_from = header.optional_id().map(|id| id.index);
                Self::Retire(Retired { files, imports_from })
            }),
            Kind::Compact => take_compacted(payload).map(Self::Compact),
            Kind::Floors => take_floors(payload).map(Self::Floors),
            Kind::Anchor => {
                let mut fields = Fields(payload);
                take_anchor(&mut fields).filter(|_| fields.end().is_some()).map(Self::Anchor)
            }
            Kind::Vote => payload.is_empty().then(|| Self::Vote(header.vote())),
            Kind::Truncate => payload.is_empty().then(|| Self::Truncate(header.optional_id())),
            Kind::Purge => payload.is_empty().then_some(Self::Purge(header.id)),
            Kind::Commit => payload.is_empty().then(|| Self::Commit(header.optional_id())),
            Kind::Seal => payload.is_empty().then_some(Self::Seal),
            Kind::Entry | Kind::SparseEntry => unreachable!("handled above"),
        };
        decoded.ok_or(Flaw::Damaged("the payload does not decode"))
    }
}

fn decode_files(payload: &[u8]) -> Option<Vec<FileId>> {
    let mut fields = Fields(payload);
    let mut files = Vec::new();
    while fields.end().is_none() {
        files.push(FileId::from_code(fields.u64()?));
    }
    Some(files)
}

fn take_floors(payload: &[u8]) -> Option<Vec<Floor>> {
    let mut fields = Fields(payload);
    let mut floors = Vec::new();
    while fields.end().is_none() {
        floors.push(take_floor(&mut fields)?);
    }
    Some(floors)
}

fn take_compacted(payload: &[u8]) -> Option<Compacted> {
    let mut fields = Fields(payload);
    let count = fields.u64()?;
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(take_run(&mut fields)?);
    }
    Some(Compacted { runs, files: decode_files(fields.0)? })
}

/// Appends the payload of a compact record.
pub(crate) fn put_compacted(bytes: &mut Vec<u8>, compacted: &Compacted) {
    bytes.extend_from_slice(&(compacted.runs.len() as u64).to_le_bytes());
    compacted.runs.iter().for_each(|run| put_run(bytes, *run));
    put_files(bytes, &compacted.files);
}

/// Appends the payload of a retire record.
pub(crate) fn put_files(bytes: &mut Vec<u8>, files: &[FileId]) {
    for file in files {
        bytes.extend_from_slice(&file.code().to_le_bytes());
    }
}

fn verify_entry(header: &Header, payload: &[u8], sparse: bool) -> Result<EntryHead, Flaw> {
    let head = EntryHead::decode(payload, header.check, header.size, sparse)
        .ok_or(Flaw::Damaged("the entry's head does not match its checksum"))?;
    let (commands, rest) = payload[HEAD_SIZE..].split_at(head.commands_size as usize);
    if crc32c::crc32c(commands) != head.commands_crc {
        return Err(Flaw::Damaged("the commands do not match their checksum"));
    }
    let (table, bodies) = rest.split_at(usize_of(head.table_size(sparse)));
    let table = BodyTable::decode(table, &head, sparse)
        .ok_or(Flaw::Damaged("the body table does not match its checksum"))?;
    for (row, spec) in table.specs.iter().enumerate() {
        let (start, end) = table.span(row);
        if spec.verify(&bodies[usize_of(start)..usize_of(end)]).is_err() {
            return Err(Flaw::Damaged("a body does not match its checksum"));
        }
    }
    Ok(head)
}

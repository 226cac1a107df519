//! Entries, votes and numbers for tests, here and of the whole store.

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::{EntryKind, LogId, Vote};

use super::Entry;
use super::format::entry::PREFIX_SIZE;
use super::format::file_id::FileId;
use super::format::record::{HEADER_SIZE, Kind};
use crate::fs::rng::Rng;

/// The entry of a term at an index.
pub fn id(index: u64, term: u64) -> LogId {
    LogId { term, leader: NodeId(term % 3 + 1), index }
}

/// A vote in a term.
pub fn vote(term: u64) -> Vote {
    Vote { term, node: NodeId(1), committed: term.is_multiple_of(2) }
}

/// An entry with bodies of the given sizes in bytes; term and index decide its bytes.
pub fn entry_of(index: u64, term: u64, sizes: &[usize]) -> Entry {
    let mut rng = Rng::new(index << 8 ^ term);
    let mut bytes = |size: usize| -> Vec<u8> { (0..size).map(|_| rng.next_u64().to_le_bytes()[0]).collect() };
    let commands = Bytes::from(bytes(10 + sizes.len()));
    let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| bytes(*size)).collect();
    let table = bodies.iter().map(|body| ContentSpec::of(body)).collect();
    let all = Bytes::from(bodies.concat());
    let middle = all.len() / 3;
    let contents = [all.slice(..middle), all.slice(middle..)].into();
    Entry { id: id(index, term), kind: EntryKind::Commands, commands, table, contents: Some(contents) }
}

/// An entry of some size.
pub fn entry(index: u64, term: u64) -> Entry {
    let sizes: &[usize] = match index % 5 {
        0 => &[],
        1 => &[300, 0, 17],
        2 => &[1_000],
        3 => &[5, 5, 5, 5, 2_000],
        _ => &[40],
    };
    entry_of(index, term, sizes)
}

/// With the contents in one piece: entries read from disk and from memory compare equal.
pub fn joined(entry: &Entry) -> Entry {
    let contents = entry.contents.as_deref().map(|parts| [Bytes::from(parts.concat())].into());
    Entry { contents, ..entry.clone() }
}

/// One body of an entry.
///
/// # Panics
/// If the entry has no contents, or not so many bodies.
pub fn body(entry: &Entry, ordinal: u32) -> (ContentSpec, Bytes) {
    let start: usize = entry.table[..ordinal as usize].iter().map(|spec| spec.size as usize).sum();
    let spec = entry.table[ordinal as usize];
    let all = joined(entry).contents.expect("made with contents")[0].clone();
    (spec, all.slice(start..start + spec.size as usize))
}

/// Gives the record at `offset` of a file the checksums that its bytes ask for, as no accident would: those of the
/// header, and of the payload or, of an entry, its first part. `name` is the file's, whose salt goes in.
pub fn seal(name: &str, file: &mut [u8], offset: usize, seed: u64) {
    let Some(salt) = FileId::parse(name).map(|id| id.salt(seed)) else { return };
    let Some(record) = file.get_mut(offset..).filter(|rest| rest.len() >= HEADER_SIZE) else { return };
    let size = u32::from_le_bytes(record[4..8].try_into().expect("four bytes"));
    let is_entry = [Kind::Entry as u8, Kind::SparseEntry as u8].contains(&record[32]);
    let checked = if is_entry { PREFIX_SIZE } else { size as usize };
    if let Some(payload) = record.get(HEADER_SIZE..checked) {
        let check = crc32c::crc32c(payload);
        record[36..40].copy_from_slice(&check.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(salt, &record[4..HEADER_SIZE]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

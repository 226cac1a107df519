//! The bytes of a snapshot file.
//!
//! Little-endian. Written front to back in one pass; the end tells where everything is.
//!
//! | part | size | content |
//! |---|---|---|
//! | opening | 16 | magic `QUEUESNP`, u32 format 1, u32 part size 262,144 |
//! | state | state size | in parts of the part size, the last one shorter |
//! | table | 4 each | CRC32C of each part of the state, in order |
//! | meta | meta size | opaque here |
//! | trailer | 64 | below |
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | index | Raft index of the last entry covered |
//! | 8 | 8 | term | of that entry |
//! | 16 | 8 | leader | who proposed that entry |
//! | 24 | 8 | state size | bytes |
//! | 32 | 8 | file size | bytes, opening and trailer included |
//! | 40 | 4 | meta size | bytes |
//! | 44 | 4 | meta checksum | CRC32C of the meta |
//! | 48 | 4 | table checksum | CRC32C of the table |
//! | 52 | 4 | opening checksum | CRC32C of the opening |
//! | 56 | 4 | zero | |
//! | 60 | 4 | checksum | CRC32C of the trailer before it |
//!
//! The hash of the whole file is the tree of these checksums, with the trailer's at its root: so every part can be
//! verified when it is read, alone and in bounded memory, and none can come from elsewhere.

use bytes::{Buf as _, BufMut as _};
use queue_protocol::limits::BULK_FRAME_SIZE_MAX;
use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::LogId;

/// Bytes of state that are verified together; one frame of bulk carries one.
pub const PART_SIZE: usize = 256 << 10;
/// Largest meta.
pub const META_SIZE_MAX: usize = 1 << 20;

pub(super) const OPENING_SIZE: usize = 16;
pub(super) const TRAILER_SIZE: usize = 64;
/// Bytes of a row of the table.
pub(super) const ROW_SIZE: usize = 4;

const MAGIC: &[u8; 8] = b"QUEUESNP";
const FORMAT: u32 = 1;
/// Where the trailer's own checksum begins.
const CHECKSUM_AT: usize = 60;

const _: () = assert!(PART_SIZE == BULK_FRAME_SIZE_MAX && MAGIC.len() + 4 + 4 == OPENING_SIZE);
const _: () = assert!(5 * 8 + 5 * 4 == CHECKSUM_AT && CHECKSUM_AT + 4 == TRAILER_SIZE);

/// What the end of a file says about the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) last: LogId,
    pub(super) state_size: u64,
    pub(super) meta_size: u32,
    pub(super) meta_checksum: u32,
    pub(super) table_checksum: u32,
}

/// What is wrong with a file, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Corrupt { offset: u64, what: &'static str },
    Format { found: u32 },
}

/// How many parts a state has.
pub(super) fn parts(state_size: u64) -> u64 {
    state_size.div_ceil(PART_SIZE as u64)
}

/// The first bytes of every file.
pub(super) fn opening() -> [u8; OPENING_SIZE] {
    let mut bytes = [0; OPENING_SIZE];
    let mut rest = &mut bytes[..];
    rest.put_slice(MAGIC);
    rest.put_u32_le(FORMAT);
    rest.put_u32_le(u32::try_from(PART_SIZE).expect("checked above"));
    bytes
}

impl Trailer {
    /// Where the table begins.
    pub(super) fn table_at(&self) -> u64 {
        (OPENING_SIZE as u64).saturating_add(self.state_size)
    }

    /// Where the meta begins.
    pub(super) fn meta_at(&self) -> u64 {
        self.table_at().saturating_add(parts(self.state_size) * ROW_SIZE as u64)
    }

    /// Where the trailer begins.
    pub(super) fn trailer_at(&self) -> u64 {
        self.meta_at().saturating_add(u64::from(self.meta_size))
    }

    /// Bytes of the file.
    fn file_size(&self) -> u64 {
        self.trailer_at().saturating_add(TRAILER_SIZE as u64)
    }

    pub(super) fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut bytes = [0; TRAILER_SIZE];
        let mut rest = &mut bytes[..];
        rest.put_u64_le(self.last.index);
        rest.put_u64_le(self.last.term);
        rest.put_u64_le(self.last.leader.0);
        rest.put_u64_le(self.state_size);
        rest.put_u64_le(self.file_size());
        rest.put_u32_le(self.meta_size);
        rest.put_u32_le(self.meta_checksum);
        rest.put_u32_le(self.table_checksum);
        rest.put_u32_le(crc32c::crc32c(&opening()));
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads both ends of a file of `file_size` bytes. All sizes of the result fit into it.
    pub(super) fn decode(
        opening: &[u8; OPENING_SIZE],
        trailer: &[u8; TRAILER_SIZE],
        file_size: u64,
    ) -> Result<Self, Wrong> {
        let trailer_at = file_size.saturating_sub(TRAILER_SIZE as u64);
        let corrupt = |offset, what| Err(Wrong::Corrupt { offset, what });
        let (mut rest, mut checksum) = trailer.split_at(CHECKSUM_AT);
        if crc32c::crc32c(rest) != checksum.get_u32_le() {
            // Another format may end otherwise, but begins alike.
            let mut format = &opening[MAGIC.len()..];
            return match format.get_u32_le() {
                found if opening.starts_with(MAGIC) && found != FORMAT => Err(Wrong::Format { found }),
                _ => corrupt(trailer_at, "the checksum of the trailer does not match"),
            };
        }
        let (index, term) = (rest.get_u64_le(), rest.get_u64_le());
        let last = LogId { term, leader: NodeId(rest.get_u64_le()), index };
        let (state_size, claimed) = (rest.get_u64_le(), rest.get_u64_le());
        let meta_size = rest.get_u32_le();
        let (meta_checksum, table_checksum) = (rest.get_u32_le(), rest.get_u32_le());
        let found = Self { last, state_size, meta_size, meta_checksum, table_checksum };
        if crc32c::crc32c(opening) != rest.get_u32_le() || *opening != self::opening() {
            return corrupt(0, "the checksum of the opening does not match");
        }
        if claimed != file_size || found.file_size() != file_size {
            return corrupt(trailer_at, "the sizes do not add up to the file's");
        }
        if usize::try_from(meta_size).is_ok_and(|size| size > META_SIZE_MAX) {
            return corrupt(trailer_at, "the meta is too large");
        }
        Ok(found)
    }
}

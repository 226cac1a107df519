//! What lies on disk, byte by byte. Everything is little-endian; a `size` counts the record from the first byte
//! of its header to its last byte, without the padding behind it.
//!
//! ```text
//! segment  = group* table footer            file %020d.log, zero-filled or full of an older salt's bytes
//! sparse   = group  table footer            file %020d.import, as long as it needs to be
//! group    = record+ padding to 4,096       what one sync made durable
//! record   = header payload padding to 8    the first record of a file is an opening
//! footer   = a record in the file's last 4,096 bytes; its table starts at the group boundary after the last record
//! ```

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::LogId;

pub(crate) mod entry;
pub(crate) mod file_id;
pub(crate) mod footer;
pub(crate) mod opening;
pub(crate) mod payload;
pub(crate) mod record;

/// Groups start at multiples of this; so no page that holds acknowledged bytes is written again.
pub(crate) const BLOCK_SIZE: u64 = crate::fs::BLOCK_SIZE as u64;
/// Records start at multiples of this.
pub(crate) const RECORD_ALIGN: u64 = 8;
/// A log id where one may be missing: flag, seven zeros, term, leader, index.
pub(crate) const LOG_ID_SIZE: usize = 32;

/// The next group boundary at or after `offset`.
pub(crate) fn block_up(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_SIZE)
}

/// Where a record that may follow one ending at `offset` starts.
pub(crate) fn record_up(offset: u64) -> u64 {
    offset.next_multiple_of(RECORD_ALIGN)
}

/// `count` as the u32 a format has room for.
///
/// # Panics
/// Above 4 GiB, which no section of a record reaches.
pub(crate) fn u32_of(count: usize) -> u32 {
    u32::try_from(count).expect("sections of a record are far below 4 GiB")
}

/// A length of memory as a length on disk.
pub(crate) fn u64_of(count: usize) -> u64 {
    count as u64
}

/// A length on disk as one of memory.
///
/// # Panics
/// On machines that cannot address it.
pub(crate) fn usize_of(size: u64) -> usize {
    usize::try_from(size).expect("usize has 64 bits")
}

/// Takes fields off the front; every method gives `None` once the bytes are used up.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// `count` bytes that must be zero.
    pub(crate) fn zeros(&mut self, count: usize) -> Option<()> {
        self.bytes(count)?.iter().all(|byte| *byte == 0).then_some(())
    }

    /// A flag byte: 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// The number of a node, in 8 bytes.
    pub(crate) fn node(&mut self) -> Option<NodeId> {
        self.u64().and_then(|number| NodeId::try_from(number).ok())
    }

    /// A log id that may be missing, in [`LOG_ID_SIZE`] bytes.
    pub(crate) fn log_id(&mut self) -> Option<Option<LogId>> {
        let present = self.flag()?;
        self.zeros(7)?;
        let id = LogId { term: self.u64()?, leader: self.node()?, index: self.u64()? };
        Some(present.then_some(id))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a log id, [`LOG_ID_SIZE`] bytes.
pub(crate) fn put_log_id(bytes: &mut Vec<u8>, id: Option<LogId>) {
    bytes.extend_from_slice(&[u8::from(id.is_some()), 0, 0, 0, 0, 0, 0, 0]);
    let (term, leader, index) = id.map_or((0, 0, 0), |id| (id.term, id.leader.0, id.index));
    for field in [term, leader, index] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
}

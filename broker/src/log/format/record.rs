//! The header every record starts with.

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::{LogId, Vote};

use super::Fields;

/// What a record says. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Opens a file: the whole state of the log.
    Opening = 1,
    /// A vote, in term and leader; flag 1: committed.
    Vote = 2,
    /// A Raft entry with all its bodies.
    Entry = 3,
    /// Some bodies of an entry, with their ordinals; no commands.
    SparseEntry = 4,
    /// Entries after the log id are dropped; flag 1: there is one, else all are.
    Truncate = 5,
    /// Entries up to the log id are no longer log.
    Purge = 6,
    /// The log id is committed; flag 1: there is one.
    Commit = 7,
    /// Says nothing but its durable sequence.
    Seal = 8,
    /// Sparse files become part of the log.
    Import = 9,
    /// Files are no longer part of the log; flag 1: nor are imports of snapshots that end at or above the index.
    Retire = 10,
    /// The file is complete.
    Footer = 11,
    /// Sparse files take the place of others, which are no longer part of the log.
    Compact = 12,
    /// What peers are known to have had: all of the floors.
    Floors = 13,
    /// How much time had passed at a time of one boot of the machine.
    Anchor = 14,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 14] = [
        Self::Opening,
        Self::Vote,
        Self::Entry,
        Self::SparseEntry,
        Self::Truncate,
        Self::Purge,
        Self::Commit,
        Self::Seal,
        Self::Import,
        Self::Retire,
        Self::Footer,
        Self::Compact,
        Self::Floors,
        Self::Anchor,
    ];

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Bytes of a header.
pub(crate) const HEADER_SIZE: usize = 64;
/// The version written by this program, and the only one it reads.
pub(crate) const VERSION: u8 = 1;
/// The Raft group that all records belong to.
pub(crate) const GROUP: u32 = 0;
/// [`Header::flags`]: the log id is there, or the vote is committed.
pub(crate) const FLAG_SET: u16 = 1;

/// The fixed part of a record.
///
/// | offset | size | field | meaning |
/// |---|---|---|---|
/// | 0 | 4 | crc | CRC32C of bytes 4..64, seeded with the file's salt |
/// | 4 | 4 | size | bytes of the record: header and payload, without padding; at least 64 |
/// | 8 | 8 | sequence | one more than the record before, over all segments; from 1 in a sparse file |
/// | 16 | 8 | durable | the highest sequence that was synced when this record was built |
/// | 24 | 4 | chain | `crc` of the record before; 0 in the first |
/// | 28 | 4 | epoch | how often the log had been opened |
/// | 32 | 1 | kind | [`Kind`] |
/// | 33 | 1 | version | of the payload's layout |
/// | 34 | 2 | flags | bit 0 by kind, others zero |
/// | 36 | 4 | check | CRC32C of the payload; of its first 32 bytes in entries, whose sections have their own |
/// | 40 | 8 | index | Raft index, or 0 |
/// | 48 | 8 | term | Raft term, or 0 |
/// | 56 | 4 | leader | node that led that term, or the node voted for, or 0 |
/// | 60 | 4 | group | Raft group that it belongs to: 0, all others are unknown here |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) size: u32,
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) chain: u32,
    pub(crate) epoch: u32,
    /// Raw: a header of a kind unknown here is evidence all the same.
    pub(crate) kind: u8,
    pub(crate) version: u8,
    pub(crate) flags: u16,
    pub(crate) check: u32,
    pub(crate) id: LogId,
    /// Raw, as the kind: see [`GROUP`].
    pub(crate) group: u32,
}

const _: () = assert!(HEADER_SIZE == 4 + 4 + 8 + 8 + 4 + 4 + 1 + 1 + 2 + 4 + 8 + 8 + 4 + 4);
const _: () = assert!((HEADER_SIZE as u64).is_multiple_of(super::RECORD_ALIGN));
const _: () = assert!(super::BLOCK_SIZE.is_multiple_of(super::RECORD_ALIGN));

/// What a record without a log id has there.
pub(crate) const NO_ID: LogId = LogId { term: 0, leader: NodeId(0), index: 0 };

impl Header {
    /// The bytes, and the CRC in them.
    pub(crate) fn encode(&self, salt: u32) -> ([u8; HEADER_SIZE], u32) {
        let mut bytes = [0; HEADER_SIZE];
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.chain.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32] = self.kind;
        bytes[33] = self.version;
        bytes[34..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.check.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.id.index.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.id.term.to_le_bytes());
        let leader =
            u32::try_from(self.id.leader.0).expect("no number of a node is larger, all decoders see to it");
        bytes[56..60].copy_from_slice(&leader.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.group.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header in `bytes` and its CRC, if it is one of this salt. Says nothing about the payload.
    pub(crate) fn decode(bytes: &[u8; HEADER_SIZE], salt: u32) -> Option<(Self, u32)> {
        let mut fields = Fields(bytes);
        let crc = fields.u32()?;
        let size = fields.u32()?;
        if (size as usize) < HEADER_SIZE || crc != crc32c::crc32c_append(salt, &bytes[4..]) {
            return None;
        }
        let header = Self {
            size,
            sequence: fields.u64()?,
            durable: fields.u64()?,
            chain: fields.u32()?,
            epoch: fields.u32()?,
            kind: fields.u8()?,
            version: fields.u8()?,
            flags: fields.u16()?,
            check: fields.u32()?,
            id: {
                let index = fields.u64()?;
                LogId { index, term: fields.u64()?, leader: NodeId(fields.u32()?.into()) }
            },
            group: fields.u32()?,
        };
        Some((header, crc))
    }

    /// The log id, if the flag says there is one.
    pub(crate) fn optional_id(&self) -> Option<LogId> {
        (self.flags & FLAG_SET != 0).then_some(self.id)
    }

    /// The vote of a vote record.
    pub(crate) fn vote(&self) -> Vote {
        Vote { term: self.id.term, node: self.id.leader, committed: self.flags & FLAG_SET != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Header {
        Header {
            size: 0x40,
            sequence: 0x1122,
            durable: 0x1121,
            chain: 0xaabb_ccdd,
            epoch: 7,
            kind: Kind::Purge as u8,
            version: VERSION,
            flags: FLAG_SET,
            check: 0,
            id: LogId { term: 3, leader: NodeId(2), index: 99 },
            group: GROUP,
        }
    }

    #[test]
    fn golden_bytes() {
        let (bytes, crc) = example().encode(0x5a17);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "CRC",
            "40000000",
            "2211000000000000",
            "2111000000000000",
            "ddccbbaa",
            "07000000",
            "06",
            "01",
            "0100",
            "00000000",
            "6300000000000000",
            "0300000000000000",
            "02000000",
            "00000000",
        );
        assert_eq!(hex, expected.replace("CRC", "0fbb6ac1"));
        assert_eq!(Header::decode(&bytes, 0x5a17), Some((example(), crc)));
        let other = Header { group: 0x0102_0304, ..example() };
        let (bytes, crc) = other.encode(0x5a17);
        assert_eq!(bytes[56..], [2, 0, 0, 0, 4, 3, 2, 1], "the leader and the group");
        assert_eq!(Header::decode(&bytes, 0x5a17), Some((other, crc)));
    }

    #[test]
    fn every_flipped_bit_and_every_other_salt_is_refused() {
        let (bytes, _) = example().encode(0x5a17);
        for bit in 0..HEADER_SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, 0x5a17), None, "bit {bit}");
        }
        for salt in 0..50_000 {
            assert_eq!(Header::decode(&bytes, salt).is_some(), salt == 0x5a17);
        }
    }

    #[test]
    fn zeros_are_no_header() {
        for salt in (0..=u32::MAX).step_by(0x10_0001) {
            assert_eq!(Header::decode(&[0; HEADER_SIZE], salt), None);
        }
    }

    #[test]
    fn kinds_keep_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(15), None);
    }
}

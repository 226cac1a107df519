//! An entry: where its commands, its body table and its bodies lie.

use std::sync::Arc;

use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::EntryKind;

use super::record::HEADER_SIZE;
use super::{Fields, u32_of, u64_of};

/// Bytes of the fixed part behind the header.
pub(crate) const HEAD_SIZE: usize = 32;
/// Bytes of header and head.
pub(crate) const PREFIX_SIZE: usize = HEADER_SIZE + HEAD_SIZE;
/// Bytes of a row of a whole entry: size and CRC32C of one body.
pub(crate) const ROW_SIZE: usize = 8;
/// Bytes of a row of a sparse entry: ordinal, size and CRC32C.
pub(crate) const SPARSE_ROW_SIZE: usize = 12;

/// The fixed part of an entry's payload; the header's `check` covers it.
///
/// ```text
/// header 64 | head 32 | commands | rows: 8 bytes each, 12 if sparse | bodies, one after the other
/// ```
///
/// | offset | size | field | meaning |
/// |---|---|---|---|
/// | 0 | 4 | commands size | bytes |
/// | 4 | 4 | commands crc | CRC32C of the command section |
/// | 8 | 4 | rows | bodies in this record |
/// | 12 | 4 | table crc | CRC32C of all rows |
/// | 16 | 8 | bodies size | sum of the sizes in the rows |
/// | 24 | 1 | kind | 0 blank, 1 commands, 2 membership |
/// | 25 | 7 | zero | |
///
/// A row is `size u32, crc32c u32`; in a sparse entry `ordinal u32` comes first, and ordinals rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    pub(crate) commands_size: u32,
    pub(crate) commands_crc: u32,
    pub(crate) rows: u32,
    pub(crate) table_crc: u32,
    pub(crate) bodies_size: u64,
    pub(crate) kind: EntryKind,
}

const _: () = assert!(HEAD_SIZE == 4 + 4 + 4 + 4 + 8 + 1 + 7);
const _: () = assert!(ROW_SIZE == 4 + 4 && SPARSE_ROW_SIZE == 4 + ROW_SIZE);

impl EntryHead {
    pub(crate) fn encode(&self) -> [u8; HEAD_SIZE] {
        let mut bytes = [0; HEAD_SIZE];
        bytes[..4].copy_from_slice(&self.commands_size.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.commands_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rows.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.table_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bodies_size.to_le_bytes());
        bytes[24] = match self.kind {
            EntryKind::Blank => 0,
            EntryKind::Commands => 1,
            EntryKind::Membership => 2,
        };
        bytes
    }

    /// The head at the start of `payload`, if `check` is its CRC and it adds up to a record of `size` bytes.
    pub(crate) fn decode(payload: &[u8], check: u32, size: u32, sparse: bool) -> Option<Self> {
        let mut all = Fields(payload);
        let bytes = all.bytes(HEAD_SIZE)?;
        if crc32c::crc32c(bytes) != check {
            return None;
        }
        let mut fields = Fields(bytes);
        let head = Self {
            commands_size: fields.u32()?,
            commands_crc: fields.u32()?,
            rows: fields.u32()?,
            table_crc: fields.u32()?,
            bodies_size: fields.u64()?,
            kind: match fields.u8()? {
                0 => EntryKind::Blank,
                1 => EntryKind::Commands,
                2 => EntryKind::Membership,
                _ => return None,
            },
        };
        fields.zeros(7)?;
        let total = head.bodies_offset(sparse).checked_add(head.bodies_size)?;
        (total == u64::from(size)).then_some(head)
    }

    /// Bytes of all rows.
    pub(crate) fn table_size(&self, sparse: bool) -> u64 {
        u64::from(self.rows) * u64_of(if sparse { SPARSE_ROW_SIZE } else { ROW_SIZE })
    }

    /// Offset of the table in the record.
    pub(crate) fn table_offset(&self) -> u64 {
        u64_of(PREFIX_SIZE) + u64::from(self.commands_size)
    }

    /// Offset of the first body in the record.
    pub(crate) fn bodies_offset(&self, sparse: bool) -> u64 {
        self.table_offset() + self.table_size(sparse)
    }
}

/// The bodies an entry's record holds, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyTable {
    /// One per row; `None` if the ordinals are 0, 1, 2 …
    ordinals: Option<Vec<u32>>,
    pub(crate) specs: Arc<[ContentSpec]>,
    /// Where each body starts, from the first body on; one more than rows.
    offsets: Vec<u64>,
}

impl BodyTable {
    /// The table in `bytes`, if it is the one `head` describes.
    pub(crate) fn decode(bytes: &[u8], head: &EntryHead, sparse: bool) -> Option<Self> {
        if u64_of(bytes.len()) != head.table_size(sparse) || crc32c::crc32c(bytes) != head.table_crc {
            return None;
        }
        let rows = bytes.len() / if sparse { SPARSE_ROW_SIZE } else { ROW_SIZE };
        let mut fields = Fields(bytes);
        let mut ordinals = sparse.then(|| Vec::with_capacity(rows));
        let mut specs = Vec::with_capacity(rows);
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut offset = 0_u64;
        offsets.push(offset);
        for _ in 0..rows {
            if let Some(ordinals) = &mut ordinals {
                let ordinal = fields.u32()?;
                if ordinals.last().is_some_and(|last| *last >= ordinal) {
                    return None;
                }
                ordinals.push(ordinal);
            }
            let spec = ContentSpec { size: fields.u32()?, crc32c: fields.u32()? };
            offset += u64::from(spec.size);
            specs.push(spec);
            offsets.push(offset);
        }
        (offset == head.bodies_size).then(|| Self { ordinals, specs: specs.into(), offsets })
    }

    pub(crate) fn rows(&self) -> usize {
        self.specs.len()
    }

    /// The row that holds body `ordinal`.
    pub(crate) fn row_of(&self, ordinal: u32) -> Option<usize> {
        match &self.ordinals {
            None => Some(ordinal as usize).filter(|row| *row < self.rows()),
            Some(ordinals) => ordinals.binary_search(&ordinal).ok(),
        }
    }

    /// The ordinal of `row`.
    pub(crate) fn ordinal(&self, row: usize) -> u32 {
        self.ordinals.as_ref().map_or_else(|| u32_of(row), |ordinals| ordinals[row])
    }

    /// Where the body of `row` starts, counted from the first body, and where it ends.
    pub(crate) fn span(&self, row: usize) -> (u64, u64) {
        (self.offsets[row], self.offsets[row + 1])
    }
}

/// Appends the rows of a table.
pub(crate) fn put_rows(bytes: &mut Vec<u8>, specs: &[ContentSpec]) {
    for spec in specs {
        bytes.extend_from_slice(&spec.size.to_le_bytes());
        bytes.extend_from_slice(&spec.crc32c.to_le_bytes());
    }
}

/// Appends the rows of a sparse table.
pub(crate) fn put_sparse_rows(bytes: &mut Vec<u8>, rows: &[(u32, ContentSpec)]) {
    for (ordinal, spec) in rows {
        bytes.extend_from_slice(&ordinal.to_le_bytes());
        put_rows(bytes, std::slice::from_ref(spec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(table: &[u8], rows: u32, bodies_size: u64) -> EntryHead {
        EntryHead {
            commands_size: 3,
            commands_crc: crc32c::crc32c(b"abc"),
            rows,
            table_crc: crc32c::crc32c(table),
            bodies_size,
            kind: EntryKind::Commands,
        }
    }

    #[test]
    fn golden_bytes_of_head_and_rows() {
        let mut table = Vec::new();
        put_rows(&mut table, &[ContentSpec { size: 5, crc32c: 0x0102_0304 }]);
        assert_eq!(table, [5, 0, 0, 0, 4, 3, 2, 1]);
        let head = head(&table, 1, 5);
        let bytes = head.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!("03000000", "b73f4b36", "01000000", "TABLE", "0500000000000000", "01", "00000000000000")
                .replace("TABLE", &hex[24..32])
        );
        assert_eq!(hex[24..32], format!("{:08x}", crc32c::crc32c(&table).swap_bytes()));
        let size = u32_of(PREFIX_SIZE + 3 + 8 + 5);
        assert_eq!(EntryHead::decode(&bytes, crc32c::crc32c(&bytes), size, false), Some(head));
        assert_eq!(EntryHead::decode(&bytes, crc32c::crc32c(&bytes), size + 1, false), None);
        assert_eq!(EntryHead::decode(&bytes[..31], crc32c::crc32c(&bytes[..31]), size, false), None);
        let table = BodyTable::decode(&table, &head, false).unwrap();
        assert_eq!(
            (table.rows(), table.row_of(0), table.row_of(1), table.span(0)),
            (1, Some(0), None, (0, 5))
        );
    }

    #[test]
    fn a_sparse_table_keeps_its_ordinals_and_refuses_falling_ones() {
        let spec = |size| ContentSpec { size, crc32c: 9 };
        let mut rows = Vec::new();
        put_sparse_rows(&mut rows, &[(3, spec(10)), (7, spec(20))]);
        assert_eq!(rows.len(), 2 * SPARSE_ROW_SIZE);
        let table = BodyTable::decode(&rows, &head(&rows, 2, 30), true).unwrap();
        assert_eq!((table.row_of(3), table.row_of(7), table.row_of(4)), (Some(0), Some(1), None));
        assert_eq!((table.ordinal(1), table.span(1)), (7, (10, 30)));
        assert_eq!(BodyTable::decode(&rows, &head(&rows, 2, 31), true), None);
        let mut falling = Vec::new();
        put_sparse_rows(&mut falling, &[(7, spec(10)), (7, spec(20))]);
        assert_eq!(BodyTable::decode(&falling, &head(&falling, 2, 30), true), None);
    }
}

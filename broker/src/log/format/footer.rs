//! What closes a file: where each of its entries lies, and sums over all of its records.

use super::file_id::FileId;
use super::{BLOCK_SIZE, Fields, block_up, u64_of};

/// Bytes of a footer's payload.
pub(crate) const FOOTER_SIZE: usize = 56;
/// Bytes of a row of the table.
pub(crate) const ROW_SIZE: usize = 24;

/// Payload of a footer record. It lies in the last 4,096 bytes of its file and is synced, with its table, before the
/// next segment opens.
///
/// | offset | size | field | meaning |
/// |---|---|---|---|
/// | 0 | 8 | file | number, highest bit set if sparse |
/// | 8 | 8 | table offset | a group boundary of this file |
/// | 16 | 4 | rows | of the table, 24 bytes each |
/// | 20 | 4 | table crc | CRC32C of the rows |
/// | 24 | 8 | first | sequence of the file's opening |
/// | 32 | 4 | records | before the footer |
/// | 36 | 4 | headers | CRC32C over the headers of those records, in order |
/// | 40 | 8 | bodies | in all rows |
/// | 48 | 8 | bodies size | bytes of these |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) file: FileId,
    pub(crate) table_offset: u64,
    pub(crate) rows: u32,
    pub(crate) table_crc: u32,
    pub(crate) first: u64,
    pub(crate) records: u32,
    pub(crate) headers: u32,
    pub(crate) bodies: u64,
    pub(crate) bodies_size: u64,
}

/// Where one entry lies; a row of a footer's table. Indices rise; entries truncated within the file have none.
///
/// | offset | size | field | meaning |
/// |---|---|---|---|
/// | 0 | 8 | index | Raft index |
/// | 8 | 4 | offset | of the record in the file |
/// | 12 | 4 | size | of the record |
/// | 16 | 4 | bodies | in the record |
/// | 20 | 4 | bodies size | bytes of these |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) index: u64,
    pub(crate) offset: u32,
    pub(crate) size: u32,
    pub(crate) bodies: u32,
    pub(crate) bodies_size: u32,
}

const _: () = assert!(FOOTER_SIZE == 8 + 8 + 4 + 4 + 8 + 4 + 4 + 8 + 8);
const _: () = assert!(ROW_SIZE == 8 + 4 + 4 + 4 + 4);
const _: () = assert!(super::record::HEADER_SIZE + FOOTER_SIZE <= 4_096 && BLOCK_SIZE == 4_096);

/// Bytes a footer and its table take, from the group boundary after the last record to the end of the file.
pub(crate) fn reserve(rows: usize) -> u64 {
    block_up(u64_of(rows * ROW_SIZE)) + BLOCK_SIZE
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_SIZE] {
        let mut bytes = [0; FOOTER_SIZE];
        bytes[..8].copy_from_slice(&self.file.code().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.table_offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.rows.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.table_crc.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.records.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.headers.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.bodies.to_le_bytes());
        bytes[48..].copy_from_slice(&self.bodies_size.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let footer = Self {
            file: FileId::from_code(fields.u64()?),
            table_offset: fields.u64()?,
            rows: fields.u32()?,
            table_crc: fields.u32()?,
            first: fields.u64()?,
            records: fields.u32()?,
            headers: fields.u32()?,
            bodies: fields.u64()?,
            bodies_size: fields.u64()?,
        };
        fields.end()?;
        Some(footer)
    }

    /// Bytes of the table.
    pub(crate) fn table_size(&self) -> u64 {
        u64::from(self.rows) * u64_of(ROW_SIZE)
    }
}

/// The rows as bytes.
pub(crate) fn encode_rows(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * ROW_SIZE);
    for row in rows {
        bytes.extend_from_slice(&row.index.to_le_bytes());
        for field in [row.offset, row.size, row.bodies, row.bodies_size] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    }
    bytes
}

/// The rows in `bytes`, if their CRC is `crc` and their indices rise.
pub(crate) fn decode_rows(bytes: &[u8], crc: u32) -> Option<Vec<Row>> {
    if !bytes.len().is_multiple_of(ROW_SIZE) || crc32c::crc32c(bytes) != crc {
        return None;
    }
    let mut rows = Vec::with_capacity(bytes.len() / ROW_SIZE);
    let mut fields = Fields(bytes);
    while fields.end().is_none() {
        rows.push(Row {
            index: fields.u64()?,
            offset: fields.u32()?,
            size: fields.u32()?,
            bodies: fields.u32()?,
            bodies_size: fields.u32()?,
        });
    }
    rows.is_sorted_by(|a, b| a.index < b.index).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let rows = [Row { index: 7, offset: 4_096, size: 200, bodies: 2, bodies_size: 88 }];
        let table = encode_rows(&rows);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&table), "070000000000000000100000c80000000200000058000000");
        assert_eq!(decode_rows(&table, crc32c::crc32c(&table)), Some(rows.to_vec()));
        assert_eq!(decode_rows(&table, 0), None);
        let footer = Footer {
            file: FileId::Sparse(3),
            table_offset: 8_192,
            rows: 1,
            table_crc: 0x0403_0201,
            first: 12,
            records: 9,
            headers: 0x0807_0605,
            bodies: 2,
            bodies_size: 88,
        };
        assert_eq!(
            hex(&footer.encode()),
            concat!(
                "0300000000000080",
                "0020000000000000",
                "01000000",
                "01020304",
                "0c00000000000000",
                "09000000",
                "05060708",
                "0200000000000000",
                "5800000000000000"
            )
        );
        assert_eq!(Footer::decode(&footer.encode()), Some(footer));
        assert_eq!(Footer::decode(&footer.encode()[1..]), None);
    }

    #[test]
    fn a_footer_needs_a_block_for_itself_and_blocks_for_its_rows() {
        assert_eq!((reserve(0), reserve(1), reserve(170), reserve(171)), (4_096, 8_192, 8_192, 12_288));
    }
}

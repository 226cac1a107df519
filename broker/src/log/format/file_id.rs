//! Names of the log's files, and the salt that tells a file's records from what lay there before.

/// A file of the log. Segments carry the stream, in the order of their numbers; sparse files carry bodies that
/// came from elsewhere. Numbers are never reused for other contents: a recycled file gets the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    /// A file of the stream, `%020d.log`.
    Segment(u64),
    /// A file of bodies alone, `%020d.import`.
    Sparse(u64),
}

const SPARSE_BIT: u64 = 1 << 63;

impl FileId {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Segment(number) => format!("{number:020}.log"),
            Self::Sparse(number) => format!("{number:020}.import"),
        }
    }

    /// The inverse of [`FileId::name`], exactly.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, kind) = name.split_once('.')?;
        if stem.len() != 20 || !stem.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = stem.parse::<u64>().ok().filter(|number| number & SPARSE_BIT == 0)?;
        match kind {
            "log" => Some(Self::Segment(number)),
            "import" => Some(Self::Sparse(number)),
            _ => None,
        }
    }

    /// How a record names a file: the number, highest bit set for sparse files.
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Segment(number) => number,
            Self::Sparse(number) => number | SPARSE_BIT,
        }
    }

    pub(crate) fn from_code(code: u64) -> Self {
        if code & SPARSE_BIT == 0 { Self::Segment(code) } else { Self::Sparse(code & !SPARSE_BIT) }
    }

    /// The file's salt. For one seed this is a bijection of the number's low 31 bits and the kind, and a CRC of a
    /// fixed number of bytes is one of its seed: a header valid in one file is valid in no other of this store.
    pub(crate) fn salt(self, seed: u64) -> u32 {
        let code = self.code();
        let mut x = low_half(code & 0x7fff_ffff) | low_half(code >> 32) & 0x8000_0000;
        x ^= low_half(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^ (x >> 16) ^ low_half(seed >> 32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low_half(x: u64) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_come_back() {
        for id in [FileId::Segment(1), FileId::Sparse(1), FileId::Segment(u64::MAX >> 1)] {
            assert_eq!(FileId::parse(&id.name()), Some(id));
            assert_eq!(FileId::from_code(id.code()), id);
        }
        assert_eq!(FileId::Segment(42).name(), "00000000000000000042.log");
        for name in ["42.log", "00000000000000000042.log.tmp", "+0000000000000000042.log", "", "."] {
            assert_eq!(FileId::parse(name), None, "{name}");
        }
        assert_eq!(FileId::parse("99999999999999999999.log"), None);
    }

    #[test]
    fn no_two_files_share_a_salt() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..20_000 {
            assert!(seen.insert(FileId::Segment(number).salt(7)));
            assert!(seen.insert(FileId::Sparse(number).salt(7)));
        }
        assert_ne!(FileId::Segment(1).salt(7), FileId::Segment(1).salt(8));
        assert_eq!(FileId::Segment(1).salt(0x0123_4567_89ab_cdef), 0x39ff_0b3b);
    }
}

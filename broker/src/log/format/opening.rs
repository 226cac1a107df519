//! What opens a file: the whole state of the log, so that older segments can go.

use queue_protocol::names::StoreId;
use queue_protocol::wire::peer::Vote;

use super::file_id::FileId;
use super::{Fields, LOG_ID_SIZE, put_log_id, u32_of};
use crate::log::index::{Imported, Index, Run};
use crate::log::state::{Anchor, Floor, State};

/// First bytes of an opening's payload.
pub(crate) const MAGIC: [u8; 8] = *b"QUEUELOG";
/// Bytes before the lists.
pub(crate) const FIXED_SIZE: usize = 200;

/// Payload of an opening record, and of nothing else. The state is that after all records before it; in a sparse
/// file it is empty.
///
/// | offset | size | field | meaning |
/// |---|---|---|---|
/// | 0 | 8 | magic | `QUEUELOG` |
/// | 8 | 8 | file | number, highest bit set if sparse |
/// | 16 | 8 | file size | bytes; 0 in a sparse file |
/// | 24 | 1 | zeroed | 1 if the file was all zeros, 0 if recycled |
/// | 25 | 1 | vote | 1 if there is one |
/// | 26 | 1 | vote committed | |
/// | 27 | 1 | installed | 1 if a peer's snapshot was ever taken in |
/// | 28 | 1 | anchor | 1 if there is one |
/// | 29 | 3 | zero | |
/// | 32 | 8 | vote term | |
/// | 40 | 8 | vote node | |
/// | 48 | 32 | committed | log id: flag, 7 zeros, term, leader, index |
/// | 80 | 32 | purged | log id |
/// | 112 | 32 | last | log id |
/// | 144 | 8 | installed | highest last index of such a snapshot |
/// | 152 | 4 | files | count: 8 bytes each, number |
/// | 156 | 4 | runs | count: 24 bytes each: first index, last index, file |
/// | 160 | 4 | imports | count: 24 bytes each: from, to, count of runs as u64; its runs follow |
/// | 164 | 4 | floors | count: 64 bytes each: node, store (16), epoch (4), 1 if it spoke TLS (4), boot, acknowledged index, vote term, vote node |
/// | 168 | 32 | anchor | boot id (16), ms since that boot, elapsed ms then; zeros if there is none |
/// | 200 | | | the lists, in that order |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) file: FileId,
    pub(crate) file_size: u64,
    pub(crate) zeroed: bool,
    pub(crate) state: State,
}

const _: () = assert!(FIXED_SIZE == 8 + 8 + 8 + 4 + 4 + 8 + 8 + 3 * LOG_ID_SIZE + 8 + 4 * 4 + ANCHOR_SIZE);
pub(crate) const FLOOR_SIZE: usize = 64;
pub(crate) const ANCHOR_SIZE: usize = 32;
const RUN_SIZE: usize = 24;

impl Opening {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let State { vote, committed, purged, last, installed, floors, anchor, index } = &self.state;
        let mut bytes = Vec::with_capacity(size_of_state(&self.state));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.file.code().to_le_bytes());
        bytes.extend_from_slice(&self.file_size.to_le_bytes());
        let committed_vote = vote.is_some_and(|vote| vote.committed);
        bytes.extend_from_slice(
            &[self.zeroed, vote.is_some(), committed_vote, installed.is_some()].map(u8::from),
        );
        bytes.extend_from_slice(&[u8::from(anchor.is_some()), 0, 0, 0]);
        bytes.extend_from_slice(&vote.map_or(0, |vote| vote.term).to_le_bytes());
        bytes.extend_from_slice(&vote.map_or(0, |vote| vote.node.0).to_le_bytes());
        for id in [committed, purged, last] {
            put_log_id(&mut bytes, *id);
        }
        bytes.extend_from_slice(&installed.unwrap_or(0).to_le_bytes());
        for count in [index.files.len(), index.runs.count(), index.imports.len(), floors.len()] {
            bytes.extend_from_slice(&u32_of(count).to_le_bytes());
        }
        let none = Anchor { boot_id: 0, boot_ms: 0, elapsed_ms: 0 };
        put_anchor(&mut bytes, anchor.as_ref().unwrap_or(&none));
        for file in &index.files {
            bytes.extend_from_slice(&file.code().to_le_bytes());
        }
        for run in index.runs.iter() {
            put_run(&mut bytes, run);
        }
        for import in &index.imports {
            put_import(&mut bytes, import);
        }
        put_floors(&mut bytes, floors);
        bytes
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        if fields.bytes(MAGIC.len())? != MAGIC {
            return None;
        }
        let file = FileId::from_code(fields.u64()?);
        let file_size = fields.u64()?;
        let zeroed = fields.flag()?;
        let (has_vote, committed) = (fields.flag()?, fields.flag()?);
        let has_installed = fields.flag()?;
        let has_anchor = fields.flag()?;
        fields.zeros(3)?;
        let vote = Vote { term: fields.u64()?, node: fields.node()?, committed };
        let (committed, purged, last) = (fields.log_id()?, fields.log_id()?, fields.log_id()?);
        let installed = fields.u64()?;
        let (files, runs, imports, floors) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let anchor = take_anchor(&mut fields)?;
        let mut index = Index::default();
        for _ in 0..files {
            index.files.insert(FileId::from_code(fields.u64()?));
        }
        for _ in 0..runs {
            index.runs.insert(take_run(&mut fields)?);
        }
        for _ in 0..imports {
            index.imports.push(take_import(&mut fields)?);
        }
        let mut state = State {
            vote: has_vote.then_some(vote),
            committed,
            purged,
            last,
            installed: has_installed.then_some(installed),
            floors: Vec::new(),
            anchor: has_anchor.then_some(anchor),
            index,
        };
        for _ in 0..floors {
            state.floors.push(take_floor(&mut fields)?);
        }
        fields.end()?;
        Some(Self { file, file_size, zeroed, state })
    }
}

/// Bytes of the opening's payload that holds `state`.
pub(crate) fn size_of_state(state: &State) -> usize {
    let imports: usize =
        state.index.imports.iter().map(|import| RUN_SIZE + import.runs.len() * RUN_SIZE).sum();
    FIXED_SIZE
        + state.index.files.len() * 8
        + state.index.runs.count() * RUN_SIZE
        + imports
        + state.floors.len() * FLOOR_SIZE
}

pub(crate) fn put_run(bytes: &mut Vec<u8>, run: Run) {
    for field in [run.first, run.last, run.file.code()] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
}

pub(crate) fn take_run(fields: &mut Fields<'_>) -> Option<Run> {
    let run = Run { first: fields.u64()?, last: fields.u64()?, file: FileId::from_code(fields.u64()?) };
    (run.first <= run.last).then_some(run)
}

/// Appends an import: in openings, and as the payload of an import record.
pub(crate) fn put_import(bytes: &mut Vec<u8>, import: &Imported) {
    for field in [import.from, import.to, import.runs.len() as u64] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for run in &import.runs {
        put_run(bytes, *run);
    }
}

/// The inverse of [`put_import`].
pub(crate) fn take_import(fields: &mut Fields<'_>) -> Option<Imported> {
    let (from, to, count) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(take_run(fields)?);
    }
    Some(Imported { from, to, runs })
}

/// Appends floors: in openings, and as the payload of a floors record.
pub(crate) fn put_floors(bytes: &mut Vec<u8>, floors: &[Floor]) {
    for floor in floors {
        bytes.extend_from_slice(&floor.node.0.to_le_bytes());
        bytes.extend_from_slice(&floor.store.0.to_le_bytes());
        let epoch = u64::from(floor.secured) << 32 | u64::from(floor.epoch);
        let numbers = [epoch, floor.boot, floor.acknowledged, floor.term, floor.voted.0];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// The inverse of [`put_floors`], for one.
pub(crate) fn take_floor(fields: &mut Fields<'_>) -> Option<Floor> {
    let (node, store, epoch) = (fields.node()?, StoreId(fields.u128()?), fields.u64()?);
    let secured = match epoch >> 32 {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Floor {
        node,
        store,
        epoch: u32::try_from(epoch & u64::from(u32::MAX)).ok()?,
        boot: fields.u64()?,
        acknowledged: fields.u64()?,
        term: fields.u64()?,
        voted: fields.node()?,
        secured,
    })
}

/// Appends an anchor: in openings, and as the payload of an anchor record.
pub(crate) fn put_anchor(bytes: &mut Vec<u8>, anchor: &Anchor) {
    bytes.extend_from_slice(&anchor.boot_id.to_le_bytes());
    bytes.extend_from_slice(&anchor.boot_ms.to_le_bytes());
    bytes.extend_from_slice(&anchor.elapsed_ms.to_le_bytes());
}

/// The inverse of [`put_anchor`].
pub(crate) fn take_anchor(fields: &mut Fields<'_>) -> Option<Anchor> {
    Some(Anchor { boot_id: fields.u128()?, boot_ms: fields.u64()?, elapsed_ms: fields.u64()? })
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::NodeId;

    use super::*;
    use queue_protocol::wire::peer::LogId;

    fn example() -> Opening {
        let id = |term, index| LogId { term, leader: NodeId(2), index };
        let mut index = Index::default();
        index.files.extend([FileId::Segment(4), FileId::Segment(5), FileId::Sparse(1)]);
        index.runs.insert(Run { first: 10, last: 19, file: FileId::Segment(4) });
        index.imports.push(Imported {
            from: 15,
            to: 40,
            runs: vec![Run { first: 16, last: 30, file: FileId::Sparse(1) }],
        });
        let vote = Vote { term: 3, node: NodeId(2), committed: true };
        let floor = Floor {
            node: NodeId(1),
            store: StoreId(0xff),
            epoch: 6,
            boot: 7,
            acknowledged: 18,
            term: 3,
            voted: NodeId(2),
            secured: false,
        };
        Opening {
            file: FileId::Segment(5),
            file_size: 16_384,
            zeroed: true,
            state: State {
                vote: Some(vote),
                committed: Some(id(3, 18)),
                purged: None,
                last: Some(id(3, 19)),
                installed: Some(40),
                floors: vec![floor],
                anchor: Some(Anchor { boot_id: 0xee, boot_ms: 70, elapsed_ms: 80 }),
                index,
            },
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = example().encode();
        assert_eq!(bytes.len(), size_of_state(&example().state));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let n = |x: u64| x.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = [
            "51554555454c4f47".to_owned(),
            n(5),
            n(16_384),
            "0101010101000000".to_owned(),
            n(3),
            n(2),
            n(1),
            n(3),
            n(2),
            n(18),
            n(0),
            n(0),
            n(0),
            n(0),
            n(1),
            n(3),
            n(2),
            n(19),
            n(40),
            "03000000010000000100000001000000".to_owned(),
            n(0xee),
            n(0),
            n(70),
            n(80),
            n(4),
            n(5),
            n(1 | 1 << 63),
            n(10),
            n(19),
            n(4),
            n(15),
            n(40),
            n(1),
            n(16),
            n(30),
            n(1 | 1 << 63),
            n(1),
            n(0xff),
            n(0),
            n(6),
            n(7),
            n(18),
            n(3),
            n(2),
        ];
        assert_eq!(hex, expected.concat());
        assert_eq!(Opening::decode(&bytes), Some(example()));
    }

    #[test]
    fn no_prefix_decodes() {
        let bytes = example().encode();
        for size in 0..bytes.len() {
            assert_eq!(Opening::decode(&bytes[..size]), None, "{size}");
        }
    }
}

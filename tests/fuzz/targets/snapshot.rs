//! A state as somebody's snapshot says it is, alone or in a file.
//!
//! ```text
//! how 1 | bytes      how: bit 0 they are a file, else a state; bit 1 the file's checksums are made right first
//! ```

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use queue_broker::fs::sim::{SimDisk, SimOptions};
use queue_broker::fs::{Disk, Open};
use queue_broker::queue::State;
use queue_broker::queue::command::{Batch, Command, Op, Opening, SessionStamp, Stamps};
use queue_broker::snapshots::{SnapshotError, Snapshots};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::{NodeId, SessionId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::peer::LogId;
use queue_protocol::wire::request_hash::RequestHash;

use super::commands::story;
use super::ready;

const FILE: u8 = 1;
const SEALED: u8 = 2;
const DIR: &str = "snapshots";
const INDEX: u64 = 7;
const NAME: &str = "snapshots/00000000000000000007.snapshot";
/// Bytes of opening and trailer, as `snapshots::format` draws them.
const OPENING_SIZE: usize = 16;
const TRAILER_SIZE: usize = 64;

/// A state as bytes.
pub(super) fn encode(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// What is taken for a state is one: it holds together, comes back, and goes on. True if it was taken.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    match input.split_first() {
        Some((how, bytes)) if how & FILE != 0 => {
            let mut bytes = bytes.to_vec();
            if how & SEALED != 0 {
                seal(&mut bytes);
            }
            in_file(&bytes)
        }
        Some((_, bytes)) => alone(bytes),
        None => false,
    }
}

fn alone(bytes: &[u8]) -> bool {
    let Ok(mut state) = State::decode(bytes) else { return false };
    state.check();
    state.live_bodies();
    let again = encode(&state);
    let mut twin = State::decode(&again).expect("a state decodes what it encodes");
    assert_eq!(encode(&twin), again);
    for stamps in [Stamps::default(), Stamps::of(1 << 45, 1 << 40)] {
        let commands = story().into_iter().map(|op| Command { session: None, op }).collect();
        let batch = Batch { stamps, commands: Bounded::new(commands).expect("few") };
        let table = [ContentSpec { size: 5, crc32c: 0 }; 3];
        let replies = state.apply(1 << 40, &batch, &table).replies;
        state.check();
        assert_eq!(twin.apply(1 << 40, &batch, &table).replies, replies);
    }
    assert_eq!(encode(&twin), encode(&state));
    true
}

fn in_file(bytes: &[u8]) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(SimOptions::default()));
    ready(Snapshots::format(&*disk, Path::new(DIR))).expect("an empty disk");
    let file = disk.open(Path::new(NAME), Open::Create).expect("an empty disk");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("room");
    drop(file);
    let newest = match ready(Snapshots::open(Arc::clone(&disk), Path::new(DIR))) {
        Ok((snapshots, _)) => snapshots.newest().expect("no file is passed over"),
        Err(SnapshotError::Corrupt { .. } | SnapshotError::Format { .. }) => return false,
        Err(other) => panic!("neither corrupt nor unknown: {other}"),
    };
    assert_eq!(newest.last.index, INDEX);
    let state = newest.read_state().expect("it was verified");
    assert_eq!(state.len() as u64, newest.state_size);
    assert_eq!(state, bytes[OPENING_SIZE..][..state.len()]);
    alone(&state)
}

/// Puts the right checksums into a file, as far as its trailer says where they are.
fn seal(bytes: &mut [u8]) {
    let Some(trailer_at) = bytes.len().checked_sub(TRAILER_SIZE).filter(|at| *at >= OPENING_SIZE) else {
        return;
    };
    let (body, trailer) = bytes.split_at_mut(trailer_at);
    let state_size = u64::from_le_bytes(trailer[24..32].try_into().expect("eight bytes"));
    let meta_size = u32::from_le_bytes(trailer[40..44].try_into().expect("four bytes"));
    let table_at = usize::try_from(state_size).ok().and_then(|size| size.checked_add(OPENING_SIZE));
    let meta_at = usize::try_from(meta_size).ok().and_then(|size| body.len().checked_sub(size));
    if let (Some(table_at), Some(meta_at)) = (table_at, meta_at)
        && table_at <= meta_at
    {
        let (front, meta) = body.split_at_mut(meta_at);
        let (front, table) = front.split_at_mut(table_at);
        let parts = front[OPENING_SIZE..].chunks(queue_broker::snapshots::PART_SIZE);
        for (row, part) in table.chunks_exact_mut(4).zip(parts) {
            row.copy_from_slice(&crc32c::crc32c(part).to_le_bytes());
        }
        trailer[44..48].copy_from_slice(&crc32c::crc32c(meta).to_le_bytes());
        trailer[48..52].copy_from_slice(&crc32c::crc32c(table).to_le_bytes());
    }
    trailer[52..56].copy_from_slice(&crc32c::crc32c(&body[..OPENING_SIZE]).to_le_bytes());
    let checksum = crc32c::crc32c(&trailer[..60]);
    trailer[60..].copy_from_slice(&checksum.to_le_bytes());
}

/// States along the story, one of them in a file.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut state = State::new();
    let mut states = vec![encode(&state)];
    for (index, op) in (1..).zip(story()) {
        let stamps = Stamps::of(1_000 * index, 100);
        let commands = Bounded::new(vec![Command { session: None, op }]).expect("one");
        state.apply(index, &Batch { stamps, commands }, &[ContentSpec { size: 2, crc32c: 0 }; 3]);
        states.push(encode(&state));
    }
    let opening = Some(Opening::default());
    let session = Some(SessionStamp {
        session: SessionId(3),
        number: 1,
        done_below: 1,
        opening,
        request: RequestHash::default(),
        by: None,
    });
    let bind = Command { session, op: Op::BindSession { grace_ms: Some(5_000) } };
    let commands = Bounded::new(vec![bind]).expect("one");
    state.apply(99, &Batch { stamps: Stamps::default(), commands }, &[]);
    states.push(encode(&state));
    let disk = SimDisk::new(SimOptions::default());
    ready(Snapshots::format(&disk, Path::new(DIR))).expect("an empty disk");
    let (store, _) = ready(Snapshots::open(disk.boot(), Path::new(DIR))).expect("an empty store");
    let last = LogId { term: 2, leader: NodeId(1), index: INDEX };
    ready(store.publish(last, b"meta", |out| state.encode(out))).expect("an empty disk");
    let file = disk.bytes(Path::new(NAME)).expect("it was published");
    let files = [FILE, FILE | SEALED].map(|how| [&[how], &file[..]].concat());
    states.iter().map(|state| [&[0], &state[..]].concat()).chain(files).collect()
}

//! A data directory after an accident, or after somebody who knows the format was at it.
//!
//! ```text
//! store 1 | forged 1 | edit*      edit = file 1 | what 1 | offset 2 | value 1
//! ```
//!
//! Accidents are flipped bits (three at most: so many the checksums surely see), sectors that are blank or another's,
//! and files cut or gone. Who forges writes bytes, and gives records the checksums they ask for.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use queue_broker::fs::sim::{Image, SimDisk, SimOptions};
use queue_broker::fs::{Disk, Open, create_dirs};
use queue_broker::log::examples::{body, entry_of, id, joined, seal, vote};
use queue_broker::log::{Contents, Entry, Log, LogOptions};
use queue_broker::node::identity::Identity;
use queue_broker::node::{LOG_DIR, SNAPSHOTS_DIR};
use queue_broker::queue::Admission;
use queue_broker::snapshots::Snapshots;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::peer::{LogId, Vote};

use super::ready;

const EDIT_SIZE: usize = 5;
/// CRC32C tells any three flipped bits of what it covers.
const FLIPS_MAX: usize = 3;
const SECTOR_SIZE: usize = 512;
const EDITS_MAX: usize = 24;
/// An entry of a snapshot that came from a peer, and a body of it.
const IMPORTED: u64 = 40;

/// What a log said, or says.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// A data directory, and all that its log ever said.
struct Store {
    image: Image,
    files: Vec<PathBuf>,
    history: Vec<View>,
}

thread_local! {
    static STORES: LazyCell<[Store; 3]> = const { LazyCell::new(stores) };
}

fn dir() -> &'static Path {
    Path::new("data")
}

fn log_dir() -> PathBuf {
    dir().join(LOG_DIR)
}

fn options() -> LogOptions {
    LogOptions { segment_size: 16 << 10, spares: 1, tail_size: 1 << 10, ..LogOptions::new(0x5eed_0001) }
}

fn identity() -> Identity {
    let (cluster, node, store) = (ClusterId(7), NodeId(3), StoreId(9));
    let (name, admission) = (Text::cut("n3"), Some(Admission { generation: 1, key: [7; 32] }));
    Identity { cluster, node, store, name, admission, assigned: 5, removed: false, forming: false }
}

fn example(index: u64, term: u64) -> Entry {
    let sizes: &[usize] = if index.is_multiple_of(3) { &[700, 0, 9] } else { &[20] };
    entry_of(index, term, sizes)
}

/// A store that is written to, one record at a time.
struct Writing {
    disk: SimDisk,
    log: Log,
    snapshots: Snapshots,
    writer: tokio::task::JoinHandle<()>,
    keeper: tokio::task::JoinHandle<()>,
    history: Vec<View>,
}

impl Writing {
    async fn begin() -> Self {
        let disk = SimDisk::new(SimOptions::default());
        let boot: Arc<dyn Disk> = disk.boot();
        create_dirs(&*boot, dir()).await.expect("an empty disk");
        Snapshots::format(&*boot, &dir().join(SNAPSHOTS_DIR)).await.expect("an empty disk");
        Log::format(Arc::clone(&boot), &log_dir(), &options()).await.expect("an empty disk");
        boot.sync_dir(dir()).await.expect("an empty disk");
        identity().write(&*boot, dir(), 0).await.expect("an empty disk");
        let (snapshots, _) =
            Snapshots::open(Arc::clone(&boot), &dir().join(SNAPSHOTS_DIR)).await.expect("ours");
        let (log, writer, keeper, _) = Log::open(boot, &log_dir(), options()).await.expect("just made");
        let writer = tokio::spawn(async { writer.run().await.expect("nothing fails") });
        let keeper = tokio::spawn(async { keeper.run().await.expect("nothing fails") });
        Self { disk, log, snapshots, writer, keeper, history: vec![View::default()] }
    }

    async fn note(&mut self) {
        self.log.flush().await.expect("the log is open");
        self.history.push(view(&self.log).expect("nothing is damaged"));
    }

    async fn append(&mut self, indices: std::ops::Range<u64>, term: u64) {
        for index in indices {
            self.log.append(vec![example(index, term)], Box::new(|| {}));
            self.note().await;
        }
    }

    async fn vote(&mut self, term: u64) {
        self.log.save_vote(vote(term), Box::new(|| {}));
        self.note().await;
    }

    async fn truncate(&mut self, keep: LogId) {
        self.log.truncate_after(Some(keep), Box::new(|| {}));
        self.note().await;
    }

    async fn purge(&mut self, upto: LogId) {
        self.log.purge_upto(upto, Box::new(|| {}));
        self.note().await;
    }

    async fn publish(&mut self, last: LogId) {
        self.log.flush().await.expect("the log is open");
        self.snapshots.publish(last, b"meta", |out| out(b"state")).await.expect("nothing fails");
    }

    async fn import(&mut self, last: LogId) {
        let applied = self.history.last().and_then(|view| view.last).map_or(0, |last| last.index);
        let mut import = self.log.import().expect("the log is open");
        let (spec, bytes): (ContentSpec, Bytes) = body(&example(IMPORTED, last.term), 0);
        import.add(id(IMPORTED, last.term), &[(0, spec)], bytes).await.expect("a body as its row says");
        import.publish(applied, last).await.expect("nothing fails");
        self.publish(last).await;
        self.purge(last).await;
    }

    /// In good order, or as a process ends that is killed.
    async fn end(self, orderly: bool) -> Store {
        if orderly {
            self.log.close();
            self.writer.await.expect("it ends");
            self.keeper.await.expect("it ends");
        } else {
            self.writer.abort();
            self.keeper.abort();
        }
        let image = self.disk.image();
        self.disk.restore(&image);
        Store { image, files: self.disk.files(), history: self.history }
    }
}

fn stores() -> [Store; 3] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing").block_on(async {
        let mut one = Writing::begin().await;
        one.vote(1).await;
        one.append(0..6, 1).await;
        let one = one.end(false).await;
        let mut several = Writing::begin().await;
        several.vote(2).await;
        several.append(0..8, 2).await;
        several.truncate(id(5, 2)).await;
        several.vote(3).await;
        several.append(6..12, 3).await;
        several.publish(id(9, 3)).await;
        several.purge(id(4, 2)).await;
        several.append(12..15, 3).await;
        let several = several.end(true).await;
        let mut installed = Writing::begin().await;
        installed.append(0..3, 1).await;
        installed.import(id(50, 4)).await;
        installed.vote(4).await;
        installed.append(51..54, 4).await;
        [one, several, installed.end(false).await]
    })
}

fn view(log: &Log) -> Option<View> {
    let entries = log.read(0..u64::MAX, usize::MAX, Contents::With).ok()?;
    let entries = entries.iter().map(|entry| (entry.id.index, joined(entry))).collect();
    let state = log.state();
    Some(View { vote: state.vote, purged: state.purged, last: state.last, entries })
}

/// What a node that starts finds; `None` if it does not start. `Some(None)` is a log with a damaged entry in it.
fn open(disk: &SimDisk, forged: bool) -> Option<Option<View>> {
    let boot: Arc<dyn Disk> = disk.boot();
    let found = ready(Identity::open(&*boot, dir())).ok()?;
    assert!(forged || found.identity == identity(), "another identity");
    let (snapshots, _) = ready(Snapshots::open(Arc::clone(&boot), &dir().join(SNAPSHOTS_DIR))).ok()?;
    let snapshot_upto = snapshots.newest().map(|file| file.last.index);
    let options = LogOptions { snapshot_upto, ..options() };
    let (log, ..) = ready(Log::open(boot, &log_dir(), options)).ok()?;
    let imported = log.read_bodies(IMPORTED, &[0]);
    assert!(
        forged
            || imported.is_err()
            || imported.is_ok_and(|bodies| bodies == [body(&example(IMPORTED, 4), 0)]),
        "another body"
    );
    Some(view(&log))
}

/// Recovery does not panic, and having decided it decides the same again; after an accident it finds what the log once
/// said, and nothing else. True if the node starts.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some(([which, forged], edits)) = input.split_first_chunk() else { return false };
    let forged = forged & 1 != 0;
    STORES.with(|stores| {
        let store = &stores[usize::from(*which) % stores.len()];
        let disk = SimDisk::new(SimOptions::default());
        disk.restore(&store.image);
        let mut changed = BTreeMap::new();
        let mut flips = 0;
        for edit in edits.chunks_exact(EDIT_SIZE).take(EDITS_MAX) {
            let which = usize::from(edit[0]) % store.files.len();
            let path = &store.files[which];
            let file = changed.entry(which).or_insert_with(|| disk.bytes(path).ok());
            change(path, file, edit, forged, &mut flips);
        }
        for (which, file) in changed {
            match file {
                Some(bytes) => put(&disk, &store.files[which], &bytes),
                None => disk.remove(&store.files[which]).expect("it is there"),
            }
        }
        let first = open(&disk, forged);
        disk.kill();
        let second = open(&disk, forged);
        if !forged {
            if let Some(Some(found)) = &first {
                assert!(store.history.contains(found), "the log never said this: {found:?}");
            }
            assert_eq!(second, first, "recovery changed its mind");
        }
        first.is_some()
    })
}

/// Makes one edit of a file; `None` is a file that is gone.
fn change(path: &Path, file: &mut Option<Vec<u8>>, edit: &[u8], forged: bool, flips: &mut usize) {
    let Some(bytes) = file else { return };
    let (value, offset) = (edit[4], usize::from(u16::from_le_bytes([edit[2], edit[3]])));
    let sector = |at: usize| at / SECTOR_SIZE * SECTOR_SIZE..(at / SECTOR_SIZE + 1) * SECTOR_SIZE;
    match edit[1] % 8 {
        0 if !forged && *flips == FLIPS_MAX => {}
        0 => {
            *flips += 1;
            let Some(byte) = bytes.get_mut(offset) else { return };
            *byte ^= 1 << (value & 7);
        }
        1 => {
            let Some(sector) = bytes.get_mut(sector(offset)) else { return };
            sector.fill(0);
        }
        2 => {
            let from = sector(usize::from(value) * SECTOR_SIZE);
            if from.end > bytes.len() || sector(offset).end > bytes.len() {
                return;
            }
            bytes.copy_within(from, sector(offset).start);
        }
        3 => bytes.truncate(offset),
        4 => *file = None,
        _ if !forged => {}
        5 => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            seal(name, bytes, offset & !7, options().seed);
        }
        _ => {
            let Some(byte) = bytes.get_mut(offset) else { return };
            *byte = value;
        }
    }
}

fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Open::Write).expect("it is there");
    file.set_size(bytes.len() as u64).expect("the disk is on");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("the disk is on");
    ready(file.sync()).expect("the disk is on");
}

/// Each store as it is, and with one of each edit.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for store in 0..3 {
        for forged in 0..2 {
            seeds.push(vec![store, forged]);
        }
        for (file, offset) in [(2, 4_096_u16), (3, 0), (3, 8_192), (4, 64), (0, 20)] {
            let [low, high] = offset.to_le_bytes();
            seeds.extend((0..5).map(|what| vec![store, 0, file, what, low, high, 9]));
            seeds.push(vec![store, 1, file, 6, low + 12, high, 9, file, 5, low, high, 0]);
        }
    }
    seeds
}

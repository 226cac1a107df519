//! Tests of the whole log on a simulated disk, in segments so small that everything happens often.

mod flips;
mod lifecycle;
mod model;
mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::NodeId;
use queue_protocol::peer::{EntryKind, LogId, Vote};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Contents, Done, Entry, LiveBodies, Log, LogError, LogOptions, Recovered};
use crate::fs::rng::Rng;
use crate::fs::sim::{SimDisk, SimOptions};
use crate::stages::Stages;

const DIR: &str = "/data/log";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn options() -> LogOptions {
    LogOptions {
        segment_size: 32 << 10,
        spares: 2,
        spares_max: 2,
        tail_size: 4 << 10,
        seal_after: Duration::from_millis(20),
        clean_rate: u64::MAX,
        scrub_period: Duration::from_secs(3_600),
        seed: 0x5eed_0000_0000_0001,
        snapshot_upto: None,
        stages: Stages::default(),
    }
}

/// Runs a test under virtual time.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing")
        .block_on(test)
}

fn id(index: u64, term: u64) -> LogId {
    LogId { term, leader: NodeId(term % 3 + 1), index }
}

fn vote(term: u64) -> Vote {
    Vote { term, node: NodeId(1), committed: term.is_multiple_of(2) }
}

/// An entry with bodies of the given sizes; term and index decide its bytes.
fn entry_of(index: u64, term: u64, sizes: &[usize]) -> Entry {
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
fn entry(index: u64, term: u64) -> Entry {
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
fn joined(entry: &Entry) -> Entry {
    let contents = entry.contents.as_deref().map(|parts| [Bytes::from(parts.concat())].into());
    Entry { contents, ..entry.clone() }
}

fn body(entry: &Entry, ordinal: u32) -> (ContentSpec, Bytes) {
    let start: usize = entry.table[..ordinal as usize].iter().map(|spec| spec.size as usize).sum();
    let spec = entry.table[ordinal as usize];
    let all = joined(entry).contents.expect("made with contents")[0].clone();
    (spec, all.slice(start..start + spec.size as usize))
}

/// The first body of each.
fn live(indices: impl IntoIterator<Item = u64>) -> LiveBodies {
    indices.into_iter().map(|index| (index, 0..1)).collect()
}

fn nothing() -> Done {
    Box::new(|| {})
}

fn signal() -> (Done, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    let done: Done = Box::new(move || {
        let _nobody_waits = sender.send(());
    });
    (done, receiver)
}

/// An open log with its two tasks.
struct Store {
    log: Log,
    recovered: Recovered,
    writer: JoinHandle<Result<(), LogError>>,
    keeper: JoinHandle<Result<(), LogError>>,
}

impl Store {
    async fn open_with(disk: &SimDisk, options: LogOptions) -> Result<Self, LogError> {
        let (log, writer, keeper, recovered) = Log::open(disk.boot(), dir(), options).await?;
        let (writer, keeper) = (tokio::spawn(writer.run()), tokio::spawn(keeper.run()));
        Ok(Self { log, recovered, writer, keeper })
    }

    async fn open(disk: &SimDisk) -> Self {
        Self::open_with(disk, options()).await.expect("nothing is wrong with the log")
    }

    /// All that was asked for is durable.
    async fn flush(&self) {
        self.log.flush().await.expect("the log is open");
    }

    async fn append(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.log.append(vec![entry], nothing());
        }
        self.flush().await;
    }

    async fn purge(&self, upto: LogId) {
        self.log.purge_upto(upto, nothing());
        self.flush().await;
    }

    /// The orderly end.
    async fn close(self) {
        self.log.close();
        self.writer.await.expect("the writer runs").expect("nothing fails");
        self.keeper.await.expect("the keeper runs").expect("nothing fails");
    }

    /// The process is gone.
    fn kill(self, disk: &SimDisk) {
        self.writer.abort();
        self.keeper.abort();
        disk.kill();
    }

    fn read_all(&self) -> Vec<Entry> {
        let entries =
            self.log.read(0..u64::MAX, usize::MAX, Contents::With).expect("all entries are readable");
        entries.iter().map(joined).collect()
    }
}

async fn formatted() -> SimDisk {
    formatted_with(SimOptions::default()).await
}

async fn formatted_with(sim: SimOptions) -> SimDisk {
    let disk = SimDisk::new(sim);
    let boot: Arc<SimDisk> = disk.boot();
    Log::format(boot, dir(), &options()).await.expect("the disk is empty");
    disk
}

/// Files of the log, by what follows the dot.
fn files(disk: &SimDisk, kind: &str) -> Vec<PathBuf> {
    let of_kind =
        |path: &PathBuf| path.starts_with("data/log") && path.extension().is_some_and(|have| have == kind);
    disk.files().into_iter().filter(of_kind).collect()
}

/// The plan that was given last has been followed.
async fn cleaned(store: &Store) {
    for _ in 0..8 {
        settle().await;
        store.flush().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    settle().await;
}

/// Lets the other tasks do what they can without time passing.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

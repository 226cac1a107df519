//! Tests of the whole log on a simulated disk, in segments so small that everything happens often.

mod flips;
mod lifecycle;
mod model;
mod planted;
mod small_bodies;
mod spares;
mod storage;
mod unknown;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::wire::peer::{LogId, Vote};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::examples::{body, entry, entry_of, id, joined, vote};
use super::{Contents, Done, Entry, LiveBodies, Log, LogError, LogOptions, Recovered};
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
        room_within: Duration::ZERO,
        tail_size: 4 << 10,
        seal_after: Duration::from_millis(20),
        clean_rate: u64::MAX,
        scrub_period: Duration::from_secs(3_600),
        open_files_max: 8,
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

    /// Closes the log in order and waits for both tasks.
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

//! The log: appends of 64 KiB, one group commit each, beside the same bytes written and synced by hand. The quotient of
//! the two is what records, checksums and threads cost on top of the disk. Raft has several entries in flight: with two,
//! one is handed over while the other syncs.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benches::{content, table};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queue_broker::fs::os::OsDisk;
use queue_broker::fs::{Disk as _, File, Open};
use queue_broker::log::{Entry, Log, LogOptions};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::{EntryKind, LogId};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

const GROUP_SIZE: usize = 64 << 10;
/// Bodies of one entry; with its record it fills a group.
const BODIES: usize = 63;
const BODY_SIZE: usize = 1 << 10;
/// Size of the file written by hand, as large as a segment.
const FILE_SIZE: u64 = 64 << 20;
/// Appends after which the log is told to forget: half a segment.
const FORGET_EVERY: u64 = 512;
/// Groups between two looks at the clock. Both ways take turns by blocks, so that what else the disk has to do slows
/// both alike.
const BLOCK: u64 = 64;

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without I/O needs nothing that can fail")
}

struct Appender {
    runtime: Runtime,
    log: Log,
    table: Arc<[ContentSpec]>,
    contents: Arc<[Bytes]>,
    index: u64,
}

impl Appender {
    fn new(dir: &Path) -> Self {
        let runtime = runtime();
        let options = LogOptions::new(7);
        let spares = options.spares as u64;
        let log = runtime.block_on(async {
            Log::format(Arc::new(OsDisk), dir, &options).await.expect("an empty directory");
            let opened = Log::open(Arc::new(OsDisk), dir, options).await;
            let (log, writer, keeper, _) = opened.expect("a log that was just made");
            // As in a node: a thread each.
            std::thread::spawn(|| self::runtime().block_on(writer.run()).expect("the disk works"));
            std::thread::spawn(|| self::runtime().block_on(keeper.run()).expect("the disk works"));
            while log.usage().spares < spares {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            log
        });
        let contents = vec![content(BODY_SIZE); BODIES].into();
        Self { runtime, log, table: table(BODIES, BODY_SIZE).into(), contents, index: 0 }
    }

    /// Appends `count` entries, at most `depth` in flight, and waits for them.
    fn append(&mut self, count: u64, depth: usize) {
        let mut in_flight = VecDeque::new();
        for _ in 0..count {
            if in_flight.len() == depth {
                self.wait(in_flight.pop_front());
            }
            in_flight.push_back(self.begin());
        }
        while let Some(durable) = in_flight.pop_front() {
            self.wait(Some(durable));
        }
    }

    fn wait(&mut self, durable: Option<oneshot::Receiver<()>>) {
        if let Some(durable) = durable {
            self.runtime.block_on(durable).expect("the disk works");
        }
    }

    fn begin(&mut self) -> oneshot::Receiver<()> {
        if self.index > 0 && self.index.is_multiple_of(FORGET_EVERY) {
            self.forget();
        }
        self.index += 1;
        let entry = Entry {
            id: self.id(),
            kind: EntryKind::Commands,
            commands: Bytes::from_static(b"bench"),
            table: Arc::clone(&self.table),
            contents: Some(Arc::clone(&self.contents)),
        };
        let (done, durable) = oneshot::channel();
        self.log.append(
            vec![entry],
            Box::new(|| {
                // Whoever waits is this thread.
                let _ = done.send(());
            }),
        );
        durable
    }

    fn id(&self) -> LogId {
        LogId { term: 1, leader: NodeId(1), index: self.index }
    }

    /// Lets segments be recycled, as a node does whose messages are acked.
    fn forget(&mut self) {
        self.log.purge_upto(self.id(), Box::new(|| {}));
        self.log.collect(Vec::new(), self.index);
    }
}

/// A zero-filled file that is written round and round.
struct ByHand {
    file: Arc<dyn File>,
    bytes: Vec<u8>,
    at: u64,
    runtime: Runtime,
}

impl ByHand {
    fn new(path: &Path) -> Self {
        let file = OsDisk.open(path, Open::Create).expect("an empty directory");
        let bytes = vec![0; GROUP_SIZE];
        for at in (0..FILE_SIZE).step_by(GROUP_SIZE) {
            file.write_at(&[IoSlice::new(&bytes)], at).expect("the disk works");
        }
        let runtime = runtime();
        runtime.block_on(file.sync()).expect("the disk works");
        Self { file, bytes: vec![0xa5; GROUP_SIZE], at: 0, runtime }
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.file.write_at(&[IoSlice::new(&self.bytes)], self.at).expect("the disk works");
            self.runtime.block_on(self.file.sync()).expect("the disk works");
            self.at = (self.at + GROUP_SIZE as u64) % FILE_SIZE;
        }
    }
}

fn timed(what: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    what();
    begin.elapsed()
}

/// The time of `count` groups appended, and for each block how fast that was beside the same by hand.
fn in_turn(
    count: u64,
    depth: usize,
    appender: &mut Appender,
    by_hand: &mut ByHand,
    quotients: &mut Vec<f64>,
) -> Duration {
    let (mut total, mut rest) = (Duration::ZERO, count);
    while rest > 0 {
        let block = rest.min(BLOCK);
        let hand = timed(|| by_hand.write(block));
        let log = timed(|| appender.append(block, depth));
        if block == BLOCK {
            quotients.push(hand.as_secs_f64() / log.as_secs_f64());
        }
        total += log;
        rest -= block;
    }
    total
}

#[expect(clippy::print_stdout, reason = "the figure that is promised; criterion knows no quotients")]
fn log(criterion: &mut Criterion) {
    // In the build directory: a temporary one may be memory, where a sync costs nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a writable build directory");
    let mut group = criterion.benchmark_group("log, 64 KiB groups");
    group.throughput(Throughput::Bytes(GROUP_SIZE as u64));
    let mut by_hand = ByHand::new(&dir.path().join("file"));
    let mut appender = Appender::new(&dir.path().join("log"));
    group.bench_function("write and fdatasync by hand", |b| {
        b.iter_custom(|count| timed(|| by_hand.write(count)));
    });
    for depth in [1, 2] {
        let mut quotients = Vec::new();
        group.bench_function(format!("append until durable, {depth} in flight"), |b| {
            b.iter_custom(|count| in_turn(count, depth, &mut appender, &mut by_hand, &mut quotients));
        });
        quotients.sort_by(f64::total_cmp);
        if let Some(median) = quotients.get(quotients.len() / 2) {
            let (percent, blocks) = (median * 100.0, quotients.len());
            println!("{depth} in flight: {percent:.0} % of by hand, median of {blocks} blocks of {BLOCK}");
        }
    }
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);

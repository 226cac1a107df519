//! Snapshots: how long apply stands still while one is written of 10 million ready messages in a million runs, and
//! while the state it was made of is given back. The promise is 10 ms; the line that is printed says what it was.
//!
//! Wall time counts what other programs take of the processor too; the time of the thread alone does not.

#![expect(clippy::print_stdout, reason = "what was measured is what this is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use benches::{QUEUE, table};
use queue_broker::fs::os::OsDisk;
use queue_broker::queue::State;
use queue_broker::queue::command::{Batch, Command, Lease, Op, Push, Receipts, Stamps};
use queue_broker::queue::reply::Outcome;
use queue_broker::snapshots::Snapshots;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::{NodeId, QueueName};
use queue_protocol::settings::Settings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::peer::LogId;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// One an entry.
const RUNS: u64 = 1_000_000;
const RUN_SIZE: u32 = 10;
const LIMIT: Duration = Duration::from_millis(10);
/// Entries applied before, to compare with.
const ALONE: u64 = 50_000;

/// The longest of some stretches of work.
#[derive(Clone, Copy, Default)]
struct Longest {
    wall: Duration,
    thread: Duration,
    count: u64,
}

impl Longest {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, thread) = (Instant::now(), thread_time());
        let result = work();
        self.thread = self.thread.max(thread_time().saturating_sub(thread));
        self.wall = self.wall.max(wall.elapsed());
        self.count += 1;
        result
    }

    fn print(self, what: &str) {
        let Self { wall, thread, count } = self;
        let verdict = if thread <= LIMIT { "within" } else { "OVER" };
        println!(
            "{what:<34} longest of {count:>7}: {:>7.3} ms of the thread, {:>7.3} ms in all; {verdict} {} ms",
            millis(thread),
            millis(wall),
            LIMIT.as_millis()
        );
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().expect("less than a second"))
}

struct Core {
    state: State,
    index: u64,
    queue: QueueName,
    table: Vec<ContentSpec>,
}

impl Core {
    fn apply(&mut self, op: Op) -> Outcome {
        self.index += 1;
        let commands = Bounded::new(vec![Command { session: None, op }]).expect("one command");
        let batch = Batch { stamps: Stamps::of(self.index, 1), commands };
        let mut applied = self.state.apply(self.index, &batch, &self.table);
        let reply = applied.replies.pop().expect("a reply for every command");
        reply.result.expect("nothing is refused")
    }

    fn push(&mut self) {
        let create = Some(Box::new(Settings::default()));
        let (queue, special) = (self.queue.clone(), Bounded::default());
        self.apply(Op::Push(Push { queue, create, atomic: false, count: RUN_SIZE, special }));
    }

    fn lease_and_ack(&mut self) {
        let queues = Bounded::new(vec![self.queue.clone()]).expect("one queue");
        let lease = Lease { queues, max_messages: 10, max_bytes: u32::MAX, lease_ms: None };
        let Outcome::Delivered(grants) = self.apply(Op::Lease(lease)) else { panic!("nothing was leased") };
        let receipts = grants.iter().map(|grant| (grant.id, grant.token)).collect();
        let receipts = Bounded::new(receipts).expect("no more than were leased");
        self.apply(Op::Ack(Receipts { queue: self.queue.clone(), receipts }));
    }

    /// What a busy queue does, in steps as large as an entry: half come, half go.
    fn work(&mut self, longest: &mut Longest) {
        longest.measure(|| self.push());
        longest.measure(|| self.lease_and_ack());
    }
}

fn main() -> anyhow::Result<()> {
    let queue = QUEUE.parse().expect("a queue's name");
    let mut core = Core { state: State::new(), index: 0, queue, table: table(RUN_SIZE as usize, 100) };
    (0..RUNS).for_each(|_| core.push());
    ensure!(core.state.available(&core.queue) == RUNS * u64::from(RUN_SIZE), "not every message is ready");

    let mut alone = Longest::default();
    (0..ALONE).for_each(|_| core.work(&mut alone));
    alone.print("apply alone");

    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (snapshots, _) = runtime.block_on(async {
        let path = dir.path().join("snapshots");
        Snapshots::format(&OsDisk, &path).await?;
        Snapshots::open(Arc::new(OsDisk), &path).await
    })?;

    let mut freezing = Longest::default();
    let frozen = freezing.measure(|| core.state.clone());
    freezing.print("freezing the state");

    let last = LogId { term: 1, leader: NodeId(1), index: core.index };
    let (published, given_back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let builder = std::thread::spawn({
        let (published, given_back) = (Arc::clone(&published), Arc::clone(&given_back));
        move || {
            let saved = runtime.block_on(snapshots.publish(last, b"", |out| frozen.encode(out)));
            let live = frozen.live_bodies().len();
            published.store(true, Ordering::Release);
            drop(frozen);
            given_back.store(true, Ordering::Release);
            saved.map(|file| (file.state_size, live))
        }
    });
    let mut building = Longest::default();
    while !published.load(Ordering::Acquire) {
        core.work(&mut building);
    }
    let took = begun.elapsed();
    let mut dropping = Longest::default();
    while !given_back.load(Ordering::Acquire) || dropping.count < ALONE {
        core.work(&mut dropping);
    }
    let (size, live) = builder.join().expect("it does not panic")?;
    building.print("apply while a snapshot is written");
    dropping.print("apply while the state is given back");
    println!("snapshot: {:.1} MB, {live} live ranges, {:.1} s", size as f64 / 1e6, took.as_secs_f64());
    let worst = freezing.thread.max(building.thread).max(dropping.thread);
    ensure!(worst <= LIMIT, "apply stood still for {:.3} ms", millis(worst));
    Ok(())
}

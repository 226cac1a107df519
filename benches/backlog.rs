//! A backlog far larger than memory: one real node in a control group of 1 GiB takes in messages of 1 KiB, starts
//! again, delivers them in order, and is left with one old message in each thousand. Prints each figure beside its
//! limit, and fails if one is missed.
//!
//! `COUNT` says how many messages. The limits are promised for 10,000,000; with fewer, segments and snapshots are
//! smaller in proportion, so that as many of them are written.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use benches::QUEUE;
use benches::daemon::Daemon;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use queue_protocol::client::{Client, NewMessage};
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Consistency, Lease, Queues, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Delivery, PushOutcome, QueueView, Settled};
use tokio::time::Instant;

const BODY_SIZE: usize = 1 << 10;
const BATCH: u64 = 100;
/// Pushes in flight.
const IN_FLIGHT: usize = 8;
/// One message in so many is not acked.
const KEPT_ONE_IN: u64 = 1_000;
const COUNT_DEFAULT: u64 = 200_000;
const COUNT_PROMISED: u64 = 10_000_000;
const SEGMENT_SIZE: u64 = 64 << 20;
/// Snapshots are due after so many segments.
const SEGMENTS_A_SNAPSHOT: u64 = 4;
const MEMORY: u64 = 1 << 30;
/// Acks alone must bring the disk back in this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// What was promised, and how it is.
struct Figure {
    what: &'static str,
    measured: f64,
    limit: f64,
    unit: &'static str,
}

fn queue() -> QueueName {
    QUEUE.parse().expect("a queue's name")
}

/// A body that tells which it is.
fn body(number: u64) -> Vec<u8> {
    let mut body = vec![0xa5; BODY_SIZE];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

async fn push(client: &Client, first: u64) -> anyhow::Result<()> {
    let messages = (first..first + BATCH).map(|number| NewMessage::of_body(&body(number))).collect();
    let pushed = client.push(queue(), true, messages).await?;
    let stored = pushed.answer.iter().all(|run| matches!(run, PushOutcome::Stored { .. }));
    ensure!(stored, "a push was refused: {:?}", pushed.answer);
    Ok(())
}

/// Up to `count` messages with their bodies' numbers.
async fn lease(client: &Client, count: u64) -> anyhow::Result<Vec<(Delivery, u64)>> {
    let lease = Lease {
        queues: Bounded::new(vec![queue()]).expect("one queue"),
        max_messages: u16::try_from(count).context("at most 256")?,
        max_bytes: 4 << 20,
        lease_ms: Some(12 * 3_600_000),
        wait_ms: 0,
        linger_ms: 0,
    };
    let leased = client.ask(ask::Lease(lease)).await?;
    let number = |content: &[u8]| -> anyhow::Result<u64> {
        let body = &content[content.len().checked_sub(BODY_SIZE).context("a body is cut off")?..];
        let number = u64::from_le_bytes(body[..8].try_into()?);
        ensure!(body == self::body(number), "a body is not what was pushed");
        Ok(number)
    };
    let numbers =
        leased.contents.iter().map(|content| number(content)).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(numbers.len() == leased.answer.len(), "a delivery has no body");
    Ok(leased.answer.into_iter().zip(numbers).collect())
}

async fn ack(client: &Client, leased: Vec<Delivery>) -> anyhow::Result<()> {
    let receipts = leased.iter().map(|delivery| (delivery.id, delivery.token)).collect();
    let receipts = Bounded::new(receipts).context("a lease is as large as an ack at most")?;
    let settled = client.ask(ask::Ack(Receipts { queue: queue(), receipts })).await?;
    ensure!(settled.answer.iter().all(|settled| *settled == Settled::Ok), "{:?}", settled.answer);
    Ok(())
}

async fn view(client: &Client) -> anyhow::Result<QueueView> {
    let queues = Queues { only: Some(queue()), after: None, consistency: Consistency::Linearizable };
    client.ask(ask::Queues(queues)).await?.answer.into_iter().next().context("the queue is gone")
}

struct Run {
    count: u64,
    daemon: Daemon,
    figures: Vec<Figure>,
    /// The most that was seen.
    anonymous: u64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[expect(clippy::print_stdout, reason = "what it is for")]
fn say(what: &str) {
    println!("{what}");
}

impl Run {
    fn figure(&mut self, what: &'static str, measured: f64, limit: f64, unit: &'static str) {
        let Figure { what, measured, limit, unit } = Figure { what, measured, limit, unit };
        let miss = if measured > limit { "   MISSED" } else { "" };
        say(&format!("{what:<58} {measured:>9.2} {unit:<4} limit {limit:>7.2}{miss}"));
        self.figures.push(Figure { what, measured, limit, unit });
    }

    /// Does `what` and watches memory meanwhile.
    async fn watched<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let mut what = std::pin::pin!(what);
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                done = &mut what => return done,
                _ = looks.tick() => self.anonymous = self.anonymous.max(self.daemon.anonymous()?),
            }
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let client = self.daemon.client();
        // Answered as soon as it leads.
        client.ask(ask::Stats).await?;
        let (before, begin) = (self.written()?, Instant::now());
        let firsts = (0..self.count).step_by(usize::try_from(BATCH)?);
        let pushes = stream::iter(firsts).map(|first| push(&client, first)).buffered(IN_FLIGHT);
        self.watched(pushes.try_collect::<()>()).await?;
        self.rate("pushed", begin);
        let written = self.written()? - before;
        let bodies = self.count * BODY_SIZE as u64;
        self.figure("written per byte pushed, while segments are made", per(written, bodies), 2.3, "");
        Ok(())
    }

    /// Bytes written so far, none of them on their way.
    fn written(&self) -> anyhow::Result<u64> {
        rustix::fs::sync();
        self.daemon.written()
    }

    fn rate(&self, what: &str, begin: Instant) {
        let took = begin.elapsed().as_secs_f64();
        say(&format!("{what} in {took:.1} s: {:.0} messages/s", per(self.count, 1) / took));
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon.kill()?;
        self.daemon.cool()?;
        let begin = Instant::now();
        self.daemon.start()?;
        let client = self.daemon.client();
        let ready = self.watched(view(&client)).await?.ready;
        ensure!(ready == self.count, "{ready} messages after the restart, {} were pushed", self.count);
        let took = begin.elapsed().as_secs_f64();
        self.figure("from a kill to the first answer, nothing cached", took, 20.0, "s");
        Ok(())
    }

    /// Reads all in order; acks all but one in each thousand.
    async fn read(&mut self) -> anyhow::Result<()> {
        let (client, count, begin) = (self.daemon.client(), self.count, Instant::now());
        let reading = async {
            let mut expected = 0;
            let mut acks = VecDeque::new();
            while expected < count {
                let leased = lease(&client, 256).await?;
                ensure!(!leased.is_empty(), "message {expected} is not delivered");
                let mut done = Vec::with_capacity(leased.len());
                for (delivery, number) in leased {
                    ensure!(number == expected, "message {number} came in place of {expected}");
                    expected += 1;
                    if number % KEPT_ONE_IN != 0 {
                        done.push(delivery);
                    }
                }
                acks.push_back(Box::pin(ack(&client, done)));
                if acks.len() == IN_FLIGHT {
                    futures_util::future::try_join_all(acks.drain(..)).await?;
                }
            }
            futures_util::future::try_join_all(acks).await?;
            anyhow::Ok(())
        };
        self.watched(reading).await?;
        self.rate("read in order and acked", begin);
        let left = view(&client).await?;
        let kept = self.count.div_ceil(KEPT_ONE_IN);
        ensure!(left.ready == 0 && left.leased == kept, "{left:?} is left of {kept}");
        Ok(())
    }

    /// Without one more request the disk comes back.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let pushed = self.count * BODY_SIZE as u64;
        let (begin, limit) = (Instant::now(), 10.0);
        let mut used = self.daemon.disk()?;
        while per(used * 100, pushed) > limit && begin.elapsed() < SETTLED_WITHIN {
            tokio::time::sleep(Duration::from_millis(500)).await;
            used = self.daemon.disk()?;
        }
        say(&format!("settled after {:.1} s", begin.elapsed().as_secs_f64()));
        self.figure("disk used, one old message in each thousand kept", per(used * 100, pushed), limit, "%");
        Ok(())
    }

    /// Messages come and go. First until the log holds all that it keeps for followers that are late
    /// (`raft.keep_bytes`): only then is as much freed as is written.
    async fn steady(&mut self) -> anyhow::Result<()> {
        let client = self.daemon.client();
        let step = async |first: u64| {
            push(&client, first).await?;
            let leased = lease(&client, BATCH).await?;
            ack(&client, leased.into_iter().map(|(delivery, _)| delivery).collect()).await
        };
        let batches = self.count / BATCH / 10;
        let mut before = 0;
        for (round, batches) in [3 * batches, 2 * batches].into_iter().enumerate() {
            before = if round == 0 { 0 } else { self.written()? };
            let steps = stream::iter(0..batches).map(|batch| step(batch * BATCH)).buffer_unordered(IN_FLIGHT);
            self.watched(steps.try_collect::<()>()).await?;
        }
        let written = self.written()? - before;
        let bodies = 2 * batches * BATCH * BODY_SIZE as u64;
        self.figure("written per byte pushed, with acks, segments recycled", per(written, bodies), 1.3, "");
        Ok(())
    }
}

async fn run(count: u64) -> anyhow::Result<Vec<Figure>> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let segment_size = (SEGMENT_SIZE * count / COUNT_PROMISED).next_multiple_of(4_096);
    let segment_size = segment_size.clamp(1 << 20, SEGMENT_SIZE);
    let settings = vec![
        ("QUEUED_STORAGE_SEGMENT_SIZE", format!("{segment_size}B")),
        ("QUEUED_RAFT_SNAPSHOT_BYTES", format!("{}B", SEGMENTS_A_SNAPSHOT * segment_size)),
        ("QUEUED_RAFT_KEEP_BYTES", format!("{}B", 4 * segment_size)),
    ];
    let mut daemon = Daemon::init(dir.path(), MEMORY, settings)?;
    let memory =
        if daemon.limited() { "limited to 1 GiB" } else { "NOT limited: no control group can be made" };
    say(&format!("{count} messages, segments of {} KiB, memory {memory}", segment_size >> 10));
    daemon.start()?;
    let mut run = Run { count, daemon, figures: Vec::new(), anonymous: 0 };
    run.fill().await?;
    run.restart().await?;
    run.read().await?;
    run.settle().await?;
    run.steady().await?;
    let anonymous = per(run.anonymous, 1 << 20);
    run.figure("memory resident that is no page cache, at most", anonymous, 256.0, "MiB");
    Ok(run.figures)
}

fn main() -> anyhow::Result<ExitCode> {
    // Cargo gives the flags meant for criterion to every bench; this one takes its time only if it is asked to.
    let count = std::env::var("COUNT").map_or(Ok(COUNT_DEFAULT), |text| text.parse())?;
    if count < 100 * BATCH || !count.is_multiple_of(BATCH) {
        bail!("COUNT is a multiple of {BATCH}, at least {}", 100 * BATCH);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(run(count))?;
    let missed = figures.iter().filter(|figure| figure.measured > figure.limit).count();
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

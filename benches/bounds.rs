//! What the pure core must never exceed: memory of a message that waits, and processor time of one entry however much
//! falls due or is asked for at once. Ends with an error if a bound is broken.

#![expect(clippy::print_stdout, reason = "the figures are what this is for")]

use std::alloc::System;
use std::time::Duration;

use anyhow::ensure;
use benches::core::{Core, push, queue, take};
use queue_broker::queue::command::Op;
use queue_broker::queue::reply::{Applied, Outcome};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::QueueName;
use queue_protocol::request::{Action, Due, PushOptions, Select, Sweep};
use queue_protocol::settings::{OnExpiry, QueueSettings};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u32 = 1_000_000;

/// Bytes of a waiting message that was pushed with 99 others, and of one that was alone in its entry.
const BATCHED_SIZE_MAX: f64 = 4.0;
const ALONE_SIZE_MAX: f64 = 64.0;

/// Processor time of one entry.
const ENTRY_MAX: Duration = Duration::from_millis(10);

fn main() -> anyhow::Result<()> {
    println!("memory of a waiting message, {MESSAGES} of them");
    let equal = |_| 1_024;
    let differ = |k: u32| 900 + k * 7_919 % 60_000;
    memory("pushed by 100, of one size", 100, 1, equal, BATCHED_SIZE_MAX)?;
    memory("pushed by 100, sizes differ", 100, 1, differ, BATCHED_SIZE_MAX)?;
    memory("pushed by 100 into 1,000 queues in turn", 100, 1_000, differ, BATCHED_SIZE_MAX)?;
    memory("pushed alone", 1, 1, differ, ALONE_SIZE_MAX)?;
    memory("pushed alone into 1,000 queues in turn", 1, 1_000, differ, ALONE_SIZE_MAX)?;

    println!("longest entry and mean, {MESSAGES} messages");
    due()?;
    ended()?;
    expired(OnExpiry::Drop)?;
    expired(OnExpiry::Dead)?;
    swept()
}

fn memory(
    what: &str,
    batch: u32,
    queues: u32,
    size: impl Fn(u32) -> u32,
    size_max: f64,
) -> anyhow::Result<()> {
    let mut core = Core::default();
    let pushes: Vec<Op> =
        (0..queues).map(|k| push(format!("q{k}").parse().expect("a name"), batch, None)).collect();
    // Queues cost what they cost.
    for op in &pushes {
        core.apply(op.clone(), &table(batch, &size));
    }
    let region = Region::new(ALLOCATOR);
    let mut count = 0;
    for op in pushes.iter().cycle().take((MESSAGES / batch) as usize) {
        let table: Vec<ContentSpec> =
            (count..count + batch).map(|k| ContentSpec { size: size(k), crc32c: 0 }).collect();
        core.apply(op.clone(), &table);
        count += batch;
    }
    let change = region.change();
    let each = (change.bytes_allocated - change.bytes_deallocated) as f64 / f64::from(count);
    println!("  {what:<42} {each:6.2} B of {size_max}");
    ensure!(each <= size_max, "{what}: {each:.2} B a message");
    Ok(())
}

fn table(count: u32, size: impl Fn(u32) -> u32) -> Vec<ContentSpec> {
    (0..count).map(|k| ContentSpec { size: size(k), crc32c: 0 }).collect()
}

/// A queue with so many messages.
fn filled(options: Option<&PushOptions>) -> Core {
    let mut core = Core::default();
    let (op, table) = (push(queue(), 1_000, options), table(1_000, |k| 900 + k));
    for _ in 0..MESSAGES / 1_000 {
        core.apply(op.clone(), &table);
    }
    core
}

/// Applies what `next` gives, entry by entry, until it says so; processor time of the longest, and the mean.
fn longest(
    what: &str,
    core: &mut Core,
    mut next: impl FnMut(Option<Applied>) -> Option<Op>,
) -> anyhow::Result<()> {
    let (mut last, mut longest, mut total, mut count) = (None, Duration::ZERO, Duration::ZERO, 0);
    while let Some(op) = next(last.take()) {
        let begin = processor_time();
        last = Some(core.entry(op, &[]));
        let took = processor_time() - begin;
        (longest, total, count) = (longest.max(took), total + took, count + 1);
    }
    println!("  {what:<42} {longest:8.2?} {:8.2?}  {count} entries", total / count);
    ensure!(longest <= ENTRY_MAX, "{what}: an entry of {longest:?}");
    Ok(())
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("this clock began at 0")
}

/// Ticks while more is due.
fn ticks(applied: Option<Applied>) -> Option<Op> {
    applied.is_none_or(|applied| applied.effects.more_due).then_some(Op::Tick)
}

fn due() -> anyhow::Result<()> {
    let later = PushOptions { due: Due::AtMs(60_000), ..PushOptions::default() };
    let mut core = filled(Some(&later));
    core.wall_ms = 60_000;
    longest("delayed, all due at once", &mut core, ticks)
}

fn ended() -> anyhow::Result<()> {
    let mut core = filled(None);
    core.confirmed_ms = 0;
    while let Outcome::Delivered(_) = core.apply(take(Op::Lease, 256), &[]) {}
    core.confirmed_ms = 3_600_000;
    longest("leases, all ended at once", &mut core, ticks)
}

fn expired(on_expiry: OnExpiry) -> anyhow::Result<()> {
    let mut core = expired_core(on_expiry);
    longest(&format!("expired at once, then {on_expiry:?}"), &mut core, ticks)
}

/// A queue with messages that are about to expire.
fn expired_core(on_expiry: OnExpiry) -> Core {
    let mut core = filled(Some(&PushOptions { ttl_ms: Some(50_000), ..PushOptions::default() }));
    let change = Box::new(QueueSettings { on_expiry: Some(on_expiry), ..QueueSettings::default() });
    core.apply(Op::AlterQueue { queue: queue(), change, if_version: None }, &[]);
    core.wall_ms = 60_000;
    core
}

fn swept() -> anyhow::Result<()> {
    let other: QueueName = "other".parse().expect("a name");
    let all = |queue, action| Sweep::all(queue, Select::default(), action);
    let mut core = filled(None);
    core.apply(push(other.clone(), 1, None), &table(1, |_| 9));
    sweep("moved to another queue", &mut core, all(queue(), Action::Move { to: other.clone() }))?;
    sweep("purged as single messages", &mut core, all(other, Action::Delete))?;
    let mut core = filled(None);
    sweep("purged as they were pushed", &mut core, all(queue(), Action::Delete))?;
    let mut core = expired_core(OnExpiry::Dead);
    while core.entry(Op::Tick, &[]).effects.more_due {}
    sweep("redriven", &mut core, all(queue(), Action::Redrive { to: None }))
}

fn sweep(what: &str, core: &mut Core, mut part: Sweep) -> anyhow::Result<()> {
    let mut done = false;
    longest(what, core, |applied| {
        if let Some(mut applied) = applied {
            let Some(Ok(Outcome::Swept(swept))) = applied.replies.pop().map(|reply| reply.result) else {
                panic!("a sweep was refused")
            };
            part.after = swept.next;
            done = swept.next.is_none();
        }
        (!done).then(|| Op::Sweep(Box::new(part.clone())))
    })
}

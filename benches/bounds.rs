//! What the pure core must never exceed: memory of a message that waits, and processor time of one entry however much
//! falls due or is asked for at once. Ends with an error if a bound is broken.

#![expect(clippy::print_stdout, reason = "the figures are what this is for")]

use std::alloc::System;
use std::time::Duration;

use anyhow::ensure;
use benches::core::{Core, push, queue, take};
use queue_broker::queue::command::{Command, Op, Opening, SessionStamp, Source};
use queue_broker::queue::reply::{Applied, Outcome};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::{QueueName, SessionId};
use queue_protocol::settings::{OnExpiry, OnFull, QueueSettings};
use queue_protocol::wire::request::{Action, Due, PushOptions, Select, Sweep};
use queue_protocol::wire::request_hash::RequestHash;
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: u32 = 1_000_000;

/// Bytes of a waiting message that was pushed with 99 others, and of one that was alone in its entry.
const BATCHED_SIZE_MAX: f64 = 4.0;
const ALONE_SIZE_MAX: f64 = 64.0;

/// Virtual time of clients that come for one push, and the most that may be remembered of them.
const SESSION_SECONDS: u64 = 400;
const SESSIONS_SIZE_MAX: usize = 64 << 20;

/// Processor time of one entry.
const ENTRY_MAX: Duration = Duration::from_millis(10);
const ROUNDS: u32 = 3;

/// Groups of a queue, leases measured, and processor time of one.
const GROUPS: u32 = 100_000;
const LEASES: u32 = 10_000;
const GROUP_LEASE_MAX: Duration = Duration::from_micros(20);

fn main() -> anyhow::Result<()> {
    println!("memory of a waiting message, {MESSAGES} of them");
    let equal = |_| 1_024;
    let differ = |k: u32| 900 + k * 7_919 % 60_000;
    memory("pushed by 100, of one size", 100, 1, equal, BATCHED_SIZE_MAX)?;
    memory("pushed by 100, sizes differ", 100, 1, differ, BATCHED_SIZE_MAX)?;
    memory("pushed by 100 into 1,000 queues in turn", 100, 1_000, differ, BATCHED_SIZE_MAX)?;
    memory("pushed alone", 1, 1, differ, ALONE_SIZE_MAX)?;
    memory("pushed alone into 1,000 queues in turn", 1, 1_000, differ, ALONE_SIZE_MAX)?;

    println!("memory of sessions, clients that push once");
    sessions("3,000 a second, closed", 3_000, true)?;
    sessions("1,000 a second, not closed", 1_000, false)?;

    println!("longest entry and mean, {MESSAGES} messages");
    longest("delayed, all due at once", due, &Op::Tick)?;
    longest("leases, all ended at once", leased, &Op::Tick)?;
    longest("expired at once, dropped", || expired(OnExpiry::Drop), &Op::Tick)?;
    longest("expired at once, dead", || expired(OnExpiry::Dead), &Op::Tick)?;
    longest("purged as they were pushed", || filled(None), &sweep(queue(), Action::Delete))?;
    longest("redriven", dead, &sweep(queue(), Action::Redrive { to: None }))?;
    longest("moved", with_other, &sweep(queue(), Action::Move { to: other() }))?;
    longest("purged where they moved", moved, &sweep(other(), Action::Delete))?;

    println!("lease of one message, {GROUPS} groups of which one holds {MESSAGES} messages");
    lease_of_another_group()
}

/// In an ordered queue whose first group is all but endless and held back: what is leased is of others.
fn lease_of_another_group() -> anyhow::Result<()> {
    let mut core = Core { confirmed_ms: 0, ..Core::default() };
    core.apply(push(queue(), 1, None), &table(1, |_| 9));
    let change = Box::new(QueueSettings { ordered: Some(true), ..QueueSettings::default() });
    core.apply(Op::AlterQueue { queue: queue(), change, if_version: None }, &[]);
    let of_group =
        |group: String| PushOptions { group: Some(group.parse().expect("a key")), ..Default::default() };
    let (hot, rows) = (push(queue(), 1_000, Some(&of_group("hot".to_owned()))), table(1_000, |k| 900 + k));
    for _ in 0..MESSAGES / 1_000 {
        core.apply(hot.clone(), &rows);
    }
    for k in 0..GROUPS {
        core.apply(push(queue(), 1, Some(&of_group(format!("group {k}")))), &table(1, |_| 9));
    }
    // The message without a group and the head of the hot one are the first.
    core.lease(2);
    let begin = processor_time();
    for _ in 0..LEASES {
        core.lease(1);
    }
    let each = (processor_time() - begin) / LEASES;
    println!("  from another group {each:8.2?} of {GROUP_LEASE_MAX:?}");
    ensure!(each <= GROUP_LEASE_MAX, "a lease of another group takes {each:?}");
    Ok(())
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

/// Clients that push once, so many a second, until as many sessions are forgotten as are remembered anew.
fn sessions(what: &str, rate: u64, close: bool) -> anyhow::Result<()> {
    const STEP_MS: u64 = 100;
    let mut core = Core::default();
    core.apply(push(queue(), 1, None), &table(1, |_| 9));
    let kept = QueueSettings {
        max_messages: Some(10),
        on_full: Some(OnFull::DropOldest),
        ..QueueSettings::default()
    };
    core.apply(Op::AlterQueue { queue: queue(), change: Box::new(kept), if_version: None }, &[]);
    let region = Region::new(ALLOCATOR);
    let (mut most, mut clients) = (0, 0_u128);
    let begin = processor_time();
    for _ in 0..SESSION_SECONDS * 1_000 / STEP_MS {
        core.wall_ms += STEP_MS;
        let opening = Some(Opening { index: core.index, source: Source::default() });
        let stamps = (0..rate * STEP_MS / 1_000).map(|_| {
            clients += 1;
            let session = SessionId(clients.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            SessionStamp {
                session,
                number: 1,
                done_below: 1,
                opening,
                request: RequestHash::default(),
                by: None,
            }
        });
        let stamps: Vec<SessionStamp> = stamps.collect();
        let ops = [push(queue(), 1, None), Op::CloseSession];
        for op in ops.into_iter().take(if close { 2 } else { 1 }) {
            let commands =
                stamps.iter().map(|stamp| Command { session: Some(*stamp), op: op.clone() }).collect();
            let rows = table(u32::try_from(stamps.len())?, |_| 9);
            let refused =
                core.entry_of(commands, &rows).replies.into_iter().find_map(|reply| reply.result.err());
            ensure!(refused.is_none(), "{what}: {refused:?} after {clients} clients");
        }
        let change = region.change();
        most = most.max(change.bytes_allocated.saturating_sub(change.bytes_deallocated));
    }
    let each = (processor_time() - begin) / u32::try_from(clients)?;
    println!(
        "  {what:<42} {:6.1} MiB of {}, {each:.2?} a client",
        most as f64 / f64::from(1 << 20),
        SESSIONS_SIZE_MAX >> 20
    );
    ensure!(most <= SESSIONS_SIZE_MAX, "{what}: {most} B");
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

/// Applies `op` to what `prepare` gives, and what it leads to, entry by entry; processor time of the longest, and the
/// mean. Each entry's is the least of several rounds, for what disturbs one of them is not the entry's doing.
fn longest(what: &str, prepare: impl Fn() -> Core, op: &Op) -> anyhow::Result<()> {
    let mut least: Vec<Duration> = Vec::new();
    for _ in 0..ROUNDS {
        let (mut core, mut next) = (prepare(), Some(op.clone()));
        let mut entries = 0..;
        while let Some((op, entry)) = next.take().zip(entries.next()) {
            let begin = processor_time();
            let applied = core.entry(op.clone(), &[]);
            let took = processor_time() - begin;
            match least.get_mut(entry) {
                Some(least) => *least = took.min(*least),
                None => least.push(took),
            }
            next = following(op, applied);
        }
    }
    let (count, total) = (least.len(), least.iter().sum::<Duration>());
    let longest = least.into_iter().max().unwrap_or_default();
    let mean = total / u32::try_from(count)?;
    println!("  {what:<42} {longest:8.2?} {mean:8.2?}  {count} entries");
    ensure!(longest <= ENTRY_MAX, "{what}: an entry of {longest:?}");
    Ok(())
}

/// What the leader, or who asked, sends next.
fn following(op: Op, mut applied: Applied) -> Option<Op> {
    match (op, applied.replies.pop()?.result) {
        (Op::Tick, _) => applied.effects.more_due.then_some(Op::Tick),
        (Op::Sweep(mut part), Ok(Outcome::Swept(swept))) => {
            part.after = Some(swept.next?);
            Some(Op::Sweep(part))
        }
        (op, result) => panic!("{op:?} led to {result:?}"),
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("this clock began at 0")
}

fn due() -> Core {
    let mut core = filled(Some(&PushOptions { due: Due::AtMs(60_000), ..PushOptions::default() }));
    core.wall_ms = 60_000;
    core
}

fn leased() -> Core {
    let mut core = filled(None);
    core.confirmed_ms = 0;
    while let Outcome::Delivered(_) = core.apply(take(Op::Lease, 256), &[]) {}
    core.confirmed_ms = 3_600_000;
    core
}

fn expired(on_expiry: OnExpiry) -> Core {
    let mut core = filled(Some(&PushOptions { ttl_ms: Some(50_000), ..PushOptions::default() }));
    let change = Box::new(QueueSettings { on_expiry: Some(on_expiry), ..QueueSettings::default() });
    core.apply(Op::AlterQueue { queue: queue(), change, if_version: None }, &[]);
    core.wall_ms = 60_000;
    core
}

fn dead() -> Core {
    let mut core = expired(OnExpiry::Dead);
    while core.entry(Op::Tick, &[]).effects.more_due {}
    core
}

fn other() -> QueueName {
    "other".parse().expect("a name")
}

fn with_other() -> Core {
    let mut core = filled(None);
    core.apply(push(other(), 1, None), &table(1, |_| 9));
    core
}

fn moved() -> Core {
    let (mut core, mut next) = (with_other(), Some(sweep(queue(), Action::Move { to: other() })));
    while let Some(op) = next.take() {
        let applied = core.entry(op.clone(), &[]);
        next = following(op, applied);
    }
    core
}

fn sweep(queue: QueueName, action: Action) -> Op {
    Op::Sweep(Box::new(Sweep::all(queue, Select::default(), action)))
}

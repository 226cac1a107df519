//! The pure core: what the state machine takes to apply an entry, with a backlog of 10,000 messages behind it.

use std::hint::black_box;
use std::time::Duration;

use benches::{QUEUE, table};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queue_broker::queue::State;
use queue_broker::queue::command::{Batch, Command, Lease, Op, Push, Receipts, Stamps};
use queue_broker::queue::reply::Outcome;
use queue_protocol::bounded::Bounded;
use queue_protocol::content::ContentSpec;
use queue_protocol::names::QueueName;
use queue_protocol::settings::Settings;
use tokio::time::Instant;

/// Messages of one command.
const COUNT: u16 = 100;
const BACKLOG: u64 = 10_000;

struct Core {
    state: State,
    index: u64,
    queue: QueueName,
    table: Vec<ContentSpec>,
}

impl Core {
    fn new() -> Self {
        let queue: QueueName = QUEUE.parse().expect("a queue's name");
        let mut core =
            Self { state: State::new(), index: 0, queue, table: table(usize::from(COUNT), 1 << 10) };
        for _ in 0..BACKLOG / u64::from(COUNT) {
            core.apply(core.push());
        }
        core
    }

    fn push(&self) -> Op {
        Op::Push(Push {
            queue: self.queue.clone(),
            create: Some(Box::new(Settings::default())),
            atomic: false,
            count: COUNT.into(),
            special: Bounded::default(),
        })
    }

    fn take(&self, kind: fn(Lease) -> Op) -> Op {
        let queues = Bounded::new(vec![self.queue.clone()]).expect("one queue");
        kind(Lease { queues, max_messages: COUNT, max_bytes: u32::MAX, lease_ms: None })
    }

    fn apply(&mut self, op: Op) -> Outcome {
        self.index += 1;
        let commands = Bounded::new(vec![Command { session: None, op }]).expect("one command");
        let batch = Batch { stamps: Stamps { wall_ms: self.index, confirmed_ms: 1 }, commands };
        let mut applied = self.state.apply(self.index, black_box(&batch), &self.table);
        let reply = applied.replies.pop().expect("a reply for every command");
        reply.result.expect("nothing is refused")
    }

    /// Leases and acks as two entries.
    fn lease_and_ack(&mut self) {
        let Outcome::Delivered(grants) = self.apply(self.take(Op::Lease)) else {
            panic!("nothing was leased")
        };
        let receipts = grants.iter().map(|grant| (grant.id, grant.token)).collect();
        let receipts = Bounded::new(receipts).expect("no more than were leased");
        self.apply(Op::Ack(Receipts { queue: self.queue.clone(), receipts }));
    }
}

/// The time of `measured` alone, so many times, each with `restore` after it.
fn alternate(core: &mut Core, count: u64, measured: fn(&mut Core), restore: fn(&mut Core)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        let begin = Instant::now();
        measured(core);
        total += begin.elapsed();
        restore(core);
    }
    total
}

fn push(core: &mut Core) {
    black_box(core.apply(core.push()));
}

fn pop(core: &mut Core) {
    black_box(core.apply(core.take(Op::Pop)));
}

fn apply(criterion: &mut Criterion) {
    let mut core = Core::new();
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("push 100", |b| b.iter_custom(|count| alternate(&mut core, count, push, pop)));
    group.bench_function("pop 100", |b| b.iter_custom(|count| alternate(&mut core, count, pop, push)));
    group.bench_function("lease 100, ack 100", |b| {
        b.iter_custom(|count| alternate(&mut core, count, Core::lease_and_ack, push));
    });
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);

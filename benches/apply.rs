//! The pure core: what the state machine takes to apply an entry, with few and with many messages waiting in the queue.

use std::hint::black_box;
use std::time::Duration;

use benches::core::{Core, push, queue, take};
use benches::table;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use queue_broker::queue::command::Op;
use queue_protocol::content::ContentSpec;
use tokio::time::Instant;

/// Messages of one command.
const COUNT: u16 = 100;
/// How many wait, and in pushes of how many they came.
const BACKLOGS: [(u32, u32); 4] = [(10_000, 100), (1_000_000, 100), (10_000_000, 100), (1_000_000, 1)];

struct Bench {
    core: Core,
    table: Vec<ContentSpec>,
}

impl Bench {
    fn new(backlog: u32, batch: u32) -> Self {
        let mut bench = Self { core: Core::default(), table: table(usize::from(COUNT), 1 << 10) };
        for _ in 0..backlog / batch {
            bench.core.apply(push(queue(), batch, None), &bench.table);
        }
        bench
    }

    fn push(&mut self) {
        black_box(self.core.apply(black_box(push(queue(), COUNT.into(), None)), &self.table));
    }

    fn pop(&mut self) {
        black_box(self.core.apply(black_box(take(Op::Pop, COUNT)), &[]));
    }

    /// As two entries.
    fn lease_and_ack(&mut self) {
        let ack = self.core.lease(COUNT);
        black_box(self.core.apply(black_box(ack), &[]));
    }

    /// As three entries.
    fn push_lease_and_ack(&mut self) {
        self.push();
        self.lease_and_ack();
    }
}

/// The time of `measured` alone, so many times, each with `restore` after it.
fn alternate(bench: &mut Bench, count: u64, measured: fn(&mut Bench), restore: fn(&mut Bench)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        let begin = Instant::now();
        measured(bench);
        total += begin.elapsed();
        restore(bench);
    }
    total
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(COUNT.into()));
    for (backlog, batch) in BACKLOGS {
        let mut bench = Bench::new(backlog, batch);
        let waiting = format!("{backlog} waiting, pushed by {batch}");
        group.bench_function(BenchmarkId::new("push, lease, ack 100", &waiting), |b| {
            b.iter(|| bench.push_lease_and_ack());
        });
        group.bench_function(BenchmarkId::new("push 100", &waiting), |b| {
            b.iter_custom(|count| alternate(&mut bench, count, Bench::push, Bench::pop));
        });
        group.bench_function(BenchmarkId::new("pop 100", &waiting), |b| {
            b.iter_custom(|count| alternate(&mut bench, count, Bench::pop, Bench::push));
        });
        group.bench_function(BenchmarkId::new("lease 100, ack 100", &waiting), |b| {
            b.iter_custom(|count| alternate(&mut bench, count, Bench::lease_and_ack, Bench::push));
        });
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);

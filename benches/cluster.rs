//! End to end: pushes of 1 KiB through a cluster of three nodes, from the client's call to the answer that says that
//! they are on a majority of the disks.

use std::time::Duration;

use benches::QUEUE;
use benches::cluster::Cluster;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures_util::{StreamExt as _, stream};
use queue_protocol::client::{Client, NewMessage};
use queue_protocol::names::QueueName;
use queue_protocol::wire::request::{Action, Select, Sweep};
use queue_protocol::wire::response::PushOutcome;
use tokio::time::Instant;

const BODY_SIZE: usize = 1 << 10;

/// How one measurement pushes.
struct Load {
    name: &'static str,
    /// Messages of one request.
    batch: usize,
    /// Requests in flight.
    in_flight: usize,
    /// Requests of one round.
    requests: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "push, 64 in flight", batch: 1, in_flight: 64, requests: 1_600 },
    Load { name: "push, 1,000 in flight in batches of 100", batch: 100, in_flight: 10, requests: 100 },
];

fn queue() -> QueueName {
    QUEUE.parse().expect("a queue's name")
}

async fn push(client: &Client, messages: Vec<NewMessage>) {
    let pushed = client.push(queue(), true, messages).await.expect("the cluster answers");
    let stored = pushed.answer.iter().all(|run| matches!(run, PushOutcome::Stored { .. }));
    assert!(stored, "a push was refused: {:?}", pushed.answer);
}

async fn round(client: &Client, load: &Load, message: &NewMessage) -> Duration {
    let begin = Instant::now();
    let pushes = stream::iter(0..load.requests).map(|_| push(client, vec![message.clone(); load.batch]));
    pushes.buffer_unordered(load.in_flight).for_each(|()| async {}).await;
    let took = begin.elapsed();
    client
        .sweep(Sweep::all(queue(), Select::default(), Action::Delete), |_| {})
        .await
        .expect("the cluster answers");
    took
}

fn cluster(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system has descriptors left");
    let place = env!("CARGO_TARGET_TMPDIR").as_ref();
    let cluster = runtime.block_on(Cluster::start(place)).expect("a cluster of three nodes");
    let client = runtime.block_on(async { cluster.client() });
    let message = NewMessage::of_body(&vec![0xa5; BODY_SIZE]);
    let mut group = criterion.benchmark_group("cluster of 3, 1 KiB");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(10));
    for load in LOADS {
        group.throughput(Throughput::Elements((load.batch * load.requests) as u64));
        group.bench_function(load.name, |b| {
            b.iter_custom(|count| {
                runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..count {
                        total += round(&client, &load, &message).await;
                    }
                    total
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cluster);
criterion_main!(benches);

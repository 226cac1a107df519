//! Frames: a message into bytes and back, as both ends of a connection do it.

use std::hint::black_box;

use benches::{QUEUE, content};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queue_protocol::content::ContentSpec;
use queue_protocol::limits::PRIORITY_DEFAULT;
use queue_protocol::names::{LeaseToken, MessageId, QueueName};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::codec::{FrameCodec, FrameLimits};
use queue_protocol::wire::frame::{Message, OutFrame};
use queue_protocol::wire::request::{Call, Push, PushMessage, Request, Stamp};
use queue_protocol::wire::response::{Age, Answer, At, Delivery, Response};
use tokio_util::codec::{Decoder as _, Encoder as _};

const BODY_SIZE: usize = 1 << 10;

fn queue() -> QueueName {
    QUEUE.parse().expect("a queue's name")
}

fn push(count: usize, content: &Bytes) -> Call {
    let message = PushMessage::plain(content);
    let messages = Bounded::new(vec![message; count]).expect("no more than a push holds");
    let push = Push { queue: queue(), create: false, atomic: false, messages };
    let stamp = Some(Stamp { number: 1_000_000, done_below: 999_000, index: 900_000_000 });
    Call::new(stamp, 5_000, Request::Push(push))
}

fn deliveries(count: u64, content: &Bytes) -> Response {
    let delivery = |number| Delivery {
        queue: queue(),
        id: MessageId(1_000_000 + number),
        token: LeaseToken(2_000_000 + number),
        attempt: 1,
        failures: 0,
        priority: PRIORITY_DEFAULT,
        group: None,
        pushed_at_ms: 1_800_000_000_000,
        lease_ms: 30_000,
        epoch: 0,
        checkpoint: None,
        deadline_ms: 10_030_000,
        content: ContentSpec::of(content),
    };
    let deliveries = Bounded::new((0..count).map(delivery).collect()).expect("no more than a lease gives");
    let at = At { index: 3_000_000, position: 7 };
    Response {
        at,
        repeated: false,
        lease_clock_ms: 10_000_000,
        age: Age::Now,
        result: Ok(Answer::Delivered(deliveries)),
    }
}

fn there_and_back<M: Message>(codec: &mut FrameCodec, message: &M, tail: &[Bytes]) -> M {
    let mut bytes = BytesMut::new();
    codec.encode(&OutFrame::new(7, message, tail.to_vec()), &mut bytes).expect("a message within the limits");
    let frame = codec.decode(&mut bytes).expect("what was encoded").expect("a whole frame");
    frame.message().expect("what was encoded")
}

fn codec(criterion: &mut Criterion) {
    let mut codec = FrameCodec::default();
    codec.set_limits(FrameLimits::OPEN);
    let content = content(BODY_SIZE);
    let mut group = criterion.benchmark_group("codec");
    for count in [1, 100] {
        let (call, tail) = (push(count, &content), vec![content.clone(); count]);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("push {count} × 1 KiB"), |b| {
            b.iter(|| there_and_back(&mut codec, black_box(&call), &tail));
        });
    }
    let (response, tail) = (deliveries(100, &content), vec![content.clone(); 100]);
    group.throughput(Throughput::Elements(100));
    group.bench_function("deliver 100 × 1 KiB", |b| {
        b.iter(|| there_and_back(&mut codec, black_box(&response), &tail));
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);

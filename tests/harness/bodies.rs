//! Pushing and taking out bodies, for tests that compare what went in with what comes out.

use bytes::Bytes;
use queue_protocol::client::{Answered, Client, ClientError, NewMessage};
use queue_protocol::content;
use queue_protocol::limits::{LEASE_COUNT_MAX, TAIL_SIZE_MAX};
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::Lease;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::PushOutcome;

/// A queue's name.
///
/// # Panics
/// If it is none.
pub fn queue(name: &str) -> QueueName {
    name.parse().expect("tests use valid names")
}

/// A lease of up to `max` messages that waits `wait_ms`.
///
/// # Panics
/// If `name` is no queue's name.
pub fn lease(name: &str, max: u16, lease_ms: Option<u64>, wait_ms: u32) -> Lease {
    Lease {
        queues: Bounded::new(vec![queue(name)]).expect("one is within the limit"),
        max_messages: max,
        max_bytes: u32::try_from(TAIL_SIZE_MAX).expect("8 MiB"),
        lease_ms,
        wait_ms,
        linger_ms: 0,
    }
}

/// Pushes one message for each body, in one command; makes the queue.
///
/// # Errors
/// As [`Client::push`].
pub async fn push(
    client: &Client,
    name: &str,
    bodies: &[impl AsRef<[u8]>],
) -> Result<Answered<Vec<PushOutcome>>, ClientError> {
    let messages = bodies.iter().map(|body| NewMessage::of_body(body.as_ref())).collect();
    client.push(queue(name), true, messages).await
}

/// Checks that all of `count` messages were stored, and gives the id of the first.
///
/// # Panics
/// If they were not.
#[track_caller]
pub fn stored(answered: &Answered<Vec<PushOutcome>>, count: usize) -> u64 {
    match &answered.answer[..] {
        [PushOutcome::Stored { first_id, count: stored }] if *stored as usize == count => first_id.0,
        other => panic!("{count} messages were pushed, and became {other:?}"),
    }
}

/// The bodies of deliveries.
///
/// # Panics
/// If one of the contents does not decode.
pub fn bodies<T>(answered: &Answered<T>) -> Vec<Bytes> {
    let body = |content: &Bytes| content::decode(content).expect("no test pushes bad headers").1;
    answered.contents.iter().map(body).collect()
}

/// Takes out everything that is ready, in order.
///
/// # Panics
/// If a pop fails.
pub async fn drain(client: &Client, name: &str) -> Vec<Bytes> {
    let mut all = Vec::new();
    loop {
        let max = u16::try_from(LEASE_COUNT_MAX).expect("256");
        let popped = client
            .ask(ask::Pop(lease(name, max, None, 0)))
            .await
            .unwrap_or_else(|error| panic!("pop: {error}"));
        if popped.answer.is_empty() {
            return all;
        }
        all.extend(bodies(&popped));
    }
}

/// Bodies as text, sorted.
pub fn sorted(bodies: &[impl AsRef<[u8]>]) -> Vec<String> {
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let mut all: Vec<String> = bodies.iter().map(|body| text(body.as_ref())).collect();
    all.sort();
    all
}

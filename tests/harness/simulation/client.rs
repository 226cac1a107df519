//! What the client of a simulated cluster does, one task after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::content;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::QueueName;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{CreateQueue, Lease, Push, PushMessage, Request};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Answer;
use tokio::time::Instant;

use super::{Lasted, Shared};
use crate::bodies;

/// The queue of one message that is leased.
const LEASED: &str = "leased";
/// Pushes in flight.
const LANES: u64 = 8;

fn queue() -> QueueName {
    "q".parse().expect("a valid name")
}

/// Pushes with several requests in flight, so that a crash finds something unfinished.
pub(super) async fn push(client: &Client, shared: &Arc<Shared>, first: u64, count: u64) {
    let mut pushing = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (client, shared) = (client.clone(), Arc::clone(shared));
        pushing.spawn(async move {
            for number in (first..first + count).filter(|number| number % LANES == lane) {
                push_one(&client, &shared, number).await;
            }
        });
    }
    while let Some(pushed) = pushing.join_next().await {
        pushed.expect("a lane does not panic");
    }
}

/// Pushes in several lanes until each of them is refused for the disk.
pub(super) async fn fill(client: &Client, shared: &Arc<Shared>) {
    let mut pushing = tokio::task::JoinSet::new();
    for _ in 0..LANES {
        let (client, shared) = (client.clone(), Arc::clone(shared));
        pushing.spawn(async move {
            loop {
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                match try_push(&client, &shared, number).await {
                    Ok(()) => {}
                    Err(ClientError::Refused(error)) if error.code == ErrorCode::DiskReserve => return,
                    Err(error) => {
                        return shared.failures.lock().unwrap().push(format!("push {number}: {error}"));
                    }
                }
            }
        });
    }
    while let Some(pushed) = pushing.join_next().await {
        pushed.expect("a lane does not panic");
    }
}

async fn push_one(client: &Client, shared: &Shared, number: u64) {
    if let Err(error) = try_push(client, shared, number).await {
        shared.failures.lock().unwrap().push(format!("push {number}: {error}"));
    }
}

async fn try_push(client: &Client, shared: &Shared, number: u64) -> Result<(), ClientError> {
    let width = shared.body_size.load(Ordering::Relaxed);
    let body = format!("{number:<width$}");
    let content = content::encode(&Bounded::default(), body.as_bytes()).expect("no headers");
    let message = PushMessage::plain(&content);
    let messages = Bounded::new(vec![message]).expect("one");
    let request = Request::Push(Push { queue: queue(), create: true, atomic: false, messages });
    client.call(request, vec![content]).await?;
    shared.acknowledged.lock().unwrap().insert(number);
    Ok(())
}

pub(super) async fn pop_all(client: &Client, shared: &Shared) {
    loop {
        let queues = Bounded::new(vec![queue()]).expect("one");
        let lease =
            Lease { queues, max_messages: 10, max_bytes: 1 << 20, lease_ms: None, wait_ms: 0, linger_ms: 0 };
        match client.call(Request::Pop(lease), Vec::new()).await {
            Ok(answered) if matches!(&answered.answer, Answer::Delivered(d) if d.is_empty()) => return,
            Ok(answered) => shared.popped.lock().unwrap().extend(answered.contents.iter().map(number_of)),
            Err(error) => return shared.failures.lock().unwrap().push(format!("pop: {error}")),
        }
    }
}

pub(super) async fn push_to_lease(client: &Client, shared: &Shared) {
    let settings = QueueSettings { backoff_ms: Some(0), ..QueueSettings::default() };
    let create = CreateQueue { queue: bodies::queue(LEASED), settings, if_not_exists: false };
    if let Err(error) = client.ask(ask::CreateQueue(Box::new(create))).await {
        shared.failures.lock().unwrap().push(format!("create: {error}"));
    }
    if let Err(error) = bodies::push(client, LEASED, &["leased"]).await {
        shared.failures.lock().unwrap().push(format!("push: {error}"));
    }
}

/// Leases one message and waits until it comes again.
pub(super) async fn lease_twice(client: &Client, shared: &Shared, length: Duration) {
    let length_ms = u64::try_from(length.as_millis()).expect("a lease is short");
    let sent = Instant::now();
    let received = leased_once(client, length_ms).await;
    let again = leased_once(client, length_ms).await;
    *shared.lasted.lock().unwrap() =
        Some(Lasted { since_sent: again - sent, since_received: again - received });
}

/// When the message is given.
async fn leased_once(client: &Client, length_ms: u64) -> Instant {
    loop {
        let lease = bodies::lease(LEASED, 1, Some(length_ms), 30_000);
        if client.ask(ask::Lease(lease)).await.is_ok_and(|answered| !answered.answer.is_empty()) {
            return Instant::now();
        }
    }
}

fn number_of(content: &Bytes) -> u64 {
    let (_, body) = content::decode(content).expect("what was pushed");
    std::str::from_utf8(&body).expect("digits").trim_end().parse().expect("digits")
}

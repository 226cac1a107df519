//! What a dev cluster does before anybody else uses it: a message in at a follower, and out again.

use std::time::Duration;

use queue_protocol::client::{Answered, Client, ClientError};
use queue_protocol::content;
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Lease, Push, PushMessage, RemoveQueue};
use queue_protocol::wire::requests::{Ask, ask};
use tokio::time::Instant;

use super::access;
use super::cluster::{Cluster, Leadership};
use crate::commands::failure::Failure;
use crate::commands::probe;
use crate::outside::ExitStatus;

/// Made and removed by the check.
const QUEUE: &str = "queued-dev.self-check";
const BODY: &[u8] = b"self-check";
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was done, for people.
pub(super) async fn self_check(cluster: &Cluster, leadership: &Leadership) -> Result<String, Failure> {
    let mut servers = cluster.place().addresses();
    let at = (1..=servers.len()).find(|number| *number != leadership.leader).unwrap_or(leadership.leader);
    servers.swap(0, at - 1);
    let client = probe::client(servers, TIMEOUT, cluster.place().tls, access::own(cluster.place()));
    let began = Instant::now();
    let pushed = push_and_pop(&client).await?;
    let took = probe::millis(began.elapsed());
    let queue = queue();
    let remove = RemoveQueue { queue, if_exists: true, if_empty: false };
    ask(&client, ask::RemoveQueue(remove), Vec::new()).await?;
    let redirected = match &pushed.leader {
        Some(leader) if pushed.redirects > 0 => format!(", sent on to {}", leader.name),
        _ => String::new(),
    };
    Ok(format!("pushed at n{at}{redirected}, popped: {took}"))
}

async fn push_and_pop(client: &Client) -> Result<Answered<<ask::Push as Ask>::Answer>, Failure> {
    let content = content::encode(&Bounded::default(), BODY).expect("no headers are within the limit");
    let message = PushMessage::plain(&content);
    let messages = Bounded::new(vec![message]).expect("one message is not too many");
    let push = Push { queue: queue(), create: true, atomic: false, messages };
    let pushed = ask(client, ask::Push(push), vec![content.clone()]).await?;
    let queues = Bounded::new(vec![queue()]).expect("one queue is not too many");
    let pop =
        Lease { queues, max_messages: 1, max_bytes: u32::MAX, lease_ms: None, wait_ms: 0, linger_ms: 0 };
    let popped = ask(client, ask::Pop(pop), Vec::new()).await?;
    if popped.contents != [content] {
        return Err(Failure::new(
            ExitStatus::Bug,
            "bug",
            "self-check: what was popped is not what was pushed",
        ));
    }
    Ok(pushed)
}

async fn ask<A: Ask>(
    client: &Client,
    ask: A,
    contents: Vec<bytes::Bytes>,
) -> Result<Answered<A::Answer>, Failure> {
    let failed = |error: ClientError| {
        Failure::new(ExitStatus::Unavailable, "self_check", format!("self-check: {error}"))
    };
    client.ask_with(ask, contents).await.map_err(failed)
}

fn queue() -> QueueName {
    QUEUE.parse().expect("it is a name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_queue_has_a_valid_name() {
        assert_eq!(super::queue().as_str(), super::QUEUE);
    }
}

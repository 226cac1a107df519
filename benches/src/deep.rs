//! Pushing into a queue that is empty, and into one in which many messages wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::try_join_all;
use queue_protocol::client::{Client, NewMessage};
use queue_protocol::names::QueueName;
use queue_protocol::wire::request::RemoveQueue;
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::PushOutcome;
use tokio::time::Instant;

/// Clients, and requests of each.
const CLIENTS: usize = 8;
const IN_FLIGHT: usize = 8;
/// Messages of a request that fills, and their size.
const BATCH: usize = 1_000;
const FILLING_SIZE: usize = 16;

/// Clients of a cluster that runs.
pub struct Pushers {
    clients: Vec<Client>,
}

impl Pushers {
    /// Clients of the cluster behind `servers`, `host:port` after commas.
    pub fn new(servers: &str) -> Self {
        let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
        Self { clients: (0..CLIENTS).map(|_| crate::client(&servers, Duration::from_secs(60))).collect() }
    }

    /// Pushes `count` messages of 16 bytes.
    ///
    /// # Errors
    /// A push fails.
    pub async fn fill(&self, queue: &QueueName, count: u64) -> anyhow::Result<()> {
        let left = AtomicU64::new(count);
        let take = |left: u64| Some(left.saturating_sub(BATCH as u64));
        try_join_all(self.clients.iter().map(async |client| {
            loop {
                let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
                let some = usize::try_from(before)?.min(BATCH);
                if some == 0 {
                    return anyhow::Ok(());
                }
                push(client, queue, FILLING_SIZE, some).await?;
            }
        }))
        .await
        .context("the queue was not filled")?;
        Ok(())
    }

    /// Messages of 1 KiB pushed one by one in a second, 64 requests in flight over 8 connections.
    ///
    /// # Errors
    /// A push fails.
    pub async fn rate(&self, queue: &QueueName, duration: Duration) -> anyhow::Result<f64> {
        let (begin, pushed) = (Instant::now(), AtomicU64::new(0));
        let lanes = self.clients.iter().flat_map(|client| std::iter::repeat_n(client, IN_FLIGHT));
        try_join_all(lanes.map(async |client| {
            while begin.elapsed() < duration {
                push(client, queue, 1 << 10, 1).await?;
                pushed.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }))
        .await?;
        Ok(pushed.into_inner() as f64 / begin.elapsed().as_secs_f64())
    }

    /// Removes a queue and all that is in it.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn remove(&self, queue: &QueueName) -> anyhow::Result<()> {
        let remove = RemoveQueue { queue: queue.clone(), if_exists: true, if_empty: false };
        self.clients[0].ask(ask::RemoveQueue(remove)).await?;
        Ok(())
    }
}

async fn push(client: &Client, queue: &QueueName, size: usize, count: usize) -> anyhow::Result<()> {
    let body = Bytes::from(vec![b'x'; size]);
    let pushed = client.push(queue.clone(), true, vec![NewMessage::of_body(&body); count]).await?.answer;
    let stored = pushed.iter().all(|run| matches!(run, PushOutcome::Stored { .. }));
    anyhow::ensure!(stored, "a push came to {pushed:?}");
    Ok(())
}

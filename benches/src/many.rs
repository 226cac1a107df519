//! Very many queues: what making one costs a cluster that has few and one that has nearly as many as it may, and how long
//! a node takes that starts with them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use queue_protocol::client::Client;
use queue_protocol::limits::QUEUES_MAX;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::CreateQueue;
use queue_protocol::wire::requests::ask;
use tokio::time::Instant;

use crate::daemon::Daemon;
use crate::machine::cpu;

/// Queues made one by one while the processor time is counted.
const MEASURED: usize = 1_000;
/// Queues that are there when the first of them are made.
const FEW: usize = 100;
/// Requests in flight while the rest is made.
const IN_FLIGHT: usize = 256;

/// Processor time of all nodes for each queue: among a hundred, and as the last ones of as many as there may be. The client
/// makes them, and leaves room for those that are there already.
///
/// # Errors
/// A queue is not made, or the nodes do not run.
pub async fn create(client: &Client, pids: &[u32]) -> anyhow::Result<[Duration; 2]> {
    let there = usize::try_from(client.ask(ask::Stats).await?.answer.queues)?;
    make_all(client, there..FEW).await?;
    let few = measured(client, pids, FEW.max(there)).await?;
    make_all(client, FEW.max(there) + MEASURED..QUEUES_MAX - MEASURED).await?;
    Ok([few, measured(client, pids, QUEUES_MAX - MEASURED).await?])
}

/// Makes as many queues as there may be at a node of its own, kills it, and starts it again: until it answers.
///
/// # Errors
/// A queue is not made, or the node does not run.
pub async fn restart(dir: &std::path::Path) -> anyhow::Result<Duration> {
    let mut node = Daemon::init(dir, 1 << 30, Vec::new())?;
    node.start()?;
    let client = node.client();
    make_all(&client, 0..QUEUES_MAX).await?;
    drop(client);
    node.kill()?;
    let begin = Instant::now();
    node.start()?;
    let there = node.client().ask(ask::Stats).await?.answer.queues;
    let took = begin.elapsed();
    anyhow::ensure!(there == QUEUES_MAX as u64, "{there} queues came back");
    Ok(took)
}

async fn make(client: &Client, number: usize) -> anyhow::Result<()> {
    let queue = format!("many-{number}").parse().expect("a queue's name");
    let create = CreateQueue { queue, settings: QueueSettings::default(), if_not_exists: false };
    client.ask(ask::CreateQueue(Box::new(create))).await.with_context(|| format!("queue {number}"))?;
    Ok(())
}

async fn make_all(client: &Client, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let next = AtomicUsize::new(numbers.start);
    try_join_all((0..IN_FLIGHT).map(async |_| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return anyhow::Ok(());
            }
            make(client, number).await?;
        }
    }))
    .await?;
    Ok(())
}

async fn measured(client: &Client, pids: &[u32], first: usize) -> anyhow::Result<Duration> {
    let before = cpu(pids)?;
    for number in first..first + MEASURED {
        make(client, number).await?;
    }
    Ok((cpu(pids)? - before) / u32::try_from(MEASURED)?)
}

//! The load of one cycle, what it was told, and the account of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use harness::bodies::{bodies, lease, push, queue, stored};
use harness::cluster::Cluster;
use harness::until;
use queue_protocol::client::{Answered, Client, ClientError};
use queue_protocol::names::{LeaseToken, MessageId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Nack, NackKind, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{At, Settled};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::random::Random;

pub(crate) const QUEUE: &str = "jobs";
const WORKERS: u64 = 6;
/// Longer than a cycle, so that a receipt refused is a failure; shorter than [`ACCOUNT_LIMIT`].
const LEASE: Duration = Duration::from_secs(20);
/// Until everything is drained, leases included whose holder was never told of them.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(60);

/// A message leased.
struct Held {
    id: MessageId,
    token: LeaseToken,
    body: Bytes,
    since: Instant,
}

/// What clients did and were told. A body is pushed once.
#[derive(Default)]
struct History {
    tried: BTreeSet<Bytes>,
    acknowledged: BTreeSet<Bytes>,
    acked: BTreeSet<Bytes>,
    /// Acks without an answer.
    perhaps_acked: BTreeSet<Bytes>,
    held: Vec<Held>,
}

/// How long a request took.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) answered: bool,
}

#[derive(Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    /// Between two rounds of a worker.
    pause: Duration,
    asked: Mutex<Vec<Asked>>,
    history: Mutex<History>,
    /// The last place in the log that an answer has named.
    newest: Mutex<At>,
}

fn receipts(held: &[Held]) -> Receipts {
    let pairs = held.iter().map(|held| (held.id, held.token)).collect();
    Receipts { queue: queue(QUEUE), receipts: Bounded::new(pairs).expect("one lease is within the limit") }
}

impl Load {
    /// Workers rest so long between two rounds.
    pub(crate) fn with_pause(pause: Duration) -> Self {
        Self { pause, ..Self::default() }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics with it")
    }

    /// The answer, if one came: behind everything in the log that was answered before it was asked for. Errors that leave
    /// the outcome open are allowed, refusals are not.
    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<Answered<T>, ClientError>>,
    ) -> Option<Answered<T>> {
        let newest = || self.newest.lock().expect("nobody panics with it");
        let before = *newest();
        let at = Instant::now();
        let outcome = asked.await;
        let request = Asked { at, took: at.elapsed(), answered: outcome.is_ok() };
        self.asked.lock().expect("nobody panics with it").push(request);
        match outcome {
            Ok(answer) => {
                let read = answer.at.position == u32::MAX;
                let behind = answer.at > before || (read && answer.at == before);
                assert!(behind, "an answer stands at {:?}, an earlier one at {before:?}", answer.at);
                let mut newest = newest();
                *newest = newest.max(answer.at);
                Some(answer)
            }
            Err(ClientError::Unavailable { .. } | ClientError::Unknown { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts the workers of cycle `number`.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        cluster: &Cluster,
        number: u64,
        random: &mut Random,
    ) -> Vec<JoinHandle<()>> {
        let workers = (0..WORKERS).map(|worker| {
            let random = Random::new(random.next());
            tokio::spawn(Arc::clone(self).work(cluster.client(), format!("{number} {worker}"), random))
        });
        workers.collect()
    }

    /// No worker starts anything more; what is under way comes to its end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    async fn work(self: Arc<Self>, client: Client, name: String, mut random: Random) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.push(&client, &format!("{name} {number}"), &mut random).await;
            if random.within(0..2) == 0 {
                self.consume(&client, &mut random).await;
            }
            if !self.pause.is_zero() {
                sleep(self.pause).await;
            }
        }
    }

    async fn push(&self, client: &Client, name: &str, random: &mut Random) {
        let count = 1 + random.within(0..6);
        let size_max = if random.within(0..20) == 0 { 60_000 } else { 3_000 };
        let sized = |part: u64| {
            let size = usize::try_from(random.within(0..size_max)).expect("less than 60,000");
            let name = format!("{name} {part} ");
            let filled: Vec<u8> = name.bytes().cycle().take(name.len().max(size)).collect();
            Bytes::from(filled)
        };
        let pushed: Vec<Bytes> = (0..count).map(sized).collect();
        self.history().tried.extend(pushed.iter().cloned());
        if let Some(answer) = self.ask(push(client, QUEUE, &pushed)).await {
            stored(&answer, pushed.len());
            self.history().acknowledged.extend(pushed);
        }
    }

    /// Leases some, acks most of them, and keeps the others.
    async fn consume(&self, client: &Client, random: &mut Random) {
        let lease_ms = u64::try_from(LEASE.as_millis()).expect("20,000");
        let asked = client.ask(ask::Lease(lease(QUEUE, 8, Some(lease_ms), 0)));
        let Some(answer) = self.ask(asked).await else { return };
        let since = Instant::now();
        let taken = answer.answer.iter().zip(bodies(&answer));
        let taken = taken.map(|(row, body)| Held { id: row.id, token: row.token, body, since });
        let (settle, keep): (Vec<Held>, Vec<Held>) = taken.partition(|_| random.within(0..4) > 0);
        self.history().held.extend(keep);
        if settle.is_empty() {
            return;
        }
        let results = self.ask(client.ask(ask::Ack(receipts(&settle)))).await;
        let mut history = self.history();
        match results {
            None => history.perhaps_acked.extend(settle.into_iter().map(|held| held.body)),
            Some(results) => {
                for (result, held) in results.answer.iter().zip(settle) {
                    // An earlier lease would have had to end for this.
                    let in_time = held.since.elapsed() < LEASE;
                    assert!(*result == Settled::Ok || !in_time, "an ack in time is {result:?}");
                    if *result == Settled::Ok {
                        let text =
                            String::from_utf8_lossy(&held.body[..held.body.len().min(40)]).into_owned();
                        assert!(history.acked.insert(held.body), "acked twice: {text}");
                    }
                }
            }
        }
    }

    /// Gives back what is leased, takes everything out, and compares; how many messages were acknowledged.
    pub(crate) async fn settle_all(&self, client: &Client) -> usize {
        let mut history = std::mem::take(&mut *self.history());
        for held in history.held.chunks(256) {
            let given = client
                .ask(ask::Nack(Nack { leases: receipts(held), kind: NackKind::Release { delay_ms: 0 } }))
                .await;
            let given = given.expect("the cluster leads again");
            for (result, held) in given.answer.iter().zip(held) {
                let in_time = held.since.elapsed() < LEASE;
                assert!(*result == Settled::Ok || !in_time, "a release in time is {result:?}");
            }
        }
        let mut drained = Vec::new();
        until("everything is drained", ACCOUNT_LIMIT, async || {
            loop {
                let popped = client
                    .ask(ask::Pop(lease(QUEUE, 256, None, 0)))
                    .await
                    .map_err(|error| error.to_string())?;
                if popped.answer.is_empty() {
                    break;
                }
                drained.extend(bodies(&popped));
            }
            let left = client.ask(ask::Stats).await.map_err(|error| error.to_string())?.answer;
            let count = left.ready + left.leased + left.delayed + left.dead;
            if count == 0 { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        history.check(drained);
        history.acknowledged.len()
    }
}

impl History {
    fn check(&mut self, drained: Vec<Bytes>) {
        let names = |bodies: &[&Bytes]| {
            let name = |body: &&Bytes| String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            bodies.iter().map(name).collect::<Vec<_>>().join("; ")
        };
        let count = drained.len();
        let drained: BTreeSet<Bytes> = drained.into_iter().collect();
        assert_eq!(drained.len(), count, "nothing comes twice");
        let invented: Vec<&Bytes> = drained.difference(&self.tried).collect();
        assert!(invented.is_empty(), "nobody pushed {}", names(&invented));
        let again: Vec<&Bytes> = drained.intersection(&self.acked).collect();
        assert!(again.is_empty(), "acked, and came back: {}", names(&again));
        let there = |body: &&Bytes| {
            drained.contains(*body) || self.acked.contains(*body) || self.perhaps_acked.contains(*body)
        };
        let lost: Vec<&Bytes> = self.acknowledged.iter().filter(|body| !there(body)).collect();
        assert!(lost.is_empty(), "{} of {} lost: {}", lost.len(), self.acknowledged.len(), names(&lost));
    }
}

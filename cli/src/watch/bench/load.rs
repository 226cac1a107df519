//! The load: lanes that each have one request on its way, on a few clients. Thin on purpose: it shares the machine with
//! what it measures.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use queue_protocol::client::{Client, ClientError};
use queue_protocol::content::{self, ContentSpec, Headers};
use queue_protocol::limits::LEASE_COUNT_MAX;
use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Lease, Push, PushMessage, PushOptions, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{PushOutcome, Settled};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::grammar::{BENCH_SIZE_MIN, BenchArgs, BenchKind};

/// Contents of one answer.
const ANSWER_SIZE_MAX: u32 = 8 << 20;

/// What all lanes share.
pub(super) struct Load {
    /// Pushed to in turn.
    pub(super) queues: Vec<QueueName>,
    /// Groups of the messages, in turn.
    groups: Option<u32>,
    pub(super) size: usize,
    pub(super) batch: u16,
    /// Messages a second of all lanes together.
    pub(super) rate: Option<u32>,
    pub(super) begin: Instant,
    /// What begins before is not measured.
    pub(super) measure_from: Instant,
    /// Measured messages that may still begin.
    pub(super) left: AtomicU64,
    /// Measured messages that are done.
    pub(super) done: AtomicU64,
    /// Requests begun, which says when each is due.
    ticket: AtomicU64,
    /// Requests that are due and not begun, if there is a rate.
    due: Semaphore,
    pub(super) stop: CancellationToken,
    /// Messages of a roundtrip that may be on their way.
    pub(super) permits: Semaphore,
    /// Whether to keep what was taken out.
    verify: bool,
    /// Of all lanes: one each would not stay in the processor's cache.
    latency: Mutex<Histogram<u64>>,
}

/// What a lane saw.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) messages: u64,
    pub(super) redirects: u64,
    /// Why it ended before its time.
    pub(super) error: Option<ClientError>,
    /// Numbers that this lane has pushed and had confirmed: all below.
    pub(super) confirmed: u64,
    /// What this lane took out, in that order, if it is to be verified.
    pub(super) marks: Vec<Mark>,
}

impl Lane {
    pub(super) fn record(&mut self, load: &Load, due: Instant, count: u64) {
        if due >= load.measure_from {
            let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            load.latency().saturating_record_n(micros.max(1), count);
            self.messages += count;
            load.done.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Messages of a roundtrip on their way at most.
fn permits(args: &BenchArgs) -> usize {
    (usize::from(args.clients) * usize::from(args.in_flight)).max(args.batch.into())
}

impl Load {
    pub(super) fn new(queues: Vec<QueueName>, args: &BenchArgs, count: u64) -> Self {
        let begin = Instant::now();
        Self {
            queues,
            groups: args.groups,
            size: args.size.max(BENCH_SIZE_MIN),
            batch: args.batch,
            rate: args.rate,
            begin,
            // A pop has nothing to warm up with.
            measure_from: if args.kind == BenchKind::Pop { begin } else { begin + args.warmup },
            left: AtomicU64::new(count),
            done: AtomicU64::new(0),
            ticket: AtomicU64::new(0),
            due: Semaphore::new(0),
            stop: CancellationToken::new(),
            permits: Semaphore::new(permits(args)),
            verify: args.verify,
            // Three digits up to an hour, in microseconds.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order").into(),
        }
    }

    /// How long messages took, in microseconds.
    pub(super) fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for what a pop is to find.
    pub(super) fn filling(queues: Vec<QueueName>, args: &BenchArgs, batch: u16, count: u64) -> Self {
        let load = Self::new(queues, args, count);
        Self { batch, rate: None, measure_from: load.begin, ..load }
    }

    /// When a request is due.
    fn due(&self, ticket: u64, rate: u32) -> Instant {
        let nanos = u128::from(ticket) * u128::from(self.batch) * 1_000_000_000 / u128::from(rate);
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Makes requests due at their rate until the sender of `end` is dropped. Runs in a thread: a timer of the runtime
    /// is late by up to a millisecond, which would be measured.
    pub(super) fn pace(&self, rate: u32, end: &std::sync::mpsc::Receiver<()>) {
        let mut next = 0;
        loop {
            let wait = self.due(next, rate).saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.due.add_permits(1);
                next += 1;
            } else if end.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    }

    /// When the next request is due, once that is now; `None` when there is to be no more.
    async fn turn(&self) -> Option<(Instant, u64)> {
        let mut due = Instant::now();
        if let Some(rate) = self.rate {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                permit = self.due.acquire() => permit.expect("it is never closed").forget(),
            }
            due = self.due(self.ticket.fetch_add(1, Ordering::Relaxed), rate);
        }
        if self.stop.is_cancelled() {
            return None;
        }
        let batch = u64::from(self.batch);
        if due < self.measure_from {
            return Some((due, batch));
        }
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(batch));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some((due, before.min(batch)))
    }

    /// A body: who sent it, its number, and when it was due; then filling.
    fn content(&self, lane: u32, number: u64, due: Instant) -> Bytes {
        let since = due.saturating_duration_since(self.begin);
        let mut body = BytesMut::with_capacity(self.size + 1);
        // No headers.
        body.put_u8(0);
        body.put_u32_le(lane);
        body.put_u64_le(number);
        body.put_u64_le(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        body.resize(self.size + 1, b'x');
        debug_assert!(
            content::decode(&body.clone().freeze()).is_ok_and(|(headers, _)| headers == Headers::default())
        );
        body.freeze()
    }

    /// What one lane pushes comes out in that order: it goes to one queue, and none of its groups waits for another.
    pub(super) fn has_order(&self) -> bool {
        self.queues.len() == 1 && self.groups.is_none()
    }

    /// The queue of a lane's request; lanes begin at different ones.
    fn turn_of(&self, lane: u32, request: u64) -> QueueName {
        let turn = (u64::from(lane) + request) % self.queues.len() as u64;
        self.queues[usize::try_from(turn).expect("no more than there are")].clone()
    }

    /// The group of a lane's message; lanes begin at different ones.
    fn group(&self, lane: u32, number: u64) -> Option<Key> {
        let group = (u64::from(lane) * 7_919 + number) % u64::from(self.groups?);
        Some(format!("g{group}").parse().expect("a group's name"))
    }

    async fn push(
        &self,
        client: &Client,
        lane: u32,
        first: u64,
        count: u64,
        due: Instant,
    ) -> Result<u32, ClientError> {
        let contents: Vec<Bytes> =
            (first..first + count).map(|number| self.content(lane, number, due)).collect();
        let rows = contents.iter().zip(first..).map(|(content, number)| PushMessage {
            content: ContentSpec::of(content),
            options: PushOptions { group: self.group(lane, number), ..PushOptions::default() },
        });
        let messages = Bounded::new(rows.collect()).expect("a batch is within the limit");
        let push = Push {
            queue: self.turn_of(lane, first / u64::from(self.batch)),
            create: false,
            atomic: true,
            messages,
        };
        let answered = client.ask_with(ask::Push(push), contents).await?;
        let runs = answered.answer;
        if runs.iter().all(|run| matches!(run, PushOutcome::Stored { .. })) {
            Ok(answered.redirects)
        } else {
            Err(ClientError::Unknown { what: format!("a push came to {runs:?}") })
        }
    }

    /// Pushes, one request at a time.
    pub(super) async fn push_lane(&self, client: Client, lane: u32) -> Lane {
        let mut seen = Lane::default();
        while let Some((due, count)) = self.turn().await {
            match self.push(&client, lane, seen.confirmed, count, due).await {
                Ok(redirects) => {
                    seen.redirects += u64::from(redirects);
                    seen.confirmed += count;
                    seen.record(self, due, count);
                }
                Err(error) => {
                    seen.error = Some(error);
                    break;
                }
            }
        }
        seen
    }

    /// Leases and acks up to `batch`; what the bodies say of themselves. Nothing if there is nothing.
    pub(super) async fn take(
        &self,
        client: &Client,
        queue: &QueueName,
        batch: u16,
        wait_ms: u32,
        delivered: impl FnOnce(&[Mark]),
    ) -> Result<Vec<Mark>, ClientError> {
        let queues = Bounded::new(vec![queue.clone()]).expect("one is within the limit");
        let lease = Lease {
            queues,
            max_messages: batch,
            max_bytes: ANSWER_SIZE_MAX,
            lease_ms: None,
            wait_ms,
            linger_ms: 0,
        };
        let leased = client.ask(ask::Lease(lease)).await?;
        if leased.answer.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<Mark> = leased.contents.iter().filter_map(Mark::of).collect();
        delivered(&marks);
        let pairs = leased.answer.iter().map(|delivery| (delivery.id, delivery.token)).collect();
        let receipts = Bounded::new(pairs).expect("as many as one lease gives");
        let settled = client.ask(ask::Ack(Receipts { queue: queue.clone(), receipts })).await?;
        match settled.answer.iter().find(|settled| **settled != Settled::Ok) {
            None => Ok(marks),
            Some(other) => Err(ClientError::Unknown { what: format!("an ack came to {other:?}") }),
        }
    }

    pub(super) fn keep(&self, seen: &mut Lane, taken: Vec<Mark>) {
        if self.verify {
            seen.marks.extend(taken);
        }
    }

    /// Waits until every message of a roundtrip was delivered, or for as long as `patience` lasts.
    pub(super) async fn all_delivered(&self, args: &BenchArgs, patience: Duration) {
        let all = u32::try_from(permits(args)).expect("a million at most");
        // What was not delivered by then is found when the queue is drained.
        let _ = tokio::time::timeout(patience, self.permits.acquire_many(all)).await;
    }

    /// Takes everything out that is left, in the order of the queue.
    pub(super) async fn drain(&self, client: &Client) -> Result<Vec<Mark>, ClientError> {
        const BATCH: u16 = 256;
        const { assert!(BATCH as usize == LEASE_COUNT_MAX) }
        let mut marks = Vec::new();
        for queue in &self.queues {
            loop {
                let taken = self.take(client, queue, BATCH, 0, |_| ()).await?;
                if taken.is_empty() {
                    break;
                }
                marks.extend(taken);
            }
        }
        Ok(marks)
    }

    /// Leases and acks until nothing is left.
    pub(super) async fn pop_lane(&self, client: Client) -> Lane {
        let mut seen = Lane::default();
        while let Some((due, _)) = self.turn().await {
            match self.take(&client, &self.queues[0], self.batch, 0, |_| ()).await {
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => {
                    seen.record(self, due, taken.len() as u64);
                    self.keep(&mut seen, taken);
                }
                Err(error) => {
                    seen.error = Some(error);
                    break;
                }
            }
        }
        seen
    }

    /// Pushes as long as few enough are on their way.
    pub(super) async fn produce_lane(&self, client: Client, lane: u32) -> Lane {
        let mut seen = Lane::default();
        loop {
            let room = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                room = self.permits.acquire_many(self.batch.into()) => room,
            };
            // The consumer gives the room back.
            room.expect("the permits are never closed").forget();
            let turn = self.turn().await;
            // What the room was for and is not sent gives no room back by being delivered.
            let unused = u64::from(self.batch) - turn.map_or(0, |(_, count)| count);
            self.permits.add_permits(usize::try_from(unused).expect("at most a batch"));
            let Some((due, count)) = turn else { break };
            match self.push(&client, lane, seen.confirmed, count, due).await {
                Ok(redirects) => {
                    seen.redirects += u64::from(redirects);
                    seen.confirmed += count;
                }
                Err(error) => {
                    seen.error = Some(error);
                    break;
                }
            }
        }
        seen
    }
}

/// What a body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) lane: u32,
    pub(super) number: u64,
    pub(super) due_ns: u64,
}

impl Mark {
    /// Of a content without headers.
    fn of(content: &Bytes) -> Option<Self> {
        Self::of_body(content.get(1..)?)
    }

    pub(super) fn of_body(body: &[u8]) -> Option<Self> {
        let (lane, rest) = body.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (due, _) = rest.split_first_chunk()?;
        let (lane, number) = (u32::from_le_bytes(*lane), u64::from_le_bytes(*number));
        Some(Self { lane, number, due_ns: u64::from_le_bytes(*due) })
    }
}

/// What was found to be wrong with what was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    /// `None` where there is no common order: several took at once.
    pub(super) out_of_order: Option<u64>,
}

impl Verified {
    pub(super) fn is_good(self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order.unwrap_or(0) == 0
    }
}

/// Compares what each lane had confirmed with what came out, in the order in which it came.
pub(super) fn verify(confirmed: &[u64], marks: &[Mark]) -> Verified {
    let mut verified = Verified::default();
    let mut out_of_order = 0;
    let mut seen = vec![BTreeSet::new(); confirmed.len()];
    for mark in marks {
        let Some(numbers) = seen.get_mut(mark.lane as usize) else { continue };
        out_of_order += u64::from(numbers.last().is_some_and(|last| *last > mark.number));
        verified.duplicated += u64::from(!numbers.insert(mark.number));
    }
    for (count, numbers) in confirmed.iter().zip(&seen) {
        verified.lost += count - numbers.range(..count).count() as u64;
    }
    Verified { out_of_order: Some(out_of_order), ..verified }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_duplicated_or_out_of_order_is_found() {
        let mark = |lane, number| Mark { lane, number, due_ns: 0 };
        let good = [mark(0, 0), mark(1, 0), mark(0, 1)];
        let none = Verified { lost: 0, duplicated: 0, out_of_order: Some(0) };
        assert_eq!(verify(&[2, 1], &good), none);
        assert_eq!(verify(&[3, 1], &good), Verified { lost: 1, ..none });
        let twice = [mark(0, 0), mark(0, 0)];
        assert_eq!(verify(&[1], &twice), Verified { duplicated: 1, ..none });
        let swapped = [mark(0, 1), mark(0, 0)];
        assert_eq!(verify(&[2], &swapped), Verified { out_of_order: Some(1), ..none });
    }
}

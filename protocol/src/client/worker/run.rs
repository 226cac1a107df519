//! The loop of a worker: one task that asks, hands out, renews and settles; handlers have tasks of their own.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::held::{Held, Lease, Renewal, Settling};
use super::job::{Job, Told, Verdict};
use super::{Outcome, Report, Stage, Worker, WorkerEvent};
use crate::client::backoff::Backoff;
use crate::client::{Answered, Client, ClientError, Presence};
use crate::content;
use crate::error::{ErrorCode, Retry};
use crate::limits::LEASE_COUNT_MAX;
use crate::names::LeaseToken;
use crate::values::milliseconds;
use crate::wire::bounded::Bounded;
use crate::wire::request::{self, Extend, ExtendWhich, Nack, Receipts};
use crate::wire::requests::ask;
use crate::wire::response::{Delivery, Settled};

/// Lease requests parked at once. Each is for all the room there was when it was made, so two keep it covered.
const CREDIT: usize = 2;
/// How long one waits at the cluster; then the next one does, in milliseconds.
const WAIT_MS: u32 = 30_000;
/// Contents of one answer.
const ANSWER_SIZE_MAX: u32 = 4 << 20;
/// First and longest pause when the cluster is away, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 5_000);
/// Handlers that are told to give back have so long.
const GIVE_BACK_MAX: Duration = Duration::from_secs(2);

type Asked = (usize, Result<Answered<Bounded<Delivery, LEASE_COUNT_MAX>>, ClientError>);
type Renewed = Vec<(Renewal, Result<Vec<Settled>, ClientError>)>;
type Settlement = Vec<(Settling, Result<Vec<Settled>, ClientError>)>;

/// A message with a lease whose handler has not begun.
struct Waiting {
    delivery: Arc<Delivery>,
    content: Bytes,
    told: watch::Receiver<Option<Told>>,
}

pub(super) struct Run<H> {
    worker: Worker,
    handler: H,
    held: Held,
    waiting: VecDeque<Waiting>,
    running: JoinSet<Verdict>,
    tokens: Vec<(Id, LeaseToken)>,
    asks: FuturesUnordered<BoxFuture<'static, Asked>>,
    /// Messages that the requests on their way may bring.
    asked: usize,
    /// Set when what was asked for is to come at once or not at all.
    hurry: CancellationToken,
    binding: Option<BoxFuture<'static, Result<Presence, ClientError>>>,
    presence: Option<Presence>,
    renewing: Option<BoxFuture<'static, Renewed>>,
    settling: Option<BoxFuture<'static, Settlement>>,
    taken: u64,
    stage: Stage,
    /// The last answer was empty and nothing has changed since; only with `until_empty`.
    dry: bool,
    backoff: Backoff,
    /// Nothing is asked before.
    ask_at: Instant,
    /// Nothing is settled before.
    settle_at: Instant,
    away: bool,
    fatal: Option<ClientError>,
    report: Report,
}

impl<H, F> Run<H>
where
    H: Fn(Job) -> F,
    F: Future<Output = Verdict> + Send + 'static,
{
    pub(super) fn new(worker: Worker, handler: H) -> Self {
        let now = Instant::now();
        Self {
            worker,
            handler,
            held: Held::default(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            tokens: Vec::new(),
            asks: FuturesUnordered::new(),
            asked: 0,
            hurry: CancellationToken::new(),
            binding: None,
            presence: None,
            renewing: None,
            settling: None,
            taken: 0,
            stage: Stage::Working,
            dry: false,
            backoff: Backoff::new(PAUSE_MS.0, PAUSE_MS.1),
            ask_at: now,
            settle_at: now,
            away: false,
            fatal: None,
            report: Report::default(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Report, ClientError> {
        let mut give_back_until = None;
        while !self.is_over() {
            self.bind();
            self.ask();
            self.hand_out();
            self.renew();
            self.settle();
            let renewal = self.held.next_renewal().filter(|_| self.renewing.is_none());
            let ask = Some(self.ask_at)
                .filter(|at| (self.wants_more() || self.wants_binding()) && *at > Instant::now());
            let settle = Some(self.settle_at)
                .filter(|at| self.settling.is_none() && !self.held.is_empty() && *at > Instant::now());
            let next = [renewal, ask, settle, give_back_until].into_iter().flatten().min();
            tokio::select! {
                biased;
                stage = next_stage(&mut self.worker.stage, self.stage) => {
                    self.enter(stage);
                    if stage == Stage::GivingBack {
                        give_back_until = Some(Instant::now() + GIVE_BACK_MAX);
                    }
                }
                Some(ended) = self.running.join_next_with_id() => {
                    self.ended(ended);
                    // All that ended meanwhile is settled together.
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.ended(ended);
                    }
                }
                settled = some(&mut self.settling) => self.settled(settled),
                bound = some(&mut self.binding) => match bound {
                    Ok(presence) => {
                        self.reached();
                        self.presence = Some(presence);
                    }
                    Err(error) => self.not_answered(error),
                },
                renewed = some(&mut self.renewing) => self.renewed(renewed),
                Some(asked) = self.asks.next() => self.answered(asked),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if give_back_until.is_some_and(|until| until <= Instant::now()) {
                        give_back_until = None;
                        self.running.abort_all();
                        self.asks.clear();
                        self.asked = 0;
                    }
                }
            }
        }
        if let Some(presence) = self.presence {
            presence.end().await;
        }
        match self.fatal {
            Some(error) => Err(error),
            None => Ok(self.report),
        }
    }

    fn is_over(&self) -> bool {
        let idle = self.running.is_empty() && self.asks.is_empty() && self.held.is_empty();
        let enough = self.taken >= self.worker.max || self.dry;
        idle && (self.stage != Stage::Working || enough)
    }

    /// How many more messages may be asked for.
    fn room(&self) -> usize {
        let hold = self.worker.parallel.max(self.worker.hold);
        let room = hold.saturating_sub(self.running.len() + self.waiting.len() + self.asked);
        let left = self.worker.max.saturating_sub(self.taken + self.asked as u64);
        room.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// The session is to be bound and is not: nothing is asked for before.
    fn wants_binding(&self) -> bool {
        let unbound = self.worker.grace.is_some() && self.presence.is_none();
        unbound && self.binding.is_none() && self.stage == Stage::Working
    }

    fn bind(&mut self) {
        if let Some(grace) =
            self.worker.grace.filter(|_| self.wants_binding() && self.ask_at <= Instant::now())
        {
            let client = self.worker.client.clone();
            self.binding = Some(Box::pin(async move { client.bind(grace).await }));
        }
    }

    fn wants_more(&self) -> bool {
        if self.worker.grace.is_some() && self.presence.is_none() {
            return false;
        }
        self.stage == Stage::Working && !self.dry && self.asks.len() < CREDIT && self.room() > 0
    }

    fn ask(&mut self) {
        if !self.wants_more() || self.ask_at > Instant::now() {
            return;
        }
        // While the cluster is away one request is enough to find out when it is back.
        if self.away && !self.asks.is_empty() {
            return;
        }
        let count = self.room();
        self.asked += count;
        let lease = request::Lease {
            queues: self.worker.queues.clone(),
            max_messages: u16::try_from(count).expect("at most 256"),
            max_bytes: ANSWER_SIZE_MAX,
            lease_ms: self.worker.lease.map(milliseconds),
            wait_ms: if self.worker.until_empty { 0 } else { WAIT_MS },
            linger_ms: u32::try_from(self.worker.linger.as_millis()).unwrap_or(WAIT_MS).min(WAIT_MS),
        };
        let (client, hurry) = (self.worker.client.clone(), self.hurry.clone());
        self.asks.push(Box::pin(async move { (count, client.ask_hurried(ask::Lease(lease), hurry).await) }));
    }

    fn answered(&mut self, (count, result): Asked) {
        self.asked -= count;
        let answered = match result {
            Ok(answered) => answered,
            Err(error) => return self.not_answered(error),
        };
        self.reached();
        self.dry = self.worker.until_empty && answered.answer.is_empty();
        for (delivery, content) in answered.answer.into_iter().zip(answered.contents) {
            self.taken += 1;
            let left_ms = delivery.deadline_ms.saturating_sub(answered.lease_clock_ms);
            let delivery = Arc::new(delivery);
            let told = self.held.add(Arc::clone(&delivery), left_ms);
            self.waiting.push_back(Waiting { delivery, content, told });
        }
        if self.stage != Stage::Working {
            self.release_waiting();
        }
    }

    /// A lease request or a binding failed: for good, or the cluster is away.
    fn not_answered(&mut self, error: ClientError) {
        if is_final(&error) {
            self.fatal.get_or_insert(error);
            return self.enter(Stage::Finishing);
        }
        self.ask_at = Instant::now() + self.backoff.next(self.worker.client.jitter(), Duration::ZERO);
        if !self.away && self.stage == Stage::Working {
            self.away = true;
            (self.worker.observer)(WorkerEvent::Away(error));
        }
    }

    fn reached(&mut self) {
        self.backoff = Backoff::new(PAUSE_MS.0, PAUSE_MS.1);
        self.settle_at = Instant::now();
        if std::mem::take(&mut self.away) {
            (self.worker.observer)(WorkerEvent::Back);
        }
    }

    /// Starts handlers for messages that wait, as many as may run.
    fn hand_out(&mut self) {
        while self.running.len() < self.worker.parallel {
            let Some(Waiting { delivery, content, told }) = self.waiting.pop_front() else { return };
            let token = delivery.token;
            if self.held.is_lost(token) {
                self.decide(token, Verdict::Release { delay_ms: 0 });
                continue;
            }
            self.held.begin(token);
            match content::decode(&content) {
                Ok((headers, body)) => {
                    let job = Job { delivery, headers, body, told };
                    let task = self.running.spawn((self.handler)(job));
                    self.tokens.push((task.id(), token));
                }
                // Some client pushed it so; no handler can read it.
                Err(error) => self.decide(token, Verdict::Reject { reason: error.to_string() }),
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, Verdict), JoinError>) {
        let (id, verdict) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => (error.id(), Verdict::Release { delay_ms: 0 }),
            Err(error) => {
                let error_text = "the handler panicked".to_owned();
                (error.id(), Verdict::Fail { delay_ms: None, error: error_text })
            }
        };
        // What ran may have pushed, or made room in a group.
        self.dry = false;
        if let Some(at) = self.tokens.iter().position(|(task, _)| *task == id) {
            let (_, token) = self.tokens.swap_remove(at);
            self.decide(token, verdict);
        }
    }

    fn decide(&mut self, token: LeaseToken, verdict: Verdict) {
        if let Some(lost) = self.held.decide(token, verdict) {
            self.tell(lost, Outcome::Lost);
        }
    }

    /// Sends all verdicts that there are. While one round is on its way the next gathers.
    fn settle(&mut self) {
        if self.settling.is_some() || self.settle_at > Instant::now() {
            return;
        }
        let settlings = self.held.settlings();
        if settlings.is_empty() {
            return;
        }
        let client = self.worker.client.clone();
        self.settling = Some(Box::pin(async move {
            join_all(settlings.into_iter().map(|settling| settle_one(&client, settling))).await
        }));
    }

    fn settled(&mut self, settlement: Settlement) {
        for (settling, result) in settlement {
            match result {
                Ok(results) => {
                    // What was given back may be ready again.
                    self.dry = false;
                    for ((_, token), settled) in settling.pairs.into_iter().zip(results) {
                        let Some(lease) = self.held.remove(token) else { continue };
                        let done = settled == Settled::Ok || lease.in_doubt;
                        self.tell(lease, if done { Outcome::Settled } else { Outcome::Lost });
                    }
                }
                Err(error) if is_final(&error) || self.stage == Stage::GivingBack => {
                    for (_, token) in settling.pairs {
                        let Some(lease) = self.held.remove(token) else { continue };
                        self.tell(lease, Outcome::NotSettled(error.clone()));
                    }
                }
                Err(error) => {
                    let in_doubt = matches!(error, ClientError::Unknown { .. });
                    for (_, token) in settling.pairs {
                        if let Some(lease) = self.held.get_mut(token) {
                            lease.in_doubt |= in_doubt;
                        }
                    }
                    let pause = self.backoff.next(self.worker.client.jitter(), Duration::ZERO);
                    self.settle_at = Instant::now() + pause;
                }
            }
        }
    }

    fn tell(&mut self, lease: Lease, outcome: Outcome) {
        let Some((verdict, ran)) = lease.verdict else { return };
        self.report.add(&verdict, &outcome);
        (self.worker.observer)(WorkerEvent::Ended { delivery: lease.delivery, verdict, outcome, ran });
    }

    fn renew(&mut self) {
        if self.renewing.is_some() || self.held.next_renewal().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let renewals = self.held.renewals();
        let client = self.worker.client.clone();
        self.renewing = Some(Box::pin(async move {
            join_all(renewals.into_iter().map(|renewal| renew_one(&client, renewal))).await
        }));
    }

    fn renewed(&mut self, renewed: Renewed) {
        for (renewal, result) in renewed {
            match result {
                Ok(results) => {
                    let lost = renewal.pairs.iter().zip(results).filter(|(_, result)| *result != Settled::Ok);
                    lost.for_each(|((_, token), _)| self.held.lose(*token));
                }
                Err(_) => {
                    let pause = self.worker.client.jitter().spread(Duration::from_millis(2 * PAUSE_MS.0));
                    self.held.renew_again(&renewal, pause);
                }
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        if stage <= self.stage {
            return;
        }
        self.stage = stage;
        self.hurry.cancel();
        self.release_waiting();
        if stage == Stage::GivingBack {
            self.held.give_back();
        }
    }

    /// Messages whose handlers have not begun go back.
    fn release_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.decide(waiting.delivery.token, Verdict::Release { delay_ms: 0 });
        }
    }
}

/// The stage after `now`, once it comes.
async fn next_stage(stages: &mut watch::Receiver<Stage>, now: Stage) -> Stage {
    let stage = stages.wait_for(|stage| *stage > now).await.ok().map(|stage| *stage);
    match stage {
        Some(stage) => stage,
        None => std::future::pending().await,
    }
}

/// The end of what is in `slot`, which is then empty; never if nothing is.
async fn some<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let value = future.await;
    *slot = None;
    value
}

/// Asking again is of no use.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(error) => {
            matches!(error.retry, Retry::Never)
                && !matches!(error.code, ErrorCode::QueuePaused | ErrorCode::SessionExpired)
        }
        ClientError::Incompatible(_) | ClientError::Untrusted { .. } => true,
        ClientError::Unavailable { .. } | ClientError::Unknown { .. } => false,
    }
}

async fn settle_one(client: &Client, settling: Settling) -> (Settling, Result<Vec<Settled>, ClientError>) {
    let receipts = receipts_of(&settling.queue, &settling.pairs);
    let answered = match &settling.nack {
        None => client.ask(ask::Ack(receipts)).await,
        Some(kind) => client.ask(ask::Nack(Nack { leases: receipts, kind: kind.clone() })).await,
    };
    (settling, answered.map(|answered| answered.answer.into_vec()))
}

async fn renew_one(client: &Client, renewal: Renewal) -> (Renewal, Result<Vec<Settled>, ClientError>) {
    let leases = ExtendWhich::Receipts(receipts_of(&renewal.queue, &renewal.pairs));
    let answered = client.ask(ask::Extend(Extend { leases, lease_ms: renewal.lease_ms })).await;
    (renewal, answered.map(|answered| answered.answer.results.into_vec()))
}

fn receipts_of(queue: &crate::names::QueueName, pairs: &[super::held::Pair]) -> Receipts {
    let receipts = Bounded::new(pairs.to_vec()).expect("a request is filled up to the limit");
    Receipts { queue: queue.clone(), receipts }
}

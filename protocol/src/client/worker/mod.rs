//! A worker: takes messages, gives each to a handler, keeps the leases while handlers run, settles what they decide.
//!
//! ```text
//!            credit: parked lease requests               at most `parallel` at once
//!  cluster ───────────────────────────────► waiting here ───────► handler ───────► verdict
//!     ▲                                        │  leases renewed at a third  │         │
//!     └────────── acks and nacks, many in one request ◄──────────────────────┴─────────┘
//! ```
//!
//! It never waits in a hot loop: a cluster that is away is asked again after a growing, jittered pause, and leases that
//! are held meanwhile are kept, for the cluster's lease clock stands still without a quorum.

mod held;
mod job;
mod run;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::job::{Job, Told, Verdict};
use super::{Client, ClientError};
use crate::limits::{LEASE_COUNT_MAX, LEASE_QUEUES_MAX};
use crate::names::QueueName;
use crate::wire::bounded::{Bounded, TooMany};
use crate::wire::response::Delivery;

/// How far a worker has come to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It works.
    #[default]
    Working,
    /// It takes no more, and waits for the handlers that run.
    Finishing,
    /// It gives everything back: handlers are told, and dropped if they do not end soon.
    GivingBack,
}

/// Something that happened, for people and counters.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// A message is done with.
    Ended {
        /// Which, and which lease of it.
        delivery: Arc<Delivery>,
        /// What the handler decided.
        verdict: Verdict,
        /// What became of that.
        outcome: Outcome,
        /// How long the handler ran.
        ran: Duration,
    },
    /// The cluster cannot be asked at present; said once until it can again.
    Away(ClientError),
    /// It can again.
    Back,
}

/// What became of a verdict.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The cluster has it.
    Settled,
    /// The lease was lost before: somebody else has the message, or will.
    Lost,
    /// The cluster refused, or did not answer before the worker ended: the message comes again if the lease ends.
    NotSettled(ClientError),
}

/// Messages by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Acked.
    pub acked: u64,
    /// Failed: they come again or are dead.
    pub failed: u64,
    /// Rejected: they are dead.
    pub rejected: u64,
    /// Given back without blame.
    pub released: u64,
    /// Lost, or not known to be settled.
    pub lost: u64,
}

impl Report {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.acked + self.failed + self.rejected + self.released + self.lost
    }

    fn add(&mut self, verdict: &Verdict, outcome: &Outcome) {
        let count = match (outcome, verdict) {
            (Outcome::Lost | Outcome::NotSettled(_), _) => &mut self.lost,
            (Outcome::Settled, Verdict::Ack) => &mut self.acked,
            (Outcome::Settled, Verdict::Fail { .. }) => &mut self.failed,
            (Outcome::Settled, Verdict::Reject { .. }) => &mut self.rejected,
            (Outcome::Settled, Verdict::Release { .. }) => &mut self.released,
        };
        *count += 1;
    }
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.released += other.released;
        self.lost += other.lost;
    }
}

/// Who is told what happens.
type Observer = Box<dyn Fn(WorkerEvent) + Send>;

/// See the module. `Worker::new(client, queue).parallel(8).run(handler)`
pub struct Worker {
    client: Client,
    queues: Bounded<QueueName, LEASE_QUEUES_MAX>,
    parallel: usize,
    hold: usize,
    lease: Option<Duration>,
    linger: Duration,
    grace: Option<Duration>,
    max: u64,
    until_empty: bool,
    stage: watch::Receiver<Stage>,
    observer: Observer,
}

impl Worker {
    /// A worker on one queue, one message at a time. Its leases and acks belong to the session of `client`.
    pub fn new(client: Client, queue: QueueName) -> Self {
        let queues = Bounded::new(vec![queue]).expect("one queue is within the limit");
        Self {
            client,
            queues,
            parallel: 1,
            hold: 1,
            lease: None,
            linger: Duration::ZERO,
            grace: None,
            max: u64::MAX,
            until_empty: false,
            // A sender that is gone changes nothing: it works on.
            stage: watch::channel(Stage::Working).1,
            observer: Box::new(drop),
        }
    }

    /// Takes from the first of these that has any, instead.
    ///
    /// # Errors
    /// More than a lease may name.
    pub fn queues(mut self, queues: Vec<QueueName>) -> Result<Self, TooMany> {
        self.queues = Bounded::new(queues)?;
        Ok(self)
    }

    /// Handlers that run at once, 1 to 256.
    #[must_use]
    pub fn parallel(mut self, count: usize) -> Self {
        self.parallel = count.clamp(1, LEASE_COUNT_MAX);
        self
    }

    /// Messages held at once, at most 256: those beyond `parallel` wait here, so that a quick handler need not wait for
    /// the network. As many as run if fewer.
    #[must_use]
    pub fn hold(mut self, count: usize) -> Self {
        self.hold = count.min(LEASE_COUNT_MAX);
        self
    }

    /// Length of the leases, renewed at a third; the queue's if none is named.
    #[must_use]
    pub fn lease(mut self, length: Option<Duration>) -> Self {
        self.lease = length;
        self
    }

    /// Once a message is there, waits so long for as many as there is room for; not at all if none is named.
    #[must_use]
    pub fn linger(mut self, length: Option<Duration>) -> Self {
        self.linger = length.unwrap_or_default();
        self
    }

    /// Binds the session while the worker works, see [`Client::bind`]: if its process or connection is gone for longer
    /// than `grace`, everything it has leased goes back at once, without blame.
    #[must_use]
    pub fn bound(mut self, grace: Option<Duration>) -> Self {
        self.grace = grace;
        self
    }

    /// Ends after so many messages.
    #[must_use]
    pub fn max(mut self, count: u64) -> Self {
        self.max = count;
        self
    }

    /// Ends when nothing is ready and nothing runs.
    #[must_use]
    pub fn until_empty(mut self) -> Self {
        self.until_empty = true;
        self
    }

    /// Ends as `stage` says; stages only go forward.
    #[must_use]
    pub fn stop_by(mut self, stage: watch::Receiver<Stage>) -> Self {
        self.stage = stage;
        self
    }

    /// Tells `observer` what happens; it must not block.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(WorkerEvent) + Send + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Works until it is stopped, or has had as many as it may, or all there are. A handler that panics has failed.
    ///
    /// # Errors
    /// The cluster refuses leases for good (no such queue, not permitted). What ran was finished and settled before.
    pub async fn run<H, F>(self, handler: H) -> Result<Report, ClientError>
    where
        H: Fn(Job) -> F,
        F: Future<Output = Verdict> + Send + 'static,
    {
        run::Run::new(self, handler).run().await
    }
}

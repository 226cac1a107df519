//! What clients do meanwhile: push, take, settle, look; each with retries of its own, and every answer written down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use harness::history::History;
use harness::simulation::{Book, SimNet};
use queue_protocol::client::{Answered, Client, ClientConfig, ClientError};
use queue_protocol::content::{self, ContentSpec};
use queue_protocol::error::ErrorCode;
use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName, SessionId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{
    Action, Consistency, CreateQueue, Due, Extend, ExtendWhich, Lease, MessageState, Nack, NackKind, Peek,
    Push, PushMessage, PushOptions, Queues, Receipts, Request, Select, Sweep,
};
use queue_protocol::wire::response::{Answer, QueueView, Settled};
use queue_protocol::wire::txn::{Condition, Step, Txn};

use super::late;
use super::members::MACHINES_MAX;
use super::plan::{Dice, address};
use super::queues::{self, BUSY, QUIET, has_groups, queue, settings};

/// Refusals that a client of this load may get.
const EXPECTED: &[ErrorCode] = &[
    ErrorCode::QueueNotFound,
    ErrorCode::QueueFull,
    ErrorCode::DiskReserve,
    ErrorCode::DedupFull,
    ErrorCode::TimedOut,
    ErrorCode::NoLeader,
    ErrorCode::NotLeader,
    ErrorCode::NotConfirmed,
    ErrorCode::ShuttingDown,
    ErrorCode::Overloaded,
    ErrorCode::SessionFull,
    ErrorCode::SessionExpired,
    ErrorCode::TooOld,
];

/// What the workers of one run share.
#[derive(Clone, Default)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    working: Arc<AtomicU64>,
    pushed: Arc<AtomicU64>,
    wrong: Arc<Mutex<Vec<String>>>,
    book: Book,
}

struct Held {
    queue: QueueName,
    id: MessageId,
    token: LeaseToken,
}

/// Where a client asks.
fn client(seed: u128, timeout: Duration, book: &Book) -> Client {
    let servers = (1..=MACHINES_MAX).map(|number| address(&format!("n{number}"))).collect();
    let config = ClientConfig { servers, timeout, follow: true, seed };
    Client::new(config, Arc::new(SimNet { book: book.clone(), ..SimNet::default() }))
}

impl Load {
    /// Nobody works yet; all will find machines by this book.
    pub(crate) fn new(book: Book) -> Self {
        Self { book, ..Self::default() }
    }

    /// What names mean.
    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// No worker begins anything more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Something was answered that nobody should get.
    pub(super) fn note_wrong(&self, what: String) {
        self.wrong.lock().expect("nobody panics with it").push(what);
    }

    /// Workers that have not come to their end.
    pub(crate) fn working(&self) -> u64 {
        self.working.load(Ordering::Relaxed)
    }

    /// Answers that nobody should get.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().map(|wrong| wrong.clone()).unwrap_or_default()
    }

    /// Runs `workers` workers and one that looks at one place of the network.
    pub(crate) async fn run(self, history: History, seed: u64, place: u64, workers: u64) -> turmoil::Result {
        for number in 0..=workers {
            let session = u128::from(seed) << 64 | u128::from(place * 100 + number + 1);
            let dice = Dice::new(seed, 1_000 + place * 100 + number);
            let (load, history) = (self.clone(), history.clone());
            let worker = Worker { load, history, session, dice, looks: number == workers, held: Vec::new() };
            self.working.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(worker.work());
        }
        tokio::spawn(late::visit(self, seed, place));
        std::future::pending().await
    }
}

struct Worker {
    load: Load,
    history: History,
    session: u128,
    dice: Dice,
    looks: bool,
    held: Vec<Held>,
}

impl Worker {
    async fn work(mut self) {
        let timeout = self.dice.ms(1_500..8_000);
        let client = client(self.session, timeout, self.load.book());
        for name in queues::all() {
            let create = CreateQueue { queue: queue(name), settings: settings(name), if_not_exists: true };
            while !matches!(
                self.ask(&client, Request::CreateQueue(Box::new(create.clone())), vec![]).await,
                Some(Ok(_))
            ) {}
        }
        while !self.load.is_stopped() {
            if self.looks {
                self.look(&client).await;
            } else {
                self.do_something(&client).await;
            }
            let pause = self.dice.ms(0..60);
            tokio::time::sleep(pause).await;
        }
        self.load.working.fetch_sub(1, Ordering::Relaxed);
    }

    async fn do_something(&mut self, client: &Client) {
        match self.dice.within(0..100) {
            0..38 => self.push(client).await,
            38..60 => self.lease(client).await,
            60..66 => self.pop(client).await,
            66..82 => self.settle(client).await,
            82..86 => self.txn(client).await,
            86..91 => self.extend(client).await,
            91..96 => self.peek(client).await,
            _ => self.list(client).await,
        }
    }

    /// Mostly reads, so that nothing it waits for keeps it from asking a leader that was replaced.
    async fn look(&mut self, client: &Client) {
        match self.dice.within(0..100) {
            0..30 => self.peek(client).await,
            30..45 => self.list(client).await,
            45..90 => {
                let lease =
                    Lease { queues: Bounded::new(vec![queue(QUIET)]).expect("one"), ..self.lease_of(None) };
                self.lease_from(client, lease).await;
            }
            _ => self.settle(client).await,
        }
    }

    /// Asks, and writes down; nothing if the answer is not known.
    async fn ask(
        &mut self,
        client: &Client,
        request: Request,
        contents: Vec<Bytes>,
    ) -> Option<Result<Answered, ErrorCode>> {
        let asked = format!("{request:?}");
        match self.history.call(client, SessionId(self.session), request, contents).await {
            Ok(answered) => Some(Ok(answered)),
            Err(ClientError::Refused(error)) if EXPECTED.contains(&error.code) => Some(Err(error.code)),
            Err(ClientError::Unavailable { .. } | ClientError::Unknown { .. }) => None,
            Err(error) => {
                self.load.note_wrong(format!("{asked}: {error}"));
                None
            }
        }
    }

    fn any_queue(&mut self) -> QueueName {
        let quiet = self.dice.chance(1, 30).then_some(QUIET);
        queue(quiet.or_else(|| self.dice.pick(&BUSY)).expect("six"))
    }

    async fn push(&mut self, client: &Client) {
        let (push, contents) = self.some_messages();
        self.ask(client, Request::Push(push), contents).await;
    }

    /// Settles what is held and pushes, both or neither.
    async fn txn(&mut self, client: &Client) {
        let Some(receipts) = self.some_held(false) else { return };
        let queue = receipts.queue.clone();
        let (id, token) = receipts.receipts[0];
        let conditions = vec![match self.dice.within(0..3) {
            0 => Condition::Leased { queue, id, token },
            1 => Condition::Exists { queue, id },
            _ => Condition::AtMost { queue, count: 300 },
        }];
        let (push, contents) = self.some_messages();
        let steps = vec![Step::Push(push), Step::Ack(receipts)];
        let (conditions, steps) = (Bounded::new(conditions).expect("one"), Bounded::new(steps).expect("two"));
        self.ask(client, Request::Txn(Txn { conditions, steps }), contents).await;
    }

    fn some_messages(&mut self) -> (Push, Vec<Bytes>) {
        let name = self.any_queue();
        let count = 1 + self.dice.within(0..6).pow(2) / 5;
        let (mut rows, mut contents) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = self.load.pushed.fetch_add(1, Ordering::Relaxed);
            let size_max = if self.dice.chance(1, 40) { 12_000 } else { 600 };
            let size = self.dice.within(0..size_max);
            let mark = format!("{} {number} ", self.session);
            let size = mark.len().max(usize::try_from(size).expect("less than 12,000"));
            let body: Vec<u8> = mark.bytes().cycle().take(size).collect();
            let content = content::encode(&Bounded::default(), &body).expect("no headers");
            let options = self.options(name.as_str());
            rows.push(PushMessage { content: ContentSpec::of(&content), options });
            contents.push(content);
        }
        let atomic = self.dice.chance(1, 8);
        let messages = Bounded::new(rows).expect("a few");
        (Push { queue: name, create: false, atomic, messages }, contents)
    }

    fn options(&mut self, queue: &str) -> PushOptions {
        let mut options = PushOptions::default();
        if self.dice.chance(1, 5) {
            options.priority = u8::try_from(self.dice.within(0..32)).expect("less than 32");
        }
        if self.dice.chance(1, 10) {
            options.due = Due::AfterMs(self.dice.within(1..3_000));
        }
        if self.dice.chance(1, 20) {
            options.dedup_key = Some(self.key(30));
        }
        if has_groups(queue) {
            options.group = Some(self.key(5));
        }
        options
    }

    fn key(&mut self, of: u64) -> Key {
        format!("k{}", self.dice.within(0..of)).parse().expect("a short key")
    }

    fn lease_of(&mut self, lease_ms: Option<u64>) -> Lease {
        let mut queues = vec![self.any_queue()];
        if self.dice.chance(1, 4) {
            let other = self.any_queue();
            queues.extend((!queues.contains(&other)).then_some(other));
        }
        let wait_ms = if self.dice.chance(1, 4) { 300 } else { 0 };
        Lease {
            queues: Bounded::new(queues).expect("two at most"),
            max_messages: u16::try_from(self.dice.within(1..9)).expect("less than 9"),
            max_bytes: 1 << 20,
            lease_ms,
            wait_ms,
            linger_ms: if self.dice.chance(1, 4) { 50 } else { 0 },
        }
    }

    async fn lease(&mut self, client: &Client) {
        let lease_ms = self.dice.within(1_000..6_000);
        let lease = self.lease_of(Some(lease_ms));
        self.lease_from(client, lease).await;
    }

    async fn lease_from(&mut self, client: &Client, lease: Lease) {
        let Some(Ok(answered)) = self.ask(client, Request::Lease(lease), vec![]).await else { return };
        let Answer::Delivered(deliveries) = answered.answer else { return };
        self.held.extend(deliveries.iter().map(|d| Held {
            queue: d.queue.clone(),
            id: d.id,
            token: d.token,
        }));
    }

    async fn pop(&mut self, client: &Client) {
        let lease = self.lease_of(None);
        self.ask(client, Request::Pop(lease), vec![]).await;
    }

    /// Some of what is held, of one queue; it is kept or given away.
    fn some_held(&mut self, keep: bool) -> Option<Receipts> {
        let at = self.dice.within(0..self.held.len().max(1) as u64);
        let queue = self.held.get(usize::try_from(at).expect("a length"))?.queue.clone();
        let count = usize::try_from(self.dice.within(1..8)).expect("less than 8");
        let all = std::mem::take(&mut self.held);
        let (mut same, other): (Vec<Held>, Vec<Held>) = all.into_iter().partition(|held| held.queue == queue);
        let rest = same.split_off(count.min(same.len()));
        let receipts = same.iter().map(|held| (held.id, held.token)).collect();
        self.held = other;
        self.held.extend(rest);
        if keep {
            self.held.extend(same);
        }
        Some(Receipts { queue, receipts: Bounded::new(receipts).expect("a few") })
    }

    async fn settle(&mut self, client: &Client) {
        let keep = self.dice.chance(1, 12);
        let Some(leases) = self.some_held(keep) else { return };
        let delay_ms = self.dice.within(0..500);
        let request = match self.dice.within(0..10) {
            0..6 => Request::Ack(leases),
            6 => Request::Nack(Nack { leases, kind: NackKind::Release { delay_ms } }),
            7 => Request::Nack(Nack {
                leases,
                kind: NackKind::Fail { delay_ms: None, error: Text::cut("no") },
            }),
            8 => {
                let kind = NackKind::Fail { delay_ms: Some(delay_ms), error: Text::cut("later") };
                Request::Nack(Nack { leases, kind })
            }
            _ => Request::Nack(Nack { leases, kind: NackKind::Reject { reason: Text::cut("never") } }),
        };
        self.ask(client, request, vec![]).await;
    }

    async fn extend(&mut self, client: &Client) {
        let Some(receipts) = self.some_held(true) else { return };
        let whole = self.dice.chance(1, 6);
        let leases = if whole { ExtendWhich::Session } else { ExtendWhich::Receipts(receipts) };
        let lease_ms = self.dice.within(1_000..4_000);
        let asked = self.ask(client, Request::Extend(Extend { leases, lease_ms }), vec![]).await;
        if let (false, Some(Ok(Answered { answer: Answer::Extended(extended), .. }))) = (whole, asked)
            && extended.results.iter().all(|result| *result != Settled::Ok)
        {
            self.held.truncate(self.held.len() / 2);
        }
    }

    async fn peek(&mut self, client: &Client) {
        let states = [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];
        let peek = Peek {
            queue: self.any_queue(),
            state: self.dice.pick(&states),
            id: None,
            max_messages: 20,
            max_bytes: 1 << 20,
            after: None,
            consistency: Consistency::Linearizable,
        };
        self.ask(client, Request::Peek(peek), vec![]).await;
    }

    async fn list(&mut self, client: &Client) {
        let queues = Queues { only: None, after: None, consistency: Consistency::Linearizable };
        self.ask(client, Request::Queues(queues), vec![]).await;
    }
}

/// What is left in the queues, in words; nothing in the end.
#[derive(Clone)]
pub(crate) struct Left(Arc<Mutex<String>>);

impl Left {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new("all".to_owned())))
    }

    fn say(&self, what: String) {
        *self.0.lock().expect("nobody panics with it") = what;
    }

    /// # Errors
    /// What is left.
    pub(crate) fn nothing(&self) -> Result<(), String> {
        let what = self.0.lock().expect("nobody panics with it").clone();
        if what.is_empty() { Ok(()) } else { Err(what) }
    }
}

/// Takes everything out, in peace.
pub(crate) async fn drain(history: History, seed: u64, left: Left, book: Book) -> turmoil::Result {
    let session = u128::from(seed) << 64 | 999;
    let client = client(session, Duration::from_secs(10), &book);
    let ask = |request| history.call(&client, SessionId(session), request, vec![]);
    loop {
        let mut busy = false;
        for name in queues::all() {
            let queues = Bounded::new(vec![queue(name)]).expect("one");
            let (max_messages, max_bytes) = (200, 4 << 20);
            let lease =
                Lease { queues, max_messages, max_bytes, lease_ms: Some(30_000), wait_ms: 0, linger_ms: 0 };
            let Ok(Answered { answer: Answer::Delivered(deliveries), .. }) = ask(Request::Lease(lease)).await
            else {
                busy = true;
                continue;
            };
            if deliveries.is_empty() {
                continue;
            }
            busy = true;
            let receipts =
                Bounded::new(deliveries.iter().map(|d| (d.id, d.token)).collect()).expect("as many");
            let _outcome_is_written_down = ask(Request::Ack(Receipts { queue: queue(name), receipts })).await;
        }
        let queues = Queues { only: None, after: None, consistency: Consistency::Linearizable };
        let views = match ask(Request::Queues(queues)).await {
            Ok(Answered { answer: Answer::Queues(views), .. }) => views,
            other => {
                left.say(format!("what is there is not known: {:?}", other.err()));
                continue;
            }
        };
        let counts = |v: &QueueView| format!("{} {}/{}/{}/{}", v.name, v.ready, v.leased, v.delayed, v.dead);
        left.say(views.iter().map(counts).collect::<Vec<_>>().join(", "));
        for view in views.iter().filter(|view| view.dead > 0) {
            busy = true;
            let sweep = Sweep::all(view.name.clone(), Select::default(), Action::Redrive { to: None });
            let _outcome_is_written_down = ask(Request::Sweep(Box::new(sweep))).await;
        }
        if !busy && views.iter().all(|view| view.ready + view.leased + view.delayed == 0) {
            left.say(String::new());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

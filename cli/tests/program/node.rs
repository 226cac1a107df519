//! A node in memory that speaks the protocol: just enough of a queue for the program to be tried against.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{ClusterId, LeaseToken, MessageId, NodeId, QueueName, StoreId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::frame::{FrameKind, OutFrame};
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Accepted, Hello, PeerId};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::proof::{PLAIN, Secret, Told};
use queue_protocol::wire::request::{Action, Call, Cursor, Lease, MessageState, NackKind, Request, Sweep};
use queue_protocol::wire::response::{
    Age, Answer, At, Delivery, Extended, LeaderView, MessageView, Peeked, PushOutcome, QueueView, Response,
    Settled, StatsView, Swept,
};
use tokio::net::{TcpListener, TcpStream};

use crate::views;

pub(crate) const CLUSTER: ClusterId = ClusterId(7);
/// Unix milliseconds that the node takes for now.
const NOW_MS: u64 = 1_795_442_602_118;

#[derive(Clone)]
struct Stored {
    id: MessageId,
    state: MessageState,
    token: LeaseToken,
    attempts: u32,
    content: Bytes,
}

/// What the node remembers, and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    queues: BTreeMap<QueueName, VecDeque<Stored>>,
    ids: u64,
    tokens: u64,
    /// Nack kinds seen.
    pub(crate) nacked: Vec<NackKind>,
    /// Pushes are answered so often; the next one breaks the connection, and nothing more is accepted.
    pub(crate) pushes_left: Option<u32>,
    /// Length of leases that name none.
    pub(crate) lease_ms: Option<u64>,
    /// Messages that one answer to a peek holds.
    pub(crate) peeked_max: Option<usize>,
    /// Extensions seen.
    pub(crate) extended: u32,
    /// Leases that are still refused for now.
    pub(crate) leases_refused: u32,
    /// Acks are refused.
    pub(crate) refuses_acks: bool,
    /// No majority follows it.
    pub(crate) alone: bool,
    /// It listens no more.
    gone: bool,
}

impl State {
    /// Bodies in a queue, in order, whatever their state; headers left on.
    pub(crate) fn contents(&self, queue: &str) -> Vec<Bytes> {
        self.queues.get(&name(queue)).into_iter().flatten().map(|stored| stored.content.clone()).collect()
    }

    /// Messages of a queue in one state.
    pub(crate) fn count(&self, queue: &str, state: MessageState) -> usize {
        self.queues.get(&name(queue)).into_iter().flatten().filter(|stored| stored.state == state).count()
    }

    /// Sets a message aside.
    pub(crate) fn kill(&mut self, queue: &str, id: u64) {
        for stored in self.queues.get_mut(&name(queue)).into_iter().flatten().filter(|m| m.id.0 == id) {
            stored.state = MessageState::Dead;
        }
    }
}

fn name(queue: &str) -> QueueName {
    queue.parse().unwrap()
}

/// A running node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Node {
    /// Starts on a free port, on a thread of its own, with these queues.
    pub(crate) fn start(queues: &[&str]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        for queue in queues {
            state.lock().unwrap().queues.insert(name(queue), VecDeque::new());
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                sender.send(address).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    if shared.lock().unwrap().gone {
                        return;
                    }
                    tokio::spawn(serve(stream, address, Arc::clone(&shared)));
                }
            });
        });
        Self { address: receiver.recv().unwrap(), state }
    }
}

fn leader(address: SocketAddr) -> LeaderView {
    LeaderView { node: NodeId(1), name: Text::cut("n1"), address: Text::cut(address.to_string()), term: 7 }
}

async fn serve(stream: TcpStream, address: SocketAddr, state: Arc<Mutex<State>>) {
    let (read, mut write) = stream.into_split();
    let mut reader = FrameReader::new(read);
    let answer = |hello: &Hello| {
        let version = hello.check(CLUSTER, NodeId(1))?;
        let (name, leader) = (Text::cut("n1"), Some(leader(address)));
        Ok(Accepted {
            version,
            cluster: CLUSTER,
            name,
            node: PeerId { node: NodeId(1), store: StoreId(1) },
            leader,
            features: 0,
            wall_ms: 0,
            nonce: [0; 32],
            index: Some(5),
        })
    };
    let (secret, admit) = (Secret([0; 32]), |_: &_| Ok(Told::nothing()));
    if accept(&mut reader, &mut write, &PLAIN, &secret, answer, admit).await.is_err() {
        return;
    }
    let (sender, mut frames) = tokio::sync::mpsc::unbounded_channel::<OutFrame>();
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let mut outbox = Outbox::new();
            outbox.push(&frame).unwrap();
            if outbox.write_to(&mut write).await.is_err() {
                return;
            }
        }
    });
    while let Ok(Some(frame)) = reader.next().await {
        let id = frame.request_id;
        if frame.kind == FrameKind::Ping {
            let _ = sender.send(OutFrame::bare(id, FrameKind::Pong));
            continue;
        }
        let call: Call = frame.message().unwrap();
        if matches!(call.request, Request::Push(_)) && breaks(&state) {
            return;
        }
        let (sender, state, tail) = (sender.clone(), Arc::clone(&state), frame.tail.clone());
        tokio::spawn(async move {
            let (result, contents) = match call.request {
                Request::Lease(lease) => wait_for_lease(&state, lease).await,
                request => handle(&mut state.lock().unwrap(), address, request, &tail),
            };
            let at = At { index: 1, position: 0 };
            let response = Response { at, repeated: false, lease_clock_ms: 5, result, age: Age::Now };
            let _ = sender.send(OutFrame::new(id, &response, contents));
        });
    }
}

fn breaks(state: &Mutex<State>) -> bool {
    let mut state = state.lock().unwrap();
    match &mut state.pushes_left {
        Some(0) => {
            state.gone = true;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

type Handled = (Result<Answer, Error>, Vec<Bytes>);

async fn wait_for_lease(state: &Mutex<State>, lease: Lease) -> Handled {
    for _ in 0..=lease.wait_ms / 10 {
        let handled = take(&mut state.lock().unwrap(), &lease);
        if !matches!(&handled.0, Ok(Answer::Delivered(none)) if none.is_empty()) {
            return handled;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (Ok(Answer::Delivered(Bounded::default())), Vec::new())
}

fn take(state: &mut State, lease: &Lease) -> Handled {
    let queue = &lease.queues[0];
    if state.leases_refused > 0 {
        state.leases_refused -= 1;
        return (Err(Error::refused(ErrorCode::QueuePaused, "not today")), Vec::new());
    }
    let Some(messages) = state.queues.get_mut(queue) else { return (Err(missing(queue)), Vec::new()) };
    let (mut deliveries, mut contents) = (Vec::new(), Vec::new());
    let ready = messages.iter_mut().filter(|stored| stored.state == MessageState::Ready);
    for stored in ready.take(lease.max_messages.into()) {
        state.tokens += 1;
        stored.token = LeaseToken(state.tokens);
        stored.state = MessageState::Leased;
        stored.attempts += 1;
        deliveries.push(Delivery {
            queue: queue.clone(),
            id: stored.id,
            token: stored.token,
            attempt: stored.attempts,
            failures: 0,
            priority: 4,
            group: None,
            pushed_at_ms: NOW_MS,
            lease_ms: lease.lease_ms.or(state.lease_ms).unwrap_or(30_000),
            epoch: 0,
            checkpoint: None,
            deadline_ms: 5 + lease.lease_ms.or(state.lease_ms).unwrap_or(30_000),
            content: ContentSpec::of(&stored.content),
        });
        contents.push(stored.content.clone());
    }
    (Ok(Answer::Delivered(Bounded::new(deliveries).unwrap())), contents)
}

fn missing(queue: &QueueName) -> Error {
    let mut error = Error::refused(ErrorCode::QueueNotFound, format!("no queue named \"{queue}\""));
    error.similar = (queue.as_str() == "jbos").then(|| name("jobs"));
    error
}

fn handle(state: &mut State, address: SocketAddr, request: Request, tail: &Bytes) -> Handled {
    let plain = |answer| (Ok(answer), Vec::new());
    match request {
        Request::Push(push) => {
            if push.create {
                state.queues.entry(push.queue.clone()).or_default();
            }
            let Some(messages) = state.queues.get_mut(&push.queue) else {
                return (Err(missing(&push.queue)), Vec::new());
            };
            let (first_id, mut at) = (MessageId(state.ids + 1), 0);
            for message in push.messages.iter() {
                state.ids += 1;
                let end = at + message.content.size as usize;
                let content = tail.slice(at..end);
                at = end;
                messages.push_back(Stored {
                    id: MessageId(state.ids),
                    state: MessageState::Ready,
                    token: LeaseToken(0),
                    attempts: 0,
                    content,
                });
            }
            let count = u32::try_from(push.messages.len()).unwrap();
            plain(Answer::Pushed(Bounded::new(vec![PushOutcome::Stored { first_id, count }]).unwrap()))
        }
        Request::Ack(_) if state.refuses_acks => {
            (Err(Error::refused(ErrorCode::BadRequest, "no acks today")), Vec::new())
        }
        Request::Ack(receipts) => plain(settle(state, &receipts.queue, &receipts.receipts, None)),
        Request::Nack(nack) => {
            state.nacked.push(nack.kind.clone());
            plain(settle(state, &nack.leases.queue, &nack.leases.receipts, Some(MessageState::Ready)))
        }
        Request::Extend(extend) => {
            state.extended += 1;
            let queue_protocol::wire::request::ExtendWhich::Receipts(leases) = extend.leases else {
                return (Err(Error::refused(ErrorCode::Unsupported, "not here")), Vec::new());
            };
            let state = settle(state, &leases.queue, &leases.receipts, Some(MessageState::Leased));
            let Answer::Settled(results) = state else { unreachable!("settle settles") };
            plain(Answer::Extended(Extended { results, count: 1, deadline_ms: 60_005 }))
        }
        Request::Peek(peek) => {
            let Some(messages) = state.queues.get(&peek.queue) else {
                return (Err(missing(&peek.queue)), Vec::new());
            };
            let id_after = peek.after.map_or(0, |after| after.id.0);
            let mut wanted = messages
                .iter()
                .filter(|stored| peek.state.is_none_or(|state| state == stored.state))
                .filter(|stored| peek.id.is_none_or(|id| id == stored.id))
                .filter(|stored| stored.id.0 > id_after);
            let max = usize::from(peek.max_messages).min(state.peeked_max.unwrap_or(usize::MAX));
            let (views, contents) =
                wanted.by_ref().take(max).map(|stored| (look(stored), stored.content.clone())).unzip();
            let views: Vec<MessageView> = views;
            let last = views.last().filter(|_| wanted.next().is_some());
            let next = last.map(|view| Cursor {
                state: view.state,
                priority: view.priority,
                id: view.id,
                below: MessageId(u64::MAX),
            });
            (Ok(Answer::Peeked(Peeked { messages: Bounded::new(views).unwrap(), next })), contents)
        }
        Request::Queues(queues) => {
            if let Some(only) = queues.only.as_ref().filter(|only| !state.queues.contains_key(*only)) {
                return (Err(missing(only)), Vec::new());
            }
            let views = state
                .queues
                .iter()
                .filter(|(name, _)| queues.only.as_ref().is_none_or(|only| only == *name))
                .filter(|(name, _)| queues.after.as_ref().is_none_or(|after| after < *name))
                .map(|(name, messages)| counts(name, messages))
                .collect();
            plain(Answer::Queues(Bounded::new(views).unwrap()))
        }
        Request::CreateQueue(create) => {
            let new = !state.queues.contains_key(&create.queue);
            if !new && !create.if_not_exists {
                let message = format!("queue \"{}\" exists with other settings", create.queue);
                return (Err(Error::refused(ErrorCode::QueueExists, message)), Vec::new());
            }
            state.queues.entry(create.queue).or_default();
            plain(Answer::Created(new))
        }
        Request::RemoveQueue(remove) => match state.queues.remove(&remove.queue) {
            Some(messages) => plain(Answer::Count(messages.len() as u64)),
            None if remove.if_exists => plain(Answer::Count(0)),
            None => (Err(missing(&remove.queue)), Vec::new()),
        },
        Request::Sweep(sweep) if sweep.action == Action::Delete && !sweep.dry_run => {
            let Some(messages) = state.queues.get_mut(&sweep.queue) else {
                return (Err(missing(&sweep.queue)), Vec::new());
            };
            let before = messages.len();
            messages.retain(|stored| stored.state == MessageState::Leased);
            plain(Answer::Swept(Swept { count: (before - messages.len()) as u64, next: None, skipped: 0 }))
        }
        Request::Sweep(sweep) => {
            let Sweep { queue, select, .. } = *sweep;
            let (messages, mut count) = (state.queues.get_mut(&queue).into_iter().flatten(), 0);
            for stored in messages.filter(|stored| stored.state == MessageState::Dead) {
                if select.ids.as_ref().is_none_or(|ids| ids.contains(&stored.id)) {
                    stored.state = MessageState::Ready;
                    count += 1;
                }
            }
            plain(Answer::Swept(Swept { count, next: None, skipped: 0 }))
        }
        Request::Status => plain(views::status(leader(address), address, state.alone)),
        Request::Stats => plain(Answer::Stats(Box::new(StatsView { queues: 1, ..StatsView::default() }))),
        Request::TransferLeader(_) => plain(Answer::Transferred(leader(address))),
        Request::CloseSession => plain(Answer::Closed),
        Request::Lease(_)
        | Request::Pop(_)
        | Request::ChangeMembers(_)
        | Request::Drain(_)
        | Request::RaiseLevel(_)
        | Request::AlterQueue(_)
        | Request::Explain(_)
        | Request::WeighGroup(_)
        | Request::SaveCheckpoint(_)
        | Request::Txn(_)
        | Request::SetSchedule(_)
        | Request::RemoveSchedule(_)
        | Request::Schedules(_)
        | Request::Groups(_)
        | Request::History(_)
        | Request::BindSession { .. }
        | Request::Attend
        | Request::Clients(_)
        | Request::RotateSecret { .. }
        | Request::TlsForget(_)
        | Request::SetLog(_)
        | Request::Slow
        | Request::Whoami
        | Request::Can(_)
        | Request::Principals(_)
        | Request::ChangeAuth(_)
        | Request::Audit(_)
        | Request::Edit(_) => (Err(Error::refused(ErrorCode::Unsupported, "not here")), Vec::new()),
    }
}

/// Ends leases: the message goes (`None`), or into another state.
fn settle(
    state: &mut State,
    queue: &QueueName,
    receipts: &[(MessageId, LeaseToken)],
    into: Option<MessageState>,
) -> Answer {
    let mut results = Vec::new();
    let messages = state.queues.entry(queue.clone()).or_default();
    for (id, token) in receipts {
        let found = messages.iter().position(|stored| stored.id == *id);
        results.push(match found {
            None => Settled::Gone,
            Some(at) if messages[at].token != *token || messages[at].state != MessageState::Leased => {
                Settled::Stale
            }
            Some(at) => {
                match into {
                    Some(into) => messages[at].state = into,
                    None => drop(messages.remove(at)),
                }
                Settled::Ok
            }
        });
    }
    Answer::Settled(Bounded::new(results).unwrap())
}

fn look(stored: &Stored) -> MessageView {
    let dead = stored.state == MessageState::Dead;
    MessageView {
        id: stored.id,
        state: stored.state,
        priority: 4,
        group: None,
        attempts: stored.attempts,
        failures: 0,
        releases: 0,
        pushed_at_ms: NOW_MS,
        age_ms: 200_000,
        until_ms: dead.then_some(NOW_MS - 180_000),
        left_ms: None,
        dead_ms: dead.then_some(180_000),
        token: None,
        dead: dead.then_some(queue_protocol::wire::response::DeadReason::Rejected),
        last_error: dead.then(|| Text::cut("cannot decode: not a PNG")),
        history: Bounded::default(),
        expires_at_ms: None,
        content: ContentSpec::of(&stored.content),
        checkpoint_size: None,
        holder: None,
    }
}

fn counts(name: &QueueName, messages: &VecDeque<Stored>) -> QueueView {
    let count = |state| messages.iter().filter(|stored| stored.state == state).count() as u64;
    QueueView {
        name: name.clone(),
        ready: count(MessageState::Ready),
        leased: count(MessageState::Leased),
        delayed: count(MessageState::Delayed),
        dead: count(MessageState::Dead),
        bytes: 0,
        oldest_ready_ms: None,
        next_due_in_ms: None,
        pushed_total: 0,
        leased_total: 0,
        acked_total: 0,
        settings: queue_protocol::settings::Settings::default(),
        waiting: 0,
        version: 1,
        full: false,
        blocked: false,
    }
}

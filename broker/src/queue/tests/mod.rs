//! The state machine as a whole: stories, limits, bytes, and the comparison with the model.

mod active_stories;
mod any_settings;
mod audit_stories;
mod auth_stories;
mod bound_stories;
mod bytes;
mod callers;
mod compared;
mod group_stories;
mod histories;
mod idle_stories;
mod life_stories;
mod limits;
mod rate_stories;
mod rivals;
mod schedule_stories;
mod session_load;
mod session_stories;
mod settings_stories;
mod stories;
mod sweep_stories;
mod time_stories;
mod txn_stories;
mod unique_stories;

use std::collections::BTreeMap;

use queue_protocol::content::ContentSpec;
use queue_protocol::error::ErrorCode;
use queue_protocol::limits::PRIORITY_DEFAULT;
use queue_protocol::names::{Key, LeaseToken, MessageId, QueueName, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::{Action, Due, MessageState, PushOptions, Select, Sweep};
use queue_protocol::wire::request_hash::RequestHash;
use queue_protocol::wire::response::{Settled, Swept};

use super::State;
use super::command::{Batch, Command, Lease, Op, Opening, Push, Receipts, SessionStamp, Source, Stamps};
use super::reply::{Applied, Grant, Outcome, Refusal, Reply};

/// A state with a hand on its clocks. Every entry is followed by `check` and a round through bytes.
#[derive(Clone)]
struct Broker {
    state: State,
    index: u64,
    /// What the next entry says of the wall clock.
    wall_ms: u64,
    /// How far the wall clock is ahead of the elapsed one, which goes right.
    wrong_ms: i64,
    confirmed_ms: u64,
    /// What the client of each session learned before its first command.
    openings: BTreeMap<u128, Opening>,
    /// Where clients are.
    source: Source,
}

fn name(text: &str) -> QueueName {
    text.parse().expect("a queue name")
}

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

fn bounded<T, const N: usize>(values: impl IntoIterator<Item = T>) -> Bounded<T, N> {
    Bounded::new(values.into_iter().collect()).unwrap_or_else(|_| panic!("too many values"))
}

fn settings() -> Settings {
    Settings { max_failures: 3, backoff_ms: 0, backoff_ms_max: 60_000, ..Settings::default() }
}

fn push(queue: &str, count: u32) -> Op {
    push_special(queue, count, &[])
}

fn push_special(queue: &str, count: u32, special: &[(u32, u8, Due)]) -> Op {
    let special = special.iter().map(|(k, priority, due)| {
        (*k, PushOptions { priority: *priority, due: *due, ..PushOptions::default() })
    });
    push_with(queue, count, special.collect())
}

fn push_with(queue: &str, count: u32, special: Vec<(u32, PushOptions)>) -> Op {
    Op::Push(Push {
        queue: name(queue),
        create: Some(Box::new(settings())),
        atomic: false,
        count,
        special: bounded(special),
    })
}

fn push_delayed(queue: &str, delay_ms: u64) -> Op {
    push_special(queue, 1, &[(0, PRIORITY_DEFAULT, Due::AfterMs(delay_ms))])
}

fn sweep(queue: &str, state: Option<MessageState>, action: Action) -> Op {
    let select = Select { state, ..Select::default() };
    Op::Sweep(Box::new(Sweep::all(name(queue), select, action)))
}

fn purge(queue: &str, state: Option<MessageState>) -> Op {
    sweep(queue, state, Action::Delete)
}

fn redrive(queue: &str) -> Op {
    sweep(queue, None, Action::Redrive { to: None })
}

fn swept(count: u64) -> Result<Outcome, Refusal> {
    Ok(Outcome::Swept(Swept { count, next: None, skipped: 0 }))
}

fn take(queue: &str, max_messages: u16) -> Lease {
    Lease { queues: bounded([name(queue)]), max_messages, max_bytes: u32::MAX, lease_ms: Some(2_000) }
}

fn lease(queue: &str, max_messages: u16) -> Op {
    Op::Lease(take(queue, max_messages))
}

fn pop(queue: &str, max_messages: u16) -> Op {
    Op::Pop(take(queue, max_messages))
}

fn receipts(queue: &str, grants: &[Grant]) -> Receipts {
    Receipts { queue: name(queue), receipts: bounded(grants.iter().map(|grant| (grant.id, grant.token))) }
}

fn encode(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// A state but for what it is told by: equal whatever led to it.
fn contents(state: &State) -> Vec<u8> {
    let mut unhashed = state.clone();
    unhashed.set_digest(Default::default());
    *unhashed.journal_mut() = Default::default();
    encode(&unhashed)
}

impl Broker {
    fn new() -> Self {
        Self {
            state: State::new(),
            index: 0,
            wall_ms: 1_000_000,
            wrong_ms: 0,
            confirmed_ms: 0,
            openings: BTreeMap::new(),
            source: Source::default(),
        }
    }

    /// One entry; every content has 10 bytes.
    fn entry(&mut self, commands: Vec<Command>) -> Applied {
        let rows: u64 = commands.iter().map(|command| command.op.rows()).sum();
        let rows = usize::try_from(rows).expect("a few");
        self.entry_with(commands, &vec![ContentSpec { size: 10, crc32c: 0 }; rows])
    }

    fn entry_with(&mut self, commands: Vec<Command>, table: &[ContentSpec]) -> Applied {
        self.index += 1;
        let elapsed_ms = self.wall_ms.checked_add_signed(-self.wrong_ms).expect("it began at 0 or later");
        let stamps =
            Stamps { elapsed_ms, ..Stamps::of(self.wall_ms, std::mem::take(&mut self.confirmed_ms)) };
        let applied = self.state.apply(self.index, &Batch { stamps, commands: bounded(commands) }, table);
        self.state.check();
        let bytes = encode(&self.state);
        let decoded = State::decode(&bytes).expect("a state decodes what it encodes");
        decoded.check();
        assert_eq!(encode(&decoded), bytes);
        applied
    }

    /// One command without a session, alone in its entry.
    fn run(&mut self, op: Op) -> Result<Outcome, Refusal> {
        self.entry(vec![Command { session: None, op }]).replies.remove(0).result
    }

    /// The stamp of a client that learned the index when it first came.
    fn stamp(&mut self, session: u128, number: u64, done_below: u64) -> SessionStamp {
        let now = Opening { index: self.index, source: self.source };
        let opening = Some(*self.openings.entry(session).or_insert(now));
        SessionStamp {
            session: SessionId(session),
            number,
            done_below,
            opening,
            request: RequestHash::default(),
            by: None,
        }
    }

    /// One command of a session, alone in its entry.
    fn call(&mut self, session: u128, number: u64, done_below: u64, op: Op) -> Reply {
        let session = Some(self.stamp(session, number, done_below));
        self.entry(vec![Command { session, op }]).replies.remove(0)
    }

    /// Nothing but the clocks.
    fn tick(&mut self) -> Applied {
        self.entry(vec![Command { session: None, op: Op::Tick }])
    }

    /// Time passes on the wall clock and on the elapsed one.
    fn pass_wall(&mut self, ms: u64) -> Applied {
        self.wall_ms += ms;
        self.tick()
    }

    /// The wall clock jumps, and no time passes.
    fn jump_wall(&mut self, ms: i64) -> Applied {
        self.wall_ms = self.wall_ms.checked_add_signed(ms).expect("it stays in range");
        self.wrong_ms += ms;
        self.tick()
    }

    fn pass_lease(&mut self, ms: u64) -> Applied {
        self.confirmed_ms += ms;
        self.tick()
    }

    fn lease(&mut self, queue: &str, max_messages: u16) -> Vec<Grant> {
        delivered(self.run(lease(queue, max_messages)))
    }

    fn ack(&mut self, queue: &str, grants: &[Grant]) -> Vec<Settled> {
        settled(self.run(Op::Ack(receipts(queue, grants))))
    }

    fn count(&self, queue: &str) -> [u64; 4] {
        let stats = self.state.queues(Some(&name(queue)), None, 1).remove(0);
        [stats.ready, stats.leased, stats.delayed, stats.dead]
    }
}

fn delivered(result: Result<Outcome, Refusal>) -> Vec<Grant> {
    match result {
        Ok(Outcome::Delivered(grants)) => grants,
        Ok(Outcome::Nothing) => Vec::new(),
        other => panic!("not a delivery: {other:?}"),
    }
}

fn settled(result: Result<Outcome, Refusal>) -> Vec<Settled> {
    match result {
        Ok(Outcome::Settled(results)) => results,
        other => panic!("not a settlement: {other:?}"),
    }
}

fn ids(grants: &[Grant]) -> Vec<u64> {
    grants.iter().map(|grant| grant.id.0).collect()
}

fn receipt(queue: &str, id: u64, token: u64) -> Receipts {
    Receipts { queue: name(queue), receipts: bounded([(MessageId(id), LeaseToken(token))]) }
}

//! Entries as another node may have written them, applied to the pure core.
//!
//! ```text
//! restart 1 | entry*      restart: before which entry the state goes through a snapshot
//! entry = size 2 | command section | body table: count 1, then 1 byte each, the size of a content
//! ```

use queue_broker::queue::State;
use queue_broker::queue::command::{
    Batch, Command, Lease, Op, Opening, Push, Receipts, SessionStamp, Stamps,
};
use queue_broker::queue::reply::{Outcome, Reply};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::{LeaseToken, MessageId, QueueName, SessionId, StoreId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::{Action, NackKind, PushOptions, Select, Sweep};
use queue_protocol::wire::request_hash::RequestHash;

use super::snapshot::encode;

/// More entries show nothing new.
const ENTRIES_MAX: usize = 48;

/// Whatever the commands are the state holds together, and one that went through a snapshot gives the same answers.
/// True if a message was delivered.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((restart, mut rest)) = input.split_first() else { return false };
    let (mut state, mut twin) = (State::new(), None::<State>);
    let mut delivered = false;
    for index in 1..=ENTRIES_MAX {
        let Some((batch, table)) = entry(&mut rest) else { break };
        if index == usize::from(*restart) {
            twin = Some(State::decode(&encode(&state)).expect("a state decodes what it encodes"));
        }
        let replies = state.apply(index as u64, &batch, &table).replies;
        assert_eq!(replies.len(), batch.commands.len(), "one reply a command");
        state.check();
        if let Some(twin) = &mut twin {
            assert_eq!(twin.apply(index as u64, &batch, &table).replies, replies);
        }
        delivered |= replies.iter().any(delivers);
    }
    state.live_bodies();
    let bytes = encode(&state);
    assert!(twin.is_none_or(|twin| encode(&twin) == bytes), "a restart shows");
    delivered
}

fn delivers(reply: &Reply) -> bool {
    matches!(&reply.result, Ok(Outcome::Delivered(_)))
}

/// The next entry, as the log would hand it on.
fn entry(rest: &mut &[u8]) -> Option<(Batch, Vec<ContentSpec>)> {
    let (size, left) = rest.split_first_chunk()?;
    let (section, left) = left.split_at(left.len().min(usize::from(u16::from_le_bytes(*size))));
    let (_, batch) = Batch::decode(section).ok()?;
    let (count, left) = left.split_first().unwrap_or((&0, left));
    let (sizes, left) = left.split_at(left.len().min(usize::from(*count)));
    *rest = left;
    let table = sizes.iter().map(|size| ContentSpec { size: u32::from(*size), crc32c: 0 });
    Some((batch, table.collect()))
}

/// Commands that do something to one queue: what was pushed is leased, settled and redriven.
pub(super) fn story() -> Vec<Op> {
    let queue: QueueName = "q".parse().expect("a name");
    let lease = |max_messages| {
        let queues = Bounded::new(vec![queue.clone()]).expect("one");
        Lease { queues, max_messages, max_bytes: 1 << 20, lease_ms: Some(1_000) }
    };
    let receipts = |pairs: &[(u64, u64)]| {
        let receipts = pairs.iter().map(|(id, token)| (MessageId(*id), LeaseToken(*token))).collect();
        Receipts { queue: queue.clone(), receipts: Bounded::new(receipts).expect("few") }
    };
    let special = [(1, PushOptions { priority: 9, ..PushOptions::default() })];
    let create = Some(Box::new(Settings { max_failures: 1, ..Settings::default() }));
    let reason = Text::cut("no");
    vec![
        Op::Push(Push {
            queue: queue.clone(),
            create,
            atomic: false,
            count: 3,
            special: Bounded::new(special.into()).expect("one"),
        }),
        Op::Lease(lease(2)),
        Op::Ack(receipts(&[(1, 1), (2, 1)])),
        Op::Nack { leases: receipts(&[(1, 2)]), kind: NackKind::Reject { reason } },
        Op::Pop(lease(9)),
        Op::Sweep(Box::new(Sweep::all(queue.clone(), Select::default(), Action::Redrive { to: None }))),
        Op::Lease(lease(9)),
        Op::Extend { leases: None, lease_ms: 2_000 },
        Op::BindSession { grace_ms: Some(5_000) },
        Op::ReleaseAbsent(SessionId(3)),
        Op::Tick,
        Op::AssignNode { store: StoreId(7), key: [7; 32] },
        Op::RaiseLevel(Level(2)),
    ]
}

fn bytes(entries: &[Vec<Command>], restart: u8) -> Vec<u8> {
    let mut bytes = vec![restart];
    for (number, commands) in (0..).zip(entries) {
        let stamps = Stamps::of(1_000 * u64::from(number), 100);
        let batch = Batch { stamps, commands: Bounded::new(commands.clone()).expect("few") };
        let section = batch.encode(Level(number % 2 + 1));
        bytes.extend(u16::try_from(section.len()).expect("few commands").to_le_bytes());
        bytes.extend(section);
        bytes.extend([3, 1, 2, 2]);
    }
    bytes
}

/// The story as one entry, as one entry a command, and told twice by one session.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let plain = |op| Command { session: None, op };
    let all: Vec<Command> = story().into_iter().map(plain).collect();
    let apart: Vec<Vec<Command>> = all.iter().map(|command| vec![command.clone()]).collect();
    let told = |number: u64, op: &Op| {
        let opening = Some(Opening::default());
        let session = Some(SessionStamp {
            session: SessionId(3),
            number,
            done_below: 1,
            opening,
            request: RequestHash::default(),
            by: None,
        });
        vec![Command { session, op: op.clone() }]
    };
    let once: Vec<Vec<Command>> = (1..).zip(&story()).map(|(number, op)| told(number, op)).collect();
    vec![bytes(&[all], 1), bytes(&apart, 4), bytes(&[once.clone(), once].concat(), 11)]
}

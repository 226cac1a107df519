//! The pure core with commands at hand.

use queue_broker::queue::State;
use queue_broker::queue::command::{Batch, Command, Lease, Op, Push, Receipts, Stamps};
use queue_broker::queue::reply::{Applied, Outcome};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::QueueName;
use queue_protocol::settings::Settings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::PushOptions;

use crate::QUEUE;

/// A state that entries of one command are applied to.
pub struct Core {
    /// The state.
    pub state: State,
    /// Of the last entry.
    pub index: u64,
    /// What the next entry says of the wall clock, in milliseconds.
    pub wall_ms: u64,
    /// What the next entry adds to the lease clock, in milliseconds.
    pub confirmed_ms: u64,
}

impl Default for Core {
    fn default() -> Self {
        Self { state: State::new(), index: 0, wall_ms: 1, confirmed_ms: 1 }
    }
}

/// The queue that is measured.
pub fn queue() -> QueueName {
    QUEUE.parse().expect("a queue's name")
}

/// A push of so many messages, all under `options`, into a queue that is made if need be.
pub fn push(queue: QueueName, count: u32, options: Option<&PushOptions>) -> Op {
    let special = options.map(|options| (0..count).map(|k| (k, options.clone())).collect());
    Op::Push(Push {
        queue,
        create: Some(Box::new(Settings::default())),
        atomic: false,
        count,
        special: Bounded::new(special.unwrap_or_default()).expect("no more than a push may have"),
    })
}

/// A lease or pop of so many messages.
pub fn take(kind: fn(Lease) -> Op, count: u16) -> Op {
    let queues = Bounded::new(vec![queue()]).expect("one queue");
    kind(Lease { queues, max_messages: count, max_bytes: u32::MAX, lease_ms: None })
}

impl Core {
    /// One entry with one command, its body table being `table`.
    pub fn entry(&mut self, op: Op, table: &[ContentSpec]) -> Applied {
        self.entry_of(vec![Command { session: None, op }], table)
    }

    /// One entry with these commands.
    pub fn entry_of(&mut self, commands: Vec<Command>, table: &[ContentSpec]) -> Applied {
        self.index += 1;
        let commands = Bounded::new(commands).expect("no more than an entry may have");
        let stamps = Stamps::of(self.wall_ms, self.confirmed_ms);
        self.state.apply(self.index, &Batch { stamps, commands }, table)
    }

    /// The outcome of such an entry.
    pub fn apply(&mut self, op: Op, table: &[ContentSpec]) -> Outcome {
        let reply = self.entry(op, table).replies.pop().expect("a reply for every command");
        reply.result.expect("nothing is refused")
    }

    /// Leases so many messages, and an ack of them.
    pub fn lease(&mut self, count: u16) -> Op {
        let Outcome::Delivered(grants) = self.apply(take(Op::Lease, count), &[]) else {
            panic!("nothing was leased")
        };
        let receipts = grants.iter().map(|grant| (grant.id, grant.token)).collect();
        let receipts = Bounded::new(receipts).expect("no more than were leased");
        Op::Ack(Receipts { queue: queue(), receipts })
    }
}

//! The state machine's answer to one command, the same on every node, and what it asks the leader to do.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::{Key, LeaseToken, MessageId, NodeId, QueueName};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::checkpoint::Checkpoint;
use queue_protocol::wire::level::Level;
use queue_protocol::wire::request::{Action, Change};
use queue_protocol::wire::response::{Answer, At, Edited, Extended, PushOutcome, Settled, Swept};
use queue_protocol::wire::txn::TxnOutcome;
use serde::{Deserialize, Serialize};

use super::clients::answers::{PUSH_OUTCOME_SIZE, grant_size, step_size};
use super::command::{Op, Step};
use super::journal::Deed;
use super::messages::gone::Gone;

/// Answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where it took effect; the original place if `repeated`.
    pub at: At,
    /// The recorded answer of an earlier entry.
    pub repeated: bool,
    /// What came of it.
    pub result: Result<Outcome, Refusal>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// To a push, in runs.
    Pushed(Vec<PushOutcome>),
    /// To a lease or pop: at least one message.
    Delivered(Vec<Grant>),
    /// To a lease or pop that found nothing: not recorded in the session, it may wait again.
    Nothing,
    /// To an ack or nack, one a receipt.
    Settled(Vec<Settled>),
    /// The answer to an extend.
    Extended {
        /// One a receipt; empty for a whole session.
        results: Vec<Settled>,
        /// How many leases were made longer.
        count: u64,
        /// Their new deadline on the lease clock.
        deadline_ms: u64,
    },
    /// To a create: `false` if it was there.
    Created(bool),
    /// To an alter: the queue's version now.
    Altered(u64),
    /// Messages deleted with their queue, or given back for a client that is away.
    Count(u64),
    /// The answer to a sweep.
    Swept(Swept),
    /// To an edit, one a message.
    Edited(Vec<Edited>),
    /// The answer to the close of a session.
    Closed,
    /// The number that was assigned to a node.
    Node(NodeId),
    /// The answer to what changes nothing that is asked for, as a tick.
    Ticked,
    /// To a weighing: the weight the group had of its own.
    Weighed(Option<u32>),
    /// To a raise of the feature level: what it is now.
    Raised(Level),
    /// The answer to a transaction.
    Txn(TxnOutcome),
    /// To a binding: the grace the session has now.
    Bound(Option<u64>),
    /// To a change of who may do what: the version of all of it now.
    AuthChanged(u64),
}

impl Outcome {
    /// Messages it hands out.
    pub(super) fn grants(&self) -> &[Grant] {
        if let Self::Delivered(grants) = self { grants } else { &[] }
    }

    /// Bytes that its items count in the session that keeps it; [`Op::cost`](super::command::Op::cost) bounds them.
    pub(super) fn items_size(&self) -> u64 {
        match self {
            Self::Pushed(runs) => runs.len() as u64 * PUSH_OUTCOME_SIZE,
            Self::Delivered(grants) => grants.iter().map(grant_size).sum(),
            Self::Settled(results) | Self::Extended { results, .. } => results.len() as u64,
            Self::Edited(results) => results.len() as u64,
            Self::Txn(TxnOutcome::Done(steps)) => steps.iter().map(step_size).sum(),
            Self::Nothing
            | Self::Created(_)
            | Self::Altered(_)
            | Self::Count(_)
            | Self::Swept(_)
            | Self::Closed
            | Self::Node(_)
            | Self::Ticked
            | Self::Weighed(_)
            | Self::Raised(_)
            | Self::Txn(TxnOutcome::Failed { .. })
            | Self::Bound(_)
            | Self::AuthChanged(_) => 0,
        }
    }

    /// As a client gets it. Deliveries are none: they need their contents.
    ///
    /// # Panics
    /// If it is a delivery, or came of what no client can ask for.
    pub(crate) fn answer(self) -> Answer {
        const FITS: &str = "a command names no more than its answer holds";
        match self {
            Self::Pushed(runs) => Answer::Pushed(Bounded::new(runs).expect(FITS)),
            Self::Nothing => Answer::Delivered(Bounded::default()),
            Self::Settled(results) => Answer::Settled(Bounded::new(results).expect(FITS)),
            Self::Extended { results, count, deadline_ms } => {
                Answer::Extended(Extended { results: Bounded::new(results).expect(FITS), count, deadline_ms })
            }
            Self::Created(made) => Answer::Created(made),
            Self::Altered(version) => Answer::Altered(version),
            Self::Weighed(before) => Answer::Weighed(before),
            Self::Txn(outcome) => Answer::Txn(outcome),
            Self::Swept(swept) => Answer::Swept(swept),
            Self::Edited(results) => Answer::Edited(Bounded::new(results).expect(FITS)),
            Self::Count(count) => Answer::Count(count),
            Self::Closed => Answer::Closed,
            Self::Bound(_) => Answer::Bound,
            Self::AuthChanged(version) => Answer::AuthChanged(version),
            Self::Delivered(_) => unreachable!("deliveries need their contents"),
            Self::Node(_) | Self::Ticked | Self::Raised(_) => unreachable!("no client can ask for this"),
        }
    }
}

impl Outcome {
    /// What the journal says of a command that came to this, queues that it made aside; `None` if it is not administrative or
    /// changed nothing.
    pub(super) fn deed(&self, op: &Op) -> Option<Deed> {
        let deed = match op {
            Op::AlterQueue { queue, change, .. } => Deed::new("alter_queue").to(queue).how(change.told()),
            Op::RemoveQueue { queue, .. } => {
                let Outcome::Count(count) = self else { return None };
                Deed::new("remove_queue").to(queue).how(format!("{count} messages"))
            }
            Op::Sweep(sweep) if !sweep.dry_run => {
                let Outcome::Swept(swept) = self else { return None };
                let deed = Deed::new("sweep").to(&sweep.queue);
                (swept.count > 0).then(|| deed.how(swept_how(&sweep.action, swept.count)))?
            }
            Op::Edit { queue, ids, change } => Deed::new("edit").to(queue).how(edited_how(change, ids.len())),
            Op::Txn(txn) => {
                let Outcome::Txn(TxnOutcome::Done(_)) = self else { return None };
                txn.steps.iter().find_map(edited)?
            }
            Op::WeighGroup(weigh) => {
                let how = match weigh.weight {
                    Some(weight) => format!("weight {weight}"),
                    None => "the queue's weight".to_owned(),
                };
                Deed::new("weigh_group").to(&weigh.queue).about(weigh.group.as_str()).how(how)
            }
            Op::SetSchedule(set) => Deed::new("set_schedule").to(&set.queue).about(set.name.as_str()),
            Op::RemoveSchedule(name) => Deed::new("remove_schedule").about(name.as_str()),
            Op::ChangeAuth(change) => Deed::of_auth(change),
            Op::AssignNode { store, .. } => {
                let Outcome::Node(node) = self else { return None };
                Deed::new("assign_node").how(format!("number {node} to store {:032x}", store.0))
            }
            Op::RaiseLevel(_) => {
                let Outcome::Raised(level) = self else { return None };
                Deed::new("raise_level").how(format!("level {level}"))
            }
            Op::FoundCluster(_) => Deed::new("found_cluster"),
            Op::BeginRotation(begin) => {
                Deed::new("rotate_secret").how(format!("generation {}", begin.next.generation))
            }
            Op::SetWall { from_ms, to_ms } => Deed::new("set_wall").how(format!("from {from_ms} to {to_ms}")),
            Op::Push(_)
            | Op::Lease(_)
            | Op::Pop(_)
            | Op::Ack(_)
            | Op::Nack { .. }
            | Op::Extend { .. }
            | Op::CreateQueue { .. }
            | Op::Sweep(_)
            | Op::CloseSession
            | Op::Tick
            | Op::Fire(_)
            | Op::SaveCheckpoint(_)
            | Op::BindSession { .. }
            | Op::ReleaseAbsent(_)
            | Op::NoteRotation(_)
            | Op::NoteKeys(_) => return None,
        };
        Some(deed)
    }
}

fn swept_how(action: &Action, count: u64) -> String {
    match action {
        Action::Delete => format!("delete {count}"),
        Action::Redrive { to: None } => format!("redrive {count}"),
        Action::Redrive { to: Some(to) } => format!("redrive {count} to {to}"),
        Action::Move { to } => format!("move {count} to {to}"),
    }
}

fn edited_how(change: &Change, count: usize) -> String {
    match change {
        Change::Delete => format!("delete {count}"),
        Change::Cancel => format!("cancel {count}"),
        Change::Kick => format!("kick {count}"),
        Change::Priority(priority) => format!("priority {priority} to {count}"),
        Change::Move(to) => format!("move {count} to {to}"),
    }
}

fn edited(step: &Step) -> Option<Deed> {
    match step {
        Step::Edit { queue, ids, change } => {
            Some(Deed::new("edit").to(queue).how(edited_how(change, ids.len())))
        }
        _ => None,
    }
}

/// A message handed out, without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The queue that the message was taken from.
    pub queue: QueueName,
    /// The message, by id.
    pub id: MessageId,
    /// The fencing token of the lease, larger than all before.
    pub token: LeaseToken,
    /// The how-manieth lease, from 1.
    pub attempt: u32,
    /// How many deliveries failed before this one.
    pub failures: u32,
    /// Priority, 0 to 31, higher first.
    pub priority: u8,
    /// The group it belongs to.
    pub group: Option<Key>,
    /// Wall time of the push, Unix milliseconds.
    pub pushed_at_ms: u64,
    /// The lease in milliseconds; 0 with a pop.
    pub lease_ms: u64,
    /// Lease clock at which it may end; 0 with a pop.
    pub deadline_ms: u64,
    /// Where its content lies.
    pub body: BodyRef,
    /// Sessions that had the queue until now, where one has it at a time; else 0.
    pub epoch: u64,
    /// What an earlier attempt left.
    pub checkpoint: Option<Checkpoint>,
}

/// Where a content lies: the same on every node, unlike a file position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyRef {
    /// Raft index of the entry that pushed it.
    pub index: u64,
    /// Row of that entry's body table.
    pub ordinal: u32,
    /// Size of the content in bytes.
    pub size: u32,
}

/// Why a command was not done. The text for people is made where the answer leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why it was refused, as clients are told.
    pub code: ErrorCode,
    /// The queue or session it is about.
    pub queue: Option<QueueName>,
    /// A queue that may have been meant.
    pub similar: Option<QueueName>,
}

/// What one apply gives back.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// One a command, in order.
    pub replies: Vec<Reply>,
    /// What the leader should do now.
    pub effects: Effects,
    /// Messages that went for good, but for those that went with their queue.
    pub gone: Vec<Gone>,
}

/// What apply asks the leader to do; safe to lose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Queues that have ready messages they did not have before, each once: parked leases may be served.
    pub ready: Vec<QueueName>,
    /// Work is due that did not fit this entry: propose a tick at once.
    pub more_due: bool,
}

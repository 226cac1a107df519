//! Which commands are administrative, and what the journal says of them. Bodies, tokens and verifiers are not in it.

use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, NOTE_SIZE_MAX};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::request::{Action, Change};
use queue_protocol::wire::rights::Grant;
use queue_protocol::wire::txn::TxnOutcome;

use crate::queue::command::{Op, Step};
use crate::queue::reply::Outcome;

/// What was done, without who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) struct Deed {
    pub(super) act: &'static str,
    pub(super) queue: Option<QueueName>,
    pub(super) subject: Option<Key>,
    pub(super) detail: String,
    pub(super) because: Text<NOTE_SIZE_MAX>,
}

impl Deed {
    fn new(act: &'static str) -> Self {
        Self { act, queue: None, subject: None, detail: String::new(), because: Text::default() }
    }

    fn to(self, queue: &QueueName) -> Self {
        Self { queue: Some(queue.clone()), ..self }
    }

    fn about(self, subject: &str) -> Self {
        Self { subject: subject.parse().ok(), ..self }
    }

    fn how(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// A queue was made.
    pub(in crate::queue) fn made(queue: &QueueName, op: &Op) -> Self {
        let how = if matches!(op, Op::CreateQueue { .. }) { "" } else { "by a push" };
        Self::new("create_queue").to(queue).how(how)
    }

    /// The members are others.
    pub(in crate::queue) fn members(detail: String) -> Self {
        Self::new("members").how(detail)
    }

    /// What a command that was done changed for its administration, queues that it made aside; `None` if nothing.
    pub(in crate::queue) fn of(op: &Op, outcome: &Outcome) -> Option<Self> {
        let deed = match op {
            Op::AlterQueue { queue, change, .. } => Self::new("alter_queue").to(queue).how(change.told()),
            Op::RemoveQueue { queue, .. } => {
                let Outcome::Count(count) = outcome else { return None };
                Self::new("remove_queue").to(queue).how(format!("{count} messages"))
            }
            Op::Sweep(sweep) if !sweep.dry_run => {
                let Outcome::Swept(swept) = outcome else { return None };
                let deed = Self::new("sweep").to(&sweep.queue);
                (swept.count > 0).then(|| deed.how(swept_how(&sweep.action, swept.count)))?
            }
            Op::Edit { queue, ids, change } => Self::new("edit").to(queue).how(edited_how(change, ids.len())),
            Op::Txn(txn) => {
                let Outcome::Txn(TxnOutcome::Done(_)) = outcome else { return None };
                txn.steps.iter().find_map(|step| match step {
                    Step::Edit { queue, ids, change } => {
                        Some(Self::new("edit").to(queue).how(edited_how(change, ids.len())))
                    }
                    _ => None,
                })?
            }
            Op::WeighGroup(weigh) => {
                let how = match weigh.weight {
                    Some(weight) => format!("weight {weight}"),
                    None => "the queue's weight".to_owned(),
                };
                Self::new("weigh_group").to(&weigh.queue).about(weigh.group.as_str()).how(how)
            }
            Op::SetSchedule(set) => Self::new("set_schedule").to(&set.queue).about(set.name.as_str()),
            Op::RemoveSchedule(name) => Self::new("remove_schedule").about(name.as_str()),
            Op::ChangeAuth(change) => auth(change),
            Op::AssignNode { store, .. } => {
                let Outcome::Node(node) = outcome else { return None };
                Self::new("assign_node").how(format!("number {node} to store {:032x}", store.0))
            }
            Op::RaiseLevel(_) => {
                let Outcome::Raised(level) = outcome else { return None };
                Self::new("raise_level").how(format!("level {level}"))
            }
            Op::FoundCluster(_) => Self::new("found_cluster"),
            Op::BeginRotation(begin) => {
                Self::new("rotate_secret").how(format!("generation {}", begin.next.generation))
            }
            Op::SetWall { from_ms, to_ms } => Self::new("set_wall").how(format!("from {from_ms} to {to_ms}")),
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

fn auth(change: &ChangeAuth) -> Deed {
    let listed = |grants: &[Grant]| grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let deed = match &change.change {
        AuthChange::Require(true) => Deed::new("auth_on"),
        AuthChange::Require(false) => Deed::new("auth_off"),
        AuthChange::AddPrincipal { name, grants, .. } => {
            Deed::new("add_principal").about(name).how(listed(grants))
        }
        AuthChange::RemovePrincipal(name) => Deed::new("remove_principal").about(name),
        AuthChange::Grant { name, grants } => Deed::new("grant").about(name).how(listed(grants)),
        AuthChange::Revoke { name, grants } => Deed::new("revoke").about(name).how(listed(grants)),
        AuthChange::Disable { name, disabled: true } => Deed::new("disable").about(name),
        AuthChange::Disable { name, disabled: false } => Deed::new("enable").about(name),
        AuthChange::AddKey { name, key, others_end_ms, .. } => {
            let act = if others_end_ms.is_some() { "rotate_key" } else { "add_key" };
            Deed::new(act).about(name).how(format!("key {key}"))
        }
        AuthChange::RevokeKey(key) => Deed::new("revoke_key").about(&key.to_string()),
    };
    let force = if change.force { " (forced)" } else { "" };
    Deed { because: change.because.clone(), detail: format!("{}{force}", deed.detail), ..deed }
}

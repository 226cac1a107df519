//! What the journal says of an administrative command. Bodies, tokens and verifiers are not in it.

use queue_protocol::names::{Key, QueueName};
use queue_protocol::wire::audit::{Actor, AuditRecord};
use queue_protocol::wire::auth::{AuthChange, ChangeAuth, NOTE_SIZE_MAX};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::rights::Grant;

use crate::queue::command::{Op, Source};

/// What was done, without who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) struct Deed {
    act: &'static str,
    queue: Option<QueueName>,
    subject: Option<Key>,
    detail: String,
    because: Text<NOTE_SIZE_MAX>,
}

impl Deed {
    pub(in crate::queue) fn new(act: &'static str) -> Self {
        Self { act, queue: None, subject: None, detail: String::new(), because: Text::default() }
    }

    pub(in crate::queue) fn to(self, queue: &QueueName) -> Self {
        Self { queue: Some(queue.clone()), ..self }
    }

    pub(in crate::queue) fn about(self, subject: &str) -> Self {
        Self { subject: subject.parse().ok(), ..self }
    }

    pub(in crate::queue) fn how(self, detail: impl Into<String>) -> Self {
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

    /// What was changed of principals, keys and their rights.
    pub(in crate::queue) fn of_auth(change: &ChangeAuth) -> Self {
        let listed = |grants: &[Grant]| grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let deed = match &change.change {
            AuthChange::Require(true) => Self::new("auth_on"),
            AuthChange::Require(false) => Self::new("auth_off"),
            AuthChange::AddPrincipal { name, grants, .. } => {
                Self::new("add_principal").about(name).how(listed(grants))
            }
            AuthChange::RemovePrincipal(name) => Self::new("remove_principal").about(name),
            AuthChange::Grant { name, grants } => Self::new("grant").about(name).how(listed(grants)),
            AuthChange::Revoke { name, grants } => Self::new("revoke").about(name).how(listed(grants)),
            AuthChange::Disable { name, disabled: true } => Self::new("disable").about(name),
            AuthChange::Disable { name, disabled: false } => Self::new("enable").about(name),
            AuthChange::AddKey { name, key, others_end_ms, .. } => {
                let act = if others_end_ms.is_some() { "rotate_key" } else { "add_key" };
                Self::new(act).about(name).how(format!("key {key}"))
            }
            AuthChange::RevokeKey(key) => Self::new("revoke_key").about(&key.to_string()),
        };
        let force = if change.force { " (forced)" } else { "" };
        Self { because: change.because.clone(), detail: format!("{}{force}", deed.detail), ..deed }
    }

    /// The record of it, without its number and hash.
    pub(super) fn record(self, index: u64, at_ms: u64, actor: Actor, from: Option<Source>) -> AuditRecord {
        AuditRecord {
            number: 0,
            index,
            at_ms,
            actor,
            source: from.map(|Source(source)| source),
            act: Text::cut(self.act),
            queue: self.queue,
            subject: self.subject,
            detail: Text::cut(self.detail),
            because: self.because,
            hash: [0; 32],
        }
    }
}

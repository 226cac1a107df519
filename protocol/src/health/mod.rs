//! How a cluster is: what each node can say of it ([`HealthView`], a part of its status), and what that comes to for
//! whoever asked ([`judge`]). Pure: times are told as milliseconds before the answer.

mod judgement;
#[cfg(test)]
mod tests;
mod verdict;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::names::NodeId;
use crate::wire::bounded::{Bounded, Text};
use crate::wire::response::StatusView;

pub use self::judgement::{Absence, Judgement, Voter, Writes, judge};

/// A follower that got no pong from another for longer does not hear it: nodes ping each other once a second.
pub const PONG_MS_MAX: u64 = 2_500;
/// A voter that lacks what the leader's log held longer ago is no spare, and commits that lag by more are stuck.
pub const BEHIND_MS_MAX: u64 = 3_000;
/// The same in entries, for a leader that has not led for long.
pub const BEHIND_ENTRIES_MAX: u64 = 1_000;

/// Members that a node tells of.
const MEMBERS_MAX: usize = 64;
/// Refusals that a node tells of.
pub const REFUSALS_MAX: usize = 8;

/// What a node can say of how its cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealthView {
    /// What it knows as a leader; `None` if it does not lead.
    pub lead: Option<LeadView>,
    /// How it gets on with each other member.
    pub contacts: Bounded<Contact, MEMBERS_MAX>,
    /// What it refuses, or would if it led, whatever the queue.
    pub refusals: Bounded<Refusal, REFUSALS_MAX>,
    /// Queues whose pushes are paused.
    pub paused_count: u64,
}

/// What a leader knows of its majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadView {
    /// It has applied all that was committed before it led, and serves.
    pub ready: bool,
    /// Milliseconds since a majority of the voters followed it; `None` if none ever did.
    pub quorum_ms: Option<u64>,
    /// Without a majority for longer it takes no writes, in milliseconds.
    pub lease_ms: u64,
    /// Everything that its log held so many milliseconds ago is committed.
    pub commit_behind_ms: u64,
}

/// How a node gets on with another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The other.
    pub node: NodeId,
    /// Milliseconds since it answered: a leader's heartbeats and entries, else a ping. `None` if it never did.
    pub heard_ms: Option<u64>,
    /// On a leader: everything that the leader's log held so many milliseconds ago is on the disk of the other.
    pub behind_ms: Option<u64>,
    /// Why this node does not let the other in.
    pub refused: Option<Refusal>,
    /// Why the other does not let this node in.
    pub refuses: Option<Refusal>,
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// For a person: what happened, what it means for the data, what to type next.
    pub message: Text<512>,
}

impl Refusal {
    /// The first sentence of the message: what happened.
    pub fn what(&self) -> &str {
        self.message.split_once(". ").map_or(&*self.message, |(what, _)| what)
    }

    /// It says that a node, or its data, is not what the other expects; not that the other is short of something.
    pub fn is_of_identity(&self) -> bool {
        use ErrorCode as E;
        matches!(
            self.code,
            E::StoreRefused | E::NodeRemoved | E::LevelUnknown | E::NotPermitted | E::WrongCluster
        )
    }

    /// Only leases are refused.
    pub fn is_of_leases(&self) -> bool {
        self.code == ErrorCode::StatesDiffer
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Self { code: error.code, message: Text::cut(&*error.message) }
    }
}

impl LeadView {
    /// A majority followed it lately.
    pub fn has_quorum(&self) -> bool {
        self.quorum_ms.is_some_and(|quorum_ms| quorum_ms <= self.lease_ms)
    }
}

/// Whether clients should be sent to the node that says this: it has recovered, follows a leader or leads, and nobody
/// refuses it. What refuses pushes alone (a full disk, a pause) leaves it ready: pops and acks go on.
///
/// # Errors
/// Why not, for people.
pub fn ready(status: &StatusView) -> Result<(), String> {
    let name = |node: NodeId| {
        let member = status.members.iter().find(|member| member.node == node);
        member.map_or_else(|| format!("node {node}"), |member| member.name.to_string())
    };
    if status.drained {
        return Err("it is drained: `queuectl cluster drain --undo` ends that".to_owned());
    }
    let refused = status.health.contacts.iter().find_map(|contact| {
        let refusal = contact.refuses.as_ref().filter(|refusal| refusal.is_of_identity())?;
        Some(format!("{} does not let it in: {}", name(contact.node), refusal.message))
    });
    if let Some(why) = refused {
        return Err(why);
    }
    match &status.health.lead {
        Some(lead) if !lead.has_quorum() => {
            Err("it leads, and no majority of the voters follows it".to_owned())
        }
        Some(lead) if !lead.ready => Err("it leads, and has not applied everything yet".to_owned()),
        None if status.leader.is_none() => Err("it hears no leader".to_owned()),
        _ => Ok(()),
    }
}

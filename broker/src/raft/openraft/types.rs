//! openraft's types as this program fills them in, and the way to and from the plain data of the wire and the log.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::{EntryPayload, RaftEntry, RaftPayload};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::responder::Responder;
use openraft::{LogId, Membership, OptionalSend, StoredMembership};
use queue_protocol::content::ContentSpec;
use queue_protocol::names::NodeId;
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer;
use serde::{Deserialize, Serialize};

use super::runtime::Runtime;
use crate::log::Reading;
use crate::queue::reply::Reply;

/// A member as the membership carries it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Name of the member for people, unique in the cluster.
    pub(crate) name: String,
    /// Where clients and peers reach it.
    pub(crate) address: String,
    /// Its data directory, so that a repeated join gives the same number.
    pub(crate) store: u128,
    /// What becomes of it when it has caught up.
    pub(crate) standing: Standing,
    /// How often its log had been opened when it came to this address; 0 if it joined there. An older process is refused.
    pub(crate) epoch: u32,
    /// The random number of the process that came; another one of that epoch is refused.
    pub(crate) boot: u64,
}

/// What one entry carries: the command section, the body table, and the bodies unless read without.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) commands: Bytes,
    pub(crate) table: Arc<[ContentSpec]>,
    pub(crate) contents: Option<Arc<[Bytes]>>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch[{} B, {} bodies]", self.commands.len(), self.table.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry gave; empty for entries that are not commands.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) replies: Vec<Reply>,
    pub(crate) lease_clock_ms: u64,
    /// Keeps what the replies deliver readable; taken where the entry was proposed.
    pub(crate) reading: Option<Arc<Reading>>,
}

pub(crate) type Leader = LeaderId<u64, u64>;
pub(crate) type Payload = EntryPayload<Batch, u64, Member>;

/// An entry in openraft's hands.
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId<Leader>,
    pub(crate) payload: Payload,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.log_id, self.payload)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.log_id)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = Leader;
    type Payload = Payload;

    fn new(log_id: LogId<Leader>, payload: Payload) -> Self {
        Self { log_id, payload }
    }
    fn log_id_parts(&self) -> (&Leader, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }
    fn set_log_id(&mut self, log_id: LogId<Leader>) {
        self.log_id = log_id;
    }
    fn get_membership(&self) -> Option<Membership<u64, Member>> {
        self.payload.get_membership()
    }
}

/// Gets the outcome of one proposal, wherever it is decided; dropped uncalled if Raft stops first.
pub(crate) struct Completion<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Completion<T> {
    pub(crate) fn new(complete: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(complete))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Completion<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// The types that openraft leaves to its user. Nodes and terms are 64-bit numbers.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = Applied;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = Leader;
    type Vote = openraft::impls::Vote<Leader>;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Completion<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type RaftLogId = LogIdOf<TypeConfig>;
pub(crate) type RaftVote = VoteOf<TypeConfig>;
pub(crate) type RaftMembership = Membership<u64, Member>;
pub(crate) type RaftSnapshot = SnapshotOf<TypeConfig, crate::raft::group::machine::SnapshotData>;
pub(crate) type RaftStoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type RaftSnapshotMeta = SnapshotMetaOf<TypeConfig>;

pub(crate) fn to_log_id(id: peer::LogId) -> RaftLogId {
    LogId { leader_id: Leader { term: id.term, node_id: id.leader.0 }, index: id.index }
}

pub(crate) fn from_log_id(id: &RaftLogId) -> peer::LogId {
    peer::LogId { term: id.leader_id.term, leader: NodeId(id.leader_id.node_id), index: id.index }
}

/// The indexes of the entries behind `prev`, up to `last`.
pub(crate) fn entries(prev: Option<RaftLogId>, last: Option<RaftLogId>) -> RangeInclusive<u64> {
    let index = |id: Option<RaftLogId>| id.map_or(0, |id| id.index);
    index(prev) + 1..=index(last)
}

pub(crate) fn to_vote(vote: peer::Vote) -> RaftVote {
    RaftVote { leader_id: Leader { term: vote.term, node_id: vote.node.0 }, committed: vote.committed }
}

pub(crate) fn from_vote(vote: &RaftVote) -> peer::Vote {
    peer::Vote { term: vote.leader_id.term, node: NodeId(vote.leader_id.node_id), committed: vote.committed }
}

/// A membership as bytes: the command section of a membership entry, and part of a snapshot's meta.
#[derive(Serialize, Deserialize)]
struct MembershipBytes {
    voters: Vec<Vec<u64>>,
    nodes: Vec<(u64, Member)>,
}

/// Bytes that are no membership.
#[derive(Debug, thiserror::Error)]
#[error("the membership does not decode: {0}")]
pub(crate) struct BadMembership(String);

pub(crate) fn encode_membership(membership: &RaftMembership) -> Bytes {
    let bytes = MembershipBytes {
        voters: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
        nodes: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
    };
    postcard::to_allocvec(&bytes).expect("numbers and strings always encode").into()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<RaftMembership, BadMembership> {
    let raw: MembershipBytes = postcard::from_bytes(bytes).map_err(|e| BadMembership(e.to_string()))?;
    let voters: Vec<_> = raw.voters.into_iter().map(|set| set.into_iter().collect()).collect();
    if voters.is_empty() && raw.nodes.is_empty() {
        return Ok(RaftMembership::default());
    }
    let nodes: std::collections::BTreeMap<u64, Member> = raw.nodes.into_iter().collect();
    Membership::new(voters, nodes).map_err(|e| BadMembership(e.to_string()))
}

/// Who has a vote and who has not, by number, for the journal.
pub(crate) fn told(membership: &RaftMembership) -> String {
    let listed = |numbers: Vec<u64>| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let (voters, learners) = (membership.voter_ids().collect(), membership.learner_ids().collect());
    format!("voters {}; learners {}", listed(voters), listed(learners))
}

/// What a snapshot file says beside the state: membership and where it was set.
#[derive(Serialize, Deserialize)]
struct SnapshotMetaBytes {
    last: Option<peer::LogId>,
    membership_at: Option<peer::LogId>,
    membership: Vec<u8>,
}

pub(crate) fn encode_meta(meta: &RaftSnapshotMeta) -> Vec<u8> {
    let bytes = SnapshotMetaBytes {
        last: meta.last_log_id.as_ref().map(from_log_id),
        membership_at: meta.last_membership.log_id().as_ref().map(from_log_id),
        membership: encode_membership(meta.last_membership.membership()).to_vec(),
    };
    postcard::to_allocvec(&bytes).expect("numbers and bytes always encode")
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<RaftSnapshotMeta, BadMembership> {
    let raw: SnapshotMetaBytes = postcard::from_bytes(bytes).map_err(|e| BadMembership(e.to_string()))?;
    Ok(RaftSnapshotMeta {
        last_log_id: raw.last.map(to_log_id),
        last_membership: StoredMembership::new(
            raw.membership_at.map(to_log_id),
            decode_membership(&raw.membership)?,
        ),
    })
}

/// From openraft's hands into the log's.
pub(crate) fn to_log_entry(entry: Entry) -> crate::log::Entry {
    let id = from_log_id(&entry.log_id);
    let (kind, commands, table, contents) = match entry.payload {
        EntryPayload::Blank => (peer::EntryKind::Blank, Bytes::new(), Arc::default(), None),
        EntryPayload::Normal(batch) => {
            (peer::EntryKind::Commands, batch.commands, batch.table, batch.contents)
        }
        EntryPayload::Membership(m) => {
            (peer::EntryKind::Membership, encode_membership(&m), Arc::default(), None)
        }
    };
    let contents = Some(contents.unwrap_or_default());
    crate::log::Entry { id, kind, commands, table, contents }
}

/// From the log's hands into openraft's.
pub(crate) fn from_log_entry(entry: crate::log::Entry) -> Result<Entry, BadMembership> {
    let payload = match entry.kind {
        peer::EntryKind::Blank => EntryPayload::Blank,
        peer::EntryKind::Membership => EntryPayload::Membership(decode_membership(&entry.commands)?),
        peer::EntryKind::Commands => EntryPayload::Normal(Batch {
            commands: entry.commands,
            table: entry.table,
            contents: entry.contents,
        }),
    };
    Ok(Entry { log_id: to_log_id(entry.id), payload })
}

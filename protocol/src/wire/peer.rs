//! What nodes say to each other. A client connection cannot express any of this: it has its own decoder.
//!
//! Raft's messages as plain data; `broker/src/raft` turns them into openraft's types.

use serde::{Deserialize, Serialize};

use crate::names::{ClusterId, NodeId, StoreId};
use crate::wire::bounded::{Bounded, Text};
use crate::wire::level::Levels;
use crate::wire::membership::Standing;

/// A log id: the leadership an entry was proposed under, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// Raft term.
    pub term: u64,
    /// The leader of that term that proposed it.
    pub leader: NodeId,
    /// Raft index.
    pub index: u64,
}

/// A vote, granted or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vote {
    /// Raft term.
    pub term: u64,
    /// For whom.
    pub node: NodeId,
    /// A quorum granted it.
    pub committed: bool,
}

/// What an entry is to Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// Opens a term.
    Blank,
    /// A batch of commands.
    Commands,
    /// A membership.
    Membership,
}

/// One entry of an append; its bytes follow in the tail: commands, body table (8 bytes a row), bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntrySpec {
    /// Its log id.
    pub id: LogId,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of the command section.
    pub commands_size: u32,
    /// Rows of the body table.
    pub bodies_count: u32,
    /// Bytes of all bodies.
    pub bodies_size: u32,
}

/// Everything a node asks another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Raft's AppendEntries; entries in the tail. On an append stream, answered in order.
    Append(Append),
    /// Raft's RequestVote.
    Vote(AskVote),
    /// The same without consequences.
    PreVote(AskVote),
    /// The leader wants `to` to lead.
    TransferLeader(Transfer),
    /// A snapshot begins; parts follow under the same connection.
    SnapshotBegin(SnapshotBegin),
    /// A part of a snapshot; bytes in the tail.
    SnapshotPart(SnapshotPart),
    /// The snapshot is complete: install it.
    SnapshotEnd,
    /// A formatted node wants to become a member.
    Join(Join),
    /// Are you there, what time is it, how much disk is free.
    Ping(PeerPing),
    /// To a node that waits to be taken in: ask me for membership.
    Invite(Invite),
    /// I lead. Answered, unlike an append, before what came earlier is durable.
    Heartbeat(Heartbeat),
    /// A node with an empty directory asks what there is, before it makes or joins a cluster (`queued start`).
    Bootstrap(AskBootstrap),
    /// Where members are that the cluster knows elsewhere, as they say.
    Announce(Bounded<Announcement, 64>),
    /// Which secrets do you have. Asked by a leader while the secret is rotated.
    AskHeld,
    /// Give me the secret and the admission key of this generation. A member asks, over a secured connection only.
    AskSecret(AskSecret),
}

/// A peer request and what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCall {
    /// Reserved: the Raft group that it is about. Must be 0; anything else ends the connection.
    pub group: u32,
    /// What is asked.
    pub request: PeerRequest,
}

impl From<PeerRequest> for PeerCall {
    /// About the one group that there is.
    fn from(request: PeerRequest) -> Self {
        Self { group: 0, request }
    }
}

/// Which secret a member lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskSecret {
    /// As the log says.
    pub generation: u32,
    /// The public half of the admission key of that generation, as the log says.
    pub admission: [u8; 32],
}

/// A secret and the admission key of the same generation. Sent over secured connections only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenSecret {
    /// The generation of both.
    pub generation: u32,
    /// The cluster's secret.
    pub secret: [u8; 32],
    /// The private half of the admission key, Ed25519.
    pub admission: [u8; 32],
}

impl std::fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GivenSecret({})", self.generation)
    }
}

/// How far a node is with the secrets, by their generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsHeld {
    /// The newest one that it has on its disk and that the log as applied there names.
    pub durable: u32,
    /// The one that it proves itself with.
    pub used: u32,
    /// The oldest one that it lets in.
    pub oldest: u32,
}

/// Raft's AppendEntries without the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first.
    pub prev: Option<LogId>,
    /// What the leader has committed.
    pub commit: Option<LogId>,
    /// In order; their bytes are in the tail.
    pub entries: Bounded<EntrySpec, 4096>,
}

/// Raft's AppendEntries without entries, to tell who leads and what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's vote.
    pub vote: Vote,
    /// An entry that the follower is known to have.
    pub prev: Option<LogId>,
    /// What the leader has committed.
    pub commit: Option<LogId>,
}

/// Raft's RequestVote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskVote {
    /// The vote asked for.
    pub vote: Vote,
    /// The candidate's last entry.
    pub last: Option<LogId>,
    /// The leader asked for this election, so its lease does not stand against it.
    pub by_transfer: bool,
}

/// A transfer of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The leader's vote.
    pub from: Vote,
    /// Who should lead.
    pub to: NodeId,
    /// What it must have first.
    pub last: Option<LogId>,
}

/// Opens the transfer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBegin {
    /// The leader's vote.
    pub vote: Vote,
    /// The last entry the snapshot covers.
    pub last: Option<LogId>,
    /// Bytes of the state; the live bodies come before it.
    pub state_size: u64,
}

/// From where on a snapshot is needed: some of it may have come before its connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFrom {
    /// The last entry applied; bodies above it are needed.
    pub applied: Option<LogId>,
    /// Bodies up to this entry and ordinal are here.
    pub staged: Option<(u64, u32)>,
    /// So many bytes of the state are here.
    pub state: u64,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// Live bodies of one entry; ordinals rise, bodies are in the tail.
    Bodies {
        /// The entry that pushed them.
        id: LogId,
        /// Ordinal, size and checksum of each.
        bodies: Bounded<(u32, crate::content::ContentSpec), 4096>,
    },
    /// The next bytes of the state, in the tail.
    State,
}

/// A node asks to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The name it wants; `n` and its number if `None`.
    pub name: Option<Text<64>>,
    /// Where clients and peers reach it.
    pub address: Text<256>,
    /// Its data directory.
    pub store: StoreId,
    /// The public half of its key, Ed25519.
    pub key: [u8; 32],
    /// What is to become of it.
    pub standing: Standing,
}

/// The leader asks a formatted node to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Where the leader is.
    pub at: Text<256>,
    /// What is to become of the node.
    pub standing: Standing,
}

/// Names in the list of `queued start`, at most.
pub const BOOTSTRAP_PEERS_MAX: usize = 16;

/// The addresses that `queued start --peers` names, in the order given.
pub type BootstrapPeers = Bounded<Text<256>, BOOTSTRAP_PEERS_MAX>;

/// A node with an empty directory asks another what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskBootstrap {
    /// The list of the node that asks.
    pub peers: BootstrapPeers,
    /// Its own place in that list, from 0.
    pub position: u8,
}

/// What a node says to one with an empty directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapState {
    /// Its own directory is empty too.
    Empty {
        /// The list of the node that answers.
        peers: BootstrapPeers,
        /// Its own place in that list, from 0.
        position: u8,
        /// The process that it lets make the cluster: the store that this one said in its hello.
        word: Option<StoreId>,
    },
    /// It is a member of the cluster that its hello names.
    Member {
        /// The member that has the address of the node that asks, if there is one, as far as the answering node knows.
        holder: Option<Holder>,
    },
}

/// A member, by number and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Raft's number.
    pub node: NodeId,
    /// Its name.
    pub name: Text<64>,
}

/// A member says where it is; nobody dials it there before the cluster has agreed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Its number.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
    /// Where clients and peers reach it.
    pub address: Text<256>,
    /// How often its log was opened, this time included.
    pub epoch: u32,
}

/// What a node tells its peers about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPing {
    /// Its time of day, Unix milliseconds.
    pub wall_ms: u64,
    /// What the elapsed clock shows, if it knows.
    pub elapsed_ms: Option<u64>,
    /// Free bytes on the disk of its log.
    pub disk_free_bytes: u64,
    /// Bytes of these that its log may still take before its reserve is reached.
    pub disk_spare_bytes: u64,
    /// The last entry that its log has taken, on its disk or not yet.
    pub last_index: u64,
    /// Below its reserve: pushes must stop.
    pub disk_low: bool,
    /// No file descriptor is left for its log: pushes must stop.
    pub descriptors_short: bool,
    /// Entries up to here are committed and on its disk.
    pub durable_index: u64,
    /// Its vote, on its disk.
    pub durable_vote: Option<Vote>,
    /// The feature levels it speaks.
    pub levels: Levels,
    /// What it has committed, if it leads.
    pub lead: Option<Lead>,
    /// Its newest state hashes, newest first.
    pub hashes: [Option<StateHash>; HASHES_TOLD],
}

/// The state hash behind one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash {
    /// Raft index.
    pub index: u64,
    /// Equal on all nodes.
    pub hash: u64,
}

/// State hashes that a ping tells.
pub const HASHES_TOLD: usize = 4;

/// What a leader says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// It has committed up to here.
    pub commit_index: u64,
    /// So many milliseconds ago a majority followed it.
    pub confirmed_age_ms: u64,
}

/// What a node answers another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerResponse {
    /// To an append.
    Append(AppendResult),
    /// To a vote or pre-vote.
    Vote(VoteResult),
    /// To a transfer, a snapshot's end or a heartbeat: the vote of the node that answers.
    Seen(Vote),
    /// To a snapshot's begin: what is needed of it.
    SnapshotFrom(SnapshotFrom),
    /// To a snapshot's part.
    PartTaken,
    /// To a join: the number given.
    Joined(Joined),
    /// To a ping.
    Pong(PeerPing),
    /// Not done.
    Failed(crate::error::Error),
    /// To an invitation: the node asks now.
    Coming,
    /// To the question of a node with an empty directory.
    Bootstrap(BootstrapState),
    /// To announcements.
    Noted,
    /// To the question for secrets.
    Held(SecretsHeld),
    /// The secret that was asked for.
    Secret(GivenSecret),
}

/// Outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendResult {
    /// On this node's disk up to here.
    Durable(Option<LogId>),
    /// The entry before the first is not here.
    Conflict(LogId),
    /// A higher vote was seen.
    HigherVote(Vote),
}

/// Outcome of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteResult {
    /// The vote of the node that answers.
    pub vote: Vote,
    /// Granted.
    pub granted: bool,
    /// Its last entry.
    pub last: Option<LogId>,
}

/// A new member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// The number given by the log.
    pub node: NodeId,
    /// The name it has.
    pub name: Text<64>,
    /// The entry that assigned the number.
    pub assigned: u64,
    /// Which admission key the cluster has.
    pub generation: u32,
    /// Its public half, Ed25519.
    pub admission: [u8; 32],
    /// Its private half, hidden by the seal of the connection ([`crate::wire::proof::Seal`]).
    pub sealed: [u8; 32],
    /// Where the other members are, for as long as its own log does not say so.
    pub others: Bounded<Announcement, 64>,
}

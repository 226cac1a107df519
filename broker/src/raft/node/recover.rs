//! The log and state of one node, offline, made those of a cluster that has this node alone: for when a majority of the
//! members is lost for good.
//!
//! ```text
//! snapshot + all of the log ──► state ──► new snapshot, far beyond the log's end ──► the log is purged up to it
//! ```
//!
//! The new snapshot is of the entry `last + `[`SKIPPED`]: every index that a client of the lost cluster can have learned is
//! below it, and so are all sessions. Whoever joins gets that snapshot and not the old log, which ends before it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::RaftStateMachine as _;
use openraft::{Membership, StoredMembership};
use queue_protocol::client::Connection;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::level::Levels;
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer::{LogId, Vote};
use tokio::sync::oneshot;

use super::admission::Keys;
use super::witness::Witness;
use crate::log::{Contents, Log, LogError, LogOptions};
use crate::mutants::{self, Mutant};
use crate::outside::Outside;
use crate::queue::command::FoundCluster;
use crate::queue::{ID_MAX, SKIPPED, going_on_from};
use crate::raft::cluster::levels::Spoken;
use crate::raft::group::growth::SnapshotEvery;
use crate::raft::group::machine::{Machine, MachineStore};
use crate::raft::openraft::cause::{Cause, LoadError};
use crate::raft::openraft::log_store::durable;
use crate::raft::openraft::types::{
    Member, RaftSnapshotMeta, decode_meta, encode_meta, from_log_entry, to_log_id,
};
use crate::snapshots::{SnapshotError, Snapshots};

/// Bytes of the log read at a time.
const READ_SIZE: usize = 1 << 20;
/// How long a node of the lost cluster may take to show that it runs.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Whose data it is.
pub(crate) struct Survivor<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) snapshots: Snapshots,
    pub(crate) log_options: LogOptions,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) store: StoreId,
    pub(crate) name: String,
    /// Its key, and the one that certifies nodes.
    pub(crate) keys: Keys,
    /// Ids and tokens go on above this, whatever the clock shows.
    pub(crate) tokens_above: Option<u64>,
}

/// What was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number of the only member.
    pub node: NodeId,
    /// The entry that gives it.
    pub assigned: u64,
    /// Where it said that it is.
    pub address: String,
    /// The last entry of the log that counts.
    pub last: LogId,
    /// Ids and tokens go on from here.
    pub from: u64,
    /// The other members of the lost cluster: name and address.
    pub others: Vec<(String, String)>,
}

/// Why nothing was made of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the log does not say who the members are")]
    NoMembers,
    #[error("entry {index} cannot be applied: {error}")]
    Apply { index: u64, error: io::Error },
    #[error(
        "the clock of this machine is wrong: it is {behind_s} s behind the newest time in this data. Numbers that the lost \
         nodes have given might be given again"
    )]
    ClockBehind { behind_s: u64 },
    #[error("{name} runs at {address}: it would go on beside the new cluster")]
    StillRunning { name: String, address: String },
    #[error("ids and tokens would go on above {ID_MAX}, which no client can hold")]
    NumbersUsedUp,
    #[error("ids and tokens up to {given} are known to be given, which is not above --tokens-above")]
    TokensBelow { given: u64 },
    #[error("writing it failed: {0}")]
    Io(#[from] io::Error),
}

/// Makes of a survivor's log and snapshot those of the only member of a new cluster; durable on return. Of an
/// earlier attempt that came as far as its snapshot the rest is done.
///
/// # Errors
/// [`RecoverError`]; until the snapshot is written nothing was changed but that the log was opened once more.
pub(crate) async fn as_single_node(outside: &Outside, of: Survivor<'_>) -> Result<Taken, RecoverError> {
    let opened = Log::open(Arc::clone(&outside.disk), of.dir, of.log_options.clone()).await?;
    let (log, writer, keeper, _) = opened;
    let (written, wrote) = oneshot::channel();
    outside.tasks.blocking(
        "log",
        Box::pin(async move {
            let _nobody_waits = written.send(writer.run().await);
        }),
    );
    // What it cannot make the writer lacks, and says so.
    outside.tasks.blocking("log-keeper", Box::pin(async move { drop(keeper.run().await) }));
    let taken = take(outside, &of, &log).await;
    log.close();
    match wrote.await {
        Ok(Ok(()) | Err(LogError::Closed)) | Err(_) => taken,
        Ok(Err(error)) => Err(error.into()),
    }
}

/// The survivor's state with all of its log applied, up to the entry `last`.
fn applied_whole(
    outside: &Outside,
    of: &Survivor<'_>,
    log: &Log,
    last: u64,
) -> Result<Arc<Machine>, RecoverError> {
    let machine = Arc::new(Machine::load(
        log.clone(),
        of.snapshots.clone(),
        SnapshotEvery { entries: u64::MAX, bytes: u64::MAX },
        Arc::clone(&outside.tasks),
        Witness::default(),
        Spoken::new(Levels::OURS),
        Cause::default(),
    )?);
    let mut next = machine.applied().map_or(0, |applied| applied.index + 1);
    while next <= last {
        let entries = log.read(next..last + 1, READ_SIZE, Contents::Without)?;
        for entry in entries {
            let index = entry.id.index;
            let failed = |error| RecoverError::Apply { index, error };
            let entry = from_log_entry(entry).map_err(io::Error::other).map_err(failed)?;
            machine.take(&entry, false).map_err(failed)?;
            next = index + 1;
        }
    }
    Ok(machine)
}

async fn take(outside: &Outside, of: &Survivor<'_>, log: &Log) -> Result<Taken, RecoverError> {
    let last = log.state().last;
    let newest = of.snapshots.newest();
    if let Some(newest) = newest.filter(|newest| Some(newest.last.index) > last.map(|last| last.index)) {
        // An earlier attempt was cut short behind its snapshot.
        let meta = decode_meta(&newest.meta).map_err(io::Error::other)?;
        let state = crate::queue::State::decode(&newest.read_state()?).map_err(io::Error::other)?;
        let members = meta.last_membership.membership();
        let (node, member) = members.nodes().next().ok_or(RecoverError::NoMembers)?;
        begin_anew(log, newest.last).await?;
        return Ok(Taken {
            node: NodeId(*node),
            assigned: newest.last.index,
            address: member.address.clone(),
            last: last.unwrap_or(newest.last),
            from: state.given_below(),
            others: Vec::new(),
        });
    }
    let last = last.ok_or(RecoverError::NoMembers)?;
    let machine = applied_whole(outside, of, log, last.index)?;
    let state = machine.read(|state, _| state.clone());
    for (index, _) in state.live_bodies() {
        log.body_id(index)?;
    }
    let (_, members) = MachineStore(Arc::clone(&machine)).applied_state().await?;
    let members: BTreeMap<u64, Member> =
        members.membership().nodes().map(|(node, member)| (*node, member.clone())).collect();
    let own = members.get(&of.node.0).ok_or(RecoverError::NoMembers)?;

    let others = members.iter().filter(|(node, _)| **node != of.node.0);
    let others: Vec<(String, String)> =
        others.map(|(_, member)| (member.name.clone(), member.address.clone())).collect();
    for (name, address) in &others {
        if is_running(outside, address, of.cluster).await {
            return Err(RecoverError::StillRunning { name: name.clone(), address: address.clone() });
        }
    }
    let from = numbers_from(state.given_below(), state.wall_ms(), outside.clock.wall_ms(), of.tokens_above)?;
    let index = last.index + SKIPPED;
    let mark = if mutants::on(Mutant::RecoveredSessionsOpen) { 0 } else { index };
    let founder = FoundCluster { store: of.store, key: of.keys.node.public(), admission: of.keys.known() };
    let (state, node) = state.recovered(mark, from, &founder);

    let term = log.state().vote.map_or(last.term, |vote| vote.term.max(last.term)) + 1;
    let id = LogId { term, leader: node, index };
    let meta = alone(of, node, &own.address, id)?;
    let address = own.address.clone();
    log.flush().await?;
    of.snapshots.publish(id, &encode_meta(&meta), |out| state.encode(out)).await?;
    begin_anew(log, id).await?;
    Ok(Taken { node, assigned: index, address, last, from, others })
}

/// What the snapshot of a cluster says whose only member is `node`.
fn alone(of: &Survivor<'_>, node: NodeId, address: &str, id: LogId) -> io::Result<RaftSnapshotMeta> {
    let member = Member {
        name: of.name.clone(),
        address: address.to_owned(),
        store: of.store.0,
        standing: Standing::Voter,
        epoch: 0,
        boot: 0,
    };
    let membership = Membership::new(vec![[node.0].into()], BTreeMap::from([(node.0, member)]));
    let membership = membership.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(RaftSnapshotMeta {
        last_log_id: Some(to_log_id(id)),
        last_membership: StoredMembership::new(Some(to_log_id(id)), membership),
    })
}

/// Whether a node of this cluster answers there.
async fn is_running(outside: &Outside, address: &str, cluster: ClusterId) -> bool {
    let asking = async {
        let Ok(stream) = outside.net.dial(address).await else { return false };
        let role = HelloRole::Client { session: SessionId(u128::from_le_bytes(outside.random_bytes())) };
        let hello = Hello::new(Some(cluster), role, outside.clock.wall_ms(), outside.random_bytes());
        match Connection::open(stream, hello).await {
            Ok(_) => true,
            Err(HandshakeError::Refused(error)) => {
                let serves = [ErrorCode::Overloaded, ErrorCode::ShuttingDown, ErrorCode::AuthRequired];
                serves.contains(&error.code)
            }
            Err(_) => false,
        }
    };
    // A machine that swallows packets does not answer anybody else either.
    tokio::time::timeout(ASK_TIMEOUT, asking).await.unwrap_or(false)
}

/// Where numbers go on from.
fn numbers_from(
    given: u64,
    state_ms: u64,
    clock_ms: u64,
    tokens_above: Option<u64>,
) -> Result<u64, RecoverError> {
    if mutants::on(Mutant::RecoveredTokensAgain) {
        return Ok(given);
    }
    let clock_s = match tokens_above {
        Some(above) if above < given => return Err(RecoverError::TokensBelow { given }),
        Some(_) if clock_ms < state_ms => 0,
        None if clock_ms < state_ms => {
            return Err(RecoverError::ClockBehind { behind_s: (state_ms - clock_ms).div_ceil(1_000) });
        }
        _ => clock_ms / 1_000,
    };
    let above = tokens_above.map_or(given, |above| above.saturating_add(1));
    going_on_from(above, clock_s).ok_or(RecoverError::NumbersUsedUp)
}

/// The log ends with the entry `id`, of which there is a snapshot; its leader has voted for itself.
async fn begin_anew(log: &Log, id: LogId) -> Result<(), RecoverError> {
    let vote = Vote { term: id.term, node: id.leader, committed: true };
    durable(|done| log.save_vote(vote, done)).await;
    durable(|done| log.purge_upto(id, done)).await;
    log.save_floors(Vec::new());
    log.save_committed(Some(id));
    Ok(log.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn a_clock_before_the_newest_time_of_the_state_is_refused_unless_a_bound_is_named() {
        let from = |given, state_ms, clock_ms, above| numbers_from(given, state_ms, clock_ms, above);
        assert_eq!(from(9, NOW_MS, NOW_MS, None).unwrap(), (NOW_MS / 1_000) << 21);
        let behind = from(9, NOW_MS, NOW_MS - 1, None).unwrap_err();
        assert!(matches!(behind, RecoverError::ClockBehind { behind_s: 1 }), "{behind}");
        // 1970.
        assert!(matches!(from(9, NOW_MS, 0, None), Err(RecoverError::ClockBehind { .. })));
        let above = (NOW_MS / 1_000) << 21;
        assert_eq!(from(9, NOW_MS, 0, Some(above)).unwrap(), above + 1 + SKIPPED);
        assert!(matches!(from(9, NOW_MS, 0, Some(8)), Err(RecoverError::TokensBelow { given: 9 })));
        assert!(matches!(from(9, 0, 0, Some(ID_MAX)), Err(RecoverError::NumbersUsedUp)));
    }
}

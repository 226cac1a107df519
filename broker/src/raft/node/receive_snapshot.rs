//! A snapshot on its way in: bodies go to the log's import as they come, the state is gathered, and the end installs
//! both. Dropped before the end it leaves nothing.
//!
//! One is received at a time, and not by the connection but by the node: who begins again goes on where the one before
//! stopped. What is staged does not outlive the process: it would have to be proved again after a start, which costs
//! about as much as sending it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::Snapshot;
use queue_protocol::wire::peer::{LogId, PeerResponse, SnapshotBegin, SnapshotFrom, SnapshotPart, Vote};
use tokio::time::Instant;

use crate::fs::DiskError;
use crate::locked::Locked as _;
use crate::log::{Import, Log, LogError};
use crate::raft::group::machine::{Machine, SnapshotData};
use crate::raft::openraft::types::{decode_meta, from_log_id, from_vote, to_log_id, to_vote};
use crate::raft::{Consensus, Raft};
use crate::snapshots::{SnapshotError, Stage, Staged};

/// What is staged is kept so long after its last part.
const KEPT: Duration = Duration::from_secs(600);

/// What a peer sent: the state, and the bodies we did not have.
pub(crate) struct Received {
    pub(crate) staged: Staged,
    /// Bodies above this entry were asked for: from there on only those that were sent count.
    pub(crate) applied: u64,
    pub(crate) import: Import,
}

/// A snapshot that is being received.
struct Receiving {
    vote: Vote,
    last: LogId,
    meta: Bytes,
    state: Stage,
    import: Import,
    /// Bodies above this entry are needed.
    applied: Option<LogId>,
    /// The last body that came: entry and ordinal.
    staged: Option<(u64, u32)>,
    touched: Instant,
}

/// Which attempt to send a snapshot to this node a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt(u64);

/// The snapshot that this node is receiving, if any.
#[derive(Default)]
pub(crate) struct Reception {
    current: Mutex<(u64, Option<Receiving>)>,
}

/// Why a part was not taken; the attempt has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// What came does not fit.
    #[error(transparent)]
    Said(#[from] io::Error),
    /// It could not be stored here.
    #[error(transparent)]
    Disk(DiskError),
}

impl From<LogError> for NotTaken {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Disk(error) => Self::Disk(error),
            other => Self::Said(io::Error::other(other)),
        }
    }
}

impl From<SnapshotError> for NotTaken {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Disk(error) => Self::Disk(error),
            other => Self::Said(io::Error::other(other)),
        }
    }
}

impl Consensus {
    /// What the peer is told. A node whose disk failed does not go on; without room or descriptors it is sent again.
    pub(super) fn not_taken(&self, why: NotTaken) -> io::Error {
        match why {
            NotTaken::Said(error) => error,
            NotTaken::Disk(error) => {
                let what = format_args!(
                    "a snapshot from another node could not be stored: {error}. What was acknowledged is on a majority of the disks"
                );
                self.end_for(&error, what);
                io::Error::other(error)
            }
        }
    }
}

fn superseded() -> io::Error {
    io::Error::other("a part of no snapshot, or of one that is sent anew")
}

impl Reception {
    fn take(&self, attempt: Attempt) -> io::Result<Receiving> {
        let mut current = self.current.locked();
        let (newest, receiving) = &mut *current;
        if *newest != attempt.0 {
            return Err(superseded());
        }
        receiving.take().ok_or_else(superseded)
    }

    fn put(&self, attempt: Attempt, receiving: Receiving) {
        let mut current = self.current.locked();
        if current.0 == attempt.0 {
            current.1 = Some(receiving);
        }
    }

    /// Begins, or goes on with what is staged; the answer says from where.
    pub(crate) fn begin(
        &self,
        machine: &Machine,
        log: &Log,
        begin: SnapshotBegin,
        meta: Bytes,
    ) -> io::Result<(Attempt, SnapshotFrom)> {
        let said = decode_meta(&meta).map_err(io::Error::other)?;
        let last = begin.last.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let members = said.last_membership.log_id().as_ref().map(from_log_id);
        if said.last_log_id != Some(to_log_id(last)) || members > Some(last) {
            return Err(io::Error::other("a snapshot contradicts what it is said to be"));
        }
        let mut current = self.current.locked();
        let (newest, receiving) = &mut *current;
        *newest += 1;
        let next = match receiving.take().filter(|before| before.last.index <= last.index) {
            Some(before) if before.last == last && before.is_of(&begin, &meta) => {
                Receiving { vote: begin.vote, ..before }
            }
            // Bodies of committed entries are the same in every snapshot; one that is live no more does no harm.
            Some(before) => {
                let state = machine.stage(last, begin.state_size)?;
                Receiving { vote: begin.vote, last, meta, state, ..before }
            }
            None => Receiving {
                vote: begin.vote,
                last,
                meta,
                state: machine.stage(last, begin.state_size)?,
                import: log.import().map_err(io::Error::other)?,
                applied: machine.applied(),
                staged: None,
                touched: Instant::now(),
            },
        };
        let from = SnapshotFrom { applied: next.applied, staged: next.staged, state: next.state.received() };
        if let Some((entry, _)) = from.staged {
            tracing::info!(entry, state = from.state, "a snapshot goes on where it was broken off");
        }
        *receiving = Some(next);
        Ok((Attempt(*newest), from))
    }

    /// Takes a part. What does not fit ends the attempt, and what was staged is dropped.
    pub(crate) async fn part(
        &self,
        attempt: Attempt,
        part: SnapshotPart,
        tail: Bytes,
    ) -> Result<(), NotTaken> {
        let mut receiving = self.take(attempt)?;
        receiving.add(part, tail).await?;
        receiving.touched = Instant::now();
        self.put(attempt, receiving);
        Ok(())
    }

    /// Installs the snapshot that came, whole and verified.
    pub(crate) async fn install(&self, attempt: Attempt, raft: &Raft) -> Result<PeerResponse, NotTaken> {
        self.take(attempt)?.install(raft).await
    }

    /// Drops what is staged when nothing has come for long. Ends when the attempt has.
    pub(crate) async fn expire(self: Arc<Self>, attempt: Attempt) {
        loop {
            tokio::time::sleep(KEPT).await;
            let Ok(receiving) = self.take(attempt) else { return };
            if receiving.touched.elapsed() >= KEPT {
                return tracing::info!("a snapshot that did not go on is dropped");
            }
            self.put(attempt, receiving);
        }
    }
}

impl Receiving {
    fn is_of(&self, begin: &SnapshotBegin, meta: &Bytes) -> bool {
        self.meta == *meta && self.state.size() == begin.state_size
    }

    async fn add(&mut self, part: SnapshotPart, tail: Bytes) -> Result<(), NotTaken> {
        match part {
            SnapshotPart::Bodies { id, bodies } => {
                let mut rest = tail.clone();
                for (_, spec) in bodies.iter() {
                    if rest.len() < spec.size as usize {
                        return Err(io::Error::other("a part's tail is shorter than its bodies").into());
                    }
                    spec.verify(&rest.split_to(spec.size as usize)).map_err(io::Error::other)?;
                }
                if !rest.is_empty() {
                    return Err(io::Error::other("a part's tail is longer than its bodies").into());
                }
                self.import.add(id, &bodies, tail).await?;
                self.staged = bodies.last().map(|(ordinal, _)| (id.index, *ordinal)).or(self.staged);
                Ok(())
            }
            SnapshotPart::State => Ok(self.state.add(&tail)?),
        }
    }

    async fn install(self, raft: &Raft) -> Result<PeerResponse, NotTaken> {
        let meta = decode_meta(&self.meta).map_err(io::Error::other)?;
        let received = Received {
            staged: self.state.finish()?,
            import: self.import,
            applied: self.applied.map_or(0, |applied| applied.index),
        };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(Box::new(received)) };
        let installed = raft.install_full_snapshot(to_vote(self.vote), snapshot).await;
        let response = installed.map_err(io::Error::other)?;
        Ok(PeerResponse::Seen(from_vote(&response.vote)))
    }
}

//! A snapshot on its way in: bodies go to the log's import as they come, the state is gathered, and the end installs
//! both. Dropped before the end it leaves nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::Snapshot;
use queue_protocol::peer::{PeerResponse, SnapshotBegin, SnapshotPart, Vote};

use super::machine::{Received, SnapshotData};
use super::types::{decode_meta, from_vote, to_vote};
use super::{Consensus, Raft};
use crate::log::Import;
use crate::snapshots::Stage;

/// A snapshot that is being received.
pub(crate) struct Receiving {
    vote: Vote,
    meta: Vec<u8>,
    state: Stage,
    import: Import,
    applied: u64,
}

impl Receiving {
    /// Opens the import; the answer says from which entry on bodies are needed.
    pub(crate) fn begin(
        consensus: &Arc<Consensus>,
        begin: SnapshotBegin,
        meta: &Bytes,
    ) -> io::Result<(PeerResponse, Self)> {
        decode_meta(meta).map_err(io::Error::other)?;
        let last = begin.last.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let applied = consensus.machine().applied();
        let receiving = Self {
            applied: applied.map_or(0, |applied| applied.index),
            vote: begin.vote,
            meta: meta.to_vec(),
            state: consensus.machine().stage(last, begin.state_size)?,
            import: consensus.log().import().map_err(io::Error::other)?,
        };
        Ok((PeerResponse::SnapshotFrom(applied), receiving))
    }

    pub(crate) fn take(&mut self, part: SnapshotPart, tail: Bytes) -> io::Result<()> {
        match part {
            SnapshotPart::Bodies { id, bodies } => {
                let mut rest = tail.clone();
                for (_, spec) in bodies.iter() {
                    if rest.len() < spec.size as usize {
                        return Err(io::Error::other("a part's tail is shorter than its bodies"));
                    }
                    spec.verify(&rest.split_to(spec.size as usize)).map_err(io::Error::other)?;
                }
                if !rest.is_empty() {
                    return Err(io::Error::other("a part's tail is longer than its bodies"));
                }
                self.import.add(id, &bodies, tail).map_err(io::Error::other)
            }
            SnapshotPart::State => self.state.add(&tail).map_err(io::Error::other),
        }
    }

    pub(crate) async fn install(self, raft: &Raft) -> io::Result<PeerResponse> {
        let meta = decode_meta(&self.meta).map_err(io::Error::other)?;
        let received = Received {
            staged: self.state.finish().map_err(io::Error::other)?,
            import: self.import,
            applied: self.applied,
        };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(Box::new(received)) };
        let installed = raft.install_full_snapshot(to_vote(self.vote), snapshot).await;
        let response = installed.map_err(io::Error::other)?;
        Ok(PeerResponse::Seen(from_vote(&response.vote)))
    }
}

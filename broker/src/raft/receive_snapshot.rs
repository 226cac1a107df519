//! A snapshot on its way in: bodies go to the log's import as they come, the state is gathered, and the end installs
//! both. Dropped before the end it leaves nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::Snapshot;
use queue_protocol::peer::{PeerResponse, SnapshotBegin, SnapshotPart, Vote};

use super::machine::{SnapshotData, Staged};
use super::types::{decode_meta, from_vote, to_vote};
use super::{Consensus, Raft};
use crate::log::Import;

/// A snapshot that is being received.
pub(crate) struct Receiving {
    vote: Vote,
    meta: Vec<u8>,
    state: Vec<u8>,
    state_size: u64,
    import: Import,
}

impl Receiving {
    /// Opens the import; the answer says from which entry on bodies are needed.
    pub(crate) fn begin(
        consensus: &Arc<Consensus>,
        begin: SnapshotBegin,
        meta: &Bytes,
    ) -> io::Result<(PeerResponse, Self)> {
        decode_meta(meta).map_err(io::Error::other)?;
        let receiving = Self {
            vote: begin.vote,
            meta: meta.to_vec(),
            state: Vec::new(),
            state_size: begin.state_size,
            import: consensus.log().import().map_err(io::Error::other)?,
        };
        Ok((PeerResponse::SnapshotFrom(consensus.machine().applied()), receiving))
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
            SnapshotPart::State => {
                if (self.state.len() + tail.len()) as u64 > self.state_size {
                    return Err(io::Error::other("a snapshot is longer than it said"));
                }
                self.state.extend_from_slice(&tail);
                Ok(())
            }
        }
    }

    pub(crate) async fn install(self, raft: &Raft) -> io::Result<PeerResponse> {
        if self.state.len() as u64 != self.state_size {
            return Err(io::Error::other("a snapshot is shorter than it said"));
        }
        let meta = decode_meta(&self.meta).map_err(io::Error::other)?;
        let staged = Staged { state: self.state, import: self.import };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Staged(Box::new(staged)) };
        let installed = raft.install_full_snapshot(to_vote(self.vote), snapshot).await;
        let response = installed.map_err(io::Error::other)?;
        Ok(PeerResponse::Seen(from_vote(&response.vote)))
    }
}

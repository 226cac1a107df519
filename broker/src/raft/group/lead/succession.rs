//! A leader whose process is provably gone is succeeded at once, not when its lease has run out.
//!
//! ```text
//! its connection ends ──► dialed again: refused ──► own lease dropped ──► 0–50 ms ──► pre-vote, election
//!                                      └ answered, or silent: no proof, the lease stands
//! ```
//!
//! The proof is each node's own: a voter that still hears the leader refuses the pre-vote, so a majority must have seen
//! the process go. A leader that was cut off or stopped proves nothing and keeps its lease.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::TypeConfigExt;
use queue_protocol::names::NodeId;

use crate::raft::Consensus;
use crate::raft::openraft::types::TypeConfig;

/// How long the dial may take that is to be refused: who is gone is refused at once.
const PROOF_TIMEOUT: Duration = Duration::from_millis(200);
/// Dials before a node that still answers is taken to be alive, and the pause between them.
const DIALS: u32 = 6;
const DIAL_EVERY: Duration = Duration::from_millis(20);
/// Longest wait before an election, so that candidates seldom meet; doubled after each that came to nothing.
const JITTER_MS: u64 = 50;
/// Elections tried; then openraft's own timeout sees to it.
const ATTEMPTS: u32 = 5;

impl Consensus {
    /// A connection from `peer` has ended. If that was the leader, and it is gone, somebody else should lead.
    pub(in crate::raft) fn peer_left(self: &Arc<Self>, peer: NodeId) {
        let leads = self.seat.known_leader() == Some(peer) && peer != self.me.credentials.node;
        if leads && !self.succeeding.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(self);
            TypeConfig::spawn(async move {
                this.succeed(peer).await;
                this.succeeding.store(false, Ordering::Release);
            });
        }
    }

    async fn succeed(&self, gone: NodeId) {
        let (members, voters) = self.members();
        let Some(member) = members.get(&gone.0) else { return };
        let Some(address) = self.addresses.of(gone, member) else { return };
        if !voters.contains(&self.me.credentials.node.0) || !self.is_refused(&address).await {
            return;
        }
        let vote = self.raft.metrics().borrow_watched().vote;
        if NodeId(vote.leader_id.node_id) != gone {
            return;
        }
        tracing::info!(leader = member.name, "the leader's process is gone, an election begins");
        self.seat.forget_leader(gone);
        // Named as the one to lead, this node would skip the pre-vote and with it everybody's lease.
        let drop_lease = TransferLeaderRequest::new(vote, gone.0, None);
        if !matches!(self.raft.handle_transfer_leader(drop_lease).await, Ok(Ok(()))) {
            return;
        }
        for attempt in 0..ATTEMPTS {
            let jitter_ms = u64::from(u16::from_le_bytes(self.outside.random_bytes()));
            TypeConfig::sleep(Duration::from_millis(jitter_ms % (JITTER_MS << attempt))).await;
            let known = self.seat.known_leader();
            if known.is_some_and(|leader| leader != gone) || self.raft.trigger().elect(true).await.is_err() {
                return;
            }
            TypeConfig::sleep(Duration::from_millis(JITTER_MS << attempt)).await;
        }
    }

    /// Nobody listens where the node was. A process that dies may close its port after its connections.
    async fn is_refused(&self, address: &str) -> bool {
        for _ in 0..DIALS {
            let dialed = tokio::time::timeout(PROOF_TIMEOUT, self.outside.net.dial(address)).await;
            match dialed {
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return true,
                Err(_silent) => return false,
                Ok(_) => TypeConfig::sleep(DIAL_EVERY).await,
            }
        }
        false
    }
}

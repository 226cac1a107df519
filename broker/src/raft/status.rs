//! What nodes tell each other beside Raft, and what this node says of itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use queue_protocol::bounded::{Bounded, Text};
use queue_protocol::error::ErrorCode;
use queue_protocol::names::NodeId;
use queue_protocol::peer::{PeerPing, PeerRequest, PeerResponse};
use queue_protocol::response::{MemberView, StatusView};

use super::Consensus;
use super::link::{Lane, RefusedBy};
use super::types::{Member, TypeConfig};

const PING_EVERY: Duration = Duration::from_secs(1);

impl Consensus {
    /// A peer told of itself.
    pub(crate) fn hear(&self, node: NodeId, ping: PeerPing) {
        self.seat.hear_wall(node, ping.wall_ms);
    }

    /// Says so, once, when a member goes away or comes back.
    fn note_presence(&self, node: u64, member: &Member, failure: Option<std::io::Error>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(error) if away.insert(node) => {
                tracing::warn!(node = member.name, address = member.address, %error, "a member does not answer");
            }
            None if away.remove(&node) => {
                tracing::info!(node = member.name, address = member.address, "a member answers again");
            }
            _ => {}
        }
    }

    /// What this node tells of itself.
    pub(crate) fn own_ping(&self) -> PeerPing {
        let disk_free_bytes = self.outside.disk.free(&self.me.data_dir).unwrap_or(0);
        PeerPing { wall_ms: self.outside.clock.wall_ms(), disk_free_bytes, disk_low: false }
    }

    /// All this node knows of itself and its cluster.
    pub(crate) fn status(&self) -> StatusView {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let view = self.seat.view();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let matched = |node: u64| {
            let replication = metrics.replication.as_ref()?;
            Some(replication.get(&node)?.as_ref().map_or(0, |id| id.index))
        };
        let members = membership
            .nodes()
            .take(64)
            .map(|(node, member)| MemberView {
                node: NodeId(*node),
                name: Text::cut(member.name.clone()),
                address: Text::cut(member.address.clone()),
                voter: voters.contains(node),
                matched_index: matched(*node),
            })
            .collect();
        let log = self.log.state();
        let index = |id: Option<queue_protocol::peer::LogId>| id.map_or(0, |id| id.index);
        StatusView {
            cluster: self.me.credentials.cluster,
            node: self.me.credentials.node,
            name: Text::cut(self.me.name.clone()),
            role: view.role,
            term: view.term,
            leader: view.leader,
            last_index: index(log.last),
            commit_index: metrics.local_committed.map_or(0, |id| id.index),
            applied_index: index(self.machine.applied()),
            snapshot_index: index(self.machine.snapshot_last()),
            purged_index: index(log.purged),
            disk_free_bytes: self.own_ping().disk_free_bytes,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            version: Text::cut(env!("CARGO_PKG_VERSION")),
            drained: self.drained.load(Ordering::Relaxed),
            members: Bounded::new(members).expect("no more than 64 were taken"),
        }
    }
}

/// Pings every other member once a second. Ends with the node.
pub(crate) async fn ping_peers(consensus: Weak<Consensus>) {
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let me = this.me.credentials.node.0;
        let members: Vec<_> = {
            let metrics = this.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
        };
        for (node, member) in members.into_iter().filter(|(node, _)| *node != me) {
            let this = Arc::clone(&this);
            TypeConfig::spawn(async move {
                let link = this.network.link(node, &member);
                let ping = PeerRequest::Ping(this.own_ping());
                let answer = link.ask(Lane::Urgent, &ping, Vec::new(), PING_EVERY).await;
                let refused = match &answer {
                    Ok(PeerResponse::Pong(pong)) => {
                        this.hear(NodeId(node), *pong);
                        None
                    }
                    Ok(PeerResponse::Failed(error)) => Some(error),
                    Ok(_) => None,
                    Err(error) => RefusedBy::of(error).map(|refused| &refused.error),
                };
                if refused.is_some_and(|error| error.code == ErrorCode::NodeRemoved) {
                    this.removed.send_replace(true);
                }
                this.note_presence(node, &member, answer.err());
            });
        }
        drop(this);
        tokio::time::sleep(PING_EVERY).await;
    }
}

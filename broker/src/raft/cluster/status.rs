//! What nodes tell each other beside Raft, and what this node says of itself.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::names::NodeId;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::logs::LogView;
use queue_protocol::wire::peer::{PeerPing, PeerRequest, PeerResponse};
use queue_protocol::wire::response::{MemberView, StatusView};
use tokio::time::Instant;

use super::health;
use crate::locked::Locked as _;
use crate::log::Lack;
use crate::mutants::{self, Mutant};
use crate::outside::{ExitStatus, Fatal};
use crate::raft::Consensus;
use crate::raft::group::agreement::Verdict;
use crate::raft::node::dial::RefusedBy;
use crate::raft::node::link::Lane;
use crate::raft::openraft::types::{Member, TypeConfig};

const PING_EVERY: Duration = Duration::from_secs(1);

/// What a status leaves out.
pub(crate) struct Terms {
    /// Term of the last entry of its log; 0 without one.
    pub(crate) last_term: u64,
    /// Term of the last entry of its newest snapshot; 0 without one.
    pub(crate) snapshot_term: u64,
    /// The entry that says who the members are.
    pub(crate) configuration_index: u64,
}

impl Consensus {
    /// A peer told of itself.
    pub(in crate::raft) fn hear(&self, node: NodeId, ping: PeerPing) {
        self.rooms.hear(node, ping);
        self.me.credentials.spoken.hear(node, ping.levels);
        self.gate.floors.hear(node, &ping);
        self.agreement.hear(node, ping.hashes);
        self.compare_states();
    }

    /// Ends this node if a majority of the voters has come to another state.
    fn compare_states(&self) {
        let metrics = self.raft.metrics();
        let voters: BTreeSet<NodeId> = {
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().map(NodeId).collect()
        };
        let (before, now) = self.agreement.judge(self.me.credentials.node, &voters);
        match now {
            Verdict::Contradicted { index } => {
                let what = format!(
                    "the state of {name} differs from that of a majority of the voters after entry {index}, or before: it \
                     stops, and the others go on. Started again it takes its state from its snapshot and log; if it stops \
                     again, take a new node in its place: queuectl cluster replace {name} HOST:PORT",
                    name = self.me.name
                );
                (self.outside.end)(Fatal { status: ExitStatus::Corrupt, what });
            }
            Verdict::Undecided { index } if before == Verdict::Agreed => {
                tracing::error!(
                    index,
                    "voters have different states, and no majority agrees: nothing is leased"
                );
            }
            Verdict::Agreed if before != now => tracing::warn!("the voters' states agree again"),
            _ => {}
        }
    }

    /// Why nothing may be leased now, if nobody knows which state is right.
    pub(crate) fn refuse_lease(&self) -> Option<Error> {
        let Verdict::Undecided { index } = self.agreement.verdict() else { return None };
        if mutants::on(Mutant::LeasedWhileStatesDiffer) {
            return None;
        }
        let what = format!(
            "nodes have different states after entry {index}, and no majority agrees on one: nothing is leased. Nothing was \
             changed; pushes and acks still work"
        );
        let refused = Error::refused(ErrorCode::StatesDiffer, what);
        Some(Error { retry: Retry::AfterMs(1_000), ..refused })
    }

    /// Says so, once, when a member goes away or comes back.
    fn note_presence(&self, node: u64, member: &Member, failure: Option<std::io::Error>) {
        let mut away = self.away.locked();
        match failure {
            Some(error) if away.insert(node) => {
                let refused =
                    RefusedBy::of(&error).is_some_and(|by| by.error.code == ErrorCode::StoreRefused);
                if refused {
                    tracing::error!(node = member.name, %error, "a member does not let this node in");
                } else {
                    tracing::warn!(node = member.name, address = member.address, %error, "a member is not reached");
                }
            }
            None if away.remove(&node) => {
                tracing::info!(node = member.name, address = member.address, "a member answers again");
            }
            _ => {}
        }
    }

    /// What [`Consensus::status`] leaves out.
    pub(crate) fn terms(&self) -> Terms {
        let term = |id: Option<queue_protocol::wire::peer::LogId>| id.map_or(0, |id| id.term);
        let metrics = self.raft.metrics();
        let configuration = metrics.borrow_watched().membership_config.log_id().map_or(0, |id| id.index);
        Terms {
            last_term: term(self.log.state().last),
            snapshot_term: term(self.machine.snapshot_last()),
            configuration_index: configuration,
        }
    }

    /// Bytes of the disk below which pushes are refused; 0 if that is not known.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.room.borrow().reserve
    }

    /// What this node tells of itself.
    pub(in crate::raft) fn own_ping(&self) -> PeerPing {
        let room = *self.room.borrow();
        let (durable_index, durable_vote) = self.gate.floors.told();
        // Before the spare bytes: what comes in between is subtracted here and by the leader.
        let last_index = self.log.state().last.map_or(0, |id| id.index);
        PeerPing {
            wall_ms: self.outside.clock.wall_ms(),
            elapsed_ms: self.times.elapsed_ms(),
            disk_free_bytes: room.free,
            disk_spare_bytes: self.own_spare(),
            last_index,
            disk_low: room.lacks == Some(Lack::Room),
            descriptors_short: room.lacks == Some(Lack::Descriptors),
            durable_index,
            durable_vote,
            levels: self.me.credentials.spoken.own(),
            lead: self.lead(),
            hashes: self.agreement.told(),
        }
    }

    /// Highest index known here to be committed.
    pub(in crate::raft) fn commit_index(&self) -> u64 {
        self.raft.metrics().borrow_watched().local_committed.map_or(0, |id| id.index)
    }

    /// A node that has nothing left to write on takes part in nothing until it has: it could neither keep a vote nor an
    /// entry.
    pub(in crate::raft) fn refuse_peers(&self) -> Option<Error> {
        let name = &self.me.name;
        let (code, what) = match self.log.stalled()? {
            Lack::Room => (
                ErrorCode::DiskReserve,
                format!("the disk of {name} is full; what it holds is safe, free space there"),
            ),
            Lack::Descriptors => {
                (ErrorCode::Overloaded, format!("{name} is out of file descriptors; what it holds is safe"))
            }
        };
        Some(Error { retry: Retry::AfterMs(1_000), ..Error::refused(code, what) })
    }

    /// Where the other members say that they are.
    pub(crate) fn member_addresses(&self) -> Vec<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let me = self.me.credentials.node.0;
        let others = metrics.membership_config.membership().nodes().filter(|(node, _)| **node != me);
        others.map(|(_, member)| member.address.clone()).collect()
    }

    /// All this node knows of itself and its cluster, but for its clients: the server knows those.
    pub(crate) fn status(&self) -> StatusView {
        let told = self.health();
        let leads = told.lead.is_some_and(|lead| lead.quorum_ms.is_none() || lead.has_quorum());
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let view = self.seat.view();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let log = self.log.state();
        let index = |id: Option<queue_protocol::wire::peer::LogId>| id.map_or(0, |id| id.index);
        let last_index = index(log.last);
        let matched = |node: u64| {
            let replication = metrics.replication.as_ref()?;
            Some(health::told(replication.get(&node)?.as_ref().map_or(0, |id| id.index), last_index))
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
        let committed = metrics.local_committed.map_or(0, |id| id.index);
        let changing = membership.get_joint_config().len() > 1
            || metrics.membership_config.log_id().is_some_and(|id| id.index > committed);
        StatusView {
            cluster: self.me.credentials.cluster,
            node: self.me.credentials.node,
            name: Text::cut(self.me.name.clone()),
            role: view.role,
            // What a crash could take back is not told.
            term: view.term.min(self.voted.load(Ordering::Acquire)),
            leader: view.leader.filter(|leader| leads || leader.node != self.me.credentials.node),
            last_index,
            commit_index: committed,
            applied_index: index(self.machine.applied()),
            snapshot_index: index(self.machine.snapshot_last()),
            purged_index: index(log.purged),
            disk_free_bytes: self.room.borrow().free,
            uptime_ms: milliseconds(self.pulse.age()),
            version: Text::cut(env!("CARGO_PKG_VERSION")),
            drained: self.drained.load(Ordering::Relaxed),
            level: self.me.credentials.spoken.cluster(),
            levels: self.me.credentials.spoken.own(),
            members: Bounded::new(members).expect("no more than 64 were taken"),
            changing,
            clock_off_ms: self.times.off_ms(),
            connections_max: 0,
            connections_asked: 0,
            log: LogView::default(),
            tls: self.outside.net.tls().view(),
            secret: self.secret_view(),
            health: told,
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
                let (asked, asked_ms) = (Instant::now(), this.times.asked());
                let answer = link.ask(Lane::Urgent, ping, Vec::new(), PING_EVERY).await;
                let refused = match &answer {
                    Ok(PeerResponse::Pong(pong)) => {
                        this.hear(NodeId(node), *pong);
                        this.times.hear(NodeId(node), pong, asked_ms);
                        if let Some(lead) = pong.lead {
                            this.told.hear(lead, asked);
                        }
                        None
                    }
                    Ok(PeerResponse::Failed(error)) => Some(error),
                    Ok(_) => None,
                    Err(error) => RefusedBy::of(error).map(|refused| &refused.error),
                };
                match refused {
                    Some(error) if error.code == ErrorCode::NodeRemoved => {
                        this.removed.send_replace(true);
                    }
                    Some(error) if error.code == ErrorCode::LevelUnknown => {
                        let what = format!("{}. Nothing was changed", error.message);
                        (this.outside.end)(Fatal { status: ExitStatus::OtherBuild, what });
                    }
                    _ => {}
                }
                let answered = matches!(answer, Ok(PeerResponse::Pong(_)));
                this.known.note(node, &answer);
                this.heed_refusal(node, answered, refused);
                this.note_presence(node, &member, answer.err());
            });
        }
        let pulse = this.pulse;
        drop(this);
        pulse.beat(PING_EVERY).await;
    }
}

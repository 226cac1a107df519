//! What the node in memory shows.

use std::net::SocketAddr;

use queue_protocol::health::{HealthView, LeadView};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::level::{Level, Levels};
use queue_protocol::wire::response::{Answer, LeaderView, MemberView, Role, StatusView};
use queue_protocol::wire::security::{SecretView, TlsView};

/// What the node says of itself: the first of two members, which leads; `alone` if nobody follows it.
pub(crate) fn status(leader: LeaderView, address: SocketAddr, alone: bool) -> Answer {
    let member = |id: u64, address: String| MemberView {
        node: NodeId(id),
        name: Text::cut(format!("n{id}")),
        address: Text::cut(address),
        voter: true,
        matched_index: None,
    };
    // The second member has an address that nobody listens on.
    let members = vec![member(1, address.to_string()), member(2, "127.0.0.1:1".to_owned())];
    let lead =
        LeadView { ready: true, quorum_ms: (!alone).then_some(9), lease_ms: 1_000, commit_behind_ms: 0 };
    Answer::Status(Box::new(StatusView {
        cluster: crate::node::CLUSTER,
        node: NodeId(1),
        name: Text::cut("n1"),
        role: Role::Leader,
        term: 7,
        leader: Some(leader),
        last_index: 10,
        commit_index: 10,
        applied_index: 10,
        snapshot_index: 0,
        purged_index: 0,
        disk_free_bytes: 1 << 36,
        uptime_ms: 61_000,
        version: Text::cut("0.1.0"),
        drained: false,
        level: Level::FIRST,
        levels: Levels::OURS,
        members: Bounded::new(members).unwrap(),
        changing: false,
        clock_off_ms: 0,
        connections_max: 10_000,
        connections_asked: 10_000,
        tls: TlsView::default(),
        secret: SecretView::default(),
        log: queue_protocol::wire::logs::LogView::default(),
        health: HealthView { lead: Some(lead), ..HealthView::default() },
    }))
}

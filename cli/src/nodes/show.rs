//! How the nodes look: a row each, or a document.

use queue_protocol::response::{Role, StatusView};
use serde_json::{Value, json};

use super::{Node, Nodes};
use crate::render::{self, Align};

impl Nodes {
    /// The table.
    pub(crate) fn table(&self) -> String {
        use Align::{Left, Right};
        let columns = [
            ("NODE", Left),
            ("ROLE", Left),
            ("CLIENT ADDRESS", Left),
            ("TERM", Right),
            ("COMMIT", Right),
            ("APPLIED", Right),
            ("LAG", Right),
            ("RTT", Right),
            ("DISK FREE", Right),
            ("UPTIME", Right),
            ("VERSION", Left),
        ];
        let commit = self.commit();
        let rows: Vec<Vec<String>> = self.0.iter().map(|node| row(node, commit)).collect();
        render::table(&columns, &rows)
    }

    /// The document `cluster/v1`.
    pub(crate) fn document(&self) -> Value {
        let (have, need, of) = self.quorum();
        let commit = self.commit();
        let leader = self.leader();
        let cluster = self.answers().next().map(|status| status.cluster.to_string());
        json!({
            "schema": "cluster/v1",
            "cluster_id": cluster,
            "term": self.answers().map(|status| status.term).max().map(|term| term.to_string()),
            "leader": leader.as_ref().map(|leader| leader.name.to_string()),
            "feature_level": self.level().map(|level| level.0),
            "quorum": {"need": need, "have": have, "of": of},
            "healthy": leader.is_some() && have == of,
            "nodes": self.0.iter().map(|node| node_document(node, commit)).collect::<Vec<_>>(),
        })
    }
}

fn role(status: &StatusView) -> &'static str {
    match status.role {
        Role::Leader => "leader",
        Role::Follower if status.drained => "drained",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
    }
}

fn row(node: &Node, commit: u64) -> Vec<String> {
    let mut row = vec![node.name()];
    let Ok((status, round_trip)) = &node.status else {
        row.extend(["UNREACHABLE", &node.address, "?", "?", "?", "?", "-", "?", "?", "?"].map(str::to_owned));
        return row;
    };
    row.extend([
        role(status).to_owned(),
        node.address.clone(),
        status.term.to_string(),
        render::count(status.commit_index),
        render::count(status.applied_index),
        render::count(commit.saturating_sub(status.applied_index)),
        format!("{:.1}ms", round_trip.as_secs_f64() * 1_000.0),
        render::size(status.disk_free_bytes),
        render::age(status.uptime_ms),
        status.version.to_string(),
    ]);
    row
}

fn node_document(node: &Node, commit: u64) -> Value {
    match &node.status {
        Ok((status, round_trip)) => json!({
            "id": node.name(),
            "raft_id": status.node.to_string(),
            "role": role(status),
            "voter": node.is_voter(),
            "drained": status.drained,
            "changing": status.changing,
            "reachable": true,
            "client": node.address,
            "term": status.term.to_string(),
            "last": status.last_index.to_string(),
            "commit": status.commit_index.to_string(),
            "applied": status.applied_index.to_string(),
            "snapshot": status.snapshot_index.to_string(),
            "purged": status.purged_index.to_string(),
            "lag": commit.saturating_sub(status.applied_index),
            "rtt_ms": render::elapsed_ms(*round_trip),
            "disk_free_bytes": status.disk_free_bytes,
            "connections": {"max": status.connections_max, "asked": status.connections_asked},
            "uptime_ms": status.uptime_ms,
            "clock_off_ms": status.clock_off_ms,
            "version": &*status.version,
            "feature_levels": {"min": status.levels.min.0, "max": status.levels.max.0},
        }),
        Err(error) => json!({
            "id": node.name(),
            "raft_id": node.id().map(|id| id.to_string()),
            "role": "unknown",
            "voter": node.is_voter(),
            "reachable": false,
            "client": node.address,
            "error": error,
        }),
    }
}

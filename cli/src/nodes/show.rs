//! How the nodes look: a row each, or a document.

use queue_protocol::health::{Absence, Judgement, Voter};
use queue_protocol::wire::response::{Role, StatusView};
use serde_json::{Value, json};

use super::{Node, Nodes};
use crate::nodes::secret::shown;
use crate::show::clock;
use crate::show::render;
use crate::show::table::{Align, Table};

/// `2026-11-30`
const DATE_SIZE: usize = 10;

impl Nodes {
    /// The table.
    pub(crate) fn table(&self, width: Option<usize>) -> String {
        use Align::{Left, Right};
        let mut columns = vec![
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
        // A cluster without it has no use for a column of dashes.
        let speak_tls = self.speak_tls();
        if speak_tls {
            columns.extend([("TLS", Left), ("CERT UNTIL", Left)]);
        }
        let (commit, judged) = (self.commit(), self.judge());
        let rows: Vec<Vec<String>> =
            self.0.iter().map(|node| row(node, commit, &judged, speak_tls)).collect();
        // What tells of trouble stays longest.
        let drops =
            ["VERSION", "CERT UNTIL", "TLS", "TERM", "UPTIME", "COMMIT", "APPLIED", "RTT", "DISK FREE"];
        Table::new(&columns, &drops, width).page(&rows)
    }

    /// The document `cluster/v1`.
    pub(crate) fn document(&self) -> Value {
        let judged = self.judge();
        let (have, need, of) = judged.quorum();
        let commit = self.commit();
        let cluster = self.answers().next().map(|status| status.cluster.to_string());
        json!({
            "schema": "cluster/v1",
            "cluster_id": cluster,
            "term": self.answers().map(|status| status.term).max().map(|term| term.to_string()),
            "leader": judged.leader.as_ref().map(|leader| leader.name.to_string()),
            "feature_level": self.level().map(|level| level.0),
            "quorum": {"need": need, "have": have, "of": of},
            "writable": judged.is_writable(),
            "spare": judged.spare(),
            "healthy": judged.is_writable() && have == of,
            "verdict": judged.verdict(),
            "refusals": judged.refusals.iter().map(queue_json::explain::refusal).collect::<Vec<_>>(),
            "paused_queues": judged.paused_count,
            "nodes": self.0.iter().map(|node| node_document(node, commit, &judged)).collect::<Vec<_>>(),
        })
    }
}

/// What a voter is to the majority, if the node is one and somebody can tell.
fn voter<'a>(node: &Node, judged: &'a Judgement) -> Option<&'a Voter> {
    let voter = judged.voters.iter().find(|voter| Some(voter.node) == node.id())?;
    (voter.absent != Some(Absence::NoLeader)).then_some(voter)
}

/// The leader does not let it in.
fn is_refused(voter: Option<&Voter>) -> bool {
    voter.is_some_and(|voter| matches!(voter.absent, Some(Absence::Refused(_))))
}

fn role(status: &StatusView, voter: Option<&Voter>, judged: &Judgement) -> &'static str {
    let refused = is_refused(voter);
    let leads = judged.leader.as_ref().is_some_and(|leader| leader.node == status.node);
    match status.role {
        Role::Leader if leads => "leader",
        _ if refused => "REFUSED",
        Role::Leader => "no quorum",
        Role::Follower if status.drained => "drained",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
    }
}

fn row(node: &Node, commit: u64, judged: &Judgement, tls: bool) -> Vec<String> {
    let mut row = vec![node.name()];
    let Ok((status, round_trip)) = &node.status else {
        let role = if is_refused(voter(node, judged)) { "REFUSED" } else { "UNREACHABLE" };
        row.extend([role, &node.address, "?", "?", "?", "?", "-", "?", "?", "?"].map(str::to_owned));
        row.extend(["?", "?"].into_iter().filter(|_| tls).map(str::to_owned));
        return row;
    };
    row.extend([
        role(status, voter(node, judged), judged).to_owned(),
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
    if tls {
        let until = status.tls.until_ms.map(|until_ms| clock::rfc3339(until_ms)[..DATE_SIZE].to_owned());
        row.extend([status.tls.mode.as_str().to_owned(), until.unwrap_or_else(|| "-".to_owned())]);
    }
    row
}

fn node_document(node: &Node, commit: u64, judged: &Judgement) -> Value {
    let voter = voter(node, judged);
    let counts = voter.map(|voter| voter.absent.is_none());
    let why = voter.and_then(Voter::why_absent);
    match &node.status {
        Ok((status, round_trip)) => json!({
            "id": node.name(),
            "raft_id": status.node.to_string(),
            "role": role(status, voter, judged),
            "voter": node.is_voter(),
            "drained": status.drained,
            "changing": status.changing,
            "reachable": true,
            "counts": counts,
            "why": why,
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
            "tls": {
                "mode": status.tls.mode.as_str(),
                "certificate_until": status.tls.until_ms.map(clock::rfc3339),
                "alarm": status.tls.alarm.as_deref(),
            },
            "secret": {
                "generation": status.secret.generation,
                "fingerprint": shown(&status.secret.fingerprint),
                "rotation": status.secret.rotation.as_ref().map(crate::nodes::secret::document),
            },
            "log": queue_json::logs::log(&status.log),
            "feature_levels": {"min": status.levels.min.0, "max": status.levels.max.0},
        }),
        Err(error) => json!({
            "id": node.name(),
            "raft_id": node.id().map(|id| id.to_string()),
            "role": "unknown",
            "voter": node.is_voter(),
            "reachable": false,
            "counts": counts,
            "why": why,
            "client": node.address,
            "error": error,
        }),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_fits_60_80_and_120_columns_and_keeps_what_tells_of_trouble() {
        let nodes = crate::nodes::tests::one_down();
        for width in [60, 80, 120] {
            let table = nodes.table(Some(width));
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}:\n{table}");
            for kept in ["NODE", "ROLE", "CLIENT ADDRESS", "LAG", "UNREACHABLE"] {
                assert!(table.contains(kept), "{kept} at {width}:\n{table}");
            }
        }
        assert!(nodes.table(Some(120)).contains("VERSION"));
    }
}

//! What an incident is told from: one line of the log for every change of what this node is, whom it follows, whether a
//! quorum answers, who the members are and what is refused, each with term and index.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use queue_protocol::error::ErrorCode;
use queue_protocol::names::NodeId;
use queue_protocol::wire::response::Role;

use crate::mutants::{self, Mutant};
use crate::raft::Consensus;

/// How often it is looked what has changed, if no change of role or leader comes before.
const LOOK_EVERY: Duration = Duration::from_millis(600);

/// A member as lines name it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    address: String,
    is_voter: bool,
}

/// What the lines are about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    role: Role,
    /// The leader that this node follows, if any.
    leader: Option<NodeId>,
    /// A quorum answers this node, if it leads; else a leader is heard.
    has_quorum: bool,
    members: BTreeMap<u64, Named>,
    /// The entry that the newest snapshot is of; 0 if there is none.
    snapshot: u64,
    /// What is refused, and why.
    refused: BTreeMap<&'static str, (ErrorCode, String)>,
}

/// Where in the log something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    term: u64,
    index: u64,
}

impl Facts {
    /// Of a node that has just started and heard nothing.
    fn of_start() -> Self {
        let (members, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { role: Role::Follower, leader: None, has_quorum: false, members, snapshot: 0, refused }
    }

    fn name(&self, node: NodeId) -> String {
        self.members.get(&node.0).map_or_else(|| format!("node {node}"), |member| member.name.clone())
    }

    /// Who has a vote and who has not, for people.
    fn listed(&self) -> String {
        let of = |is_voter: bool| {
            let members = self.members.values().filter(|member| member.is_voter == is_voter);
            members.map(|member| format!("{} at {}", member.name, member.address)).collect::<Vec<_>>()
        };
        let (voters, learners) = (of(true).join(", "), of(false).join(", "));
        if learners.is_empty() { voters } else { format!("{voters}; learners {learners}") }
    }

    /// The lines for what has changed since `before`.
    fn lines_since(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.members != before.members {
            lines.push(format!("the members are {}", self.listed()));
        }
        if self.role != before.role {
            lines.push(format!("this node is {}, and was {}", word(self.role), word(before.role)));
        }
        if self.leader != before.leader {
            lines.push(match self.leader {
                Some(leader) => format!("{} leads", self.name(leader)),
                None => "no leader is known".to_owned(),
            });
        }
        if self.has_quorum != before.has_quorum && !mutants::on(Mutant::QuorumNotTold) {
            let line =
                if self.has_quorum { "a quorum answers" } else { "no quorum answers: nothing is written" };
            lines.push(line.to_owned());
        }
        if self.snapshot != before.snapshot {
            lines.push(format!("the newest snapshot is of entry {}", self.snapshot));
        }
        for (what, (code, why)) in &self.refused {
            if before.refused.get(what).is_none_or(|(before, _)| before != code) {
                lines.push(format!("{what} are refused ({}): {why}", code.as_str()));
            }
        }
        for what in before.refused.keys().filter(|what| !self.refused.contains_key(*what)) {
            lines.push(format!("{what} are taken again"));
        }
        lines
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
    }
}

impl Consensus {
    fn facts(&self) -> (Facts, Place) {
        let view = self.view();
        let leads = view.role == Role::Leader;
        let has_quorum = if leads {
            self.seat.acked_age().is_some_and(|age| age <= self.options.election_max)
        } else {
            view.leader.is_some()
        };
        let (members, voters) = self.members();
        let named = members.into_iter().map(|(node, member)| {
            let (name, address) = (member.name, member.address);
            (node, Named { name, address, is_voter: voters.contains(&node) })
        });
        let refused = [("pushes", self.refuse_push()), ("leases", self.refuse_lease())];
        let refused = refused
            .into_iter()
            .filter_map(|(what, error)| error.map(|error| (what, (error.code, error.message.to_string()))));
        let facts = Facts {
            role: view.role,
            leader: view.leader.map(|leader| leader.node),
            has_quorum,
            members: named.collect(),
            snapshot: self.machine.snapshot_last().map_or(0, |last| last.index),
            refused: refused.collect(),
        };
        let index = self.raft.metrics().borrow_watched().last_log_index.unwrap_or(0);
        (facts, Place { term: view.term, index })
    }
}

/// Says what changes. Ends with the node.
pub(in crate::raft) async fn run(consensus: Weak<Consensus>) {
    let mut before = Facts::of_start();
    let Some(mut view) = consensus.upgrade().map(|this| this.watch()) else { return };
    while let Some(this) = consensus.upgrade() {
        let (now, Place { term, index }) = this.facts();
        let pulse = this.pulse;
        drop(this);
        for line in now.lines_since(&before) {
            tracing::info!(term, index, "{line}");
        }
        before = now;
        // A view that has ended ends with the node.
        let _ = tokio::time::timeout_at(pulse.next(LOOK_EVERY), view.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let named =
            |name: &str, is_voter| Named { name: name.into(), address: format!("{name}:1"), is_voter };
        let members =
            BTreeMap::from([(1, named("n1", true)), (2, named("n2", true)), (3, named("n3", false))]);
        Facts { leader: Some(NodeId(1)), has_quorum: true, members, ..Facts::of_start() }
    }

    #[test]
    fn each_change_has_one_line_and_what_stays_has_none() {
        let (start, follows) = (Facts::of_start(), facts());
        let says = |now: &Facts, before: &Facts| now.lines_since(before).join("\n");
        assert_eq!(
            says(&follows, &start),
            "the members are n1 at n1:1, n2 at n2:1; learners n3 at n3:1\nn1 leads\na quorum answers"
        );
        assert_eq!(says(&follows, &follows), "");
        let alone = Facts { role: Role::Candidate, leader: None, has_quorum: false, ..facts() };
        assert_eq!(
            says(&alone, &follows),
            "this node is candidate, and was follower\nno leader is known\nno quorum answers: nothing is written"
        );
        let saved = Facts { snapshot: 70, ..facts() };
        assert_eq!(says(&saved, &follows), "the newest snapshot is of entry 70");
        let full = |why: &str| {
            let refused = BTreeMap::from([("pushes", (ErrorCode::DiskReserve, why.to_owned()))]);
            Facts { refused, ..facts() }
        };
        assert_eq!(says(&full("90 MiB free"), &follows), "pushes are refused (disk_reserve): 90 MiB free");
        assert_eq!(says(&full("80 MiB free"), &full("90 MiB free")), "", "it began before");
        assert_eq!(says(&follows, &full("80 MiB free")), "pushes are taken again");
    }
}

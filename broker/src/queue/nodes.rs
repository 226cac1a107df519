//! Which numbers of nodes the cluster has given, and to whom: what it believes of a node that has proved its key.
//!
//! ```text
//! unknown ── AssignNode ──► assigned ── a membership names it ──► member ── one does not any more ──► removed
//! ```
//!
//! A removed number needs no record: it was given, and there is nothing about it. Numbers are never given again.

use imbl::OrdMap;
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::audit::Actor;
use serde::{Deserialize, Serialize};

use super::apply::Apply;
use super::command::FoundCluster;
use super::journal::Deed;
use super::rotation::Rotation;
use super::state::State;

/// Numbers kept that were assigned and never became members: of older ones no membership can come any more.
const ASSIGNED_MAX: usize = 64;

/// The node that made the cluster.
pub const FOUNDER: NodeId = NodeId(1);

/// The public half of the key with which numbers are certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// 1, and one more with each rotation.
    pub generation: u32,
    /// The public key, Ed25519.
    pub key: [u8; 32],
}

/// To whom a number was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The data directory that the number was given to.
    pub store: StoreId,
    /// The public half of its key, Ed25519.
    pub key: [u8; 32],
    /// The entry that assigned the number; 0 for the node that made the cluster.
    pub index: u64,
    /// A membership that was applied names it.
    pub is_member: bool,
}

/// What a state says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStanding {
    /// It was not given as of this state.
    Unknown,
    /// It was, and may yet become a member or is one.
    Given(Assigned),
    /// It was a member and is not any more.
    Removed,
}

/// The numbers that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    /// None until the node that made the cluster has led it.
    pub(super) admission: Option<Admission>,
    /// Of the secret and the admission key.
    pub(super) rotation: Option<Rotation>,
    pub(super) given: OrdMap<NodeId, Assigned>,
}

impl Nodes {
    /// What is folded into the state hash.
    pub(super) fn count(&self) -> u64 {
        let members = self.given.values().filter(|given| given.is_member).count();
        (self.given.len() as u64) << 32 | members as u64
    }

    /// Whether all numbers lie below the next one, and no more wait than may.
    pub(super) fn is_sound(&self, next: NodeId) -> bool {
        let waiting = self.given.values().filter(|given| !given.is_member).count();
        let last = self.given.get_max().map_or(0, |(node, _)| node.0);
        let numbers = waiting <= ASSIGNED_MAX && last < next.0 && !self.given.contains_key(&NodeId(0));
        numbers && self.has_sound_rotation()
    }

    pub(super) fn assign(&mut self, node: NodeId, assigned: Assigned) {
        self.given.insert(node, assigned);
        let waiting: Vec<NodeId> =
            self.given.iter().filter(|(_, given)| !given.is_member).map(|(node, _)| *node).collect();
        for node in waiting.iter().take(waiting.len().saturating_sub(ASSIGNED_MAX)) {
            self.given.remove(node);
        }
    }
}

impl Apply<'_> {
    pub(super) fn assign_node(&mut self, store: StoreId, key: [u8; 32]) -> NodeId {
        let node = self.state.numbers_mut().give_node();
        let assigned = Assigned { store, key, index: self.index, is_member: false };
        self.state.nodes_mut().assign(node, assigned);
        node
    }

    /// Only the first one counts.
    pub(super) fn found_cluster(&mut self, found: &FoundCluster) {
        let FoundCluster { store, key, admission } = *found;
        let nodes = self.state.nodes_mut();
        if nodes.admission.is_none() {
            nodes.admission = Some(admission);
            nodes.given.insert(FOUNDER, Assigned { store, key, index: 0, is_member: true });
        }
    }
}

impl State {
    /// The key with which numbers are certified, if this state knows it.
    pub fn admission(&self) -> Option<Admission> {
        self.nodes().admission
    }

    /// What became of a number.
    pub fn node(&self, node: NodeId) -> NodeStanding {
        match self.nodes().given.get(&node) {
            Some(assigned) => NodeStanding::Given(*assigned),
            None if node.0 > 0 && node < self.numbers().node() && self.nodes().admission.is_some() => {
                NodeStanding::Removed
            }
            None => NodeStanding::Unknown,
        }
    }

    /// The entry `index` made the members others: the journal keeps who they are.
    pub(crate) fn tell_members(&mut self, index: u64, members: String) {
        self.tell(index, Actor::Nodes, None, Deed::members(members));
    }

    /// A membership is applied that names these numbers: what was a member and is not among them was removed.
    pub(crate) fn note_members(&mut self, is_named: impl Fn(NodeId) -> bool) {
        let given = std::mem::take(&mut self.nodes_mut().given);
        let left = given.into_iter().filter_map(|(node, assigned)| {
            let is_member = is_named(node);
            let stays = is_member || !assigned.is_member;
            stays.then_some((node, Assigned { is_member: is_member || assigned.is_member, ..assigned }))
        });
        let left = left.collect();
        let nodes = self.nodes_mut();
        nodes.given = left;
        nodes.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(index: u64) -> Assigned {
        Assigned { store: StoreId(index.into()), key: [7; 32], index, is_member: false }
    }

    fn state(numbers: std::ops::Range<u64>) -> State {
        let mut state = State::new();
        state.nodes_mut().admission = Some(Admission { generation: 1, key: [1; 32] });
        for number in numbers {
            state.numbers_mut().give_nodes_below(number + 1);
            state.nodes_mut().assign(NodeId(number), assigned(number));
        }
        state
    }

    #[test]
    fn a_number_is_unknown_then_assigned_then_a_member_and_then_removed_for_good() {
        let mut state = state(2..4);
        let standing = |state: &State, node| match state.node(NodeId(node)) {
            NodeStanding::Unknown => "unknown",
            NodeStanding::Given(assigned) if assigned.is_member => "member",
            NodeStanding::Given(_) => "assigned",
            NodeStanding::Removed => "removed",
        };
        let all = |state: &State| [1, 2, 3, 4].map(|node| standing(state, node));
        assert_eq!(all(&state), ["removed", "assigned", "assigned", "unknown"]);
        state.note_members(|node| node.0 <= 2);
        assert_eq!(all(&state), ["removed", "member", "assigned", "unknown"]);
        // Twice, as in a joint change, and with a number that this state has not heard of.
        state.note_members(|node| node.0 <= 2 || node.0 == 9);
        state.note_members(|node| node.0 == 3);
        assert_eq!(all(&state), ["removed", "removed", "member", "unknown"]);
        state.note_members(|node| node.0 <= 2);
        assert_eq!(all(&state), ["removed", "removed", "removed", "unknown"], "it never comes back");
        assert_eq!(standing(&State::new(), 1), "unknown", "before the cluster has begun");
    }

    #[test]
    fn numbers_that_never_became_members_are_forgotten_and_count_as_removed() {
        let mut state = state(2..3);
        state.note_members(|_| true);
        for number in 3..3 + ASSIGNED_MAX as u64 + 1 {
            state.numbers_mut().give_nodes_below(number + 1);
            state.nodes_mut().assign(NodeId(number), assigned(number));
        }
        assert_eq!(state.nodes().given.len(), ASSIGNED_MAX + 1);
        assert_eq!(state.node(NodeId(3)), NodeStanding::Removed);
        assert!(matches!(state.node(NodeId(2)), NodeStanding::Given(assigned) if assigned.is_member));
    }
}

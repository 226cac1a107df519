//! Numbers that are given once: ids of messages, tokens of leases, numbers of nodes.

use queue_protocol::names::{LeaseToken, MessageId, NodeId};

/// Raft's number of the first node that joins; the one that made the cluster has 1.
pub(super) const FIRST_JOINED_NODE: u64 = 2;

/// The next one of each kind; all below are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    id: u64,
    token: u64,
    node: u64,
}

impl Default for Numbers {
    /// The numbers of a new cluster: none is given but that of the founder.
    fn default() -> Self {
        Self { id: 1, token: 1, node: FIRST_JOINED_NODE }
    }
}

impl Numbers {
    /// Numbers that go on from these; `None` if a state never goes on from one of them.
    pub(super) fn going_on(id: u64, token: u64, node: u64) -> Option<Self> {
        (id > 0 && token > 0 && node >= FIRST_JOINED_NODE).then_some(Self { id, token, node })
    }

    /// The id of the next message.
    pub(super) fn id(&self) -> MessageId {
        MessageId(self.id)
    }

    /// The token of the next lease.
    pub(super) fn token(&self) -> LeaseToken {
        LeaseToken(self.token)
    }

    /// The number of the next node.
    pub(super) fn node(&self) -> NodeId {
        NodeId(self.node)
    }

    /// Ids below `next` are given now.
    pub(super) fn give_ids_below(&mut self, next: u64) {
        debug_assert!(next >= self.id, "an id is given twice");
        self.id = next;
    }

    /// As many tokens as `count` are given now, from [`Numbers::token`] on.
    pub(super) fn give_tokens(&mut self, count: u64) {
        self.token += count;
    }

    /// Gives a number to a node.
    pub(super) fn give_node(&mut self) -> NodeId {
        let node = self.node();
        self.node += 1;
        node
    }

    /// Numbers of nodes below `next` count as given.
    #[cfg(test)]
    pub(super) fn give_nodes_below(&mut self, next: u64) {
        self.node = next;
    }

    /// Ids and tokens go on from `from`: nothing below is given any more.
    pub(super) fn skip_to(&mut self, from: u64) {
        (self.id, self.token) = (from, from);
    }
}

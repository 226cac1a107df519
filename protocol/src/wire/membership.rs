//! What an operator asks about the members of a cluster.

use serde::{Deserialize, Serialize};

use crate::names::NodeId;
use crate::wire::bounded::Text;

/// A change of the membership. One at a time; numbers of members are never given twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// Take in the node that waits at `address` ([`crate::wire::peer::Invite`]).
    Add {
        /// Where it listens.
        address: Text<256>,
        /// What becomes of it.
        standing: Standing,
    },
    /// Let a learner vote that was to stay one.
    Promote(NodeId),
    /// Remove a member, for good.
    Remove {
        /// The member.
        node: NodeId,
        /// Also if fewer than a majority of the remaining voters answer at present.
        force: bool,
    },
    /// Know a member at another address, where it answers.
    SetAddress {
        /// Its number.
        node: NodeId,
        /// Where clients and peers reach it.
        address: Text<256>,
    },
}

/// What becomes of a node that is taken in, when it has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Standing {
    /// It votes.
    #[default]
    Voter,
    /// It stays a learner until it is promoted.
    Learner,
    /// It votes instead of this member, which is removed in the same change.
    InsteadOf(NodeId),
}

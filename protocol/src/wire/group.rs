//! Groups of a queue as a listing shows them.

use serde::{Deserialize, Serialize};

use crate::limits::GROUPS_LISTED_MAX;
use crate::names::{Key, QueueName};
use crate::wire::bounded::Bounded;
use crate::wire::request::Consistency;

/// List the groups of a queue by name: those with messages or a weight of their own, or that a rate holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The queue.
    pub queue: QueueName,
    /// Names after this one, for the next page of 1,000.
    pub after: Option<Key>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// A page of groups.
pub type GroupList = Bounded<GroupView, GROUPS_LISTED_MAX>;

/// A group and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub group: Key,
    /// Messages in each of its turns, where the queue is fair.
    pub weight: u32,
    /// The weight is its own, and not the queue's.
    pub own_weight: bool,
    /// Messages ready.
    pub ready: u64,
    /// Messages leased.
    pub leased: u64,
    /// Messages that were leased before and are delayed.
    pub waiting: u64,
    /// Messages dead.
    pub dead: u64,
    /// Why nothing of it is handed out, though something is ready.
    pub held: Option<GroupHeld>,
}

/// What holds a group back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupHeld {
    /// The queue is ordered, and a message of the group is leased.
    Leased,
    /// The queue is ordered, and a message of the group waits to be tried again.
    Waits,
    /// The queue is ordered, and a dead message blocks the group.
    Blocked,
    /// A message of the group died, and the others are on their way.
    Parked,
    /// As many messages of the group are leased as may be.
    Full,
    /// As many messages of the group were delivered as its rate allows.
    Rate,
}

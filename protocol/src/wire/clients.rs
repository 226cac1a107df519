//! Who is connected to a node, and who holds a message.

use serde::{Deserialize, Serialize};

use crate::limits::{CLIENT_QUEUES_MAX, CLIENTS_LISTED_MAX};
use crate::names::{QueueName, SessionId};
use crate::wire::bounded::{Bounded, Text};
use crate::wire::credentials::CLIENT_NAME_SIZE_MAX;

/// List the connections of clients at the node that is asked, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Connections after this one, for the next page of 256.
    pub after: Option<u64>,
}

/// A page of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// In the order in which they were made.
    pub clients: Bounded<ClientView, CLIENTS_LISTED_MAX>,
    /// Where the next page begins; none if this was the last.
    pub next: Option<u64>,
}

/// A connection of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Its number at this node; numbers rise.
    pub connection: u64,
    /// What its requests with a stamp belong to.
    pub session: SessionId,
    /// What the program calls itself; empty if it does not say.
    pub client: Text<CLIENT_NAME_SIZE_MAX>,
    /// Where it comes from.
    pub address: Text<64>,
    /// Milliseconds since it connected.
    pub connected_ms: u64,
    /// Requests without an answer, parked ones included.
    pub in_flight: u32,
    /// Leases and pops that wait for a message.
    pub parked: u32,
    /// Queues that they wait for, the first few by name.
    pub parked_on: Bounded<QueueName, CLIENT_QUEUES_MAX>,
    /// Messages leased to its session, as this node has applied it; counted up to 1,000.
    pub leased: u32,
}

/// Who holds a leased message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// The session that leased it; none if the broker itself did.
    pub session: Option<SessionId>,
    /// Wall time of the lease, Unix milliseconds; extending it changes nothing.
    pub since_ms: u64,
    /// Milliseconds since then.
    pub held_ms: u64,
    /// The client of that session, if the node that answers has heard of it: after a change of the leader it has not until
    /// the client connects to it.
    pub heard: Option<Heard>,
}

/// What a node knows of the client of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// What the program calls itself; empty if it does not say.
    pub client: Text<CLIENT_NAME_SIZE_MAX>,
    /// Where it comes from.
    pub address: Text<64>,
    /// It is connected to this node now.
    pub connected: bool,
}

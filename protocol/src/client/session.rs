//! One session of a client: its id, its numbers, its connections, and who leads as far as it knows.

use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::dial::Dial;
use super::links::{Links, derive, locked};
use super::numbers::Numbers;
use crate::names::{ClusterId, SessionId};
use crate::response::LeaderView;

/// A node that leads, and the connection to it.
#[derive(Clone)]
pub(super) struct Leader {
    pub(super) address: String,
    pub(super) view: LeaderView,
    pub(super) connection: Arc<Connection>,
}

pub(super) struct Session {
    /// 0 for the session that the caller named; others follow when a session expires between two requests.
    generation: u64,
    pub(super) links: Links,
    pub(super) numbers: Numbers,
    leader: Mutex<Option<Leader>>,
    /// Held by the one caller that looks for the leader; the others wait for what it finds.
    pub(super) search: tokio::sync::Mutex<()>,
}

impl Session {
    pub(super) fn new(
        named: SessionId,
        generation: u64,
        dial: Arc<dyn Dial>,
        cluster: Option<ClusterId>,
    ) -> Self {
        let id = match generation {
            0 => named,
            _ => {
                let [bytes, _] = halves(derive(named, b"session", generation));
                SessionId(u128::from_le_bytes(bytes))
            }
        };
        Self {
            generation,
            links: Links::new(dial, id, cluster),
            numbers: Numbers::new(),
            leader: Mutex::new(None),
            search: tokio::sync::Mutex::new(()),
        }
    }

    /// The session after this one.
    pub(super) fn next(&self, named: SessionId, dial: Arc<dyn Dial>) -> Self {
        Self::new(named, self.generation + 1, dial, self.links.cluster())
    }

    /// The leader, if it is known and connected.
    pub(super) fn leader(&self) -> Option<Leader> {
        locked(&self.leader).clone().filter(|leader| !leader.connection.is_gone())
    }

    pub(super) fn set_leader(&self, leader: Leader) {
        *locked(&self.leader) = Some(leader);
    }

    /// Forgets the leader if it is the one behind `connection`; whether it was.
    pub(super) fn drop_leader(&self, connection: &Arc<Connection>) -> bool {
        let taken = locked(&self.leader).take_if(|leader| Arc::ptr_eq(&leader.connection, connection));
        taken.is_some()
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let (first, second) = bytes.split_at(16);
    [first.try_into().expect("half of it"), second.try_into().expect("half of it")]
}

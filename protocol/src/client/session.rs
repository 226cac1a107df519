//! One session of a client: its id, its numbers, its connections, and who leads as far as it knows.

use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::dial::Dial;
use super::links::{Links, derive, locked};
use super::numbers::Numbers;
use crate::error::{Error, ErrorCode};
use crate::names::{ClusterId, SessionId};
use crate::wire::response::LeaderView;

/// A node to ask, and the connection to it.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) connection: Arc<Connection>,
    /// Its view, if it leads.
    pub(super) leader: Option<Arc<LeaderView>>,
}

impl Target {
    /// The node at `address`, as it described itself when it was connected to.
    pub(super) fn of(address: String, connection: Arc<Connection>) -> Self {
        let accepted = connection.accepted();
        let leader = accepted.leader.clone().filter(|leader| leader.node == accepted.node.node);
        Self { address, connection, leader: leader.map(Arc::new) }
    }
}

pub(super) struct Session {
    /// 0 for the first session of a client; others follow when one is closed, expires, or never was used in time.
    generation: u64,
    pub(super) links: Links,
    pub(super) numbers: Numbers,
    leader: Mutex<Option<Arc<Target>>>,
    /// Held by the one caller that looks for the leader; the others wait for what it finds.
    pub(super) search: tokio::sync::Mutex<()>,
}

impl Session {
    pub(super) fn new(
        seed: u128,
        generation: u64,
        dial: Arc<dyn Dial>,
        name: Arc<str>,
        cluster: Option<ClusterId>,
    ) -> Self {
        let id = match generation {
            0 => SessionId(seed),
            _ => {
                let [bytes, _] = halves(derive(SessionId(seed), b"session", generation));
                SessionId(u128::from_le_bytes(bytes))
            }
        };
        Self {
            generation,
            links: Links::new(dial, id, name, cluster),
            numbers: Numbers::new(),
            leader: Mutex::new(None),
            search: tokio::sync::Mutex::new(()),
        }
    }

    /// The session after this one.
    pub(super) fn next(&self, seed: u128, dial: Arc<dyn Dial>, name: Arc<str>) -> Self {
        Self::new(seed, self.generation + 1, dial, name, self.links.cluster())
    }

    /// The leader, if one is known; its connection may be gone.
    pub(super) fn leader(&self) -> Option<Arc<Target>> {
        locked(&self.leader).clone()
    }

    pub(super) fn set_leader(&self, leader: Arc<Target>) {
        *locked(&self.leader) = Some(leader);
    }

    /// `target` does not lead, or is asked as somebody else; the next use of it says and hears so in a new hello.
    pub(super) fn leave(&self, target: &Arc<Target>) {
        self.drop_leader(target);
        self.links.forget(&target.address);
    }

    /// Leaves `target` if it was refused there because its key has ended, and there is another one by now; whether it was.
    pub(super) fn takes_another_key(&self, target: &Arc<Target>, refused: &Error) -> bool {
        let takes = refused.code == ErrorCode::KeyEnded && self.links.has_another_key(&target.connection);
        if takes {
            self.leave(target);
        }
        takes
    }

    /// Forgets the leader if it is `target`; whether it was.
    pub(super) fn drop_leader(&self, target: &Arc<Target>) -> bool {
        locked(&self.leader).take_if(|leader| Arc::ptr_eq(leader, target)).is_some()
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let (first, second) = bytes.split_at(16);
    [first.try_into().expect("half of it"), second.try_into().expect("half of it")]
}

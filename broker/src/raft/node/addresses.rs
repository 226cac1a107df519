//! Where the members are, for whoever dials them.
//!
//! ```text
//! an operator's word beside the log ──► before ──► the membership that was applied ──► dialed
//! a member's own word ──► told to the leader, which looks there and makes it a membership (`moves`)
//!                    └──► dialed at once by a node that is without a quorum, and has looked itself
//! ```
//!
//! While there is a quorum no Raft message goes to an announced address before the change is applied here. So it was
//! committed without the process that moved, and whoever leads later knows of it and refuses an older process of that node.
//! Without a quorum nothing can be agreed on: then the nodes that moved are what could make one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use queue_protocol::names::NodeId;
use queue_protocol::wire::hello::PeerHello;
use queue_protocol::wire::peer::Announcement;
use tokio::time::Instant;

use super::floors::Session;
use super::overrides::Override;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::raft::group::machine::Machine;
use crate::raft::openraft::types::Member;
use crate::raft::{Consensus, Raft};

impl Consensus {
    /// A peer that was let in has opened a connection.
    pub(super) fn enter(&self, peer: PeerHello) -> Session {
        self.network.came(peer.node);
        self.gate.floors.enter(peer)
    }
}

/// What was announced longer ago does not count any more: a node repeats it every second.
const ANNOUNCED_AGE_MAX: Duration = Duration::from_secs(5);
/// Announcements kept; a cluster has at most so many members.
const ANNOUNCED_MAX: usize = 64;

/// An announcement that is repeated.
struct Announced {
    said: Announcement,
    heard: Instant,
    /// The node itself said it here, not one that it told.
    first_hand: bool,
    /// Since when nothing of this node has answered where it was.
    silent_since: Option<Instant>,
}

/// Where members are: as the cluster has agreed, as they say, and as an operator says.
pub(crate) struct Addresses {
    machine: Arc<Machine>,
    raft: OnceLock<Raft>,
    /// What stands in the place of an address of the membership, by number.
    overrides: Mutex<BTreeMap<NodeId, Override>>,
    announced: Mutex<BTreeMap<NodeId, Announced>>,
    /// Where a node was found while there was no quorum, and by which start of it.
    found: Mutex<BTreeMap<NodeId, (u32, String)>>,
}

impl Addresses {
    pub(crate) fn new(machine: Arc<Machine>) -> Arc<Self> {
        let (overrides, announced, found) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { machine, raft: OnceLock::new(), overrides, announced, found })
    }

    /// Raft has begun; once.
    pub(in crate::raft) fn begin(&self, raft: Raft) {
        assert!(self.raft.set(raft).is_ok(), "Raft begins once");
    }

    pub(in crate::raft) fn overrides(&self) -> MutexGuard<'_, BTreeMap<NodeId, Override>> {
        self.overrides.locked()
    }

    fn announced(&self) -> MutexGuard<'_, BTreeMap<NodeId, Announced>> {
        self.announced.locked()
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<NodeId, (u32, String)>> {
        self.found.locked()
    }

    /// A node is dialed there from now on, until a later start of it is known by the membership.
    pub(in crate::raft) fn find(&self, node: NodeId, epoch: u32, address: &str) {
        self.found().insert(node, (epoch, address.to_owned()));
    }

    /// A member as the newest membership has it, committed or not: an older process of it is refused from then on.
    pub(in crate::raft) fn newest(&self, node: NodeId) -> Option<Member> {
        let metrics = self.raft.get()?.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node.0).cloned()
    }

    /// Where a member is dialed; `given` is how Raft has it. `None` while it is only known that it moved.
    pub(in crate::raft) fn of(&self, node: NodeId, given: &Member) -> Option<String> {
        if let Some(instead) = self.overrides().get(&node) {
            return Some(instead.address.clone());
        }
        let applied = self.machine.member(node.0).filter(|member| member.store == given.store);
        let known = applied.as_ref().map_or(0, |member| member.epoch);
        if let Some((_, address)) = self.found().get(&node).filter(|(epoch, _)| *epoch > known) {
            return Some(address.clone());
        }
        // A new member, or one of a log that is not applied yet.
        let new = || (given.epoch == 0).then(|| given.address.clone());
        applied.map(|member| member.address).or_else(new)
    }

    /// Members said where they are, and `peer` passes it on.
    pub(crate) fn hear(&self, peer: &PeerHello, announcements: &[Announcement]) {
        for said in announcements {
            let first_hand = said.node == peer.node;
            if first_hand && (said.store, said.epoch) != (peer.store, peer.epoch) {
                continue;
            }
            self.note(said.clone(), first_hand);
        }
    }

    /// The same of one node. An older process says nothing any more.
    pub(in crate::raft) fn note(&self, said: Announcement, first_hand: bool) {
        let mut announced = self.announced();
        let now = Instant::now();
        announced.retain(|_, known| known.heard.elapsed() <= ANNOUNCED_AGE_MAX);
        if let Some(known) = announced.get_mut(&said.node) {
            if known.said == said {
                known.heard = now;
                known.first_hand |= first_hand;
                return;
            }
            if known.said.epoch > said.epoch {
                return;
            }
        } else if announced.len() >= ANNOUNCED_MAX {
            return;
        }
        let node = said.node;
        announced.insert(node, Announced { said, heard: now, first_hand, silent_since: None });
    }

    /// What was said lately; `first_hand`: only by the nodes themselves.
    pub(in crate::raft) fn said(&self, first_hand: bool) -> Vec<Announcement> {
        let announced = self.announced();
        let fresh = announced.values().filter(|known| known.heard.elapsed() <= ANNOUNCED_AGE_MAX);
        fresh.filter(|known| known.first_hand || !first_hand).map(|known| known.said.clone()).collect()
    }

    /// Nothing of this node answered where it was, or something did; for how long nothing has.
    pub(in crate::raft) fn old_place(&self, node: NodeId, is_silent: bool) -> Duration {
        let mut announced = self.announced();
        let Some(known) = announced.get_mut(&node) else { return Duration::ZERO };
        if is_silent {
            known.silent_since.get_or_insert_with(Instant::now).elapsed()
        } else {
            known.silent_since = None;
            Duration::ZERO
        }
    }
}

/// Why a process is none that came to the address of its member, or started after that one.
pub(super) fn came_before(peer: &PeerHello, member: &Member) -> Option<String> {
    let Member { epoch, boot, address, .. } = member;
    if peer.epoch > *epoch
        || (peer.epoch, peer.boot) == (*epoch, *boot)
        || mutants::on(Mutant::OlderProcessLetIn)
    {
        return None;
    }
    let started = peer.epoch;
    Some(format!(
        "it is known at {address} since its start number {epoch}, and this is another process, of start number {started}: its \
         data directory is a copy from before"
    ))
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::StoreId;

    use super::*;

    #[test]
    fn a_process_older_than_the_one_that_came_to_the_address_is_refused_by_all_who_know_the_address() {
        let member = Member { epoch: 7, boot: 70, ..Member::default() };
        for (epoch, boot, is_admitted) in [(6, 60, false), (7, 69, false), (7, 70, true), (8, 80, true)] {
            let peer = PeerHello { epoch, boot, ..PeerHello::nobody(NodeId(3), StoreId(7)) };
            let said = came_before(&peer, &member);
            assert_eq!(said.is_none(), is_admitted, "{epoch} {boot}: {said:?}");
            assert_eq!(came_before(&peer, &Member::default()), None, "it never moved");
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn an_older_process_that_is_let_in_is_noticed() {
        let test = "raft::node::addresses::tests::a_process_older_than_the_one_that_came_to_the_address_is_refused_by_all_who_know_the_address";
        assert!(mutants::is_caught_by(test, Mutant::OlderProcessLetIn));
    }
}

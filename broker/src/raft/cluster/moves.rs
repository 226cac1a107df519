//! Members that are somewhere else than the cluster thinks: they say so, the leader looks, and the change is replicated.
//!
//! ```text
//! node at B, known at A ──► its peers ──► the leader:  A silent, or another store's, for 10 s
//!   "I am at B"                                        B answers: number, store, floors, a later start
//!                                                      ──► membership {B, that start} ──► dialed at B, older starts refused
//! ```
//!
//! Who is told by a member passes it on to the leader, which the member may not find. It needs no trust: the leader believes
//! only what answers it. A node that has been without a quorum for as long looks in the same way and dials what it finds:
//! when a majority moved, or what a leader wrote alone keeps the others from being elected, no change could be replicated.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::type_config::TypeConfigExt;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::handshake::Called;
use queue_protocol::wire::hello::PeerHello;
use queue_protocol::wire::peer::{Announcement, PeerRequest};
use tokio::time::Instant;

use crate::mutants::{self, Mutant};
use crate::raft::node::dial::{RefusedBy, SomebodyElse};
use crate::raft::node::link::Lane;
use crate::raft::openraft::types::{Member, TypeConfig};
use crate::raft::{Consensus, dial_peer};

/// How often a member that moved says so, and the leader looks.
const EVERY: Duration = Duration::from_secs(1);
/// For so long nothing of a node must have answered where it was.
const SILENT_MIN: Duration = Duration::from_secs(10);
/// A leader that was answered longer ago has no quorum.
const QUORUM_AGE_MAX: Duration = Duration::from_secs(2);
/// How long a change may take before the leader looks again: it may have lost its quorum.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a look at an address may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Who answers at an address where a node is expected.
enum There {
    /// Nobody who speaks our protocol.
    Nobody,
    /// Another node, or another store.
    Another,
    /// It, or one that refuses us without saying who it is.
    Perhaps(Option<Box<PeerHello>>),
}

impl Consensus {
    /// Where this node is.
    fn own_word(&self) -> Announcement {
        let me = &self.me.credentials;
        let address = Text::cut(self.me.address.clone());
        Announcement { node: me.node, store: me.store, address, epoch: me.epoch }
    }

    /// This node's own word, if the cluster knows it elsewhere, or may: a node that hears no leader may have been known
    /// elsewhere meanwhile, and not have heard of it.
    fn announcement(&self) -> Option<(Announcement, Member)> {
        let member = self.members().0.remove(&self.me.credentials.node.0)?;
        (member.address != self.me.address || !self.has_quorum()).then_some((self.own_word(), member))
    }

    /// Says where this node is to those that it was told of when it joined: nothing has reached it since.
    fn announce_to_told(self: &Arc<Self>) {
        let said = PeerRequest::Announce(Bounded::new(vec![self.own_word()]).expect("it is one"));
        for (node, address) in self.told_at_join() {
            let (this, said) = (Arc::clone(self), said.clone());
            TypeConfig::spawn(async move {
                let called = Some(Called { node, store: None });
                let (outside, me) = (&this.outside, &this.me.credentials);
                let saying = async {
                    let mut stream = dial_peer(outside, me, Some(&this.gate), &address, called).await?;
                    stream.ask(said).await
                };
                // It is said again.
                let _ = tokio::time::timeout(EVERY, saying).await;
            });
        }
    }

    /// Says where this node is, to all, and what others said of themselves, to the leader.
    fn announce(self: &Arc<Self>, own: Option<Announcement>) {
        let me = self.me.credentials.node;
        if let Some(own) = own.clone().filter(|_| self.leads()) {
            self.addresses.note(own, true);
        }
        let leader = self.seat.known_leader();
        for (node, member) in self.members().0.into_iter().filter(|(node, _)| *node != me.0) {
            let mut said: Vec<Announcement> = own.clone().into_iter().collect();
            if leader == Some(NodeId(node)) {
                said.extend(self.addresses.said(true).into_iter().filter(|said| said.node != me));
            }
            said.truncate(64);
            if said.is_empty() {
                continue;
            }
            let link = self.network.link(node, &member);
            TypeConfig::spawn(async move {
                let said = PeerRequest::Announce(Bounded::new(said).expect("so many are left"));
                // It is said again.
                let _ = link.ask(Lane::Urgent, said, Vec::new(), EVERY).await;
            });
        }
    }

    async fn look(&self, address: &str, called: Called) -> There {
        let dialed = dial_peer(&self.outside, &self.me.credentials, Some(&self.gate), address, Some(called));
        match tokio::time::timeout(LOOK_TIMEOUT, dialed).await {
            Ok(Ok(stream)) => There::Perhaps(Some(Box::new(stream.hello))),
            Ok(Err(error)) if SomebodyElse::is(&error) => There::Another,
            Ok(Err(error)) => match RefusedBy::of(&error) {
                Some(by) if by.error.code == ErrorCode::WrongCluster => There::Another,
                // This node itself: it has the address that the other one had.
                Some(by)
                    if by.error.code == ErrorCode::NotPermitted
                        && called.node != self.me.credentials.node =>
                {
                    There::Another
                }
                Some(_) => There::Perhaps(None),
                None => There::Nobody,
            },
            Err(_) => There::Nobody,
        }
    }

    /// It leads and is followed, or follows.
    fn has_quorum(&self) -> bool {
        if self.leads() {
            self.seat.acked_age().is_some_and(|age| age < QUORUM_AGE_MAX)
        } else {
            self.seat.view().leader.is_some()
        }
    }

    /// Looks after one announcement. When it counts, the leader makes it a membership, and one of those that have had no
    /// quorum for long dials it.
    async fn judge(&self, said: Announcement, is_without_quorum: bool) {
        let Announcement { node, store, address, epoch } = said;
        let (mut members, _) = self.members();
        let Some(member) = members.remove(&node.0).filter(|member| member.store == store.0) else { return };
        let dialed = self.network.link(node.0, &member).address();
        let known = if is_without_quorum { &dialed } else { &member.address };
        if *known == *address || (epoch <= member.epoch && !is_without_quorum) {
            return;
        }
        let called = Called { node, store: Some(store) };
        let is_silent = !matches!(self.look(known, called).await, There::Perhaps(_));
        let silence = self.addresses.old_place(node, is_silent);
        if silence < SILENT_MIN && !mutants::on(Mutant::MovedAtOnce) {
            return;
        }
        let moved = match self.look(&address, called).await {
            // It leads, and is where it says.
            There::Perhaps(None) if node == self.me.credentials.node => Ok(self.me.credentials.hello()),
            There::Perhaps(Some(hello)) => Ok(*hello),
            There::Nobody | There::Another | There::Perhaps(None) => {
                Err("it does not answer there".to_owned())
            }
        };
        let changed = match moved {
            Ok(hello) if is_without_quorum => self.find(node, &member, &address, &hello),
            Ok(hello) if self.leads() => self.set_address(node, member.clone(), &address, hello).await,
            Ok(_) => Ok(()),
            Err(why) => Err(Error::again(ErrorCode::AddressUnreachable, why)),
        };
        if let Err(error) = changed {
            let (name, from, to) = (&member.name, &member.address, &*address);
            tracing::info!(node = name, from, to, %error, "a member is not known elsewhere yet");
        }
    }

    /// Dials a member at `address`, where the process `hello` answers, until the cluster knows it there.
    fn find(&self, node: NodeId, member: &Member, address: &str, hello: &PeerHello) -> Result<(), Error> {
        if node == self.me.credentials.node {
            return Ok(());
        }
        self.gate.floors.admit(hello, Some(member))?;
        let (name, from) = (&member.name, &member.address);
        tracing::warn!(
            node = name,
            from,
            to = address,
            "without a quorum, a member is dialed where it says that it is"
        );
        self.addresses.find(node, hello.epoch, address);
        self.network.came(node);
        Ok(())
    }

    /// Makes `address` that of a member; the process `hello` answers there.
    async fn set_address(
        &self,
        node: NodeId,
        member: Member,
        address: &str,
        hello: PeerHello,
    ) -> Result<(), Error> {
        if node != self.me.credentials.node {
            self.gate.floors.admit(&hello, Some(&member))?;
        }
        let (from, name) = (member.address.clone(), member.name.clone());
        let (epoch, boot) = (hello.epoch, hello.boot);
        let moved = Member { address: address.to_owned(), epoch, boot, ..member };
        let change = self.change(ChangeMembers::SetNodes([(node.0, moved)].into()));
        let late = |_| Error::again(ErrorCode::TimedOut, "the change is not replicated yet");
        tokio::time::timeout(CHANGE_TIMEOUT, change).await.map_err(late)??;
        tracing::info!(node = name, from, to = address, epoch, "a member is known at another address");
        Ok(())
    }

    /// The operator says where a member is: it must answer there.
    pub(in crate::raft) async fn place(&self, node: NodeId, address: &str) -> Result<(), Error> {
        let (mut members, _) = self.members();
        let missing = || Error::refused(ErrorCode::NodeNotFound, format!("no member has the number {node}"));
        let member = members.remove(&node.0).ok_or_else(missing)?;
        if member.address == address {
            return Ok(());
        }
        let _guard = self.invitations.begin()?;
        let called = Called { node, store: Some(StoreId(member.store)) };
        let hello = match self.look(address, called).await {
            There::Perhaps(Some(hello)) => Ok(*hello),
            There::Perhaps(None) if node == self.me.credentials.node => Ok(self.me.credentials.hello()),
            There::Perhaps(None) => Err("the node there refuses the leader"),
            There::Another => Err("another node answers there"),
            There::Nobody => Err("nobody answers there"),
        };
        let hello = hello.map_err(|why| {
            let what = format!(
                "{} finds no {} at {address}: {why}. Nothing was changed; start it there first, with \
                 --advertise-address {address}",
                self.me.name, member.name
            );
            Error::refused(ErrorCode::AddressUnreachable, what)
        })?;
        self.set_address(node, member, address, hello).await
    }
}

/// Says every second where this node is, if the cluster knows it elsewhere. Ends with the node.
pub(in crate::raft) async fn tell(consensus: Weak<Consensus>) {
    let (mut warned, mut has_overrides): (Option<String>, bool) = (None, false);
    loop {
        let Some(this) = consensus.upgrade() else { return };
        // Raft tells the members a moment after it has begun.
        if !has_overrides {
            if this.members().0.is_empty() {
                this.announce_to_told();
            } else {
                has_overrides = true;
                this.take_overrides().await;
            }
        }
        let own = this.announcement();
        let known = own.as_ref().map(|(_, member)| member.address.clone());
        let elsewhere = known.filter(|known| *known != this.me.address);
        let (name, at) = (&this.me.name, &this.me.address);
        match &elsewhere {
            Some(known) if warned.as_ref() != Some(known) => tracing::warn!(
                known,
                at,
                "the cluster knows {name} at {known}, and this node says that it is at {at}. It tells the others, which dial \
                 it there once nothing of it has answered at {known} for 10 s. At once: queuectl cluster set-address {name} \
                 {at}. If no node finds the others: stop them, and queued store set-address"
            ),
            None if warned.is_some() => tracing::info!(at, "the cluster knows this node where it is"),
            _ => {}
        }
        warned = elsewhere;
        this.announce(own.map(|(own, _)| own));
        this.drop_overtaken().await;
        let pulse = this.pulse;
        drop(this);
        pulse.beat(EVERY).await;
    }
}

/// Looks after announcements while this node leads, or has no quorum. Ends with the node.
pub(in crate::raft) async fn judge(consensus: Weak<Consensus>) {
    let mut quorum = Instant::now();
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let has_quorum = this.has_quorum();
        if has_quorum {
            quorum = Instant::now();
        }
        let is_without = quorum.elapsed() >= SILENT_MIN;
        let looks = this.leads() || !has_quorum;
        let said = if looks { this.addresses.said(false) } else { Vec::new() };
        futures_util::future::join_all(said.into_iter().map(|said| this.judge(said, is_without))).await;
        let pulse = this.pulse;
        drop(this);
        pulse.beat(EVERY).await;
    }
}

//! Members come and lead: the first node, joining as a learner, transfer of leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{ChangeMembers, Instant as _, RaftMetrics};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{NodeId, StoreId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::peer::{Announcement, AskBootstrap, Holder, Join, Joined};
use queue_protocol::wire::response::LeaderView;

use super::health::heard;
use crate::queue::NodeStanding;
use crate::queue::command::Op;
use crate::queue::reply::Outcome;
use crate::raft::openraft::types::{Member, TypeConfig};
use crate::raft::{Consensus, Me, StartError, dial_peer};

impl Member {
    fn of(me: &Me) -> Self {
        let (name, address) = (me.name.clone(), me.address.clone());
        Self { name, address, store: me.credentials.store.0, ..Self::default() }
    }
}

impl Consensus {
    /// Makes this node the only member of its cluster, unless the cluster has begun already.
    pub(crate) async fn bootstrap(&self) -> Result<(), StartError> {
        let members = BTreeMap::from([(self.me.credentials.node.0, Member::of(&self.me))]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(StartError::Raft(error.to_string())),
        }
    }

    pub(in crate::raft) fn members(&self) -> (BTreeMap<u64, Member>, BTreeSet<u64>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let nodes = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        (nodes, membership.voter_ids().collect())
    }

    /// Takes a proved node in as a learner; it votes when it has caught up. The same store gets the same number.
    /// `seal` hides the admission key, which it is given.
    pub(in crate::raft) async fn join(
        &self,
        join: Join,
        store: StoreId,
        seal: impl Fn([u8; 32]) -> [u8; 32],
    ) -> Result<Joined, Error> {
        let Ok(mut last) = self.joining.try_lock() else {
            return Err(Error::again(ErrorCode::ChangeInProgress, "another node is joining"));
        };
        let joined = self.take_in(join, store, seal).await;
        *last = joined.as_ref().err().map(|error| (store, error.clone()));
        joined
    }

    async fn take_in(
        &self,
        join: Join,
        store: StoreId,
        seal: impl Fn([u8; 32]) -> [u8; 32],
    ) -> Result<Joined, Error> {
        self.read_index().await?;
        self.check_not_rotating()?;
        let (members, _) = self.members();
        if self.machine.read(|state, _| state.admission()).is_none() {
            return Err(Error::again(ErrorCode::NoLeader, "the cluster is only just beginning"));
        }
        let joined = |node: u64, name: &str| self.given(NodeId(node), name, &join, &seal);
        if let Some((node, member)) = members.iter().find(|(_, member)| member.store == store.0) {
            return joined(*node, &member.name);
        }
        if let Standing::InsteadOf(old) = join.standing
            && !members.contains_key(&old.0)
        {
            let what = format!("no member has the number {old}");
            return Err(Error::refused(ErrorCode::NodeNotFound, what));
        }
        self.check_free(Some(&join.address), join.name.as_deref(), join.standing)?;
        self.check_reachable(&join.address, store).await?;
        let node = self.assign_node(store, join.key).await?;
        let name = join.name.as_deref().map_or_else(|| format!("n{node}"), str::to_owned);
        self.check_free(None, Some(&name), join.standing)?;
        let (address, standing) = (join.address.to_string(), join.standing);
        let member = Member { name: name.clone(), address, store: store.0, standing, ..Member::default() };
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(node.0, member)]))).await?;
        joined(node.0, &name)
    }

    /// What a node is given with its number.
    fn given(
        &self,
        node: NodeId,
        name: &str,
        join: &Join,
        seal: impl Fn([u8; 32]) -> [u8; 32],
    ) -> Result<Joined, Error> {
        let me = &self.me.credentials;
        let keys = me.ring.keys().expect("a member has its keys");
        if self.machine.read(|state, _| state.admission()) != Some(keys.known()) {
            return Err(Error::again(
                ErrorCode::ChangeInProgress,
                "this node has not the cluster's newest keys yet",
            ));
        }
        let NodeStanding::Given(given) = self.machine.read(|state, _| state.node(node)) else {
            let what = format!("number {node} was given, and is not any more");
            return Err(Error::again(ErrorCode::ChangeInProgress, what));
        };
        if given.key != join.key {
            let what = format!("this data directory is node {node} already, with another key");
            return Err(Error::refused(ErrorCode::NotPermitted, what));
        }
        let others = self.members().0.into_iter().filter(|(other, _)| *other != node.0);
        let others = others.take(64).map(|(other, member)| Announcement {
            node: NodeId(other),
            store: StoreId(member.store),
            address: Text::cut(member.address),
            epoch: member.epoch,
        });
        Ok(Joined {
            cluster: me.cluster,
            node,
            name: Text::cut(name),
            assigned: given.index,
            generation: keys.generation,
            admission: keys.admission.public(),
            sealed: seal(keys.admission.private()),
            others: Bounded::new(others.collect()).expect("so many are taken"),
        })
    }

    /// The member at the address of a node that asks with an empty directory, as far as this node knows.
    pub(in crate::raft) fn holder_of(&self, ask: &AskBootstrap, asker: StoreId) -> Option<Holder> {
        let address = ask.peers.get(usize::from(ask.position))?;
        let (members, _) = self.members();
        let mut others = members.iter().filter(|(_, member)| member.store != asker.0);
        let (node, member) = others.find(|(_, member)| member.address == **address)?;
        Some(Holder { node: NodeId(*node), name: Text::cut(member.name.clone()) })
    }

    /// Address and name belong to no member but the one that the new node replaces.
    pub(super) fn check_free(
        &self,
        address: Option<&str>,
        name: Option<&str>,
        standing: Standing,
    ) -> Result<(), Error> {
        let (members, _) = self.members();
        let others = members.iter().filter(|(node, _)| standing != Standing::InsteadOf(NodeId(**node)));
        for (node, member) in others {
            let taken = if address == Some(&member.address) {
                format!("address {}", member.address)
            } else if name == Some(&member.name) {
                format!("name {}", member.name)
            } else {
                continue;
            };
            let what = format!(
                "{taken} belongs to member {0} (number {node}). If the data of {0} is gone, take the new node in its place: repeat \
                 queued join with --replace {node}, or, while the new node waits in queued join without --at, queuectl cluster \
                 replace {0} HOST:PORT",
                member.name
            );
            return Err(Error::refused(ErrorCode::NodeExists, what));
        }
        Ok(())
    }

    /// The node that wants to join must answer, with the secret, where others will look for it.
    async fn check_reachable(&self, address: &str, store: StoreId) -> Result<(), Error> {
        let refuse = |why: String| {
            let what = format!("the leader {} cannot reach {address}: {why}", self.me.name);
            Err(Error::refused(ErrorCode::AddressUnreachable, what))
        };
        let joining = Some(queue_protocol::wire::hello::JOINING.into());
        match dial_peer(&self.outside, &self.me.credentials, Some(&self.gate), address, joining).await {
            Ok(stream) if stream.hello.store == store => Ok(()),
            Ok(_) => refuse("another node answers there".to_owned()),
            Err(error) => refuse(error.to_string()),
        }
    }

    async fn assign_node(&self, store: StoreId, key: [u8; 32]) -> Result<NodeId, Error> {
        match self.ask_state(Op::AssignNode { store, key }).await {
            Some(Ok(Outcome::Node(node))) => Ok(node),
            _ => Err(Error::again(ErrorCode::NoLeader, "leadership was lost while a number was assigned")),
        }
    }

    /// Moves leadership and waits until another node leads.
    pub(crate) async fn transfer(&self, to: Option<NodeId>, within: Duration) -> Result<LeaderView, Error> {
        let me = self.me.credentials.node.0;
        if self.seat.leadership().is_none() {
            return Err(self.not_leader());
        }
        let (members, voters) = self.members();
        let to = match to {
            Some(NodeId(node)) if voters.contains(&node) => node,
            Some(node) => {
                let what = format!("no voter has the number {node}");
                return Err(Error::refused(ErrorCode::NodeNotFound, what));
            }
            None => self.best_follower(&voters).ok_or_else(|| {
                Error::refused(ErrorCode::NodeNotFound, "no other voter has answered; nobody can take over")
            })?,
        };
        let name = members.get(&to).map_or("", |member| &member.name);
        let mut watch = self.watch();
        if to != me {
            if !self.is_heard(&self.raft.metrics().borrow_watched(), to) {
                let what = format!("{name} does not answer, so leadership stays where it is");
                return Err(Error::refused(ErrorCode::AddressUnreachable, what));
            }
            let triggered = self.raft.trigger().transfer_leader(to).await;
            triggered.map_err(|error| Error::again(ErrorCode::NoLeader, error.to_string()))?;
        }
        let wanted = async {
            loop {
                if let Some(leader) =
                    watch.borrow_and_update().leader.clone().filter(|leader| leader.node.0 == to)
                {
                    return Some(leader);
                }
                watch.changed().await.ok()?;
            }
        };
        let moved = tokio::time::timeout(within, wanted).await.ok().flatten();
        moved.ok_or_else(|| {
            Error::refused(ErrorCode::TimedOut, format!("{name} did not take leadership over in {within:?}"))
        })
    }

    /// Whether `node` has answered this leader lately.
    fn is_heard(&self, metrics: &RaftMetrics<TypeConfig>, node: u64) -> bool {
        heard(metrics, node).is_some_and(|at| at.elapsed() <= self.options.election_min)
    }

    /// The voter, other than this node, that has most of the log; one that answered lately.
    fn best_follower(&self, voters: &BTreeSet<u64>) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let me = self.me.credentials.node.0;
        let replication = metrics.replication.as_ref()?;
        let others = replication
            .iter()
            .filter(|(node, _)| voters.contains(*node) && **node != me && self.is_heard(&metrics, **node));
        others
            .filter_map(|(node, matched)| Some((matched.as_ref()?.index, *node)))
            .max()
            .map(|(_, node)| node)
    }
}

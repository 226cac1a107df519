//! What an operator changes about the members: taken in, promoted, removed, replaced; and nodes that must not lead.
//!
//! One change at a time, and never one that a majority of what remains could not carry: a member that is gone is
//! replaced or removed, a cluster is not sawn off the branch it sits on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Weak;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::type_config::TypeConfigExt as _;
use openraft::{Instant as _, Membership};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::handshake::Peer;
use queue_protocol::wire::membership::{MemberChange, Standing};
use queue_protocol::wire::proof::{Side, Told};
use queue_protocol::wire::response::MemberView;

use super::health::heard;
use crate::raft::Consensus;
use crate::raft::group::clocks::Instant;
use crate::raft::group::leadership::Leadership;
use crate::raft::node::pulse;
use crate::raft::openraft::types::{Member, TypeConfig};

/// A learner that has all that the leader's log held so long ago may vote: it keeps pace, however large entries are.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1);
const PROMOTE_EVERY: Duration = pulse::LOOK_EVERY;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest that leadership may take to move away from a node that is removed or drained.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

type Change = ChangeMembers<u64, Member>;

pub(super) fn view_of(node: u64, member: &Member, voter: bool) -> MemberView {
    MemberView {
        node: NodeId(node),
        name: Text::cut(member.name.clone()),
        address: Text::cut(member.address.clone()),
        voter,
        matched_index: None,
    }
}

impl Consensus {
    /// Changes the members, and tells of the one it was about.
    ///
    /// # Errors
    /// Refused if it cannot be, to be repeated if another change is under way or this node does not lead.
    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<MemberView, Error> {
        self.read_index().await?;
        if let MemberChange::Add { .. } | MemberChange::Remove { .. } = &change {
            self.check_not_rotating()?;
        }
        match change {
            MemberChange::Add { address, standing } => self.invite(&address, standing).await,
            MemberChange::Promote(node) => self.let_vote(node).await,
            MemberChange::Remove { node, force } => self.remove(node, force).await,
            MemberChange::SetAddress { node, address } => {
                self.place(node, &address).await?;
                let (member, voter) = self.member(node)?;
                Ok(view_of(node.0, &member, voter))
            }
        }
    }

    pub(in crate::raft) fn member(&self, node: NodeId) -> Result<(Member, bool), Error> {
        let (members, voters) = self.members();
        let member = members.get(&node.0).cloned();
        let missing = || Error::refused(ErrorCode::NodeNotFound, format!("no member has the number {node}"));
        member.map(|member| (member, voters.contains(&node.0))).ok_or_else(missing)
    }

    /// Lets a learner vote that was to stay one; it does as soon as it has caught up.
    async fn let_vote(&self, node: NodeId) -> Result<MemberView, Error> {
        let (member, voter) = self.member(node)?;
        if !voter && member.standing == Standing::Learner {
            let member = Member { standing: Standing::Voter, ..member.clone() };
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(node.0, member)]))).await?;
        }
        Ok(view_of(node.0, &member, voter))
    }

    async fn remove(&self, node: NodeId, force: bool) -> Result<MemberView, Error> {
        let (member, voter) = self.member(node)?;
        if voter {
            self.check_majority_without(node, force).await?;
            if node == self.me.credentials.node {
                self.transfer(None, TRANSFER_TIMEOUT).await?;
                return Err(self.not_leader());
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node.0]))).await?;
        } else {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await?;
        }
        tracing::info!(node = member.name, "a member was removed");
        Ok(view_of(node.0, &member, voter))
    }

    /// A majority of the voters that remain must answer now: one that died a moment ago would hold the change up, and
    /// with it every write, until it is back. A forced removal asks nobody.
    async fn check_majority_without(&self, node: NodeId, force: bool) -> Result<(), Error> {
        let (members, voters) = self.members();
        let remaining: Vec<u64> = voters.into_iter().filter(|voter| *voter != node.0).collect();
        if remaining.is_empty() {
            let what = "the last voter cannot be removed; to throw the cluster away, stop its node";
            return Err(Error::refused(ErrorCode::QuorumAtRisk, what));
        }
        if force {
            return Ok(());
        }
        let (asked, of) = (TypeConfig::now(), remaining.len());
        loop {
            let silent = self.silent_since(asked, &remaining);
            let answering = of - silent.len();
            if answering > of / 2 {
                return Ok(());
            }
            if asked.elapsed() > 2 * self.options.election_max {
                let name = |voter: &u64| members.get(voter).map_or("?", |member| &member.name);
                let what = format!(
                    "of the {of} voters that would remain only {answering} answer, and {} are needed ({} silent)",
                    of / 2 + 1,
                    silent.iter().map(name).collect::<Vec<_>>().join(", ")
                );
                return Err(Error::refused(ErrorCode::QuorumAtRisk, what));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Those of `voters` that have not answered anything sent after `since`.
    fn silent_since(&self, since: Instant, voters: &[u64]) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let answers = |voter: &u64| {
            *voter == self.me.credentials.node.0 || heard(&metrics, *voter).is_some_and(|at| at > since)
        };
        voters.iter().filter(|voter| !answers(voter)).copied().collect()
    }

    /// One change, joint if it has to be. Nodes whose vote it takes are no members afterwards.
    pub(in crate::raft) async fn change(&self, change: Change) -> Result<(), Error> {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(error) => {
                let what = format!("the membership did not change: {error}");
                Err(Error::again(ErrorCode::ChangeInProgress, what))
            }
        }
    }

    /// Hands leadership over and stands for no election until it starts anew, or, with `false`, does again.
    ///
    /// # Errors
    /// Nobody could take over: the node leads on and is not drained.
    pub(crate) async fn drain(&self, on: bool) -> Result<bool, Error> {
        if on && self.leads() {
            self.transfer(None, TRANSFER_TIMEOUT).await?;
        }
        self.raft.runtime_config().elect(!on);
        self.drained.store(on, std::sync::atomic::Ordering::Relaxed);
        Ok(on)
    }

    /// Forgets that a member speaks TLS, and gives whether that was known. It is about this node alone.
    ///
    /// # Errors
    /// There is no such member.
    pub(crate) fn tls_forget(&self, node: NodeId) -> Result<bool, Error> {
        self.member(node)?;
        Ok(self.gate.floors.forget_tls(node))
    }

    /// Lets a peer in that proved the secret, and says what it is told then.
    ///
    /// # Errors
    /// It is not the node that it says it is, was removed, does not speak the cluster's feature level, or its data directory is not the one it had, or an older
    /// state of it; or this node takes part in nothing.
    pub(crate) fn admit_peer(&self, peer: &Peer) -> Result<Told, Error> {
        let hello = &peer.hello;
        self.gate.check(&self.me.credentials, peer)?;
        if let Some(full) = self.refuse_peers() {
            return Err(full);
        }
        self.me.credentials.spoken.admit(hello.levels)?;
        self.gate.floors.admit(hello, self.members().0.get(&hello.node.0))?;
        if peer.transcript.is_secured() {
            self.gate.floors.spoke_tls(hello.node);
        }
        let facts = self.gate.floors.hello(&self.me.credentials).facts();
        Ok(self.me.credentials.tell(&peer.transcript.of(Side::Acceptor), facts))
    }

    /// What is left to do about the members, if this node leads: a joint membership whose leader went half-way, or a
    /// learner that has caught up.
    fn next_change(&self, pace: &mut Pace) -> Option<Change> {
        let leadership = self.seat.leadership()?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        if let [_, .., target] = &membership.get_joint_config()[..] {
            return Some(ChangeMembers::ReplaceAllVoters(target.clone()));
        }
        let goal = pace.goal(leadership, metrics.last_log_index?, tokio::time::Instant::now())?;
        let replication = metrics.replication.as_ref()?;
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let caught_up = |node: &u64| {
            let matched = replication.get(node).and_then(Option::as_ref);
            matched.is_some_and(|matched| matched.index >= goal)
        };
        membership
            .nodes()
            .filter(|(node, _)| !voters.contains(*node) && caught_up(node))
            .find_map(|(node, member)| promotion(membership, &voters, *node, member.standing))
    }
}

/// Where the log of this leader ended, look by look.
#[derive(Default)]
struct Pace {
    leadership: Option<Leadership>,
    ends: VecDeque<(tokio::time::Instant, u64)>,
}

impl Pace {
    /// Takes note of where the log ends now, and tells where it did [`CAUGHT_UP_WITHIN`] ago; `None` if this node did not
    /// lead then.
    fn goal(&mut self, leadership: Leadership, last: u64, now: tokio::time::Instant) -> Option<u64> {
        if self.leadership.replace(leadership) != Some(leadership) {
            self.ends.clear();
        }
        self.ends.push_back((now, last));
        let old = |(at, _): &(tokio::time::Instant, u64)| now.duration_since(*at) >= CAUGHT_UP_WITHIN;
        while self.ends.get(1).is_some_and(old) {
            self.ends.pop_front();
        }
        self.ends.front().filter(|end| old(end)).map(|(_, last)| *last)
    }
}

/// The change that gives a learner what it was taken in for.
fn promotion(
    membership: &Membership<u64, Member>,
    voters: &BTreeSet<u64>,
    node: u64,
    standing: Standing,
) -> Option<Change> {
    match standing {
        Standing::Learner => None,
        Standing::InsteadOf(NodeId(old)) if voters.contains(&old) => {
            let others = voters.iter().copied().filter(|voter| *voter != old);
            Some(ChangeMembers::ReplaceAllVoters(others.chain([node]).collect()))
        }
        Standing::InsteadOf(NodeId(old)) if membership.get_node(&old).is_some() => {
            Some(ChangeMembers::RemoveNodes(BTreeSet::from([old])))
        }
        Standing::Voter | Standing::InsteadOf(_) => Some(ChangeMembers::AddVoterIds(BTreeSet::from([node]))),
    }
}

/// Makes voters of learners that have caught up, while this node leads. Ends with the node.
pub(in crate::raft) async fn promote(consensus: Weak<Consensus>) {
    let mut pace = Pace::default();
    loop {
        let Some(this) = consensus.upgrade() else { return };
        if let Some(change) = this.next_change(&mut pace) {
            let what = format!("{change:?}");
            match this.change(change).await {
                Ok(()) => tracing::info!(change = what, "the members changed"),
                Err(error) if error.code == ErrorCode::ChangeInProgress => {}
                Err(error) => tracing::info!(%error, change = what, "the members did not change"),
            }
        }
        let pulse = this.pulse;
        drop(this);
        pulse.beat(PROMOTE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_learner_must_have_what_the_log_held_a_second_ago() {
        let begin = tokio::time::Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        let (first, second) = (Leadership { term: 1 }, Leadership { term: 2 });
        let mut pace = Pace::default();
        assert_eq!(pace.goal(first, 10, begin), None);
        assert_eq!(pace.goal(first, 90, after(500)), None);
        assert_eq!(pace.goal(first, 95, after(1_000)), Some(10));
        assert_eq!(pace.goal(first, 99, after(1_499)), Some(10));
        assert_eq!(pace.goal(first, 99, after(1_500)), Some(90));
        assert_eq!(pace.goal(second, 99, after(3_000)), None, "another leader knows nothing of that");
    }
}

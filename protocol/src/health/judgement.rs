//! The judgement: who leads, which voters count, what is refused, and what would be if some of them stopped.
//!
//! ```text
//! statuses ──► the leader of the highest term whom a majority followed lately, by its own word
//!                 ├ voters that it hears, lets in, and that keep pace: they count
//!                 └ if it stopped: a voter that counts and hears enough of the others, by its own word
//! ```
//!
//! Who answers the client counts for nothing: nodes that all answer need not reach each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{BEHIND_ENTRIES_MAX, BEHIND_MS_MAX, Contact, PONG_MS_MAX, Refusal};
use crate::names::NodeId;
use crate::wire::response::{LeaderView, MemberView, Role, StatusView};

/// Voters of which all that can be lost together are tried; of more only each by itself.
const TRIED_VOTERS_MAX: usize = 9;

/// How a cluster is, as far as those who answered can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Who leads with a majority behind it.
    pub leader: Option<LeaderView>,
    /// Whether something can be written, whatever it is.
    pub writes: Writes,
    /// The voters, by number.
    pub voters: Vec<Voter>,
    /// Members that the leader hears, itself included, voters or not.
    pub heard: BTreeSet<NodeId>,
    /// What the leader refuses, whatever the queue.
    pub refusals: Vec<Refusal>,
    /// Queues whose pushes are paused.
    pub paused_count: u64,
    /// Who votes is being changed: two majorities are needed until it is.
    pub changing: bool,
    /// Whom each node that answered hears.
    hears: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

/// Whether something can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Yes.
    Go,
    /// The leader has a majority behind it and has not applied all that came before.
    NotYet,
    /// The leader hears a majority, and nothing was committed for so many milliseconds.
    Stuck {
        /// For how long.
        behind_ms: u64,
    },
    /// Nobody who answers leads with a majority behind it.
    NoQuorum {
        /// Names of those who answered.
        seen_from: Vec<String>,
    },
    /// Some hear a leader, which does not answer here.
    LeaderAway {
        /// The leader.
        leader: LeaderView,
        /// Names of those who hear it.
        heard_by: Vec<String>,
    },
}

/// A voter, and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Why it does not count for the leader's majority, or not as a spare.
    pub absent: Option<Absence>,
}

/// Why a voter does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is no leader that could hear it.
    NoLeader,
    /// The leader has not heard it for so many milliseconds, or ever.
    Unheard(Option<u64>),
    /// The leader does not let it in.
    Refused(Refusal),
    /// It does not let the leader in.
    Refuses(Refusal),
    /// It is behind: milliseconds, entries.
    Behind(u64, u64),
}

/// What those who answered a status come to.
pub fn judge(said: &[&StatusView]) -> Judgement {
    let leads = |status: &&&StatusView| {
        status.role == Role::Leader && status.health.lead.is_some_and(|lead| lead.has_quorum())
    };
    let leader = said.iter().filter(leads).max_by_key(|status| (status.term, status.node));
    // Without a leader the newest membership is the best there is.
    let teller = leader.or_else(|| said.iter().max_by_key(|status| (status.term, status.applied_index)));
    let members: &[MemberView] = teller.map_or(&[], |status| &status.members);
    let voters = members.iter().filter(|member| member.voter);
    let mut voters: Vec<Voter> = voters.map(|member| voter(leader.copied(), member)).collect();
    voters.sort_by_key(|voter| voter.node);
    Judgement {
        leader: leader.and_then(|status| status.leader.clone()),
        writes: leader.map_or_else(|| nobody_leads(said), |status| writes(status)),
        voters,
        heard: leader.map_or_else(BTreeSet::new, |status| {
            let heard = |member: &&MemberView| unheard(status, member.node).is_none();
            status.members.iter().filter(heard).map(|member| member.node).collect()
        }),
        refusals: leader.map_or_else(Vec::new, |status| status.health.refusals.to_vec()),
        paused_count: leader.map_or(0, |status| status.health.paused_count),
        changing: leader.is_some_and(|status| status.changing),
        hears: said.iter().map(|status| (status.node, hears(status))).collect(),
    }
}

fn writes(leader: &StatusView) -> Writes {
    match leader.health.lead {
        Some(lead) if !lead.ready => Writes::NotYet,
        Some(lead) if lead.commit_behind_ms > BEHIND_MS_MAX => {
            Writes::Stuck { behind_ms: lead.commit_behind_ms }
        }
        _ => Writes::Go,
    }
}

fn nobody_leads(said: &[&StatusView]) -> Writes {
    let answers = |node: NodeId| said.iter().any(|status| status.node == node);
    let named = said.iter().filter_map(|status| status.leader.as_ref());
    match named.filter(|leader| !answers(leader.node)).max_by_key(|leader| leader.term) {
        Some(leader) => {
            let hear = said.iter().filter(|status| status.leader.as_ref() == Some(leader));
            let heard_by = hear.map(|status| status.name.to_string()).collect();
            Writes::LeaderAway { leader: leader.clone(), heard_by }
        }
        None => Writes::NoQuorum { seen_from: said.iter().map(|status| status.name.to_string()).collect() },
    }
}

fn contact(status: &StatusView, node: NodeId) -> Option<&Contact> {
    status.health.contacts.iter().find(|contact| contact.node == node)
}

/// Why a leader's heartbeats to a member count for nothing; `None` if they do.
fn unheard(leader: &StatusView, node: NodeId) -> Option<Absence> {
    if node == leader.node {
        return None;
    }
    let lease_ms = leader.health.lead.map_or(0, |lead| lead.lease_ms);
    let Some(contact) = contact(leader, node) else { return Some(Absence::Unheard(None)) };
    if let Some(refusal) = &contact.refused {
        return Some(Absence::Refused(refusal.clone()));
    }
    if let Some(refusal) = &contact.refuses {
        return Some(Absence::Refuses(refusal.clone()));
    }
    let fresh = contact.heard_ms.is_some_and(|heard_ms| heard_ms <= lease_ms);
    (!fresh).then_some(Absence::Unheard(contact.heard_ms))
}

fn voter(leader: Option<&StatusView>, member: &MemberView) -> Voter {
    let absent = match leader {
        None => Some(Absence::NoLeader),
        Some(leader) => unheard(leader, member.node).or_else(|| behind(leader, member)),
    };
    Voter { node: member.node, name: member.name.to_string(), absent }
}

fn behind(leader: &StatusView, member: &MemberView) -> Option<Absence> {
    if member.node == leader.node {
        return None;
    }
    let behind_ms = contact(leader, member.node)?.behind_ms.unwrap_or(u64::MAX);
    let entries = leader.last_index.saturating_sub(member.matched_index.unwrap_or(0));
    (behind_ms > BEHIND_MS_MAX || entries > BEHIND_ENTRIES_MAX).then_some(Absence::Behind(behind_ms, entries))
}

/// Whom a node that does not lead hears.
fn hears(status: &StatusView) -> BTreeSet<NodeId> {
    let heard = status.health.contacts.iter().filter(|contact| {
        let lets_in = contact.refused.is_none() && contact.refuses.is_none();
        lets_in && contact.heard_ms.is_some_and(|heard_ms| heard_ms <= PONG_MS_MAX)
    });
    heard.map(|contact| contact.node).collect()
}

impl Judgement {
    /// A leader with a majority behind it writes.
    pub fn works(&self) -> bool {
        self.writes == Writes::Go
    }

    /// A push would be stored, unless its queue is against it.
    pub fn is_writable(&self) -> bool {
        self.works() && self.refusals.iter().all(Refusal::is_of_leases)
    }

    /// Voters that count, voters needed, and all voters.
    pub fn quorum(&self) -> (usize, usize, usize) {
        let of = self.voters.len();
        (self.fit().count(), of / 2 + 1, of)
    }

    fn fit(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().filter(|voter| voter.absent.is_none()).map(|voter| voter.node)
    }

    /// Voters that may be lost, whichever they are, and writes go on.
    pub fn spare(&self) -> usize {
        if !self.works() || self.changing {
            return 0;
        }
        let (have, need, _) = self.quorum();
        let most = have.saturating_sub(need);
        if most == 0 || self.needed().is_some() {
            return 0;
        }
        let fit: Vec<NodeId> = self.fit().collect();
        if fit.len() > TRIED_VOTERS_MAX {
            return most;
        }
        (2..=most)
            .take_while(|count| subsets(&fit, *count).iter().all(|lost| self.survives(lost)))
            .last()
            .unwrap_or(1)
    }

    /// The first voter without which nothing could be written.
    pub fn needed(&self) -> Option<NodeId> {
        let mut fit = self.fit();
        fit.find(|node| !self.survives(&[*node]))
    }

    /// Whether those who count and are not in `lost` could go on.
    fn survives(&self, lost: &[NodeId]) -> bool {
        let (_, need, _) = self.quorum();
        let left: BTreeSet<NodeId> = self.fit().filter(|node| !lost.contains(node)).collect();
        let stays = self.leader.as_ref().is_some_and(|leader| left.contains(&leader.node));
        if left.len() < need {
            return false;
        }
        stays || left.iter().any(|next| self.heard_by(*next, &left) + 1 >= need)
    }

    /// How many of `others` hear `node`, by its own word.
    fn heard_by(&self, node: NodeId, others: &BTreeSet<NodeId>) -> usize {
        self.hears
            .get(&node)
            .map_or(0, |hears| hears.intersection(others).filter(|other| **other != node).count())
    }

    /// What would be if this member stopped: the voters that remain.
    ///
    /// # Errors
    /// Why too few of them could go on.
    pub fn without(&self, stopped: NodeId, name: &str) -> Result<String, String> {
        if !self.works() {
            return Err(self.verdict());
        }
        let of = self.voters.len();
        let fit = self.fit().filter(|node| *node != stopped).count();
        let mut why = self.absences(Some(stopped));
        if self.changing {
            why.push("the members are being changed and the old majority still counts".into());
        }
        let survives = self.survives(&[stopped]);
        if fit > of / 2 && !survives {
            why.push("the voters that remain do not hear each other, or do not answer here".into());
        }
        why.push(format!("stopping {name} leaves {fit} of {of}"));
        let why = why.join(", ");
        if survives && !self.changing { Ok(why) } else { Err(why) }
    }
}

/// All sets of `count` of `nodes`.
fn subsets(nodes: &[NodeId], count: usize) -> Vec<Vec<NodeId>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let Some((first, rest)) = nodes.split_first() else { return Vec::new() };
    let with = subsets(rest, count - 1).into_iter().map(|mut set| {
        set.push(*first);
        set
    });
    with.chain(subsets(rest, count)).collect()
}

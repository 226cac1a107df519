//! The judgement in words.

use super::{Absence, Judgement, Refusal, Voter, Writes};
use crate::names::NodeId;

impl Judgement {
    /// In one line.
    pub fn verdict(&self) -> String {
        let (have, need, of) = self.quorum();
        match &self.writes {
            Writes::NoQuorum { seen_from } if seen_from.is_empty() => "no node answers".to_owned(),
            Writes::NoQuorum { seen_from } => {
                let majority = if of > 0 {
                    format!(": no node leads with {need} of {of} voters")
                } else {
                    String::new()
                };
                format!("no quorum as seen from {}{majority}; nothing can be written", list(seen_from))
            }
            Writes::LeaderAway { leader, heard_by } => {
                let hear = if heard_by.len() == 1 { "hears" } else { "hear" };
                format!(
                    "the leader {} at {} does not answer here, though {} {hear} it",
                    leader.name,
                    leader.address,
                    list(heard_by)
                )
            }
            Writes::NotYet => format!("quorum {have} of {of}: a new leader begins, it does not write yet"),
            Writes::Stuck { behind_ms } => {
                format!(
                    "quorum {have} of {of}: nothing was committed for {}, a disk may hang",
                    seconds(*behind_ms)
                )
            }
            Writes::Go => {
                let works = if self.is_writable() {
                    if self.refusals.is_empty() { "works" } else { "pushes work, nothing is leased" }
                } else {
                    "pushes are refused, all else works"
                };
                format!("quorum {have} of {of}: {works}, {}", self.spare_words())
            }
        }
    }

    fn spare_words(&self) -> String {
        if self.voters.len() == 1 {
            return "without any spare".to_owned();
        }
        if self.changing {
            return "but no node may be lost while the members are being changed".to_owned();
        }
        match self.spare() {
            0 => "but one more loss stops writes".to_owned(),
            1 => "and survives the loss of one".to_owned(),
            spare => format!("and survives the loss of {spare}"),
        }
    }

    /// What is wrong, a line each: what is refused, which voters do not count, and why.
    pub fn troubles(&self) -> Vec<String> {
        let refusals = self.refusals.iter().map(|refusal| refusal.what().to_owned());
        let mut troubles: Vec<String> = refusals.chain(self.absences(None)).collect();
        let (have, need, _) = self.quorum();
        let needed = self.needed().filter(|_| self.works() && !self.changing && have > need);
        troubles.extend(needed.map(|node| {
            let name = self.name(node);
            format!("without {name} the others could not go on: they do not hear each other, or do not answer here")
        }));
        troubles
    }

    /// What is as an operator wants it and may surprise somebody.
    pub fn remarks(&self) -> Vec<String> {
        match self.paused_count {
            0 => Vec::new(),
            1 => vec!["pushes to 1 queue are paused".to_owned()],
            count => vec![format!("pushes to {count} queues are paused")],
        }
    }

    /// Why each voter does not count that does not, but for `except`.
    pub(super) fn absences(&self, except: Option<NodeId>) -> Vec<String> {
        let others = self.voters.iter().filter(|voter| Some(voter.node) != except);
        others.filter_map(Voter::why_absent).collect()
    }

    fn name(&self, node: NodeId) -> String {
        let voter = self.voters.iter().find(|voter| voter.node == node);
        voter.map_or_else(|| format!("node {node}"), |voter| voter.name.clone())
    }
}

impl Voter {
    /// Why it does not count, in words, if it does not and there is a leader to say so.
    pub fn why_absent(&self) -> Option<String> {
        let name = &self.name;
        let why = match self.absent.as_ref()? {
            Absence::NoLeader => return None,
            Absence::Unheard(None) => "the leader has not heard it yet".to_owned(),
            Absence::Unheard(Some(heard_ms)) => {
                format!("the leader has not heard it for {}", seconds(*heard_ms))
            }
            Absence::Refused(refusal) => format!("it is refused: {}", without_name(refusal, name)),
            Absence::Refuses(refusal) => format!("it does not let the leader in: {}", refusal.what()),
            Absence::Behind(u64::MAX, entries) => format!("it is {entries} entries behind"),
            Absence::Behind(behind_ms, entries) => {
                format!("it is {} or {entries} entries behind", seconds(*behind_ms))
            }
        };
        Some(format!("{name} does not count: {why}"))
    }
}

/// What a refusal says of a node, without saying again who is refused.
fn without_name<'a>(refusal: &'a Refusal, name: &str) -> &'a str {
    let what = refusal.what();
    what.strip_prefix(name).and_then(|rest| rest.strip_prefix(" is refused: ")).unwrap_or(what)
}

/// `12.3 s`
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// `n1, n2 and n3`
fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

//! What a node without a cluster does, decided from what it sees at the addresses of its list. Pure: no clock, no
//! network, no disk.
//!
//! | seen | what it does |
//! |---|---|
//! | members of two clusters | stops |
//! | a member that knows another one at this address | stops: this node's data is gone |
//! | a member | joins through it |
//! | no member; this node is not the first of the list | waits for the first |
//! | no member; an address is silent, has another list or has given its word to another | waits |
//! | all addresses answer that they are empty, this node's own reaches this node, all have given it their word | initialises |
//!
//! So that two nodes that both take themselves for the first never both initialise, each of the others gives its word
//! to one process at a time ([`Word`]).

use queue_protocol::names::{ClusterId, StoreId};
use queue_protocol::wire::peer::Holder;
use std::time::Duration;

use crate::mutants::{self, Mutant};

/// How long a word counts after it was last asked for: longer than one round of questions and formatting take.
pub(super) const WORD_KEPT: Duration = Duration::from_secs(30);

/// What this node's data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    /// It holds nothing.
    Empty,
    /// A store that began to join a cluster.
    Joining,
}

/// The node that decides.
#[derive(Clone, Debug)]
pub(super) struct Asker<'a> {
    /// The addresses of the list, in its order.
    pub(super) peers: &'a [String],
    /// Its own, by position.
    pub(super) position: usize,
    /// The random number of this process.
    pub(super) id: StoreId,
    /// What its data directory holds.
    pub(super) directory: Directory,
}

/// What an address answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing that counts, and why.
    Silent(String),
    /// A node without a cluster.
    Empty {
        /// The random number of its process.
        id: StoreId,
        /// The list of the node that answers.
        peers: Vec<String>,
        /// Its position in that list.
        position: usize,
        /// To whom it has given its word.
        word: Option<StoreId>,
    },
    /// It is a member of a cluster.
    Member {
        /// The cluster that it is a member of.
        cluster: ClusterId,
        /// Another member has the asker's address.
        holder: Option<Holder>,
    },
}

/// What a node without a cluster does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Join through the address at this position.
    Join(usize),
    /// It makes the cluster.
    Initialise,
    /// Ask again later; one reason or more.
    Wait(Vec<String>),
    /// The address of this node belongs to a member.
    Held {
        /// The member that has this address.
        holder: Holder,
        /// The cluster of that member.
        cluster: ClusterId,
        /// Position of the node that says so.
        by: usize,
    },
    /// The list names members of two clusters, at these positions.
    TwoClusters(usize, usize),
}

/// Decides; `seen` has one answer per address, all of one round.
pub(super) fn decide(me: &Asker<'_>, seen: &[Seen]) -> Step {
    assert_eq!(seen.len(), me.peers.len(), "one answer per address");
    let members = || {
        seen.iter().enumerate().filter_map(|(at, seen)| match seen {
            Seen::Member { cluster, holder } => Some((at, *cluster, holder)),
            _ => None,
        })
    };
    if let Some((first, cluster, _)) = members().next() {
        if let Some((other, ..)) = members().find(|(_, other, _)| *other != cluster) {
            return Step::TwoClusters(first, other);
        }
        let held = members().find_map(|(by, _, holder)| Some((by, holder.clone()?)));
        return match held {
            Some((by, holder)) => Step::Held { holder, cluster, by },
            None => Step::Join(first),
        };
    }
    let mut reasons: Vec<String> =
        seen.iter().enumerate().filter_map(|(at, seen)| objection(me, at, seen)).collect();
    if mutants::on(Mutant::BootstrapWithSilentPeers) {
        reasons.retain(|reason| !reason.contains("no answer"));
    }
    if me.position != 0 {
        reasons.insert(0, format!("{}, the first of --peers, makes the cluster", me.peers[0]));
        return Step::Wait(reasons);
    }
    if me.directory == Directory::Joining {
        reasons.push(
            "this data directory began to join a cluster: the first node needs an empty one".to_owned(),
        );
    }
    if reasons.is_empty() { Step::Initialise } else { Step::Wait(reasons) }
}

/// Why this answer does not let `me` initialise.
fn objection(me: &Asker<'_>, at: usize, seen: &Seen) -> Option<String> {
    let address = &me.peers[at];
    let (id, peers, position, word) = match seen {
        Seen::Empty { id, peers, position, word } => (*id, peers, *position, *word),
        Seen::Silent(why) => return Some(format!("no answer from {address} ({why})")),
        Seen::Member { .. } => return None,
    };
    if peers != me.peers {
        return Some(format!("{address} was started with other peers: {}", peers.join(",")));
    }
    if at == me.position {
        return (id != me.id).then(|| format!("another node answers at {address}, the address of this one"));
    }
    if id == me.id || position != at {
        return Some(format!("at {address} the node answers that is {}", me.peers[position]));
    }
    // Only the first asks for a word.
    (me.position == 0 && word != Some(me.id))
        .then(|| format!("{address} lets another node make the cluster that is {} too", me.peers[0]))
}

/// To whom a node has given its word, and when it was asked last, as time since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(Option<(StoreId, Duration)>);

impl Word {
    /// `asker` asks at `now`; it wants the word if it takes itself for the first. Whose word this is now.
    pub(super) fn give(&mut self, asker: StoreId, wants: bool, now: Duration) -> Option<StoreId> {
        let kept = self.0.filter(|(_, at)| now.saturating_sub(*at) < WORD_KEPT);
        let is_free = kept.is_none_or(|(id, _)| id == asker) || mutants::on(Mutant::BootstrapWordTwice);
        self.0 = if wants && is_free { Some((asker, now)) } else { kept };
        self.0.map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::NodeId;
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn list() -> Vec<String> {
        ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec()
    }

    fn asker(peers: &[String], position: usize) -> Asker<'_> {
        Asker { peers, position, id: StoreId(position as u128), directory: Directory::Empty }
    }

    fn empty(position: usize) -> Seen {
        Seen::Empty { id: StoreId(position as u128), peers: list(), position, word: Some(StoreId(0)) }
    }

    fn member(cluster: u128) -> Seen {
        Seen::Member { cluster: ClusterId(cluster), holder: None }
    }

    #[test]
    fn each_row_of_the_table() {
        let peers = list();
        let first = |seen: [Seen; 3]| decide(&asker(&peers, 0), &seen);
        let second = |seen: [Seen; 3]| decide(&asker(&peers, 1), &seen);
        let silent = || Seen::Silent("off".to_owned());
        let waits = |step: Step, reason: &str| match step {
            Step::Wait(reasons) => assert!(reasons.concat().contains(reason), "{reasons:?}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(first([empty(0), empty(1), empty(2)]), Step::Initialise);
        waits(second([empty(0), empty(1), empty(2)]), "a:1, the first of --peers");
        waits(first([empty(0), silent(), empty(2)]), "no answer from b:1 (off)");
        waits(first([silent(), empty(1), empty(2)]), "no answer from a:1");
        assert_eq!(first([empty(0), silent(), member(7)]), Step::Join(2));
        assert_eq!(second([member(7), empty(1), silent()]), Step::Join(0));
        assert_eq!(first([empty(0), member(7), member(8)]), Step::TwoClusters(1, 2));

        let holder = Holder { node: NodeId(1), name: Text::cut("n1") };
        let held = Seen::Member { cluster: ClusterId(7), holder: Some(holder.clone()) };
        assert_eq!(first([empty(0), member(7), held]), Step::Held { holder, cluster: ClusterId(7), by: 2 });

        let other_word = Seen::Empty { id: StoreId(1), peers: list(), position: 1, word: Some(StoreId(9)) };
        waits(first([empty(0), other_word, empty(2)]), "lets another node make the cluster");
        let other_list = Seen::Empty { id: StoreId(1), peers: vec!["b:1".into()], position: 0, word: None };
        waits(first([empty(0), other_list, empty(2)]), "other peers: b:1");
        waits(first([empty(0), empty(1), empty(1)]), "at c:1 the node answers that is b:1");
        let other_self = Seen::Empty { id: StoreId(9), peers: list(), position: 0, word: None };
        waits(first([other_self, empty(1), empty(2)]), "another node answers at a:1");
        let joining = Asker { directory: Directory::Joining, ..asker(&peers, 0) };
        waits(decide(&joining, &[empty(0), empty(1), empty(2)]), "needs an empty one");
    }

    #[test]
    fn a_word_is_given_to_one_process_until_it_asks_no_more() {
        let mut word = Word::default();
        let second = Duration::from_secs(1);
        assert_eq!(word.give(StoreId(1), false, second), None, "it does not want it");
        assert_eq!(word.give(StoreId(1), true, second), Some(StoreId(1)));
        assert_eq!(word.give(StoreId(2), true, second * 2), Some(StoreId(1)));
        assert_eq!(word.give(StoreId(1), true, second * 20), Some(StoreId(1)));
        assert_eq!(word.give(StoreId(2), true, second * 40), Some(StoreId(1)), "it was asked for again");
        assert_eq!(word.give(StoreId(2), true, second * 50), Some(StoreId(2)));
    }
}

//! Whether replicas agree: each remembers its state hash at agreed indexes and tells it in its pings. A node that a
//! majority of the voters contradicts stops; a majority never does. While voters differ and no majority says who is right,
//! nothing is leased.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::{HASHES_TOLD, StateHash};

use crate::locked::Locked as _;

/// Hashes kept; older ones are when a peer named them last.
const KEPT_COUNT: usize = 64;

/// What the hashes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is against this node, nor are other voters that might be right.
    Agreed,
    /// A majority of the voters came to another state with this entry, or before.
    Contradicted { index: u64 },
    /// Voters differ, and no majority agrees.
    Undecided { index: u64 },
}

struct Hashes {
    own: VecDeque<StateHash>,
    /// What each peer told last.
    peers: BTreeMap<NodeId, Vec<StateHash>>,
    verdict: Verdict,
}

/// The state hashes of this node and of its peers.
pub(crate) struct Agreement {
    every: u64,
    hashes: Mutex<Hashes>,
}

impl Agreement {
    /// Hashes are compared at indexes that `every` divides.
    pub(crate) fn new(every: u64) -> Self {
        let hashes = Hashes { own: VecDeque::new(), peers: BTreeMap::new(), verdict: Verdict::Agreed };
        Self { every, hashes: Mutex::new(hashes) }
    }

    fn hashes(&self) -> MutexGuard<'_, Hashes> {
        self.hashes.locked()
    }

    /// This node has applied the entry `index`.
    pub(crate) fn applied(&self, index: u64, hash: impl FnOnce() -> u64) {
        if index.is_multiple_of(self.every) {
            let hash = hash();
            self.hashes().keep(StateHash { index, hash });
        }
    }

    /// The newest, for a ping.
    pub(crate) fn told(&self) -> [Option<StateHash>; HASHES_TOLD] {
        let hashes = self.hashes();
        let mut newest = hashes.own.iter().rev().copied();
        std::array::from_fn(|_| newest.next())
    }

    /// A peer told its own.
    pub(crate) fn hear(&self, peer: NodeId, told: [Option<StateHash>; HASHES_TOLD]) {
        self.hashes().peers.insert(peer, told.into_iter().flatten().collect());
    }

    /// Compares; gives the verdict before and now.
    pub(crate) fn judge(&self, me: NodeId, voters: &BTreeSet<NodeId>) -> (Verdict, Verdict) {
        let mut hashes = self.hashes();
        let told = hashes.peers.iter().map(|(node, told)| (*node, told.clone()));
        let all: BTreeMap<NodeId, Vec<StateHash>> =
            told.chain([(me, hashes.own.iter().copied().collect())]).collect();
        let now = verdict(me, voters, &all);
        (std::mem::replace(&mut hashes.verdict, now), now)
    }

    /// The verdict of the last comparison.
    pub(crate) fn verdict(&self) -> Verdict {
        self.hashes().verdict
    }
}

impl Hashes {
    fn keep(&mut self, hash: StateHash) {
        self.own.push_back(hash);
        if self.own.len() > KEPT_COUNT {
            let peers = &self.peers;
            let named = |own: &StateHash| peers.values().flatten().any(|told| told.index == own.index);
            let first = self.own.iter().position(|own| !named(own));
            self.own.remove(first.unwrap_or(0));
        }
    }
}

/// A majority at one index speaks for all later ones too: hashes that differ once stay different, so whom it contradicts
/// is not asked again.
fn verdict(me: NodeId, voters: &BTreeSet<NodeId>, all: &BTreeMap<NodeId, Vec<StateHash>>) -> Verdict {
    let mut by_index: BTreeMap<u64, Vec<(NodeId, u64)>> = BTreeMap::new();
    for (node, hashes) in all.iter().filter(|(node, _)| **node == me || voters.contains(node)) {
        for StateHash { index, hash } in hashes {
            by_index.entry(*index).or_default().push((*node, *hash));
        }
    }
    let majority = voters.len() / 2 + 1;
    let mut contradicted = BTreeSet::new();
    for (index, said) in &by_index {
        let votes = |hash: u64| said.iter().filter(|(node, h)| *h == hash && voters.contains(node)).count();
        if let Some((_, right)) = said.iter().find(|(_, hash)| votes(*hash) >= majority) {
            let wrong = said.iter().filter(|(_, hash)| hash != right);
            contradicted.extend(wrong.map(|(node, _)| *node));
            if contradicted.contains(&me) {
                return Verdict::Contradicted { index: *index };
            }
        }
    }
    let differ = |said: &&Vec<(NodeId, u64)>| {
        let mut left = said.iter().filter(|(node, _)| voters.contains(node) && !contradicted.contains(node));
        left.next().is_some_and(|(_, first)| left.any(|(_, hash)| hash != first))
    };
    match by_index.iter().find(|(_, said)| differ(said)) {
        Some((index, _)) => Verdict::Undecided { index: *index },
        None => Verdict::Agreed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(index: u64, hash: u64) -> StateHash {
        StateHash { index, hash }
    }

    fn voters(count: u64) -> BTreeSet<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    /// What node 1, 2 … concludes of what each said.
    fn verdicts(voters: &BTreeSet<NodeId>, said: &[&[(u64, u64)]]) -> Vec<Verdict> {
        let hashes = |said: &&[(u64, u64)]| said.iter().map(|(index, h)| hash(*index, *h)).collect();
        let all: BTreeMap<NodeId, Vec<StateHash>> = (1..).map(NodeId).zip(said.iter().map(hashes)).collect();
        all.keys().map(|me| verdict(*me, voters, &all)).collect()
    }

    const AGREED: Verdict = Verdict::Agreed;

    fn contradicted(index: u64) -> Verdict {
        Verdict::Contradicted { index }
    }

    fn undecided(index: u64) -> Verdict {
        Verdict::Undecided { index }
    }

    #[test]
    fn a_minority_is_contradicted_and_a_majority_never_is() {
        assert_eq!(verdicts(&voters(3), &[&[(8, 1)], &[(8, 1)], &[(8, 1)]]), [AGREED; 3]);
        assert_eq!(
            verdicts(&voters(3), &[&[(8, 1)], &[(8, 2)], &[(8, 1)]]),
            [AGREED, contradicted(8), AGREED]
        );
        let five: [&[(u64, u64)]; 5] = [&[(8, 3)], &[(8, 1)], &[(8, 2)], &[(8, 1)], &[(8, 1)]];
        assert_eq!(verdicts(&voters(5), &five), [contradicted(8), AGREED, contradicted(8), AGREED, AGREED]);
    }

    #[test]
    fn without_a_majority_nobody_stops_and_all_who_know_of_it_are_undecided() {
        assert_eq!(verdicts(&voters(3), &[&[(8, 1)], &[(8, 2)], &[]]), [undecided(8); 3]);
        assert_eq!(verdicts(&voters(2), &[&[(8, 1)], &[(8, 2)]]), [undecided(8); 2]);
        assert_eq!(verdicts(&voters(3), &[&[(8, 1)], &[(8, 2)], &[(8, 3)]]), [undecided(8); 3]);
        assert_eq!(verdicts(&voters(4), &[&[(8, 1)], &[(8, 1)], &[(8, 2)], &[(8, 2)]]), [undecided(8); 4]);
        assert_eq!(verdicts(&voters(3), &[&[(8, 1)], &[(16, 2)], &[]]), [AGREED; 3], "other entries");
    }

    #[test]
    fn who_was_contradicted_leaves_nothing_undecided_later() {
        let said: [&[(u64, u64)]; 3] = [&[(8, 1), (16, 3)], &[(8, 2), (16, 4)], &[(8, 1)]];
        assert_eq!(verdicts(&voters(3), &said), [AGREED, contradicted(8), AGREED]);
    }

    #[test]
    fn who_does_not_vote_stops_when_the_voters_agree_otherwise_and_stops_nobody() {
        let said: [&[(u64, u64)]; 3] = [&[(8, 1)], &[(8, 1)], &[(8, 2)]];
        assert_eq!(verdicts(&voters(2), &said), [AGREED, AGREED, contradicted(8)]);
        let said: [&[(u64, u64)]; 2] = [&[(8, 1)], &[(8, 2)]];
        assert_eq!(verdicts(&voters(1), &said), [AGREED, contradicted(8)]);
    }

    #[test]
    fn what_a_peer_named_last_is_kept_however_much_follows() {
        let agreement = Agreement::new(8);
        let apply = |index: u64| agreement.applied(index, || index);
        (1..=16).for_each(apply);
        assert_eq!(agreement.told(), [Some(hash(16, 16)), Some(hash(8, 8)), None, None]);
        let peer = NodeId(2);
        agreement.hear(peer, [Some(hash(8, 9)), None, None, None]);
        assert_eq!(agreement.judge(NodeId(1), &voters(2)), (AGREED, undecided(8)));
        (17..=8_000).for_each(apply);
        assert_eq!(agreement.judge(NodeId(1), &voters(2)), (undecided(8), undecided(8)));
        assert!(agreement.hashes().own.len() <= KEPT_COUNT);
        // It was started again, and has come to the same state.
        agreement.hear(peer, [Some(hash(8_000, 8_000)), None, None, None]);
        assert_eq!(agreement.judge(NodeId(1), &voters(2)), (undecided(8), AGREED));
    }
}

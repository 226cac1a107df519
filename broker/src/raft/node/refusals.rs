//! Voters that do not let this node in: its data directory is not what it was. When so many refuse it that without them
//! it can never be in a majority it ends; one of three alone may be wrong itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use queue_protocol::error::{Error, ErrorCode};
use tokio::time::Instant;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::outside::{ExitStatus, Fatal};
use crate::raft::Consensus;

/// A voter must refuse for this long: one that still knows the process before this one lets it in a little later.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// A refusal that is older says nothing of now.
const REFUSAL_AGE_MAX: Duration = Duration::from_secs(5);

/// A voter's refusals without an answer in between.
#[derive(Clone, Copy)]
struct Refusal {
    first: Instant,
    last: Instant,
}

/// Who refuses this node's data directory.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<u64, Refusal>>);

impl Refusals {
    /// A member refused this node, or let it in.
    fn note(&self, member: u64, refused: bool) {
        let mut refusals = self.0.locked();
        let now = Instant::now();
        if refused {
            refusals.entry(member).or_insert(Refusal { first: now, last: now }).last = now;
        } else {
            refusals.remove(&member);
        }
    }

    /// Who has refused for long and still does.
    fn lasting(&self) -> BTreeSet<u64> {
        let now = Instant::now();
        let refusals = self.0.locked();
        let lasts = |refusal: &Refusal| {
            now.saturating_duration_since(refusal.first) >= REFUSED_FOR
                && now.saturating_duration_since(refusal.last) <= REFUSAL_AGE_MAX
        };
        refusals.iter().filter(|(_, refusal)| lasts(refusal)).map(|(member, _)| *member).collect()
    }
}

/// Whether `refusing` leave no majority that a node could be in, in one of these sets of voters.
fn is_hopeless(voters: &[BTreeSet<u64>], refusing: &BTreeSet<u64>) -> bool {
    if mutants::on(Mutant::RefusedByOneEnds) {
        return !refusing.is_empty();
    }
    voters.iter().any(|voters| 2 * voters.difference(refusing).count() <= voters.len())
}

impl Consensus {
    /// What a member said to this node: ends it if so many refuse its data directory that it can never take part again.
    pub(in crate::raft) fn heed_refusal(
        self: &Arc<Self>,
        member: u64,
        answered: bool,
        refused: Option<&Error>,
    ) {
        let store = refused.filter(|error| error.code == ErrorCode::StoreRefused);
        if answered || store.is_some() {
            self.refusals.note(member, store.is_some());
        }
        let Some(error) = store else { return };
        let refusing = self.refusals.lasting();
        let (voters, names): (Vec<BTreeSet<u64>>, Vec<String>) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let named = membership.nodes().filter(|(node, _)| refusing.contains(node));
            (membership.get_joint_config().clone(), named.map(|(_, member)| member.name.clone()).collect())
        };
        if is_hopeless(&voters, &refusing) {
            let what = format!(
                "{}. It is refused by {}, without whom it can never be in a majority, so it ends",
                error.message,
                names.join(", ")
            );
            (self.outside.end)(Fatal { status: ExitStatus::Directory, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().collect()
    }

    #[test]
    fn a_node_ends_when_no_majority_is_left_to_be_in_and_never_on_the_word_of_one_of_three() {
        let three = [set(&[1, 2, 3])];
        for (refusing, ends) in
            [(&[][..], false), (&[1], false), (&[1, 2], true), (&[9], false), (&[8, 9], false)]
        {
            assert_eq!(is_hopeless(&three, &set(refusing)), ends, "{refusing:?} of three");
        }
        let five = [set(&[1, 2, 3, 4, 5])];
        assert!(!is_hopeless(&five, &set(&[1, 2])) && is_hopeless(&five, &set(&[1, 2, 4])));
        assert!(is_hopeless(&[set(&[1, 2])], &set(&[1])), "of two, both are needed");
        let joint = [set(&[1, 2, 3]), set(&[2, 3, 4])];
        assert!(!is_hopeless(&joint, &set(&[2])) && is_hopeless(&joint, &set(&[3, 4])));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn ending_on_the_word_of_one_is_noticed() {
        let name = "a_node_ends_when_no_majority_is_left_to_be_in_and_never_on_the_word_of_one_of_three";
        assert!(mutants::is_caught_by(
            &format!("raft::node::refusals::tests::{name}"),
            Mutant::RefusedByOneEnds
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn only_refusals_that_last_count() {
        let refusals = Refusals::default();
        let second = Duration::from_secs(1);
        for _ in 0..9 {
            refusals.note(1, true);
            refusals.note(2, true);
            tokio::time::advance(second).await;
        }
        assert_eq!(refusals.lasting(), set(&[]), "it may still know the process before");
        tokio::time::advance(second).await;
        refusals.note(1, true);
        refusals.note(2, false);
        assert_eq!(refusals.lasting(), set(&[1]), "the other has let it in");
        tokio::time::advance(6 * second).await;
        assert_eq!(refusals.lasting(), set(&[]), "nothing was heard of it since");
    }
}

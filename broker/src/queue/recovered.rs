//! The state of a cluster whose majority is lost for good, taken over by a new cluster of one node: what the lost nodes may
//! have given since is given to nobody again.

use imbl::OrdMap;
use queue_protocol::names::NodeId;

use super::clients::forgotten::Forgotten;
use super::clients::sessions::Sessions;
use super::command::FoundCluster;
use super::nodes::{Assigned, Nodes};
use super::state::State;

/// More than the lost nodes have given since this state, of ids, tokens, epochs and entries, if clocks are wrong: at
/// 100,000 a second for twelve hours.
pub const SKIPPED: u64 = 1 << 32;
/// Ids and tokens for each second since 1970: more than any cluster gives.
const PER_SECOND: u64 = 1 << 21;
/// The highest id or token: what a double can hold exactly.
pub const ID_MAX: u64 = (1 << 53) - 1;

/// Where ids or tokens go on from, if those below `known` are known to be given: above what the lost nodes gave up to
/// now, `unix_s` seconds after 1970. `None` if that is no number that every language can hold, from the year 2106 on.
pub fn going_on_from(known: u64, unix_s: u64) -> Option<u64> {
    let by_clock = unix_s.checked_mul(PER_SECOND)?;
    let from = known.checked_add(SKIPPED)?.max(by_clock);
    (from <= ID_MAX).then_some(from)
}

impl State {
    /// The highest of ids and tokens that are known to be given, plus one.
    pub fn given_below(&self) -> u64 {
        self.numbers().id().0.max(self.numbers().token().0)
    }

    /// This state as the new cluster begins with it, as of the entry `index`: ids and tokens go on from `from`, every
    /// session that opened before is refused, and there is a number for the only node, which is returned: all others count
    /// as removed.
    ///
    /// # Panics
    /// If `from` is below [`State::given_below`].
    #[must_use]
    pub fn recovered(mut self, index: u64, from: u64, founder: &FoundCluster) -> (Self, NodeId) {
        assert!(from >= self.given_below(), "what was given is given again");
        let node = self.numbers_mut().give_node();
        let FoundCluster { store, key, admission } = *founder;
        let assigned = Assigned { store, key, index, is_member: true };
        *self.nodes_mut() =
            Nodes { admission: Some(admission), rotation: None, given: OrdMap::unit(node, assigned) };
        self.numbers_mut().skip_to(from);
        *self.sessions_mut() = Sessions::default();
        self.sessions_mut().restore_forgotten(Forgotten::of_mark(Some(index)));
        self.catalog_mut().recover_claims(SKIPPED);
        (self, node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    #[test]
    fn numbers_go_on_above_all_that_the_lost_nodes_gave() {
        let now_s = 1_800_000_000;
        // A survivor 30 days behind: the lost nodes gave 100,000 a second meanwhile.
        let known = (now_s - 30 * DAY_S) * PER_SECOND;
        let lost = known + 30 * DAY_S * 100_000;
        assert!(going_on_from(known, now_s).unwrap() > lost);
        assert_eq!(going_on_from(1, now_s), Some(now_s << 21));
        // Recovered twice within a second: above what was given in it.
        let first = going_on_from(1, now_s).unwrap();
        assert_eq!(going_on_from(first + 9, now_s), Some(first + 9 + SKIPPED));
        assert_eq!(going_on_from(7, 0), Some(7 + SKIPPED), "a clock of 1970 skips, and no more");
        let end_s = 1 << 32;
        assert!(going_on_from(1, end_s - 1).unwrap() <= ID_MAX, "in 2106");
        assert_eq!(going_on_from(1, end_s), None);
        assert_eq!(going_on_from(ID_MAX, now_s), None);
        assert_eq!(going_on_from(u64::MAX, u64::MAX), None);
    }
}

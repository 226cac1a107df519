//! What must always hold of a state; asserted by tests after each step.

use super::leased::holders::Holders;
use super::state::State;

impl State {
    /// Asserts that everything kept twice agrees, that no message is in two places, and that all given numbers lie below
    /// the next ones. Walks over all messages.
    ///
    /// # Panics
    /// If not: the state is broken.
    pub fn check(&self) {
        self.catalog().check();
        let mut holders = Holders::default();
        for (number, queue) in self.catalog().iter() {
            for (id, leased) in queue.leased.iter() {
                assert!(leased.token < self.numbers().token(), "{id}: token");
                assert!(leased.message.attempts > 0, "{id}: attempts");
                if let Some(session) = leased.session {
                    holders.note(session, *id, number);
                }
            }
        }
        assert!(holders == *self.holders(), "leases of sessions");
        assert!(self.nodes().is_sound(self.numbers().node()), "numbers of nodes");
        self.auth().check();
        self.sessions().check();
        self.all_schedules().check();
        self.journal().check();
        self.check_ids();
    }

    fn check_ids(&self) {
        let mut ids = self.id_ranges();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0].1 <= pair[1].0), "a message is in two places");
        assert!(ids.first().is_none_or(|(first, _)| *first > 0), "ids start at 1");
        assert!(ids.last().is_none_or(|(_, end)| *end <= self.numbers().id().0), "an id was never given");
    }
}

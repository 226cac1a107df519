//! What must always hold of a state; asserted by tests after each step.

use imbl::{OrdMap, OrdSet};
use queue_protocol::limits::QUEUES_MAX;

use super::queue::Counts;
use super::read::turnover::Turnover;
use super::state::State;

impl State {
    /// Asserts that everything kept twice agrees, that no message is in two places, and that all given numbers lie below
    /// the next ones. Walks over all messages.
    ///
    /// # Panics
    /// If not: the state is broken.
    pub fn check(&self) {
        assert!(self.names.len() <= QUEUES_MAX && self.names.len() == self.queues.len());
        for (name, number) in &self.names {
            assert!(
                *number < self.next_queue && self.queues.get(number).is_some_and(|queue| queue.name == *name)
            );
        }
        let mut counts = Counts::default();
        let mut held = OrdMap::new();
        let mut claims = OrdSet::new();
        let mut turnover = Turnover::default();
        for (number, queue) in &self.queues {
            queue.check();
            claims.extend(queue.active.holder().map(|holder| (holder, *number)));
            counts = counts.replace(Counts::default(), queue.counts());
            turnover = turnover.grow(Turnover::default(), queue.turnover);
            for (id, leased) in queue.leased.iter() {
                assert!(leased.token.0 < self.next_token, "{id}: token");
                assert!(leased.message.attempts > 0, "{id}: attempts");
                if let Some(session) = leased.session {
                    held.insert((session, *id), *number);
                }
            }
        }
        assert_eq!(counts, self.counts);
        assert!(self.nodes.is_sound(self.next_node), "numbers of nodes");
        assert!(held == self.held, "leases of sessions");
        assert!(claims == self.claims, "claims of sessions");
        assert!(turnover.pushed <= self.turnover.pushed, "pushed");
        assert!(turnover.leased <= self.turnover.leased, "leased");
        assert!(turnover.acked <= self.turnover.acked, "acked");
        assert!(self.turnover.less(turnover).is_some(), "what went through");
        self.auth.check();
        self.heads.check(self);
        self.sessions.check();
        self.schedules.check();
        self.check_ids();
    }

    fn check_ids(&self) {
        let mut ids = self.id_ranges();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0].1 <= pair[1].0), "a message is in two places");
        assert!(ids.first().is_none_or(|(first, _)| *first > 0), "ids start at 1");
        assert!(ids.last().is_none_or(|(_, end)| *end <= self.next_id), "an id was never given");
    }
}

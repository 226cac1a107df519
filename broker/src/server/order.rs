//! The order of a session's requests: a number that was refused for want of room is not overtaken.
//!
//! A client that pipelines 1 to 2,000 and has 1,025 refused has sent 1,026 already. So what comes behind a refused number
//! is refused too, until that one comes again or `done_below` passes it. It is one rule for all connections of a session
//! to this node, and it is forgotten with the last of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use queue_protocol::limits::SESSION_NUMBERS_MAX;
use queue_protocol::names::SessionId;
use queue_protocol::wire::request::Stamp;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// Refused numbers of one session that have not come again.
#[derive(Default)]
pub(crate) struct Order(Mutex<BTreeSet<u64>>);

impl Order {
    fn refused(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.locked()
    }

    /// Whether the request may begin, if there is `room` for it. One that may not counts as refused.
    pub(crate) fn admit(&self, stamp: Stamp, room: bool) -> bool {
        let mut refused = self.refused();
        while refused.first().is_some_and(|number| *number < stamp.done_below) {
            refused.pop_first();
        }
        let overtakes = refused.first().is_some_and(|number| *number < stamp.number);
        if room && (!overtakes || mutants::on(Mutant::RefusedOvertaken)) {
            refused.remove(&stamp.number);
            return true;
        }
        note(&mut refused, stamp.number);
        false
    }

    /// The request was admitted and refused later, for want of room.
    pub(crate) fn refuse(&self, number: u64) {
        note(&mut self.refused(), number);
    }
}

/// The highest gives way: with so many below, it is outside of the session's window whatever becomes of it.
fn note(refused: &mut BTreeSet<u64>, number: u64) {
    refused.insert(number);
    if refused.len() as u64 > SESSION_NUMBERS_MAX {
        refused.pop_last();
    }
}

/// The orders of all sessions that are connected, each with its number of connections.
#[derive(Default)]
pub(crate) struct Orders(Mutex<BTreeMap<SessionId, (Arc<Order>, usize)>>);

impl Orders {
    fn orders(&self) -> MutexGuard<'_, BTreeMap<SessionId, (Arc<Order>, usize)>> {
        self.0.locked()
    }

    /// The order of a session that has connected.
    pub(super) fn connected(&self, session: SessionId) -> Arc<Order> {
        let mut orders = self.orders();
        let (order, count) = orders.entry(session).or_default();
        *count += 1;
        Arc::clone(order)
    }

    /// A connection of the session is gone.
    pub(super) fn disconnected(&self, session: SessionId) {
        let mut orders = self.orders();
        let (_, count) = orders.get_mut(&session).expect("who leaves was connected");
        *count -= 1;
        if *count == 0 {
            orders.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, done_below: u64) -> Stamp {
        Stamp { number, done_below, index: 0 }
    }

    #[test]
    fn what_comes_behind_a_refused_number_waits_until_it_comes_again() {
        let order = Order::default();
        assert!(order.admit(stamp(1, 1), true));
        assert!(!order.admit(stamp(2, 1), false));
        assert!(!order.admit(stamp(3, 1), true), "3 would overtake 2");
        assert!(!order.admit(stamp(3, 1), true), "again");
        assert!(order.admit(stamp(1, 1), true), "what is before it is not held up");
        assert!(order.admit(stamp(2, 1), true));
        assert!(!order.admit(stamp(4, 1), true), "4 would overtake 3, which was refused as well");
        assert!(order.admit(stamp(3, 1), true));
        assert!(order.admit(stamp(4, 1), true));
    }

    #[test]
    fn a_refused_number_that_is_given_up_holds_nobody_up() {
        let order = Order::default();
        assert!(!order.admit(stamp(2, 1), false));
        assert!(!order.admit(stamp(3, 2), true));
        assert!(!order.admit(stamp(4, 3), true), "3 is open");
        assert!(order.admit(stamp(5, 5), true));
        order.refuse(6);
        assert!(!order.admit(stamp(7, 5), true));
    }

    #[test]
    fn no_more_numbers_are_kept_than_a_session_may_have_open() {
        let order = Order::default();
        (2..10_000).for_each(|number| assert!(!order.admit(stamp(number, 1), false)));
        assert!(!order.admit(stamp(1, 1), false));
        let refused = order.refused();
        assert_eq!((refused.first(), refused.last()), (Some(&1), Some(&SESSION_NUMBERS_MAX)));
    }

    #[test]
    fn connections_of_a_session_share_its_order_and_the_last_takes_it_away() {
        let orders = Orders::default();
        let (first, second) = (orders.connected(SessionId(1)), orders.connected(SessionId(1)));
        assert!(!first.admit(stamp(1, 1), false));
        assert!(!second.admit(stamp(2, 1), true));
        orders.disconnected(SessionId(1));
        assert_eq!(orders.orders().len(), 1);
        orders.disconnected(SessionId(1));
        assert!(orders.orders().is_empty());
    }
}

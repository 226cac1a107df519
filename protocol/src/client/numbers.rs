//! The numbers of a session: each request that changes something has one, and the window of open ones is bounded.
//!
//! A number that a node refused as overloaded is sent again before any later one: a node refuses those too until then.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::SESSION_NUMBERS_MAX;
use crate::wire::request::Stamp;

/// Gives numbers out, and knows which are open.
#[derive(Debug)]
pub(super) struct Numbers {
    state: Mutex<State>,
    /// The lowest open number was answered, or a refused one is sent again.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
    /// Open ones that a node had no room for, and that were not sent again.
    refused: BTreeSet<u64>,
    /// The cluster has executed a command of this session.
    recorded: bool,
}

impl State {
    fn done_below(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                next: 1,
                open: BTreeSet::new(),
                refused: BTreeSet::new(),
                recorded: false,
            }),
            moved: Notify::new(),
        }
    }

    /// The next number; waits while the window is full: number − done_below < 1,024.
    pub(super) async fn open(&self) -> Number<'_> {
        loop {
            // Hears of what moves from now on, polled or not.
            let moved = self.moved.notified();
            {
                let mut state = self.lock();
                if state.next - state.done_below() < SESSION_NUMBERS_MAX {
                    let number = state.next;
                    state.next += 1;
                    state.open.insert(number);
                    return Number { numbers: self, number };
                }
            }
            moved.await;
        }
    }

    /// The cluster has executed a command of this session, and so knows it.
    pub(super) fn are_recorded(&self) -> bool {
        self.lock().recorded
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open number; done when it is dropped, whether it was answered or nobody waits for the answer.
#[derive(Debug)]
pub(super) struct Number<'a> {
    numbers: &'a Numbers,
    number: u64,
}

impl Number<'_> {
    /// The cluster has executed it: the session is open there.
    pub(super) fn recorded(&self) {
        self.numbers.lock().recorded = true;
    }

    /// A node had no room for it.
    pub(super) fn refused(&self) {
        self.numbers.lock().refused.insert(self.number);
    }

    /// Until no lower number is to be sent again. It is to be sent at once then: those behind it follow.
    pub(super) async fn turn(&self) {
        loop {
            let moved = self.numbers.moved.notified();
            {
                let mut state = self.numbers.lock();
                if state.refused.first().is_none_or(|lowest| *lowest >= self.number) {
                    if state.refused.remove(&self.number) {
                        drop(state);
                        self.numbers.moved.notify_waiters();
                    }
                    return;
                }
            }
            moved.await;
        }
    }

    /// The stamp to send it with, now, in a session that opens under `index`.
    pub(super) fn stamp(&self, index: u64) -> Stamp {
        Stamp { number: self.number, done_below: self.numbers.lock().done_below(), index }
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        let mut state = self.numbers.lock();
        let lowest = state.done_below();
        state.open.remove(&self.number);
        let given_up = state.refused.remove(&self.number);
        if given_up || state.done_below() != lowest {
            drop(state);
            self.numbers.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn done_below_is_the_lowest_open_number() {
        let numbers = Numbers::new();
        let stamp = |number, done_below| Stamp { number, done_below, index: 9 };
        let first = numbers.open().await;
        let second = numbers.open().await;
        assert_eq!(second.stamp(9), stamp(2, 1));
        drop(first);
        assert_eq!(second.stamp(9), stamp(2, 2));
        drop(second);
        assert_eq!(numbers.open().await.stamp(9), stamp(3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_kept_by_waiting() {
        let numbers = Numbers::new();
        let stuck = numbers.open().await;
        for _ in 1..SESSION_NUMBERS_MAX {
            drop(numbers.open().await);
        }
        let waited = tokio::time::timeout(std::time::Duration::from_secs(1), numbers.open()).await;
        assert!(waited.is_err(), "number 1,025 was given out while 1 is open");
        let next = numbers.open();
        let (next, ()) = tokio::join!(next, async { drop(stuck) });
        assert_eq!(next.stamp(0), Stamp { number: 1_025, done_below: 1_025, index: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_number_is_sent_again_before_any_later_one() {
        let numbers = Numbers::new();
        let (first, second) = (numbers.open().await, numbers.open().await);
        let third = numbers.open().await;
        second.refused();
        third.refused();
        first.turn().await;
        let moment = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(moment, third.turn()).await.is_err(), "3 would overtake 2");
        let order = Mutex::new(Vec::new());
        let turn = async |number: &Number<'_>| {
            number.turn().await;
            order.lock().unwrap().push(number.number);
        };
        tokio::join!(turn(&third), turn(&second));
        assert_eq!(order.into_inner().unwrap(), [2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_number_that_is_given_up_holds_nobody_up() {
        let numbers = Numbers::new();
        let (first, second) = (numbers.open().await, numbers.open().await);
        first.refused();
        let (_, ()) = tokio::join!(second.turn(), async { drop(first) });
        assert_eq!(second.stamp(0), Stamp { number: 2, done_below: 2, index: 0 });
    }
}

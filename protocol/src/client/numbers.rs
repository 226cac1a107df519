//! The numbers of a session: each request that changes something has one, and the window of open ones is bounded.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::SESSION_NUMBERS_MAX;
use crate::request::Stamp;

/// Gives numbers out, and knows which are open.
#[derive(Debug)]
pub(super) struct Numbers {
    state: Mutex<State>,
    /// The lowest open number was answered.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
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
            state: Mutex::new(State { next: 1, open: BTreeSet::new(), recorded: false }),
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
        if state.done_below() != lowest {
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
}

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
}

impl State {
    fn done_below(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { next: 1, open: BTreeSet::new() }), moved: Notify::new() }
    }

    /// The next number; waits while the window is full: number − done_below < 1,024.
    pub(super) async fn open(&self) -> Number<'_> {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
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

    /// Some number was given out.
    pub(super) fn used(&self) -> bool {
        self.lock().next > 1
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
    /// The stamp to send it with, now.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { number: self.number, done_below: self.numbers.lock().done_below() }
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
        let first = numbers.open().await;
        let second = numbers.open().await;
        assert_eq!(second.stamp(), Stamp { number: 2, done_below: 1 });
        drop(first);
        assert_eq!(second.stamp(), Stamp { number: 2, done_below: 2 });
        drop(second);
        assert_eq!(numbers.open().await.stamp(), Stamp { number: 3, done_below: 3 });
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
        assert_eq!(next.stamp(), Stamp { number: 1_025, done_below: 1_025 });
    }
}

//! The numbers of a session: each request that changes something has one, and the window of open ones is bounded.
//!
//! A session opens with the first command that is executed, so until one was answered with success and something in
//! it, `done_below` stays 1: a higher one would say that the session was open before, and make it an expired one.

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
        if self.recorded { self.open.first().copied().unwrap_or(self.next) } else { 1 }
    }
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State { next: 1, open: BTreeSet::new(), recorded: false }),
            moved: Notify::new(),
        }
    }

    /// The next number; waits while the window is full: number − done_below < 1,024. `None` if it is full
    /// mostly of requests that came to nothing: the session was never opened, and another one goes on.
    pub(super) async fn open(&self) -> Option<Number<'_>> {
        loop {
            // Hears of what moves from now on, polled or not.
            let moved = self.moved.notified();
            {
                let mut state = self.lock();
                if state.next - state.done_below() < SESSION_NUMBERS_MAX {
                    let number = state.next;
                    state.next += 1;
                    state.open.insert(number);
                    return Some(Number { numbers: self, number });
                }
                if !state.recorded && (state.open.len() as u64) < SESSION_NUMBERS_MAX / 2 {
                    return None;
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
        let before = std::mem::replace(&mut self.numbers.lock().recorded, true);
        if !before {
            self.numbers.moved.notify_waiters();
        }
    }

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
        if state.done_below() != lowest || !state.recorded {
            drop(state);
            self.numbers.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn done_below_is_the_lowest_open_number_once_the_session_is_open() {
        let numbers = Numbers::new();
        let first = numbers.open().await.unwrap();
        let second = numbers.open().await.unwrap();
        assert_eq!(second.stamp(), Stamp { number: 2, done_below: 1 });
        drop(first);
        assert_eq!(second.stamp(), Stamp { number: 2, done_below: 1 }, "nothing was executed yet");
        second.recorded();
        assert_eq!(second.stamp(), Stamp { number: 2, done_below: 2 });
        drop(second);
        assert_eq!(numbers.open().await.unwrap().stamp(), Stamp { number: 3, done_below: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_kept_by_waiting() {
        let numbers = Numbers::new();
        let stuck = numbers.open().await.unwrap();
        stuck.recorded();
        for _ in 1..SESSION_NUMBERS_MAX {
            drop(numbers.open().await.unwrap());
        }
        let waited = tokio::time::timeout(std::time::Duration::from_secs(1), numbers.open()).await;
        assert!(waited.is_err(), "number 1,025 was given out while 1 is open");
        let next = numbers.open();
        let (next, ()) = tokio::join!(next, async { drop(stuck) });
        assert_eq!(next.unwrap().stamp(), Stamp { number: 1_025, done_below: 1_025 });
    }

    #[tokio::test]
    async fn a_window_of_requests_that_came_to_nothing_ends_the_session() {
        let numbers = Numbers::new();
        for _ in 0..SESSION_NUMBERS_MAX {
            drop(numbers.open().await.unwrap());
        }
        assert!(numbers.open().await.is_none());
    }
}

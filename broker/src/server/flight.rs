//! What one connection has in flight, what it is owed, and when it is read no further.
//!
//! ```text
//! requests in flight  >= 1,024   the next one is refused; reading goes on, so that pings and cancels are heard
//! bytes in flight     >= 64 MiB  reading rests
//! owed, not taken     >= 1,024   reading rests: pongs and refusals of a client that takes no answers
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::limits::{IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX};
use queue_protocol::wire::response::{Age, At, Response};
use tokio::sync::Notify;

/// Pongs and refusals on their way to a client.
const OWED_COUNT_MAX: usize = 1_024;
/// Frames that ask for little work each and are taken in one turn; then the others have theirs.
const TURN: usize = 64;
/// A client that is refused a turn's worth is read on after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// What a connection has in flight.
pub(super) struct Flight {
    count: AtomicUsize,
    size: AtomicUsize,
    owed: AtomicUsize,
    /// Frames without a command, and refusals among them, taken in this turn.
    light: AtomicUsize,
    refused: AtomicUsize,
    pub(super) landed: Notify,
    /// The client has taken something that it let wait.
    pub(super) taking: AtomicBool,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            count: 0.into(),
            size: 0.into(),
            owed: 0.into(),
            light: 0.into(),
            refused: 0.into(),
            landed: Notify::new(),
            taking: false.into(),
        }
    }

    /// A request begins.
    pub(super) fn take(&self, size: usize) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.size.fetch_add(size, Ordering::Relaxed);
    }

    /// A request was answered.
    pub(super) fn give_back(&self, size: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.size.fetch_sub(size, Ordering::Relaxed);
        self.landed.notify_one();
    }

    /// A pong is owed: who reads no answers cannot fill the memory with pings.
    pub(super) fn owe_pong(&self) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.count_light();
    }

    /// A refusal is owed.
    pub(super) fn owe_refusal(&self) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.count_light();
    }

    /// A pong or refusal is with what is written.
    pub(super) fn paid(&self) {
        self.owed.fetch_sub(1, Ordering::Relaxed);
        self.landed.notify_one();
    }

    /// A frame was taken that puts nothing into an entry.
    pub(super) fn count_light(&self) {
        self.light.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests in flight.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Nothing is to be answered.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// There is a place for another request.
    pub(super) fn has_place(&self) -> bool {
        self.count.load(Ordering::Relaxed) < IN_FLIGHT_COUNT_MAX
    }

    /// Nothing more may be read for now.
    pub(super) fn rests(&self) -> bool {
        self.size.load(Ordering::Relaxed) >= IN_FLIGHT_SIZE_MAX
            || self.owed.load(Ordering::Relaxed) >= OWED_COUNT_MAX
    }

    /// Lets the others have their turn, once this connection has had its own.
    pub(super) async fn turn(&self) {
        if self.light.load(Ordering::Relaxed) < TURN {
            return;
        }
        self.light.store(0, Ordering::Relaxed);
        if self.refused.load(Ordering::Relaxed) < TURN / 2 {
            return tokio::task::yield_now().await;
        }
        self.refused.store(0, Ordering::Relaxed);
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

/// The answer to a request for which there was no place.
pub(super) fn refusal() -> Response {
    let what = "too many requests are in flight on this connection or at this node, or an earlier one of the session is to be repeated first";
    let error = Error { retry: Retry::AfterMs(100), ..Error::refused(ErrorCode::Overloaded, what) };
    Response { at: At::default(), repeated: false, lease_clock_ms: 0, result: Err(error), age: Age::Now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_by_count_and_rest_is_by_bytes_and_by_what_is_owed() {
        let flight = Flight::new();
        (0..IN_FLIGHT_COUNT_MAX).for_each(|_| flight.take(1));
        assert!(!flight.has_place() && !flight.rests());
        flight.give_back(1);
        assert!(flight.has_place());
        flight.take(IN_FLIGHT_SIZE_MAX);
        assert!(flight.rests());
        flight.give_back(IN_FLIGHT_SIZE_MAX);
        assert!(!flight.rests());
        (0..OWED_COUNT_MAX).for_each(|_| flight.owe_refusal());
        assert!(flight.rests());
        flight.paid();
        assert!(!flight.rests());
    }
}

//! The lease clock as a leader tells it: the state's clock lags behind by what is on no entry yet.
//!
//! ```text
//! state's clock | on entries on their way | confirmed | unconfirmed |
//!               |<---------------- the lag ----------------------->| this moment
//! ```

use queue_protocol::values::milliseconds;
use tokio::time::Instant;

use crate::raft::Consensus;

/// What the lease clock showed at a moment, with all that had passed until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseClockAt {
    pub(crate) ms: u64,
    pub(crate) at: Instant,
}

impl LeaseClockAt {
    /// What it shows at this moment.
    pub(crate) fn now_ms(self) -> u64 {
        self.ms.saturating_add(milliseconds(self.at.elapsed()))
    }
}

impl Consensus {
    /// The lease clock as far as this leader has counted it: with what is confirmed and carried by no entry yet. No lease
    /// has ended that ends later on that clock.
    pub(crate) fn confirmed_lease_clock_ms(&self) -> u64 {
        self.machine.read(|state, _| state.lease_clock_ms()) + self.seat.pending_ms()
    }

    /// The lease clock at this moment: with all that has passed, confirmed or not. What begins now and is to last for a
    /// while ends on that clock so much later.
    pub(crate) fn lease_clock_ms(&self) -> u64 {
        let ahead_ms = self.seat.ahead_ms();
        self.machine.read(|state, _| state.lease_clock_ms()) + ahead_ms
    }

    /// What the lease clock of the state lags behind at this moment.
    pub(crate) fn lease_clock_lag_ms(&self) -> u64 {
        self.seat.ahead_ms()
    }
}

//! Whether logins are required, and the version of principals, keys and grants, as applied here: one number that is read
//! without a look at the state. What is done under an older one is found when it is applied.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::State;
use crate::raft::Consensus;

/// The version, doubled, and 1 more if logins are required.
#[derive(Debug)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    pub(super) fn of(state: &State) -> Self {
        Self(AtomicU64::new(mark(state)))
    }

    /// The state is this one now.
    pub(super) fn note(&self, state: &State) {
        self.0.store(mark(state), Ordering::Relaxed);
    }
}

fn mark(state: &State) -> u64 {
    state.auth_version() << 1 | u64::from(state.is_auth_required())
}

/// What is known of rights without a look at the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Rises with each change.
    pub(crate) version: u64,
    /// Only who is logged in is served.
    pub(crate) required: bool,
}

impl Consensus {
    /// As applied here.
    pub(crate) fn rights(&self) -> Rights {
        let mark = self.machine().rights.0.load(Ordering::Relaxed);
        Rights { version: mark >> 1, required: mark & 1 == 1 }
    }
}

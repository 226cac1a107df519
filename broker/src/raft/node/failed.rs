//! A dial that failed, and when the next one is due: soon where nobody answers, late where somebody refuses.

use std::io;
use std::time::Duration;

use queue_protocol::error::Error;
use tokio::time::Instant;

use super::link::{RefusedBy, SomebodyElse};

/// Pause after a dial that failed; doubled after each one that fails too.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause while nobody answers.
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// Longest pause while somebody answers who is not the node, or who refuses this one.
const PAUSE_REFUSED_MAX: Duration = Duration::from_secs(5);

/// Somebody answered, and no Raft message passes between the two.
fn is_refusal(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else { return false };
    inner.is::<RefusedBy>() || SomebodyElse::is(error) || inner.is::<Error>()
}

/// The last dial failed, and so often in a row.
pub(in crate::raft) struct Failed {
    pub(in crate::raft) dials: u32,
    pub(super) again_at: Instant,
    error: io::Error,
}

impl Failed {
    pub(in crate::raft) fn new(dials: u32, error: io::Error) -> Self {
        let max = if is_refusal(&error) { PAUSE_REFUSED_MAX } else { PAUSE_MAX };
        let pause = PAUSE_MIN.saturating_mul(1 << dials.min(10)).min(max);
        Self { dials, again_at: Instant::now() + pause, error }
    }

    /// The same once more: who refuses whom is told from it each time.
    pub(in crate::raft) fn error(&self) -> io::Error {
        let inner = self.error.get_ref();
        if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<RefusedBy>()) {
            return io::Error::other(refused.clone());
        }
        match inner.and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(own) => io::Error::other(own.clone()),
            None => io::Error::new(self.error.kind(), self.error.to_string()),
        }
    }
}

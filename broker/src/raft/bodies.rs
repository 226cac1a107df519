//! Which bodies must stay readable for how long: those of answers on their way, and of snapshots that are kept.

use std::sync::Arc;

use crate::log::{LiveBodies, Log, Reading};
use crate::queue::reply::{Outcome, Reply};

/// Keeps what `replies` deliver readable.
pub(super) fn reading<'a>(log: &Log, replies: impl IntoIterator<Item = &'a Reply>) -> Option<Arc<Reading>> {
    let mut indices = Vec::new();
    for reply in replies {
        if let Ok(Outcome::Delivered(grants)) = &reply.result {
            indices.extend(grants.iter().map(|grant| grant.body.index));
        }
    }
    indices.dedup();
    (!indices.is_empty()).then(|| Arc::new(log.reading(indices)))
}

/// Union of two sorted sets of live bodies.
pub(super) fn merge(mut live: LiveBodies, more: &LiveBodies) -> LiveBodies {
    live.extend_from_slice(more);
    live.sort_unstable_by_key(|(index, rows)| (*index, rows.start));
    live.dedup_by(|(index, next), (last, before)| {
        let joined = index == last && next.start <= before.end;
        if joined {
            before.end = before.end.max(next.end);
        }
        joined
    });
    live
}

//! Which bodies must stay readable for how long: those of answers on their way, and of snapshots that are kept.

use std::sync::Arc;

use crate::log::{LiveBodies, Log, Reading};
use crate::queue::reply::{BodyRef, Outcome, Reply};
use crate::raft::Consensus;

impl Consensus {
    /// Whether the state still names every one of `refs`. Walks over all of it: for when something is amiss.
    pub(crate) fn names(&self, refs: &[BodyRef]) -> bool {
        let live = self.machine.read(|state, _| state.live_bodies());
        refs.iter().all(|body| {
            let behind =
                live.partition_point(|(index, rows)| (*index, rows.start) <= (body.index, body.ordinal));
            let before = behind.checked_sub(1).map(|at| &live[at]);
            before.is_some_and(|(index, rows)| *index == body.index && rows.contains(&body.ordinal))
        })
    }
}

/// Keeps what `replies` deliver readable.
pub(in crate::raft) fn reading<'a>(
    log: &Log,
    replies: impl IntoIterator<Item = &'a Reply>,
) -> Option<Arc<Reading>> {
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

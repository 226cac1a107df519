//! Log lines that strangers can bring about, few however many there are: of each kind and source one line at once, then
//! one line a window with the count of those that followed. At most [`KEPT_MAX`] pairs of kind and source are told apart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::source::Source;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// How often counts are written.
const WINDOW: Duration = Duration::from_secs(30);
/// Pairs of kind and source with a line of their own in a window; the rest are counted together, by kind.
const KEPT_MAX: usize = 64;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The system gave no connection.
    NotAccepted,
    /// Closed before its handshake was over, for a newer connection.
    GaveWay,
    /// The handshake failed, or was refused.
    NotGreeted,
    /// A client sent what is no frame, or no request.
    BadFrame,
    /// A client did not answer for long.
    Silent,
}

impl Kind {
    const ALL: &[Self] = &[Self::NotAccepted, Self::GaveWay, Self::NotGreeted, Self::BadFrame, Self::Silent];

    fn name(self) -> &'static str {
        match self {
            Self::NotAccepted => "not_accepted",
            Self::GaveWay => "gave_way",
            Self::NotGreeted => "not_greeted",
            Self::BadFrame => "bad_frame",
            Self::Silent => "silent",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::NotAccepted => "a connection could not be accepted",
            Self::GaveWay => "a connection that had not said hello was closed, for a newer one",
            Self::NotGreeted => "a connection was not accepted",
            Self::BadFrame => "a client sent a bad frame",
            Self::Silent => "a client is silent, it counts as gone",
        }
    }
}

/// A kind and where it comes from: `None` is the listener, or all sources beyond those told apart.
type Key = (Kind, Option<Source>);

/// Counts of the present window.
#[derive(Default)]
pub(super) struct Quiet {
    counts: Mutex<BTreeMap<Key, u64>>,
    /// Of each kind since the start.
    all: [AtomicU64; Kind::ALL.len()],
}

impl Quiet {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.counts.locked()
    }

    /// Whether this one has a line of its own; else it is counted.
    fn is_first(&self, kind: Kind, from: Option<Source>) -> bool {
        let mut counts = self.counts();
        let is_kept = counts.len() < KEPT_MAX || counts.contains_key(&(kind, from));
        let key = (kind, if is_kept { from } else { None });
        let mut is_first = false;
        let count = counts.entry(key).or_insert_with(|| {
            is_first = true;
            0
        });
        *count += u64::from(!is_first);
        is_first || mutants::on(Mutant::LineForEachConnection)
    }

    /// How often each kind happened since the start.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL.iter().map(|kind| (kind.name(), self.all[*kind as usize].load(Ordering::Relaxed)))
    }

    /// Says what happened, now or with the count of this window.
    pub(super) fn say(&self, kind: Kind, from: Option<Source>, why: &dyn std::fmt::Display) {
        self.all[kind as usize].fetch_add(1, Ordering::Relaxed);
        if self.is_first(kind, from) {
            let from = from.map(tracing::field::display);
            tracing::warn!(from, %why, "{}", kind.what());
        }
    }

    /// What was counted and not said, and a new window.
    fn turn(&self) -> Vec<(Key, u64)> {
        let counts = std::mem::take(&mut *self.counts());
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Writes the counts, window after window. Never ends.
    pub(super) async fn run(&self) {
        loop {
            tokio::time::sleep(WINDOW).await;
            for ((kind, from), count) in self.turn() {
                let from = from.map(tracing::field::display);
                tracing::warn!(from, count, "{}, again", kind.what());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> Source {
        Source::of(([10, 0, 0, number], 9).into())
    }

    #[test]
    fn of_each_kind_and_source_one_line_is_written_and_the_others_are_counted() {
        let quiet = Quiet::default();
        let said = |kind, number| quiet.is_first(kind, Some(source(number)));
        assert!(said(Kind::GaveWay, 1) && said(Kind::GaveWay, 2) && said(Kind::NotGreeted, 1));
        assert!(!said(Kind::GaveWay, 1) && !said(Kind::GaveWay, 1) && !said(Kind::NotGreeted, 1));
        let counted = [((Kind::GaveWay, Some(source(1))), 2), ((Kind::NotGreeted, Some(source(1))), 1)];
        assert_eq!(quiet.turn(), counted);
        assert!(quiet.turn().is_empty(), "a window begins empty");
    }

    #[test]
    fn many_sources_are_counted_together() {
        let quiet = Quiet::default();
        let lines = (0..=255).filter(|number| quiet.is_first(Kind::GaveWay, Some(source(*number)))).count();
        assert_eq!(lines, KEPT_MAX + 1);
        assert_eq!(quiet.counts().len(), KEPT_MAX + 1);
        let others = 256 - KEPT_MAX as u64 - 1;
        assert_eq!(quiet.turn(), [((Kind::GaveWay, None), others)]);
    }
}

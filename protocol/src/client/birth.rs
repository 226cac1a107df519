//! The index of the log that a session opens under: learned from the leader before its first request, and never renewed.
//!
//! The cluster forgets sessions, and after a while their ids. What it keeps for ever is up to which index it has forgotten
//! some: so a request of a forgotten session is told from one of a new session by its index, as long as no session ever has
//! a second one.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::links::locked;
use crate::limits::SESSION_INDEX_MS_MAX;

/// The index of one session.
#[derive(Debug, Default)]
pub(super) struct Birth(Mutex<Option<Born>>);

#[derive(Debug)]
struct Born {
    index: u64,
    learned: Instant,
    /// A request went out with it.
    sent: bool,
}

impl Birth {
    /// A leader has named its index after `asked`. Only the first counts.
    pub(super) fn learn(&self, index: u64, asked: Instant) {
        locked(&self.0).get_or_insert(Born { index, learned: asked, sent: false });
    }

    pub(super) fn is_known(&self) -> bool {
        locked(&self.0).is_some()
    }

    /// The index to send a request with, 0 if none was learned; `None` if none was sent yet and it is too old for the first.
    pub(super) fn index(&self) -> Option<u64> {
        let mut born = locked(&self.0);
        let born = born.get_or_insert_with(|| Born { index: 0, learned: Instant::now(), sent: false });
        if !born.sent && born.learned.elapsed() > Duration::from_millis(SESSION_INDEX_MS_MAX) {
            return None;
        }
        born.sent = true;
        Some(born.index)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MAX: Duration = Duration::from_millis(SESSION_INDEX_MS_MAX);
    const MORE: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn the_first_index_is_kept_for_ever_once_a_request_went_out_with_it() {
        let birth = Birth::default();
        birth.learn(7, Instant::now());
        advance(MAX).await;
        assert_eq!(birth.index(), Some(7));
        birth.learn(8, Instant::now());
        advance(MAX * 100).await;
        assert_eq!(birth.index(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_first_under_an_index_that_is_too_old() {
        let birth = Birth::default();
        birth.learn(7, Instant::now());
        advance(MAX + MORE).await;
        birth.learn(8, Instant::now());
        assert_eq!(birth.index(), None, "another index needs another session");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_without_an_index_has_none_for_ever() {
        let birth = Birth::default();
        assert!(!birth.is_known());
        assert_eq!(birth.index(), Some(0));
        birth.learn(8, Instant::now());
        assert_eq!(birth.index(), Some(0));
    }
}

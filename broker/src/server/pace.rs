//! How fast one principal may change what is administered, so that it cannot push the deeds of others out of the journal:
//! so many at once, and from then on ten a second. Kept by the node that leads, and forgotten with its lead.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::values::milliseconds;
use queue_protocol::wire::rights::{Need, Verb};
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::locked::Locked as _;
use crate::queue::{PrincipalNumber, ROOT, Standing};

/// Changes that a principal may make at once.
const BURST: u32 = 1_000;
/// The time of each one beyond.
const EACH: Duration = Duration::from_millis(100);
/// Principals that are remembered beyond those that made changes lately.
const KEPT_MAX: usize = 1_024;

/// What each principal changed lately.
#[derive(Default)]
pub(super) struct Pace(Mutex<BTreeMap<PrincipalNumber, Bucket>>);

impl Pace {
    /// Counts a change if it is an administrative one. Whoever has the cluster's secret may be as fast as the cluster.
    ///
    /// # Errors
    /// `overloaded`, not applied: `who` has made too many.
    pub(super) fn check(&self, who: Standing, needs: &[Need]) -> Result<(), Error> {
        match who {
            Standing::Live(principal) if principal != ROOT && is_administrative(needs) => {
                self.count(principal, Instant::now())
            }
            Standing::Live(_) | Standing::Ended | Standing::Unknown => Ok(()),
        }
    }

    fn count(&self, principal: PrincipalNumber, now: Instant) -> Result<(), Error> {
        let mut changes = self.0.locked();
        if changes.len() > KEPT_MAX {
            changes.retain(|_, bucket| bucket.leaked(now, EACH).level() > 0);
        }
        let bucket = changes.entry(principal).or_insert(Bucket::empty(now));
        *bucket = bucket.leaked(now, EACH);
        if bucket.level() >= BURST {
            let rate = Duration::from_secs(1).as_millis() / EACH.as_millis();
            let what = format!(
                "{BURST} administrative changes were made at once, and more are taken at {rate} a second: this one was not made"
            );
            let retry = Retry::AfterMs(u32::try_from(milliseconds(EACH)).unwrap_or(u32::MAX));
            return Err(Error { retry, ..Error::again(ErrorCode::Overloaded, what) });
        }
        *bucket = bucket.filled(BURST);
        Ok(())
    }
}

/// By the right that is asked for first: what a push or a worker needs beside its own is not what it is about.
fn is_administrative(needs: &[Need]) -> bool {
    needs.first().is_some_and(|need| match need.verb() {
        Verb::Manage | Verb::Destroy | Verb::Redrive | Verb::Cluster | Verb::Auth => true,
        Verb::Push | Verb::Take | Verb::Look | Verb::Read | Verb::Feed => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_makes_so_many_changes_at_once_and_ten_a_second_from_then_on() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let count = |principal, now| pace.count(principal, now).is_ok();
        assert!((0..BURST).all(|_| count(1, begin)));
        assert!(!count(1, begin));
        assert!(count(2, begin), "another one is not held up");
        let later = begin + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| count(1, later)).count(), 30);
        let much_later = begin + Duration::from_secs(3_600);
        assert_eq!((0..2 * BURST).filter(|_| count(1, much_later)).count(), BURST as usize);
    }

    #[test]
    fn those_that_changed_nothing_lately_are_forgotten() {
        let (pace, begin) = (Pace::default(), Instant::now());
        (0..5_000).for_each(|principal| pace.count(principal, begin + EACH * principal * 2).expect("one"));
        assert!(pace.0.locked().len() <= KEPT_MAX + 1);
    }
}

//! Logins that failed, by where they came from: whoever guesses waits before the next try is looked at, and everybody else
//! does not.
//!
//! ```text
//! a failed login      one more in the bucket of its source
//! a second            one less
//! above FREE of them  each try waits PAUSE; it is looked at then, so whoever shares the source gets in
//! ```
//!
//! Over HTTP, where each request has its token, no try waits: see [`Guesses::check`].

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

#[cfg(feature = "http")]
use queue_protocol::error::{Error, ErrorCode, Retry};
#[cfg(feature = "http")]
use queue_protocol::values::milliseconds;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::source::Source;
use crate::locked::Locked as _;

/// Failed logins of a source that cost nothing.
const FREE: u32 = 10;
/// What is in a bucket, at most: so soon after the last guess the next one is free again.
const LEVEL_MAX: u32 = 60;
/// How long a try waits; a login may take longer.
const PAUSE: Duration = Duration::from_secs(2);
const _: () = assert!(PAUSE.as_millis() * 2 < queue_protocol::limits::HELLO_MS_MAX as u128);
/// How long one failed login counts.
const LEAK: Duration = Duration::from_secs(1);
/// Sources that are remembered; the emptiest one gives way.
const SOURCES_MAX: usize = 1_024;

/// All buckets that are not empty.
#[derive(Default)]
pub(super) struct Guesses(Mutex<BTreeMap<Source, Bucket>>);

impl Guesses {
    fn pause_of(&self, source: Source, now: Instant) -> Duration {
        let level = self.0.locked().get(&source).map_or(0, |bucket| bucket.leaked(now, LEAK).level());
        if level >= FREE { PAUSE } else { Duration::ZERO }
    }

    /// Before a login from there is looked at.
    pub(super) async fn pause(&self, source: Source) {
        let pause = self.pause_of(source, Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a token from there that is not known is looked at any further, where nobody waits before it is.
    ///
    /// # Errors
    /// `overloaded`, again when one counts less.
    #[cfg(feature = "http")]
    pub(super) fn check(&self, source: Source) -> Result<(), Error> {
        let pause = self.pause_of(source, Instant::now());
        if pause.is_zero() {
            return Ok(());
        }
        let what = format!("the token is not known here, and many from {source} were wrong: try again later");
        let retry = Retry::AfterMs(u32::try_from(milliseconds(LEAK)).unwrap_or(u32::MAX));
        Err(Error { retry, ..Error::again(ErrorCode::Overloaded, what) })
    }

    /// A login from there failed.
    pub(super) fn failed(&self, source: Source) {
        self.failed_at(source, Instant::now());
    }

    fn failed_at(&self, source: Source, now: Instant) {
        let mut buckets = self.0.locked();
        let before = buckets.get(&source).map_or(Bucket::empty(now), |bucket| bucket.leaked(now, LEAK));
        buckets.insert(source, before.filled(LEVEL_MAX));
        if buckets.len() > SOURCES_MAX {
            buckets.retain(|_, bucket| bucket.leaked(now, LEAK).level() > 0);
        }
        if buckets.len() > SOURCES_MAX {
            let others = buckets.iter().filter(|(other, _)| **other != source);
            let emptiest =
                others.min_by_key(|(_, bucket)| bucket.leaked(now, LEAK).level()).map(|(other, _)| *other);
            emptiest.map(|emptiest| buckets.remove(&emptiest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u32) -> Source {
        Source::of_ip(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into())
    }

    #[test]
    fn whoever_guesses_waits_and_nobody_else_does() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(guesses.pause_of(source(1), begin), Duration::ZERO);
            guesses.failed_at(source(1), begin);
        }
        assert_eq!(guesses.pause_of(source(1), begin), PAUSE);
        assert_eq!(guesses.pause_of(source(2), begin), Duration::ZERO);
        assert_eq!(guesses.pause_of(source(1), begin + LEAK), Duration::ZERO, "one counts no more");
        (0..10_000).for_each(|_| guesses.failed_at(source(1), begin));
        let later = begin + LEAK * (LEVEL_MAX - FREE);
        assert_eq!(guesses.pause_of(source(1), later), PAUSE);
        assert_eq!(guesses.pause_of(source(1), later + LEAK), Duration::ZERO, "not for ever");
    }

    #[test]
    fn no_more_sources_are_kept_than_there_is_room_for_and_the_worst_stay() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        (0..FREE).for_each(|_| guesses.failed_at(source(0), begin));
        (1..10_000).for_each(|other| guesses.failed_at(source(other), begin));
        assert_eq!(guesses.0.locked().len(), SOURCES_MAX);
        assert_eq!(guesses.pause_of(source(0), begin), PAUSE);
        guesses.failed_at(source(10_000), begin + LEAK * LEVEL_MAX);
        assert_eq!(guesses.0.locked().len(), 1, "those that are empty go first");
    }
}

//! One message outside a run: where its content lies, its counters, and what each state adds.

use queue_protocol::limits::HISTORY_COUNT_MAX;
use queue_protocol::names::{Key, LeaseToken, MessageId, SessionId};
use queue_protocol::settings::Settings;
use queue_protocol::wire::checkpoint::Checkpoint;
use queue_protocol::wire::response::{DeadReason, Event, EventKind};
use serde::{Deserialize, Serialize};

use crate::queue::auth::PrincipalNumber;
use crate::queue::command::ErrorText;
use crate::queue::due::clocks::{DueAt, Moment};
use crate::queue::reply::BodyRef;

/// What a message carries from state to state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Message {
    /// Where its content lies in the log.
    pub(in crate::queue) body: BodyRef,
    /// When it was pushed.
    pub(in crate::queue) pushed: Moment,
    /// Priority, 0 to 31, higher first.
    pub(in crate::queue) priority: u8,
    /// The group it belongs to.
    pub(in crate::queue) group: Option<Key>,
    /// How many leases were granted on it.
    pub(in crate::queue) attempts: u32,
    /// Failures and ended leases.
    pub(in crate::queue) failures: u32,
    /// Given back without blame.
    pub(in crate::queue) releases: u32,
    /// Queues it was moved through by `dead_to`.
    pub(in crate::queue) hops: u8,
    /// Text of the last failure.
    pub(in crate::queue) last_error: Option<ErrorText>,
    /// What happened last, from the first failure on, oldest first; at most [`HISTORY_COUNT_MAX`].
    pub(in crate::queue) history: Vec<Event>,
    /// How far an attempt has come.
    pub(in crate::queue) checkpoint: Option<Checkpoint>,
}

impl Message {
    /// One that was pushed and nothing else.
    pub(in crate::queue) fn pushed(body: BodyRef, pushed: Moment, priority: u8) -> Self {
        Self {
            body,
            pushed,
            priority,
            group: None,
            attempts: 0,
            failures: 0,
            releases: 0,
            hops: 0,
            last_error: None,
            history: Vec::new(),
            checkpoint: None,
        }
    }

    /// Size of its content.
    pub(in crate::queue) fn size(&self) -> u64 {
        self.body.size.into()
    }

    /// Size of its checkpoint.
    pub(in crate::queue) fn checkpoint_size(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.as_bytes().len())
    }

    /// Notes what happened, if a failure began it all.
    pub(in crate::queue) fn note(&mut self, now: Moment, kind: EventKind) {
        let begins = matches!(kind, EventKind::Failed | EventKind::LeaseEnded | EventKind::Died(_));
        if self.history.is_empty() && !begins {
            return;
        }
        if self.history.len() >= HISTORY_COUNT_MAX {
            self.history.remove(0);
        }
        self.history.push(Event { at_ms: now.wall_ms, attempts: self.attempts, kind });
    }
}

/// A message handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Leased {
    /// The token of its newest lease.
    pub(in crate::queue) token: LeaseToken,
    /// Lease clock at which it may end.
    pub(in crate::queue) deadline_ms: u64,
    /// Who holds it; `None` if the broker itself took it.
    pub(in crate::queue) session: Option<SessionId>,
    /// The principal that it was handed out to; `None` if that was not logged in.
    pub(in crate::queue) owner: Option<PrincipalNumber>,
    /// When it was handed out.
    pub(in crate::queue) granted: Moment,
    /// Elapsed time when its time to live passes; looked at when it comes back.
    pub(in crate::queue) expires_at_ms: Option<u64>,
    /// The message that is leased.
    pub(in crate::queue) message: Message,
}

/// A message that becomes ready later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Delayed {
    /// When it becomes ready.
    pub(in crate::queue) due: DueAt,
    /// The message that waits.
    pub(in crate::queue) message: Message,
}

/// A message set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::queue) struct Dead {
    /// Why it is dead.
    pub(in crate::queue) reason: DeadReason,
    /// When it died, on both clocks.
    pub(in crate::queue) died: Moment,
    /// The message that is dead.
    pub(in crate::queue) message: Message,
}

/// The wait after the `failures`-th failure of `id`, in milliseconds: multiplied with each failure up to the longest,
/// then shifted either way as far as the settings say, so that messages that failed together do not come back together.
pub(in crate::queue) fn backoff_ms(settings: &Settings, id: MessageId, failures: u32) -> u64 {
    let factor = u64::from(settings.backoff_factor_percent);
    let mut delay = settings.backoff_ms.min(settings.backoff_ms_max);
    for _ in 1..failures {
        // What stays as it is or has reached an end of the range never changes again.
        let next = percent(delay, factor).min(settings.backoff_ms_max);
        if next == delay {
            break;
        }
        delay = next;
    }
    let width = percent(delay, settings.backoff_jitter_percent.min(100).into());
    let shift =
        scatter(id.0 ^ u64::from(failures).rotate_left(32)) % width.saturating_mul(2).saturating_add(1);
    (delay - width).saturating_add(shift)
}

/// So much percent of a value, rounded down.
fn percent(value: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// SplitMix64's output function (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
fn scatter(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(backoff_ms: u64, backoff_ms_max: u64) -> Settings {
        Settings { backoff_ms, backoff_ms_max, ..Settings::default() }
    }

    #[test]
    fn back_off_doubles_up_to_its_longest_within_a_tenth() {
        for id in 0..200 {
            for (failures, plain) in
                [(1, 1_000), (2, 2_000), (3, 4_000), (4, 6_000), (70, 6_000), (u32::MAX, 6_000)]
            {
                let delay = backoff_ms(&settings(1_000, 6_000), MessageId(id), failures);
                assert!((plain * 9 / 10..=plain * 11 / 10).contains(&delay), "{id} {failures} {delay}");
            }
        }
    }

    #[test]
    fn factor_and_jitter_are_what_the_settings_say() {
        let with = |factor, jitter| Settings {
            backoff_factor_percent: factor,
            backoff_jitter_percent: jitter,
            ..settings(1_000, 1 << 40)
        };
        let waits = |settings: &Settings| [1, 2, 3, 9].map(|n| backoff_ms(settings, MessageId(7), n));
        assert_eq!(waits(&with(100, 0)), [1_000; 4]);
        assert_eq!(waits(&with(150, 0)), [1_000, 1_500, 2_250, 25_624]);
        assert_eq!(waits(&with(300, 0)), [1_000, 3_000, 9_000, 6_561_000]);
        let longest = Settings { backoff_ms_max: 700, ..with(150, 0) };
        assert_eq!(waits(&longest), [700; 4], "the first wait is bounded too");
        let wide: Vec<u64> = (0..500).map(|id| backoff_ms(&with(100, 100), MessageId(id), 1)).collect();
        assert!(wide.iter().all(|wait| *wait <= 2_000));
        assert!(wide.iter().any(|wait| *wait < 200) && wide.iter().any(|wait| *wait > 1_800));
    }

    #[test]
    fn back_off_differs_between_messages_and_is_none_when_there_is_none() {
        let one = backoff_ms(&settings(100_000, 100_000), MessageId(1), 1);
        assert!((2..20).any(|id| backoff_ms(&settings(100_000, 100_000), MessageId(id), 1) != one));
        assert_eq!(backoff_ms(&settings(0, u64::MAX), MessageId(1), 90), 0);
        assert!(backoff_ms(&settings(u64::MAX, u64::MAX), MessageId(1), 90) > u64::MAX / 2);
    }
}

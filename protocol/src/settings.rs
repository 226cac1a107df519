//! How a queue behaves: every setting once, with its type, its default and what it means.
//!
//! [`Settings`] is complete and lives in the state; [`QueueSettings`] names some of them: those a new queue is to have
//! instead of the defaults, or those that change. A number of 0 means "none" or "no limit" where that is said.

use serde::{Deserialize, Serialize};

use crate::limits::{
    DEDUP_WINDOW_MS_MAX, FUTURE_MS_MAX, GROUP_WEIGHT_MAX, LEASE_MS_MAX, LEASE_MS_MIN, RATE_MAX, RATE_MS_MAX,
};
use crate::names::QueueName;

/// What happens to a message whose time to live has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExpiry {
    /// It is deleted.
    Drop,
    /// It is dead, reason `expired`.
    Dead,
}

/// What a push to a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// It is refused.
    Reject,
    /// The waiting messages that were pushed first make room: they are dead, reason `overflow`.
    DropOldest,
}

/// What a dead message does to its group in an ordered queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPoison {
    /// Nothing: the next one is delivered.
    Skip,
    /// Nothing more of the group is delivered until the dead message is redriven or deleted.
    Block,
    /// The rest of the group is dead too.
    ParkGroup,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr $(, $least:tt to $most:expr)?;)*) => {
        /// Settings of a queue, complete.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Settings {
            $($(#[$doc])* pub $name: $type,)*
        }

        /// Some settings of a queue: `None` leaves one as it is, or as the node's configuration has it.
        #[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub struct QueueSettings {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Numbers that are bounded by more than their type: name, least and most.
        pub const BOUNDS: &[(&str, u64, u64)] = &[$($((stringify!($name), $least, $most as u64),)?)*];

        impl QueueSettings {
            /// What they name, for people.
            pub fn told(&self) -> String {
                let all = [$((stringify!($name), self.$name.as_ref().map(|value| format!("{value:?}"))),)*];
                let named = all.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
                named.collect::<Vec<_>>().join(", ")
            }
        }

        impl Settings {
            /// These with what `change` names.
            #[must_use]
            pub fn with(&self, change: &QueueSettings) -> Self {
                Self { $($name: change.$name.clone().unwrap_or_else(|| self.$name.clone()),)* }
            }
        }
    };
}

settings! {
    /// Failures before a message is dead; 1 or more.
    max_failures: u32 = 5, 1 to u32::MAX;
    /// Lease when a request names none, in milliseconds.
    lease_ms: u64 = 30_000, LEASE_MS_MIN to LEASE_MS_MAX;
    /// Back-off after the first failure, in milliseconds; 0 is none.
    backoff_ms: u64 = 1_000, 0 to FUTURE_MS_MAX;
    /// What each further failure makes of the back-off, in percent; 100 keeps it as it is.
    backoff_factor_percent: u32 = 200, 100 to 10_000;
    /// Longest back-off, in milliseconds.
    backoff_ms_max: u64 = 300_000, 0 to FUTURE_MS_MAX;
    /// How far a back-off is shifted at most, either way, in percent of it; 0 to 100.
    backoff_jitter_percent: u32 = 10, 0 to 100;
    /// Time to live of a message that names none, in milliseconds from its push; 0 is for ever.
    ttl_ms: u64 = 0, 0 to FUTURE_MS_MAX;
    /// What happens when it has passed.
    on_expiry: OnExpiry = OnExpiry::Dead;
    /// How long a dedup key is remembered, in milliseconds from the push that brought it.
    dedup_window_ms: u64 = 600_000, 0 to DEDUP_WINDOW_MS_MAX;
    /// Messages ready, leased and delayed, at most; 0 is no limit.
    max_messages: u64 = 0;
    /// Their contents together, in bytes, at most; 0 is no limit.
    max_bytes: u64 = 0;
    /// What a push beyond either does.
    on_full: OnFull = OnFull::Reject;
    /// The queue that gets messages instead of this one's `dead`.
    dead_to: Option<QueueName> = None;
    /// Dead messages kept; beyond it those that died first are deleted. 0 is no limit.
    dead_max: u64 = 0;
    /// How long a dead message is kept, in milliseconds; 0 is for ever.
    dead_ttl_ms: u64 = 0, 0 to FUTURE_MS_MAX;
    /// Pushes are refused.
    pushes_paused: bool = false;
    /// Nothing is leased or popped.
    leases_paused: bool = false;
    /// At most one message of a group is leased at a time; the next follows when it is settled.
    ordered: bool = false;
    /// What a dead message of a group does in an ordered queue.
    on_poison: OnPoison = OnPoison::Skip;
    /// Groups are served in turn, by weight. Not together with `ordered`.
    fair: bool = false;
    /// Weight of a group that has none of its own, in messages a turn; 1 or more.
    group_weight: u32 = 1, 1 to GROUP_WEIGHT_MAX;
    /// Most leases held at once per group; 0 is no limit.
    group_leased_max: u32 = 0, 0 to u32::MAX;
    /// Deliveries in every `rate_ms`, refilled evenly, and at once at most; 0 is no limit.
    rate_max: u32 = 0, 0 to RATE_MAX;
    /// The period that `rate_max` applies to, in milliseconds.
    rate_ms: u64 = 1_000, 1 to RATE_MS_MAX;
    /// Only one session at a time gets messages.
    single_active: bool = false;
    /// Deliveries per group in every `group_rate_ms`, refilled evenly, and at once at most; 0 is no limit.
    group_rate_max: u32 = 0, 0 to RATE_MAX;
    /// The period that `group_rate_max` applies to, in milliseconds.
    group_rate_ms: u64 = 1_000, 1 to RATE_MS_MAX;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_what_it_names_and_nothing_else() {
        let queue: QueueName = "dead-letters".parse().expect("a queue name");
        let before = Settings { dead_to: Some(queue), ..Settings::default() };
        assert_eq!(before.with(&QueueSettings::default()), before);
        let change =
            QueueSettings { ttl_ms: Some(7), dead_to: Some(None), fair: Some(true), ..Default::default() };
        assert_eq!(before.with(&change), Settings { ttl_ms: 7, fair: true, ..Settings::default() });
    }
}

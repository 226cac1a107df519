//! The queues of a run, and what is special about each.

use queue_protocol::names::QueueName;
use queue_protocol::settings::{OnFull, OnPoison, QueueSettings};

/// The queues of the load.
pub(super) const BUSY: [&str; 6] = ["plain", "ordered", "fair", "small", "limited", "single"];
/// A queue that is empty most of the time.
pub(super) const QUIET: &str = "quiet";

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    BUSY.into_iter().chain([QUIET])
}

/// Whether messages of a queue belong to groups.
pub(super) fn has_groups(name: &str) -> bool {
    matches!(name, "ordered" | "fair" | "limited")
}

/// Whether a queue drops nothing that it has taken.
pub(super) fn keeps(name: &str) -> bool {
    name != "small"
}

pub(super) fn queue(name: &str) -> QueueName {
    name.parse().expect("a valid name")
}

pub(super) fn settings(name: &str) -> QueueSettings {
    let base = QueueSettings {
        max_failures: Some(3),
        backoff_ms: Some(200),
        backoff_ms_max: Some(1_000),
        lease_ms: Some(2_000),
        ..QueueSettings::default()
    };
    match name {
        "ordered" => QueueSettings { ordered: Some(true), on_poison: Some(OnPoison::Skip), ..base },
        "fair" => QueueSettings { fair: Some(true), group_weight: Some(2), ..base },
        "small" => {
            let on_full = Some(OnFull::DropOldest);
            QueueSettings { max_messages: Some(40), on_full, dead_max: Some(500), ..base }
        }
        "limited" => {
            QueueSettings { rate_max: Some(50), group_rate_max: Some(20), group_leased_max: Some(3), ..base }
        }
        "single" => QueueSettings { single_active: Some(true), ..base },
        _ => base,
    }
}

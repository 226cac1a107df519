//! Random settings of queues, and changes of them.

use proptest::prelude::*;
use queue_protocol::settings::{OnExpiry, OnFull, OnPoison, QueueSettings};

use super::histories::{QUEUES, queue};
use super::*;

/// Complete ones.
pub(super) fn any_settings() -> impl Strategy<Value = Settings> {
    let basic = (1u32..4, 500u64..4_000, prop_oneof![Just(0u64), Just(400)]).prop_map(
        |(max_failures, lease_ms, backoff_ms)| Settings {
            max_failures,
            lease_ms,
            backoff_ms,
            backoff_ms_max: 1_000,
            ..Settings::default()
        },
    );
    (basic, prop::collection::vec(any_change(), 0..3))
        .prop_map(|(basic, changes)| changes.iter().fold(basic, |settings, change| settings.with(change)))
}

/// Settings that have an effect, one at a time.
pub(super) fn any_change() -> impl Strategy<Value = QueueSettings> {
    let none = QueueSettings::default;
    let on_full = prop_oneof![Just(OnFull::Reject), Just(OnFull::DropOldest)];
    let counters = prop_oneof![
        (1u32..4).prop_map(move |n| QueueSettings { max_failures: Some(n), ..none() }),
        (500u64..4_000).prop_map(move |ms| QueueSettings { lease_ms: Some(ms), ..none() }),
        (0u64..500).prop_map(move |ms| QueueSettings { backoff_ms: Some(ms), ..none() }),
        // Below the first back-off, too.
        (0u64..700).prop_map(move |ms| QueueSettings { backoff_ms_max: Some(ms), ..none() }),
        (50u32..300).prop_map(move |n| QueueSettings { backoff_factor_percent: Some(n), ..none() }),
        (0u32..100).prop_map(move |n| QueueSettings { backoff_jitter_percent: Some(n), ..none() }),
    ];
    let limits = prop_oneof![
        (0u64..12).prop_map(move |n| QueueSettings { max_messages: Some(n), ..none() }),
        (0u64..900).prop_map(move |n| QueueSettings { max_bytes: Some(n), ..none() }),
        on_full.prop_map(move |on| QueueSettings { on_full: Some(on), ..none() }),
    ];
    let dead = prop_oneof![
        6 => prop::option::weighted(0.8, queue()).prop_map(move |to| QueueSettings {
            dead_to: Some(to.map(|queue| name(QUEUES[queue]))),
            ..none()
        }),
        1 => (0u64..4).prop_map(move |n| QueueSettings { dead_max: Some(n), ..none() }),
        1 => (0u64..3_000).prop_map(move |ms| QueueSettings { dead_ttl_ms: Some(ms), ..none() }),
    ];
    let on_expiry = prop_oneof![Just(OnExpiry::Drop), Just(OnExpiry::Dead)];
    let times = prop_oneof![
        (0u64..3_000).prop_map(move |ms| QueueSettings { ttl_ms: Some(ms), ..none() }),
        on_expiry.prop_map(move |on| QueueSettings { on_expiry: Some(on), ..none() }),
        (0u64..9_000).prop_map(move |ms| QueueSettings { dedup_window_ms: Some(ms), ..none() }),
    ];
    let modes = prop_oneof![
        4 => any::<bool>().prop_map(move |on| QueueSettings { pushes_paused: Some(on), ..none() }),
        1 => any::<bool>().prop_map(move |on| QueueSettings { leases_paused: Some(on), ..none() }),
        1 => any::<bool>().prop_map(move |on| QueueSettings { ordered: Some(on), fair: Some(on), ..none() }),
        2 => any::<bool>().prop_map(move |on| QueueSettings { ordered: Some(on), ..none() }),
        2 => any::<bool>().prop_map(move |on| QueueSettings { fair: Some(on), ..none() }),
        6 => prop::bool::weighted(0.8)
            .prop_map(move |on| QueueSettings { single_active: Some(on), ..none() }),
    ];
    let on_poison = prop_oneof![Just(OnPoison::Skip), Just(OnPoison::Block), Just(OnPoison::ParkGroup)];
    let groups = prop_oneof![
        on_poison.prop_map(move |on| QueueSettings { on_poison: Some(on), ordered: Some(true), ..none() }),
        (0u32..4).prop_map(move |n| QueueSettings { group_weight: Some(n), ..none() }),
        (0u32..3).prop_map(move |n| QueueSettings { group_leased_max: Some(n), ..none() }),
    ];
    let per_ms = || prop_oneof![1 => Just(1_000u64), 1 => Just(1), 3 => 1u64..4_000];
    let rates = prop_oneof![
        (0u32..5, per_ms()).prop_map(move |(n, ms)| QueueSettings {
            rate_max: Some(n),
            rate_ms: Some(ms),
            ..none()
        }),
        (0u32..3, per_ms()).prop_map(move |(n, ms)| QueueSettings {
            group_rate_max: Some(n),
            group_rate_ms: Some(ms),
            ..none()
        }),
    ];
    prop_oneof![2 => counters, 3 => limits, 10 => dead, 3 => times, 6 => modes, 3 => groups, 2 => rates]
}

/// A history visits a setting only if some change names it.
#[test]
fn changes_name_every_setting() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let names = |change: &QueueSettings, all: bool| -> Vec<String> {
        let serde_json::Value::Object(fields) = serde_json::to_value(change).unwrap() else {
            panic!("a change has fields");
        };
        fields.into_iter().filter(|(_, value)| all || !value.is_null()).map(|(name, _)| name).collect()
    };
    let mut never: std::collections::BTreeSet<String> =
        names(&QueueSettings::default(), true).into_iter().collect();
    let mut runner = TestRunner::deterministic();
    for _ in 0..2_000 {
        let change = any_change().new_tree(&mut runner).unwrap().current();
        never.retain(|name| !names(&change, false).contains(name));
    }
    assert!(never.is_empty(), "{never:?}");
}

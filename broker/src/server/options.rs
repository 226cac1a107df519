//! What may be asked of queues and messages: ranges of settings and of push options.

use queue_protocol::error::Error;
use queue_protocol::limits::{
    DEDUP_WINDOW_MS_MAX, FUTURE_MS_MAX, GRACE_MS_MAX, GRACE_MS_MIN, GROUP_WEIGHT_MAX, LEASE_MS_MAX,
    LEASE_MS_MIN, PRIORITY_MAX, RATE_MAX, RATE_MS_MAX,
};
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::request::{Due, PushOptions};

use super::dispatch::bad;
use crate::queue::is_grace;

/// Checks the ranges of settings.
///
/// # Errors
/// The first that is out of its range.
pub(crate) fn check_settings(settings: &QueueSettings) -> Result<(), Error> {
    let long = |what: &str, ms: Option<u64>, max: u64| match ms {
        Some(ms) if ms > max => Err(bad(format!("{what} of {ms} ms exceeds {max}"))),
        _ => Ok(()),
    };
    if settings.max_failures == Some(0) {
        return Err(bad("max failures is at least 1"));
    }
    if settings.ordered == Some(true) && settings.fair == Some(true) {
        return Err(ordered_and_fair());
    }
    settings.lease_ms.map_or(Ok(()), check_lease_ms)?;
    long("a back-off", settings.backoff_ms, FUTURE_MS_MAX)?;
    long("a back-off", settings.backoff_ms_max, FUTURE_MS_MAX)?;
    long("a time to live", settings.ttl_ms, FUTURE_MS_MAX)?;
    long("a dedup window", settings.dedup_window_ms, DEDUP_WINDOW_MS_MAX)?;
    long("a time to live of dead messages", settings.dead_ttl_ms, FUTURE_MS_MAX)?;
    if settings.backoff_jitter_percent.is_some_and(|percent| percent > 100) {
        return Err(bad("a back-off is shifted by at most 100 percent"));
    }
    if settings.backoff_factor_percent.is_some_and(|percent| !(100..=10_000).contains(&percent)) {
        return Err(bad("a back-off is multiplied by 100 to 10,000 percent"));
    }
    check_weight(settings.group_weight)?;
    let rates = [(settings.rate_max, settings.rate_ms), (settings.group_rate_max, settings.group_rate_ms)];
    for (max, ms) in rates {
        if ms.is_some_and(|ms| !(1..=RATE_MS_MAX).contains(&ms)) {
            return Err(bad("a rate speaks of 1 ms to 1 h"));
        }
        if max.is_some_and(|max| max > RATE_MAX) {
            return Err(bad("a rate is at most 10,000,000 messages"));
        }
    }
    Ok(())
}

/// What excludes what: groups are served in order, or in turn.
pub(crate) fn ordered_and_fair() -> Error {
    bad("ordered and fair exclude each other: set one of them to off")
}

/// Checks how long the client of a bound session may be away.
///
/// # Errors
/// If it is out of its range.
pub(crate) fn check_grace_ms(grace_ms: u64) -> Result<(), Error> {
    if is_grace(grace_ms) {
        return Ok(());
    }
    Err(bad(format!("a grace is {GRACE_MS_MIN} to {GRACE_MS_MAX} ms")))
}

/// Checks the weight of a group, if one is given.
///
/// # Errors
/// If it is out of its range.
pub(crate) fn check_weight(weight: Option<u32>) -> Result<(), Error> {
    match weight {
        Some(weight) if !(1..=GROUP_WEIGHT_MAX).contains(&weight) => {
            Err(bad(format!("the weight of a group is 1 to {GROUP_WEIGHT_MAX}")))
        }
        _ => Ok(()),
    }
}

/// Checks the ranges of what is said of a message.
///
/// # Errors
/// The first that is out of its range.
pub(crate) fn check_options(options: &PushOptions) -> Result<(), Error> {
    if options.priority > PRIORITY_MAX {
        return Err(bad(format!("priority {} exceeds {PRIORITY_MAX}", options.priority)));
    }
    if matches!(options.due, Due::AfterMs(ms) if ms > FUTURE_MS_MAX) {
        return Err(bad("a delay is at most 366 days"));
    }
    if options.ttl_ms.is_some_and(|ms| ms == 0 || ms > FUTURE_MS_MAX) {
        return Err(bad("a time to live is 1 ms to 366 days"));
    }
    Ok(())
}

/// Refuses a message that would expire before it is due, as far as the request itself says both.
///
/// # Errors
/// What contradicts what.
pub(crate) fn check_lifetime(options: &PushOptions, wall_ms: u64) -> Result<(), Error> {
    if crate::mutants::on(crate::mutants::Mutant::ExpiresBeforeDue) {
        return Ok(());
    }
    let delay_ms = match options.due {
        Due::Now => return Ok(()),
        Due::AfterMs(ms) => ms,
        Due::AtMs(at_ms) => at_ms.saturating_sub(wall_ms),
    };
    match options.ttl_ms {
        Some(ttl_ms) if ttl_ms <= delay_ms => Err(bad(format!(
            "it would expire before it is ready: time to live {ttl_ms} ms, delay {delay_ms} ms"
        ))),
        _ => Ok(()),
    }
}

/// Checks the length of a lease.
///
/// # Errors
/// If it is out of its range.
pub(crate) fn check_lease_ms(lease_ms: u64) -> Result<(), Error> {
    if (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
        Ok(())
    } else {
        Err(bad(format!("a lease of {lease_ms} ms is not within 1 s and 12 h")))
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::error::ErrorCode;

    use super::*;

    #[test]
    fn a_message_that_would_expire_before_it_is_due_is_refused() {
        let check = |due, ttl_ms| check_lifetime(&PushOptions { due, ttl_ms, ..Default::default() }, 1_000);
        assert!(check(Due::AfterMs(3_600), Some(1_800)).unwrap_err().message.contains("delay 3600 ms"));
        assert!(check(Due::AfterMs(10), Some(10)).is_err());
        assert!(check(Due::AtMs(3_000), Some(2_000)).is_err());
        for (due, ttl_ms) in [
            (Due::AfterMs(10), Some(11)),
            (Due::AfterMs(10), None),
            (Due::AtMs(3_000), Some(2_001)),
            (Due::AtMs(500), Some(1)),
            (Due::Now, Some(1)),
        ] {
            assert_eq!(check(due, ttl_ms), Ok(()), "{due:?} {ttl_ms:?}");
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_message_that_is_let_expire_is_noticed() {
        let test = "server::options::tests::a_message_that_would_expire_before_it_is_due_is_refused";
        assert!(crate::mutants::is_caught_by(test, crate::mutants::Mutant::ExpiresBeforeDue));
    }

    #[test]
    fn a_setting_is_taken_within_its_bounds_and_not_beyond() {
        let with = |name: &str, value: u64| {
            let mut settings = serde_json::json!({});
            settings[name] = value.into();
            serde_json::from_value(settings).is_ok_and(|settings| check_settings(&settings).is_ok())
        };
        for (name, least, most) in queue_protocol::settings::BOUNDS {
            assert!(with(name, *least) && with(name, *most), "{name}");
            assert!(!with(name, most + 1) && (*least == 0 || !with(name, least - 1)), "{name}");
        }
    }

    #[test]
    fn defaults_are_in_range_and_what_is_out_of_it_is_refused() {
        assert_eq!(check_settings(&QueueSettings::default()), Ok(()));
        assert_eq!(check_options(&PushOptions::default()), Ok(()));
        let refused = [
            QueueSettings { max_failures: Some(0), ..Default::default() },
            QueueSettings { lease_ms: Some(999), ..Default::default() },
            QueueSettings { ordered: Some(true), fair: Some(true), ..Default::default() },
            QueueSettings { backoff_ms: Some(u64::MAX), ..Default::default() },
            QueueSettings { backoff_factor_percent: Some(99), ..Default::default() },
            QueueSettings { backoff_jitter_percent: Some(101), ..Default::default() },
            QueueSettings { dedup_window_ms: Some(DEDUP_WINDOW_MS_MAX + 1), ..Default::default() },
            QueueSettings { group_weight: Some(0), ..Default::default() },
            QueueSettings { rate_ms: Some(0), ..Default::default() },
            QueueSettings { group_rate_ms: Some(3_600_001), ..Default::default() },
        ];
        for settings in refused {
            let error = check_settings(&settings).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{settings:?}");
        }
        let refused = [
            PushOptions { priority: 32, ..Default::default() },
            PushOptions { due: Due::AfterMs(u64::MAX), ..Default::default() },
            PushOptions { ttl_ms: Some(0), ..Default::default() },
        ];
        for options in refused {
            assert_eq!(check_options(&options).unwrap_err().code, ErrorCode::BadRequest, "{options:?}");
        }
    }
}

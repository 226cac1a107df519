//! The wall clock of this machine, read in one place: only to show when a lease ends.

use std::time::{Duration, SystemTime};

use queue_protocol::values::milliseconds;

/// Now.
#[expect(clippy::disallowed_methods, reason = "a shell shows times to people; nothing is decided by them")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds; times past the year 9999 as that year's end.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Unix milliseconds of this machine's clock `ahead` from now.
pub(crate) fn unix_ms_in(ahead: Duration) -> u64 {
    let since = now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    milliseconds(since.saturating_add(ahead))
}

/// The time of day of Unix milliseconds, in UTC: `14:04:22Z`.
pub(crate) fn time_of_day(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_795_442_602_118), "2026-11-23T14:03:22.118Z");
        assert_eq!(time_of_day(1_795_442_602_118), "14:03:22Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}

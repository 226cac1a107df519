//! The wall clock of this machine, read in one place: only to show when a lease ends.

use std::time::{Duration, SystemTime};

pub(crate) use queue_json::time::rfc3339;
use queue_protocol::values::milliseconds;

/// Now.
#[expect(clippy::disallowed_methods, reason = "a shell shows times to people; nothing is decided by them")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
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
    fn the_time_of_day_is_utc() {
        assert_eq!(time_of_day(1_795_442_602_118), "14:03:22Z");
    }
}

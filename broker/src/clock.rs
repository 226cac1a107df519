//! The machine's clocks, handed in: the time of day, and the time since boot. For what this process alone waits for there
//! is `tokio::time`, which the simulator drives.

use queue_protocol::values::milliseconds;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds; may jump, either way.
    fn wall_ms(&self) -> u64;

    /// Milliseconds since the machine was booted, time in suspend included. Never jumps, and goes at the rate of time.
    fn boot_ms(&self) -> u64;

    /// Names the boot that [`Clock::boot_ms`] counts from; `None` if the system does not say.
    fn boot_id(&self) -> Option<u128>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Where Linux names the boot: a UUID.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        milliseconds(since)
    }

    fn boot_ms(&self) -> u64 {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(since.tv_sec), u64::try_from(since.tv_nsec));
        seconds.unwrap_or_default() * 1_000 + nanos.unwrap_or_default() / 1_000_000
    }

    fn boot_id(&self) -> Option<u128> {
        let text = std::fs::read_to_string(BOOT_ID).ok()?;
        u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_boot_goes_on_within_one_boot() {
        let clock = SystemClock;
        let (id, before) = (clock.boot_id(), clock.boot_ms());
        assert!(before > 0);
        assert!(clock.boot_ms() >= before);
        assert_eq!(clock.boot_id(), id);
        assert!(id.is_some_and(|id| id != 0));
    }
}

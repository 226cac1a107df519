//! Wall time, handed in. Monotonic time is `tokio::time`, which the simulator drives.

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds; may jump, either way.
    fn wall_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

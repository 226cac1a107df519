//! What the environment says about tests: short by default, long on demand.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `QUEUE_TESTS_LONG` | | set: every test in its long setting |
//! | `QUEUE_TESTS_CLUSTERS` | 2 | clusters at a time |
//! | `QUEUE_TESTS_PATIENCE` | 1 | times every limit, for a machine that is busy with more important things |
//!
//! The long settings are 10,000 lines while the leader is killed (else 4,000), 20 rounds of `kill -9` of all nodes
//! (else 3), outages of 10 s (else 5 s), an idle wait of 30 s (else 3 s), 1 GiB of bodies (else 64 MiB) and a simulated
//! silence of an hour (else ten minutes).

use std::str::FromStr;
use std::time::Duration;

/// `long` if the long setting is asked for, else `short`.
pub fn choose<T>(short: T, long: T) -> T {
    let set = std::env::var_os("QUEUE_TESTS_LONG").is_some_and(|value| !value.is_empty() && value != "0");
    if set { long } else { short }
}

fn number<N: FromStr>(variable: &str) -> Option<N> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Clusters that may run at a time.
pub(crate) fn clusters() -> usize {
    number("QUEUE_TESTS_CLUSTERS").unwrap_or(2).max(1)
}

/// A limit as long as this machine needs it.
pub(crate) fn patient(limit: Duration) -> Duration {
    limit * number("QUEUE_TESTS_PATIENCE").unwrap_or(1).max(1)
}

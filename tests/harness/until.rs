//! Waiting for a condition, with the reason why it does not hold yet.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::settings::patient;

/// Long enough for an election on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds it. The limit is longer on a machine that asks for patience.
///
/// # Panics
/// If it does not within `limit`, with its last reason.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    let mut reason = "never answered".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, look()).await {
            Ok(Ok(found)) => return found,
            // A look that is done at once is never late.
            Ok(Err(why)) if !left.is_zero() => reason = why.to_string(),
            _ => panic!("waited {limit:?} until {what}: {reason}"),
        }
        sleep(STEP).await;
    }
}

//! Other log lines for a while: chosen over the protocol or over HTTP, ended by the node itself.

use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::LOG_MS_MAX;
use queue_protocol::values::milliseconds;
use queue_protocol::wire::logs::{LogChoice, LogView};
use tokio::time::Instant;

use super::dispatch::bad;
use crate::logging;

/// Which lines this process writes.
pub(crate) fn view() -> LogView {
    let levels = logging::levels();
    let left = levels.chosen.map(|(_, until)| milliseconds(until.saturating_duration_since(Instant::now())));
    LogView { level: levels.now(), settings: levels.settings, left_ms: left }
}

/// Writes others for a while, or goes back.
///
/// # Errors
/// It is too long, or the log does not take it.
pub(crate) fn set(choice: Option<LogChoice>) -> Result<LogView, Error> {
    let failed = |error: std::io::Error| Error::refused(ErrorCode::Unsupported, error.to_string());
    let Some(LogChoice { level, for_ms }) = choice else {
        logging::go_back(None).map_err(failed)?;
        tracing::warn!("log.level is that of the settings again");
        return Ok(view());
    };
    if !(1..=LOG_MS_MAX).contains(&for_ms) {
        return Err(bad(format!("a log level is chosen for 1 ms to {LOG_MS_MAX} ms")));
    }
    let length = Duration::from_millis(for_ms);
    let until = Instant::now() + length;
    logging::choose(level, until).map_err(failed)?;
    tracing::warn!("log.level is {} for {}", level.as_str(), humantime::format_duration(length));
    tokio::spawn(async move {
        tokio::time::sleep_until(until).await;
        // It says itself what went wrong, if it can.
        if let Err(error) = logging::go_back(Some(until)) {
            tracing::error!(%error, "log.level stays as it is");
        }
    });
    Ok(view())
}

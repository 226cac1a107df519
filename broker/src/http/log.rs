//! `/v1/log`: which log lines this node writes, and others for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use queue_protocol::error::ErrorCode;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::answers::{Failed, json as document};
use super::serve::App;
use super::take::read;
use crate::logging;

/// Milliseconds for which another level is chosen.
const FOR_MS: u64 = 10 * 60 * 1_000;
const FOR_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    level: String,
    #[serde(default = "for_ms")]
    for_ms: u64,
}

fn for_ms() -> u64 {
    FOR_MS
}

/// The level, and if another one was chosen how long that lasts.
pub(super) async fn look() -> Result<Response, Failed> {
    let none =
        || Failed::of(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unsupported, "this process logs nothing");
    let levels = logging::levels().ok_or_else(none)?;
    let left = levels.chosen.map(|(_, until)| until.saturating_duration_since(Instant::now()).as_millis());
    Ok(document(
        StatusCode::OK,
        &json!({
            "level": logging::name_of(levels.now()),
            "settings": logging::name_of(levels.settings),
            "left_ms": left.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        }),
    ))
}

/// Chooses another level for a while.
pub(super) async fn choose(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (_, wanted): (_, Wanted) = read(&app, request).await?;
    let level = logging::level_of(&wanted.level).map_err(|why| Failed::bad(format!("level {why}")))?;
    if !(1..=FOR_MS_MAX).contains(&wanted.for_ms) {
        return Err(Failed::bad(format!("for_ms is 1 to {FOR_MS_MAX}; nothing was changed")));
    }
    let length = Duration::from_millis(wanted.for_ms);
    let until = Instant::now() + length;
    logging::choose(level, until).map_err(failed)?;
    tracing::warn!("log.level is {} for {}", wanted.level, humantime::format_duration(length));
    tokio::spawn(async move {
        tokio::time::sleep_until(until).await;
        // It says itself what went wrong, if it can.
        if let Err(error) = logging::go_back(Some(until)) {
            tracing::error!(%error, "log.level stays as it is");
        }
    });
    look().await
}

/// Goes back to the level of the settings.
pub(super) async fn go_back() -> Result<Response, Failed> {
    logging::go_back(None).map_err(failed)?;
    look().await
}

fn failed(error: std::io::Error) -> Failed {
    Failed::of(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unsupported, error.to_string())
}

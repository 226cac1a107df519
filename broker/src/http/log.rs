//! `/v1/log`: which log lines this node writes, and others for a while. `/v1/slow`: requests that took it long.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use queue_protocol::wire::logs::LogChoice;
use serde::Deserialize;

use super::answers::{Failed, json as document};
use super::serve::App;
use super::take::read;

/// Milliseconds for which another level is chosen.
const FOR_MS: u64 = 10 * 60 * 1_000;

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
pub(super) async fn look(State(app): State<Arc<App>>) -> Response {
    document(StatusCode::OK, &queue_json::logs::log(&app.site.server.log()))
}

/// Chooses another level for a while.
pub(super) async fn choose(State(app): State<Arc<App>>, request: HttpRequest) -> Result<Response, Failed> {
    let (_, wanted): (_, Wanted) = read(&app, request).await?;
    let level =
        wanted.level.parse().map_err(|why| Failed::bad(format!("level {why}; nothing was changed")))?;
    let chosen = app.site.server.set_log(Some(LogChoice { level, for_ms: wanted.for_ms }))?;
    Ok(document(StatusCode::OK, &queue_json::logs::log(&chosen)))
}

/// Goes back to the level of the settings.
pub(super) async fn go_back(State(app): State<Arc<App>>) -> Result<Response, Failed> {
    Ok(document(StatusCode::OK, &queue_json::logs::log(&app.site.server.set_log(None)?)))
}

/// Requests that took this node long.
pub(super) async fn slow(State(app): State<Arc<App>>) -> Response {
    document(StatusCode::OK, &queue_json::logs::slow(&app.site.server.slow()))
}

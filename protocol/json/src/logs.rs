//! Which log lines a node writes, and the requests that took it long.

use queue_protocol::error::ErrorCode;
use queue_protocol::names::QueueName;
use queue_protocol::wire::logs::{LogView, SlowList, SlowRequest};
use serde_json::{Map, Value, json};

use crate::time::rfc3339;

/// The level that counts, that of the settings, and how long that does not count.
pub fn log(view: &LogView) -> Value {
    json!({ "level": view.level.as_str(), "settings": view.settings.as_str(), "left_ms": view.left_ms })
}

/// Slow requests, newest first.
pub fn slow(list: &SlowList) -> Value {
    json!({
        "threshold_ms": list.threshold_ms,
        "total": list.total,
        "requests": list.requests.iter().map(request).collect::<Vec<_>>(),
    })
}

fn request(slow: &SlowRequest) -> Value {
    let stages: Map<String, Value> =
        slow.stages.iter().map(|took| (took.stage.as_str().to_owned(), took.us.into())).collect();
    json!({
        "at": rfc3339(slow.at_ms),
        "request": &*slow.request,
        "queue": slow.queue.as_ref().map(QueueName::as_str),
        "client": &*slow.client,
        "took_us": slow.took_us,
        "code": slow.code.map(ErrorCode::as_str),
        "stages_us": stages,
    })
}

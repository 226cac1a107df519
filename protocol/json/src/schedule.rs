//! Schedules.

use queue_protocol::wire::schedule::{Missed, ScheduleView, When};
use serde_json::{Value, json};

use crate::time::rfc3339;

/// One of a listing.
pub fn row(view: &ScheduleView) -> Value {
    let (cron, zone, every_ms) = match &view.when {
        When::Cron { pattern, zone } => (Some(&**pattern), Some(&**zone), None),
        When::Every(ms) => (None, None, Some(*ms)),
    };
    let (missed, catch_up) = match view.missed {
        Missed::Once => ("once", None),
        Missed::Skip => ("skip", None),
        Missed::CatchUp(count) => ("catch_up", Some(count)),
    };
    json!({
        "name": view.name.as_str(),
        "queue": view.queue.as_str(),
        "cron": cron,
        "zone": zone,
        "every_ms": every_ms,
        "missed": missed,
        "catch_up": catch_up,
        "next_at": view.next_at_ms.map(rfc3339),
        "next_in_ms": view.next_in_ms,
        "last_at": view.last_at_ms.map(rfc3339),
        "stored": view.stored,
        "refused": view.refused,
    })
}

//! A queue with its counts.

use queue_protocol::wire::response::QueueView;
use serde_json::{Map, Value, json};

use crate::fields::{Field, pick};
use crate::settings;

const FIELDS: &[Field<QueueView>] = &[
    ("name", |view| view.name.as_str().into()),
    ("ready", |view| view.ready.into()),
    ("leased", |view| view.leased.into()),
    ("delayed", |view| view.delayed.into()),
    ("dead", |view| view.dead.into()),
    ("bytes", |view| view.bytes.into()),
    ("oldest_ready_ms", |view| json!(view.oldest_ready_ms)),
    ("oldest_ready_age_ms", |view| json!(view.oldest_ready_ms)),
    ("next_due_in_ms", |view| json!(view.next_due_in_ms)),
    ("pushed_total", |view| view.pushed_total.into()),
    ("leased_total", |view| view.leased_total.into()),
    ("acked_total", |view| view.acked_total.into()),
    ("waiting", |view| view.waiting.into()),
    ("version", |view| view.version.into()),
    ("pushes_paused", |view| view.settings.pushes_paused.into()),
    ("leases_paused", |view| view.settings.leases_paused.into()),
    ("full", |view| view.full.into()),
    ("blocked", |view| view.blocked.into()),
    ("state", |view| state(view).into()),
    ("settings", |view| settings::shown(&view.settings)),
];

/// `GET /v1/queues/{queue}`.
const RESOURCE: &[&str] = &[
    "name",
    "ready",
    "leased",
    "delayed",
    "dead",
    "bytes",
    "oldest_ready_ms",
    "pushed_total",
    "leased_total",
    "acked_total",
    "waiting",
    "full",
    "blocked",
    "version",
    "settings",
];

/// `queue/v1` without its schema and its settings.
const ROW: &[&str] = &[
    "name",
    "ready",
    "leased",
    "delayed",
    "dead",
    "bytes",
    "oldest_ready_age_ms",
    "next_due_in_ms",
    "pushed_total",
    "leased_total",
    "acked_total",
    "waiting",
    "version",
    "pushes_paused",
    "leases_paused",
    "full",
    "blocked",
    "state",
];

/// As HTTP shows it, with its settings as they can be changed.
pub fn resource(view: &QueueView) -> Value {
    pick(FIELDS, RESOURCE, view).into()
}

/// As the shell lists it, without settings: those it shows as its own flags name them.
pub fn row(view: &QueueView) -> Map<String, Value> {
    pick(FIELDS, ROW, view)
}

/// What keeps pushes out or messages in: `ok`, or words with commas.
pub fn state(view: &QueueView) -> String {
    let paused = match (view.settings.pushes_paused, view.settings.leases_paused) {
        (false, false) => None,
        (true, false) => Some("pushes paused"),
        (false, true) => Some("leases paused"),
        (true, true) => Some("paused"),
    };
    let (full, blocked) = (view.full.then_some("full"), view.blocked.then_some("blocked"));
    let words: Vec<&str> = paused.into_iter().chain(full).chain(blocked).collect();
    if words.is_empty() { "ok".to_owned() } else { words.join(", ") }
}

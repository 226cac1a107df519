//! Totals of the cluster.

use queue_protocol::wire::response::StatsView;
use serde_json::{Map, Value};

use crate::fields::{Field, pick};

const FIELDS: &[Field<StatsView>] = &[
    ("queues", |view| view.queues.into()),
    ("ready", |view| view.ready.into()),
    ("leased", |view| view.leased.into()),
    ("delayed", |view| view.delayed.into()),
    ("dead", |view| view.dead.into()),
    ("bytes", |view| view.bytes.into()),
    ("sessions", |view| view.sessions.into()),
    ("pushed_total", |view| view.pushed_total.into()),
    ("leased_total", |view| view.leased_total.into()),
    ("acked_total", |view| view.acked_total.into()),
    ("connections", |view| view.connections.into()),
    ("waiting", |view| view.waiting.into()),
];

/// Those of the cluster: `GET /v1/stats`.
const TOTALS: &[&str] = &[
    "queues",
    "ready",
    "leased",
    "delayed",
    "dead",
    "bytes",
    "sessions",
    "pushed_total",
    "leased_total",
    "acked_total",
];

/// Those of the cluster and of the node that answers, `stats/v1` without its schema.
pub fn all(view: &StatsView) -> Map<String, Value> {
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    pick(FIELDS, &names, view)
}

/// Those of the cluster.
pub fn totals(view: &StatsView) -> Map<String, Value> {
    pick(FIELDS, TOTALS, view)
}

//! Groups of a queue.

use queue_protocol::wire::group::GroupView;
use serde_json::{Value, json};

use crate::words;

/// One of a listing.
pub fn row(view: &GroupView) -> Value {
    json!({
        "group": view.group.as_str(),
        "weight": view.weight,
        "own_weight": view.own_weight,
        "ready": view.ready,
        "leased": view.leased,
        "waiting": view.waiting,
        "dead": view.dead,
        "held": view.held.map(words::group_held),
    })
}

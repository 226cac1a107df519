//! Samples of what a node says of the health of its cluster.

use queue_protocol::error::ErrorCode;
use queue_protocol::health::{Contact, HealthView, LeadView, REFUSALS_MAX, Refusal};
use queue_protocol::names::NodeId;
use queue_protocol::wire::bounded::{Bounded, Text};

fn refusal() -> Refusal {
    Refusal { code: ErrorCode::DiskReserve, message: Text::cut("the disk of n2 has 3 MiB free") }
}

pub(super) fn refusals() -> Bounded<Refusal, REFUSALS_MAX> {
    Bounded::new(vec![refusal()]).expect("one")
}

pub(super) fn view() -> HealthView {
    let contact = Contact {
        node: NodeId(2),
        heard_ms: Some(140),
        behind_ms: Some(20),
        refused: None,
        refuses: Some(refusal()),
    };
    HealthView {
        lead: Some(LeadView { ready: true, quorum_ms: Some(90), lease_ms: 1_000, commit_behind_ms: 7 }),
        contacts: Bounded::new(vec![contact]).expect("one"),
        refusals: refusals(),
        paused_count: 2,
    }
}

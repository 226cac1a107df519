//! A sample of an explanation, with every hold.

use queue_protocol::names::{Key, MessageId, SessionId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::explain::{Explained, Hold};
use queue_protocol::wire::response::DeadReason;

pub(super) fn explained() -> Explained {
    let group: Key = "customer-4".parse().unwrap();
    let id = MessageId(4_812);
    let holds = vec![
        Hold::Paused,
        Hold::Empty,
        Hold::Leased { id, left_ms: 41_000 },
        Hold::Delayed { id, due_at_ms: 1_800_000_000_000, left_ms: Some(3_000) },
        Hold::Dead { id, reason: DeadReason::Rejected },
        Hold::GroupLeased { group: group.clone(), id: Some(id), left_ms: Some(41_000) },
        Hold::GroupWaits {
            group: group.clone(),
            id: Some(id),
            due_at_ms: Some(1_800_000_000_000),
            left_ms: None,
        },
        Hold::GroupBlocked { group: group.clone(), id: None },
        Hold::GroupParked { group: group.clone() },
        Hold::GroupFull { group: group.clone() },
        Hold::Rate { wait_ms: 300 },
        Hold::GroupRate { group, wait_ms: Some(300) },
        Hold::Active { session: SessionId(0x42), epoch: 3, left_ms: 41_000 },
    ];
    Explained {
        holds: Bounded::new(holds).expect("as many as there are kinds"),
        ahead: Some(3),
        waiting: 1,
        clock_off_ms: 61_000,
        refusals: super::health::refusals(),
    }
}

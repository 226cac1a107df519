//! What kind of request it is: may it be repeated, who answers it, how long does it wait.

use std::time::Duration;

use crate::request::{Consistency, Request};

/// What may be done with a request whose answer did not come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It has a number: repeated, it counts once.
    Numbered,
    /// It changes nothing.
    Free,
    /// It changes something outside of any session.
    Not,
}

pub(super) fn repeat_of(request: &Request) -> Repeat {
    match request {
        Request::Push(_)
        | Request::Lease(_)
        | Request::Pop(_)
        | Request::Ack(_)
        | Request::Nack(_)
        | Request::Extend(_)
        | Request::CreateQueue(_)
        | Request::AlterQueue(_)
        | Request::RemoveQueue(_)
        | Request::Sweep(_)
        | Request::Edit(_)
        | Request::WeighGroup(_)
        | Request::SaveCheckpoint(_)
        | Request::Txn(_)
        | Request::SetSchedule(_)
        | Request::RemoveSchedule(_)
        | Request::BindSession { .. }
        | Request::CloseSession => Repeat::Numbered,
        Request::Peek(_)
        | Request::Queues(_)
        | Request::Schedules(_)
        | Request::Groups(_)
        | Request::History(_)
        | Request::Status
        | Request::Stats
        | Request::Attend
        | Request::Clients(_)
        | Request::Explain(_) => Repeat::Free,
        Request::TransferLeader(_)
        | Request::ChangeMembers(_)
        | Request::RotateSecret { .. }
        | Request::TlsForget(_)
        | Request::Drain(_)
        | Request::RaiseLevel(_) => Repeat::Not,
    }
}

/// Only the leader answers it.
pub(super) fn needs_leader(request: &Request) -> bool {
    match request {
        Request::Status | Request::Clients(_) | Request::Drain(_) | Request::TlsForget(_) => false,
        Request::Peek(peek) => peek.consistency == Consistency::Linearizable,
        Request::Queues(queues) => queues.consistency == Consistency::Linearizable,
        Request::Groups(groups) => groups.consistency == Consistency::Linearizable,
        Request::History(history) => history.consistency == Consistency::Linearizable,
        Request::Explain(explain) => explain.consistency == Consistency::Linearizable,
        _ => true,
    }
}

/// Milliseconds the request itself waits, at most.
pub(super) fn wait_of(request: &Request) -> u32 {
    match request {
        Request::Lease(lease) | Request::Pop(lease) => lease.wait_ms.saturating_add(lease.linger_ms),
        // As long as the client is there: 49 days, and then again.
        Request::Attend => u32::MAX,
        _ => 0,
    }
}

pub(super) fn set_wait(request: &mut Request, wait: Duration) {
    if let Request::Lease(lease) | Request::Pop(lease) = request {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        lease.wait_ms = wait_ms.saturating_sub(lease.linger_ms);
    }
}

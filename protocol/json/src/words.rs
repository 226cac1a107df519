//! What documents call the variants of the protocol: one word each, in small letters.

use queue_protocol::wire::group::GroupHeld;
use queue_protocol::wire::history::GoneHow;
use queue_protocol::wire::request::MessageState;
use queue_protocol::wire::response::{DeadReason, Edited, Settled};

/// The state of a message.
pub fn state(state: MessageState) -> &'static str {
    match state {
        MessageState::Ready => "ready",
        MessageState::Leased => "leased",
        MessageState::Delayed => "delayed",
        MessageState::Dead => "dead",
    }
}

/// The state that a word names; `None` if it names none.
pub fn state_of(word: &str) -> Option<MessageState> {
    let states = [MessageState::Ready, MessageState::Leased, MessageState::Delayed, MessageState::Dead];
    states.into_iter().find(|other| state(*other) == word)
}

/// Why a message is dead.
pub fn dead_reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::MaxFailures => "max_failures",
        DeadReason::Rejected => "rejected",
        DeadReason::Expired => "expired",
        DeadReason::Overflow => "overflow",
        DeadReason::Admin => "admin",
    }
}

/// What became of a receipt.
pub fn settled(settled: Settled) -> &'static str {
    match settled {
        Settled::Ok => "ok",
        Settled::Stale => "stale",
        Settled::Gone => "gone",
    }
}

/// What became of a message of an edit.
pub fn edited(edited: Edited) -> &'static str {
    match edited {
        Edited::Done => "done",
        Edited::Gone => "gone",
        Edited::Leased => "leased",
        Edited::AlreadyReady => "already_ready",
        Edited::KeyHeld => "skipped",
    }
}

/// How a message went.
pub fn gone(how: GoneHow) -> &'static str {
    match how {
        GoneHow::Acked => "acked",
        GoneHow::Popped => "popped",
        GoneHow::Expired => "expired",
        GoneHow::Deleted => "deleted",
        GoneHow::Replaced => "replaced",
        GoneHow::Forgotten => "forgotten",
    }
}

/// What holds a group back.
pub fn group_held(held: GroupHeld) -> &'static str {
    match held {
        GroupHeld::Leased => "leased",
        GroupHeld::Waits => "waits",
        GroupHeld::Blocked => "blocked",
        GroupHeld::Parked => "parked",
        GroupHeld::Full => "full",
        GroupHeld::Rate => "rate",
    }
}

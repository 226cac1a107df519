//! Values of options and arguments: what may be typed, and what it means.

use std::time::Duration;

use clap::ValueEnum;
use queue_protocol::limits::{
    FUTURE_MS_MAX, GRACE_MS_MAX, GRACE_MS_MIN, GROUP_WEIGHT_MAX, LEASE_MS_MAX, LEASE_MS_MIN,
};
use queue_protocol::values::duration_in;
pub(crate) use queue_protocol::values::{duration, milliseconds};
pub(super) use queue_protocol::values::{header, moment, server, size};
use queue_protocol::wire::request::{MessageState, UniqueHeld};
use queue_protocol::wire::response::DeadReason;

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// What `set` sets.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Json,
    Timing,
}

/// To what `set` sets it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Shells with completion.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completions {
    Bash,
    Zsh,
    Fish,
}

/// A state, as typed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Leased,
    Delayed,
    Dead,
}

impl From<State> for MessageState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => MessageState::Ready,
            State::Leased => MessageState::Leased,
            State::Delayed => MessageState::Delayed,
            State::Dead => MessageState::Dead,
        }
    }
}

/// The weight of a group, as typed; `None` is the queue's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(pub(crate) Option<u32>);

/// Reads a weight.
pub(super) fn weight(text: &str) -> Result<Weight, String> {
    if text == "none" {
        return Ok(Weight(None));
    }
    let weight = text.parse().ok().filter(|weight| (1..=GROUP_WEIGHT_MAX).contains(weight));
    weight.map(|weight| Weight(Some(weight))).ok_or_else(|| "expected 1 to 1,000, or none".to_owned())
}

/// Why messages are dead, as typed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    #[value(name = "max_failures", alias = "failures", alias = "max-failures")]
    MaxFailures,
    Rejected,
    Expired,
    Overflow,
    Admin,
}

impl From<Reason> for DeadReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::MaxFailures => DeadReason::MaxFailures,
            Reason::Rejected => DeadReason::Rejected,
            Reason::Expired => DeadReason::Expired,
            Reason::Overflow => DeadReason::Overflow,
            Reason::Admin => DeadReason::Admin,
        }
    }
}

/// What a push does when a live message has its unique key.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Reject,
    Replace,
    Keep,
}

impl From<Held> for UniqueHeld {
    fn from(held: Held) -> Self {
        match held {
            Held::Reject => UniqueHeld::Reject,
            Held::Replace => UniqueHeld::Replace,
            Held::Keep => UniqueHeld::Keep,
        }
    }
}

/// What a listing is sorted by.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Name,
    Ready,
    Oldest,
    Dead,
}

/// What `cluster wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// A leader with a majority behind it.
    Leader,
    /// The same.
    Quorum,
    /// The same, and no node refuses pushes.
    Writable,
    /// So many voters that the leader hears, lets in, and that keep pace.
    Voters(usize),
    /// So many members that the leader hears, itself included.
    Members(usize),
    /// Every member has applied this entry; all that is committed if none is named.
    Applied(Option<u64>),
}

pub(super) fn lease_length(text: &str) -> Result<Duration, String> {
    duration_in(text, Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX))
}

/// A delay or a time to live, which the wire bounds.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    duration_in(text, Duration::ZERO..=Duration::from_millis(FUTURE_MS_MAX))
}

pub(super) fn grace(text: &str) -> Result<Duration, String> {
    duration_in(text, Duration::from_millis(GRACE_MS_MIN)..=Duration::from_millis(GRACE_MS_MAX))
}

pub(super) fn wait_for(text: &str) -> Result<WaitFor, String> {
    let count = |count: &str| count.parse().ok().filter(|count| (1..=64).contains(count));
    match text.split_once('=') {
        None if text == "leader" => Some(WaitFor::Leader),
        None if text == "quorum" => Some(WaitFor::Quorum),
        None if text == "writable" => Some(WaitFor::Writable),
        None if text == "applied" => Some(WaitFor::Applied(None)),
        Some(("voters", voters)) => count(voters).map(WaitFor::Voters),
        Some(("members", members)) => count(members).map(WaitFor::Members),
        Some(("applied", index)) => index.parse().ok().map(|index| WaitFor::Applied(Some(index))),
        _ => None,
    }
    .ok_or_else(|| "expected leader, quorum, writable, voters=N, members=N, applied or applied=INDEX".into())
}

//! Values of options and arguments: what may be typed, and what it means.

use std::time::Duration;

use clap::ValueEnum;
use queue_protocol::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use queue_protocol::request::MessageState;

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
    /// A leader.
    Leader,
    /// A leader and so many members that answer.
    Members(usize),
    /// Every member has applied what is committed.
    Applied,
}

/// A duration with its units: `30s`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn lease_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let range = Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX);
    if range.contains(&length) { Ok(length) } else { Err("a lease lasts 1s to 12h".into()) }
}

pub(super) fn server(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(1..))) { Ok(text.to_owned()) } else { Err("expected HOST:PORT".into()) }
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

pub(super) fn wait_for(text: &str) -> Result<WaitFor, String> {
    let members =
        |count: &str| count.parse().ok().filter(|count| (1..=64).contains(count)).map(WaitFor::Members);
    match text {
        "leader" => Some(WaitFor::Leader),
        "applied" => Some(WaitFor::Applied),
        _ => text.strip_prefix("members=").and_then(members),
    }
    .ok_or_else(|| "expected leader, members=N or applied".into())
}

/// Milliseconds of a duration; what does not fit is as good as for ever.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Values of options and arguments: what may be typed, and what it means.

use std::time::Duration;

use clap::ValueEnum;
use queue_protocol::limits::{GRACE_MS_MAX, GRACE_MS_MIN, GROUP_WEIGHT_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use queue_protocol::request::{MessageState, UniqueHeld};
use queue_protocol::response::DeadReason;

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

/// A duration with its units: `30s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A size in bytes, with a unit or without.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" | "k" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" | "G" => 1 << 30,
        other => return Err(format!("{other:?} is no unit: B, kB, KiB, MB, MiB, GB or GiB")),
    };
    let size = text[..digits].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.ok_or_else(|| "expected a size like 64KiB".to_owned())
}

/// A moment as Unix milliseconds: `2026-11-23T14:03:22Z`, or without the zone, which is then UTC, or a day.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let is_day = text.len() == "2026-11-23".len();
    let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole)
        .map_err(|error| format!("{error}: expected a time like 2026-11-23T14:03:22Z"))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
    Ok(milliseconds(since))
}

pub(super) fn lease_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let range = Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX);
    if range.contains(&length) { Ok(length) } else { Err("a lease lasts 1s to 12h".into()) }
}

pub(super) fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration(text)?;
    let range = Duration::from_millis(GRACE_MS_MIN)..=Duration::from_millis(GRACE_MS_MAX);
    if range.contains(&grace) { Ok(grace) } else { Err("a worker can be gone for 1s to 12h".into()) }
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

/// Milliseconds of a duration; what does not fit is as good as for ever.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_or_a_time_in_utc() {
        assert_eq!(moment("2001-01-01"), Ok(978_307_200_000));
        assert_eq!(moment("2001-01-01T00:00:01Z"), Ok(978_307_201_000));
        assert_eq!(moment("2001-01-01 00:00:01"), Ok(978_307_201_000));
        for bad in ["", "tomorrow", "1969-01-01", "2001-13-01", "2001-01-01T25:00:00Z"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}

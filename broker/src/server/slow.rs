//! Requests that took long: the last of them in memory, and a line in the log for each, a few a second at most.
//!
//! A request is slow from [`THRESHOLD`] on: a disk that syncs within milliseconds, and an election that passes, stay below. What
//! waits for messages counts from the end of its wait. The stages of an entry are those that [`crate::stages`] remembers; they
//! are looked up only here, when the request was slow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::SLOW_LISTED_MAX;
use queue_protocol::names::QueueName;
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::logs::{SlowList, SlowRequest, StageTook};
use queue_protocol::wire::requests::{Class, Request, Row};
use queue_protocol::wire::response::{Response, WriteStage};
use tokio::time::Instant;

use super::caller::Caller;
use crate::locked::Locked as _;
use crate::raft::{Committed, Consensus};

/// What takes longer is slow.
const THRESHOLD: Duration = Duration::from_millis(250);
/// Lines of the log in each [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// What is kept of a request until it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The name of its row.
    pub(crate) request: &'static str,
    /// The first queue it is about.
    pub(crate) queue: Option<QueueName>,
    /// When it came; `None` if it takes its time by its kind, as a wait for messages does.
    pub(crate) at: Option<Instant>,
}

impl Asked {
    /// A request that comes now.
    pub(super) fn now(request: &Request) -> Self {
        let Row { name, class, .. } = request.row();
        let is_quick = matches!(class, Class::Change | Class::Read) && request.wait_ms() == 0;
        Self { request: name, queue: request.queue().cloned(), at: is_quick.then(Instant::now) }
    }

    /// A line for a request that was refused, where lines about single requests are written.
    pub(super) fn say_refused(&self, caller: &Caller, response: &Response) {
        let Err(error) = &response.result else { return };
        tracing::debug!(
            request = self.request,
            queue = self.queue.as_ref().map(QueueName::as_str),
            client = &*caller.client,
            from = %caller.address,
            session = %caller.session,
            code = error.code.as_str(),
            why = &*error.message,
            "a request was refused"
        );
    }
}

/// How far a change had come when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    /// When it was proposed.
    arrived: Instant,
    /// Until an entry took it.
    wait: Duration,
    encode: Duration,
    /// When its outcome was known.
    since: Instant,
}

impl Passed {
    pub(super) fn of(committed: &Committed) -> Self {
        let Committed { arrived, wait, encode, since, .. } = *committed;
        Self { arrived, wait, encode, since }
    }
}

#[derive(Default)]
struct Kept {
    total: u64,
    last: VecDeque<SlowRequest>,
    /// Since when lines are counted, how many were written, and how many were left out.
    window: Option<Instant>,
    written: u32,
    left_out: u64,
}

/// The slow requests of a node.
#[derive(Default)]
pub(crate) struct Slow(Mutex<Kept>);

impl Slow {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.locked()
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.kept().total
    }

    /// The last of them, newest first.
    pub(crate) fn list(&self) -> SlowList {
        let kept = self.kept();
        let requests = Bounded::new(kept.last.iter().cloned().collect()).expect("no more are kept");
        SlowList { threshold_ms: threshold_ms(), total: kept.total, requests }
    }

    /// Looks how long a request took that is being answered.
    pub(super) fn look(
        &self,
        consensus: &Consensus,
        caller: &Caller,
        asked: &Asked,
        passed: Option<Passed>,
        response: &Response,
    ) {
        let Some(began) = passed.map(|passed| passed.arrived).or(asked.at) else { return };
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        if took < THRESHOLD {
            return;
        }
        let mut stages = Vec::new();
        if let Some(Passed { wait, encode, since, .. }) = passed {
            stages.extend([(WriteStage::Wait, wait), (WriteStage::Encode, encode)]);
            // One that is repeated stands where it took effect before.
            if !response.repeated {
                stages.extend(consensus.log().stages().passed(response.at.index));
            }
            stages.push((WriteStage::Answer, now.saturating_duration_since(since)));
        }
        let stages = stages.into_iter().map(|(stage, took)| StageTook { stage, us: micros(took) }).collect();
        let slow = SlowRequest {
            at_ms: consensus.outside().clock.wall_ms(),
            request: Text::cut(asked.request),
            queue: asked.queue.clone(),
            client: caller.client.clone(),
            took_us: micros(took),
            code: response.result.as_ref().err().map(|error| error.code),
            stages: Bounded::new(stages).expect("a stage stands once"),
        };
        if let Some(left_out) = self.keep(slow.clone(), now) {
            say(&slow, left_out);
        }
    }

    /// Remembers one; how many had no line before it, if it is to have one.
    fn keep(&self, slow: SlowRequest, now: Instant) -> Option<u64> {
        let mut kept = self.kept();
        kept.total += 1;
        kept.last.push_front(slow);
        kept.last.truncate(SLOW_LISTED_MAX);
        if kept.window.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (kept.window, kept.written) = (Some(now), 0);
        }
        if kept.written >= LINES_MAX {
            kept.left_out += 1;
            return None;
        }
        kept.written += 1;
        Some(std::mem::take(&mut kept.left_out))
    }
}

fn threshold_ms() -> u32 {
    u32::try_from(THRESHOLD.as_millis()).expect("it is short")
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn say(slow: &SlowRequest, left_out: u64) {
    let stages: Vec<String> =
        slow.stages.iter().map(|took| format!("{} {}us", took.stage.as_str(), took.us)).collect();
    tracing::warn!(
        request = &*slow.request,
        queue = slow.queue.as_ref().map(QueueName::as_str),
        client = &*slow.client,
        code = slow.code.map(ErrorCode::as_str),
        took_ms = slow.took_us / 1_000,
        stages = stages.join(", "),
        left_out,
        "a request was slow"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(took_us: u64) -> SlowRequest {
        SlowRequest {
            at_ms: 1,
            request: Text::cut("Push"),
            queue: None,
            client: Text::cut("t"),
            took_us,
            code: None,
            stages: Bounded::default(),
        }
    }

    #[test]
    fn the_last_are_kept_newest_first_and_a_few_a_second_have_a_line() {
        let (log, now) = (Slow::default(), Instant::now());
        let said: Vec<_> = (0..200).filter_map(|took| log.keep(slow(took), now)).collect();
        assert_eq!(said, [0; LINES_MAX as usize]);
        assert_eq!(log.keep(slow(200), now + WINDOW), Some(190), "those that had none are counted");
        let list = log.list();
        assert_eq!((list.total, list.requests.len(), list.threshold_ms), (201, SLOW_LISTED_MAX, 250));
        let first: Vec<u64> = list.requests.iter().take(3).map(|slow| slow.took_us).collect();
        assert_eq!(first, [200, 199, 198]);
    }
}

//! The end of `work --drain`: whether anything is left to be waited for, and how what is left is told.

use std::time::Duration;

use queue_protocol::client::Client;
use queue_protocol::names::QueueName;
use queue_protocol::wire::explain::{Explain, Hold};
use queue_protocol::wire::request::{Consistency, Queues};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::QueueView;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::Drain;
use crate::show::render;

/// First and longest pause between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// After so many looks in a row at which nothing was delivered, it is asked why.
const STUCK: u32 = 4;

/// Messages that are in the queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    ready: u64,
    leased: u64,
    delayed: u64,
    next_due_ms: Option<u64>,
}

impl Left {
    fn add(&mut self, view: &QueueView) {
        self.ready += view.ready;
        self.leased += view.leased;
        self.delayed += view.delayed;
        self.next_due_ms = self.next_due_ms.into_iter().chain(view.next_due_in_ms).min();
    }

    fn is_drained(&self, what: Drain) -> bool {
        self.ready + self.leased == 0 && (what == Drain::Ready || self.delayed == 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready + self.leased + self.delayed == 0
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let parts = [(self.ready, "ready"), (self.leased, "leased"), (self.delayed, "delayed")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, state)| format!("{} {state}", render::count(count)))
            .collect();
        let due = self.next_due_ms.filter(|_| self.delayed > 0);
        let due = due.map(|ms| format!(", next due in {}", render::age(ms))).unwrap_or_default();
        format!(
            "{} left: {}{due}",
            render::messages(self.ready + self.leased + self.delayed),
            parts.join(", ")
        )
    }

    /// For scripts.
    pub(super) fn document(&self) -> Value {
        json!({
            "schema": "work/v1", "event": "left", "ready": self.ready, "leased": self.leased, "delayed": self.delayed,
            "next_due_in_ms": self.next_due_ms,
        })
    }
}

/// Looks at the queues between two rounds of the worker.
pub(super) struct Drainer<'a> {
    what: Drain,
    queues: &'a [QueueName],
    idle: u32,
    last: Option<Left>,
}

impl<'a> Drainer<'a> {
    pub(super) fn new(what: Drain, queues: &'a [QueueName]) -> Self {
        Self { what, queues, idle: 0, last: None }
    }

    /// Looks after a round that handled `count` messages: how long to wait before the next; `None` if there is none.
    /// What is left is `None` as long as nobody could be asked.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        count: u64,
    ) -> Result<(Option<Left>, Option<Duration>), Failure> {
        match self.decide(client, count).await {
            Ok((left, pause)) => {
                self.last = Some(left);
                Ok((self.last, pause))
            }
            // A cluster that is away is waited for, as the worker does.
            Err(failure) if matches!(failure.exit, Exit::Retry | Exit::Unreachable) => {
                Ok((self.last, Some(LOOK.1)))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn decide(&mut self, client: &Client, count: u64) -> Result<(Left, Option<Duration>), Failure> {
        let mut left = Left::default();
        for name in self.queues {
            let queues =
                Queues { only: Some(name.clone()), after: None, consistency: Consistency::Linearizable };
            let answered =
                client.ask(ask::Queues(queues)).await.map_err(|error| Failure::of(error, Some(name)))?;
            answered.answer.iter().for_each(|view| left.add(view));
        }
        self.idle = if count > 0 { 0 } else { self.idle + 1 };
        if left.is_drained(self.what) || (self.idle >= STUCK && self.is_stuck(client, left).await?) {
            return Ok((left, None));
        }
        let pause = (LOOK.0 * 2_u32.pow(self.idle.min(5))).min(LOOK.1);
        // What is due sooner is not kept waiting.
        let due = left.next_due_ms.filter(|_| self.what == Drain::All).map(Duration::from_millis);
        Ok((left, Some(due.map_or(pause, |due| pause.min(due.max(LOOK.0))))))
    }

    /// What is ready is held back by something that no time changes.
    async fn is_stuck(&self, client: &Client, left: Left) -> Result<bool, Failure> {
        if left.leased > 0 || left.ready == 0 || (self.what == Drain::All && left.delayed > 0) {
            return Ok(false);
        }
        for name in self.queues {
            let explain = Explain { queue: name.clone(), id: None, consistency: Consistency::Linearizable };
            let answered = client.ask(ask::Explain(explain)).await;
            let explained = answered.map_err(|error| Failure::of(error, Some(name)))?.answer;
            let passes = |hold: &Hold| {
                !matches!(
                    hold,
                    Hold::Empty | Hold::GroupBlocked { .. } | Hold::GroupWaits { .. } | Hold::Delayed { .. }
                )
            };
            if explained.holds.is_empty() || explained.holds.iter().any(passes) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_state_and_when_the_next_is_due() {
        let left = Left { ready: 0, leased: 0, delayed: 3, next_due_ms: Some(12_000) };
        assert_eq!(left.text(), "3 messages left: 3 delayed, next due in 12s");
        assert!(left.is_drained(Drain::Ready) && !left.is_drained(Drain::All) && !left.is_empty());
        let left = Left { ready: 1, leased: 2, ..Left::default() };
        assert_eq!(left.text(), "3 messages left: 1 ready, 2 leased");
        assert!(!left.is_drained(Drain::Ready));
    }
}

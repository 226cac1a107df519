//! What `top` knows: the last two looks at the cluster, and the rates between them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::join;
use queue_protocol::names::QueueName;
use queue_protocol::wire::response::QueueView;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::opened::Opened;
use crate::failure::{End, Failure};
use crate::nodes::{self, Nodes};
use crate::queues;
use crate::shell::Shell;
use crate::show::clock;

/// Looks whose rates are kept for the picture.
pub(super) const KEPT_COUNT: usize = 240;

/// Tenths of a message a second, into a queue and out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) into: u64,
    pub(super) out: u64,
}

/// A queue with its rates, none before the second look.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) view: QueueView,
    pub(super) rates: Option<Rates>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Model {
    pub(super) nodes: Option<Nodes>,
    pub(super) rows: Vec<Row>,
    /// Of all queues, the newest last.
    pub(super) history: VecDeque<Rates>,
    /// The one that is shown alone.
    pub(super) opened: Opened,
    failure: Option<Failure>,
    /// Since when there is no answer about the queues.
    failing_since: Option<Instant>,
    looked: Option<Instant>,
}

impl Model {
    /// Asks the nodes, and the leader for its queues. What fails is kept beside what was known before.
    pub(super) async fn look(&mut self, shell: &Shell) {
        let nodes = nodes::gather(&shell.client, &shell.reach.servers, shell.timeout());
        let (nodes, queues) = join(nodes, queues::all(shell)).await;
        match nodes {
            Ok(nodes) => self.nodes = Some(nodes),
            Err(failure) => self.failure = Some(failure),
        }
        match queues {
            Ok(queues) => self.take(queues, Instant::now()),
            Err(end) => {
                if let End::Failed(failure) = end {
                    self.failure = Some(*failure);
                }
                self.failing_since.get_or_insert_with(Instant::now);
                self.remember(Rates::default());
                self.rows.iter_mut().for_each(|row| row.rates = None);
            }
        }
    }

    /// Asks for what there is to the queue that is opened.
    pub(super) async fn look_into(&mut self, shell: &Shell, opened: Option<&QueueName>) {
        self.opened.set(opened);
        let leader = self.nodes.as_ref().and_then(|nodes| {
            let leader = nodes.judge().leader?.node;
            nodes.iter().find(|node| node.id() == Some(leader)).map(|node| node.address.clone())
        });
        let row = opened.and_then(|name| self.rows.iter().find(|row| row.view.name == *name));
        self.opened.look(shell, leader, row).await;
    }

    /// What is known of the queue that is opened, the most useful first.
    pub(super) fn opened_lines(&self, columns: usize) -> Vec<String> {
        let name = self.opened.name.as_ref();
        let row = name.and_then(|name| self.rows.iter().find(|row| row.view.name == *name));
        self.opened.lines(row, columns)
    }

    fn take(&mut self, queues: Vec<QueueView>, now: Instant) {
        let elapsed = self.looked.map(|before| now.saturating_duration_since(before));
        let before: BTreeMap<QueueName, (u64, u64)> = std::mem::take(&mut self.rows)
            .into_iter()
            .map(|row| (row.view.name, (row.view.pushed_total, row.view.acked_total)))
            .collect();
        let rates = |view: &QueueView| {
            let (pushed, acked) = before.get(&view.name)?;
            let elapsed = elapsed?;
            Some(Rates {
                into: rate(*pushed, view.pushed_total, elapsed),
                out: rate(*acked, view.acked_total, elapsed),
            })
        };
        self.rows = queues.into_iter().map(|view| Row { rates: rates(&view), view }).collect();
        if elapsed.is_some() {
            let all = self.rows.iter().filter_map(|row| row.rates);
            let sum = all.fold(Rates::default(), |sum, row| Rates {
                into: sum.into + row.into,
                out: sum.out + row.out,
            });
            self.remember(sum);
        }
        (self.looked, self.failure, self.failing_since) = (Some(now), None, None);
    }

    fn remember(&mut self, rates: Rates) {
        self.history.push_back(rates);
        if self.history.len() > KEPT_COUNT {
            self.history.pop_front();
        }
    }

    /// The queues were seen.
    pub(super) fn has_looked(&self) -> bool {
        self.looked.is_some()
    }

    /// Why the last look failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.clone()
    }

    /// What went wrong and for how long.
    pub(super) fn trouble(&self) -> Option<(String, Duration)> {
        let since = self.failing_since?;
        let what = self.failure.as_ref().map_or("no answer", |failure| failure.code);
        Some((what.replace('_', " "), since.elapsed()))
    }

    /// The document `top/v1`.
    pub(super) fn document(&self) -> Value {
        let queue = |row: &Row| {
            let view = &row.view;
            json!({
                "name": view.name.as_str(),
                "ready": view.ready,
                "leased": view.leased,
                "delayed": view.delayed,
                "dead": view.dead,
                "oldest_ready_ms": view.oldest_ready_ms,
                "in_per_s": row.rates.map(|rates| per_second(rates.into)),
                "out_per_s": row.rates.map(|rates| per_second(rates.out)),
                "waiting": view.waiting,
            })
        };
        let last = self.history.back().copied().unwrap_or_default();
        json!({
            "schema": "top/v1",
            "at": clock::rfc3339(clock::unix_ms_in(Duration::ZERO)),
            "error": self.trouble().map(|(what, _)| what),
            "cluster": self.nodes.as_ref().map(Nodes::document),
            "in_per_s": per_second(last.into),
            "out_per_s": per_second(last.out),
            "queues": self.rows.iter().map(queue).collect::<Vec<_>>(),
        })
    }
}

fn per_second(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

/// A queue that was made anew counts from 0.
fn rate(before: u64, now: u64, elapsed: Duration) -> u64 {
    let tenths = u128::from(now.saturating_sub(before)) * 10_000 / elapsed.as_millis().max(1);
    u64::try_from(tenths).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use queue_protocol::settings::Settings;

    use super::*;

    pub(crate) fn view(name: &str, [ready, pushed, acked]: [u64; 3]) -> QueueView {
        QueueView {
            name: name.parse().expect("a name"),
            ready,
            leased: 2,
            delayed: 0,
            dead: 7,
            bytes: 0,
            oldest_ready_ms: (ready > 0).then_some(3_100),
            next_due_in_ms: None,
            pushed_total: pushed,
            leased_total: 0,
            acked_total: acked,
            settings: Settings::default(),
            waiting: 4,
            version: 1,
            full: false,
            blocked: false,
        }
    }

    #[tokio::test]
    async fn rates_are_what_came_and_went_between_two_looks() {
        let mut model = Model::default();
        let begin = Instant::now();
        model.take(vec![view("jobs", [10, 100, 90]), view("new", [1, 50, 0])], begin);
        assert!(model.rows.iter().all(|row| row.rates.is_none()) && model.history.is_empty());
        model
            .take(vec![view("jobs", [12, 300, 288]), view("new", [1, 3, 0])], begin + Duration::from_secs(2));
        let rates: Vec<Option<Rates>> = model.rows.iter().map(|row| row.rates).collect();
        assert_eq!(rates[0], Some(Rates { into: 1_000, out: 990 }));
        assert_eq!(rates[1], Some(Rates::default()), "it was made anew");
        assert_eq!(model.history.back(), Some(&Rates { into: 1_000, out: 990 }));
        for _ in 0..KEPT_COUNT {
            model.remember(Rates::default());
        }
        assert_eq!(model.history.len(), KEPT_COUNT);
    }
}

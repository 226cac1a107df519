//! Figures of queues, from the leader alone: those of [`NAMED_MAX`] queues by name, and of the others together as
//! [`OTHERS`], so that sums stay right however many there are.
//!
//! Who is shown by name stays so, as long as no other queue is much deeper: a series that came and went would look like a
//! counter that was set back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use prometheus_client::registry::Unit;
use queue_protocol::names::QueueName;

use super::machine::float;
use super::page::{Labels, Page, Samples};
use crate::locked::Locked as _;
use crate::queue::QueueStats;
use crate::raft::Consensus;
use crate::server::Server;

/// Queues with series of their own.
pub(super) const NAMED_MAX: usize = 500;
/// Name of all others.
const OTHERS: &str = "_other";
/// Why messages die, in the order of [`queue_protocol::wire::response::DeadReason`].
const REASONS: [&str; 5] = ["max_failures", "rejected", "expired", "overflow", "admin"];
/// Queues that are copied while the state is held: some hundred microseconds.
const SLICE: usize = 128;

/// What is told of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Row {
    states: [u64; 4],
    bytes: u64,
    /// Of several queues the oldest.
    oldest_ms: Option<u64>,
    pushed: u64,
    leased: u64,
    acked: u64,
    redelivered: u64,
    died: [u64; 5],
    waiting: u64,
    full: u64,
    blocked: u64,
}

impl Row {
    fn of(stats: &QueueStats, waiting: usize) -> Self {
        Self {
            states: [stats.ready, stats.leased, stats.delayed, stats.dead],
            bytes: stats.bytes,
            oldest_ms: stats.oldest_ready_ms,
            pushed: stats.pushed_total,
            leased: stats.leased_total,
            acked: stats.acked_total,
            redelivered: stats.redelivered_total,
            died: stats.died_total,
            waiting: waiting as u64,
            full: stats.full.into(),
            blocked: stats.blocked.into(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            states: std::array::from_fn(|at| self.states[at] + other.states[at]),
            bytes: self.bytes + other.bytes,
            oldest_ms: self.oldest_ms.max(other.oldest_ms),
            pushed: self.pushed + other.pushed,
            leased: self.leased + other.leased,
            acked: self.acked + other.acked,
            redelivered: self.redelivered + other.redelivered,
            died: std::array::from_fn(|at| self.died[at] + other.died[at]),
            waiting: self.waiting + other.waiting,
            full: self.full + other.full,
            blocked: self.blocked + other.blocked,
        }
    }

    fn depth(&self) -> u64 {
        self.states.iter().sum()
    }
}

/// Who was shown by name at the last scrape.
#[derive(Default)]
pub(super) struct Chosen(Mutex<BTreeSet<QueueName>>);

impl Chosen {
    /// Who is shown by name now.
    fn of(&self, rows: &BTreeMap<QueueName, Row>, max: usize) -> BTreeSet<QueueName> {
        let mut chosen = self.0.locked();
        chosen.retain(|name| rows.contains_key(name));
        let mut others: Vec<_> = rows.iter().filter(|(name, _)| !chosen.contains(*name)).collect();
        others.sort_by_key(|(_, row)| std::cmp::Reverse(row.depth()));
        let mut own: Vec<_> = chosen.iter().map(|name| (rows[name].depth(), name.clone())).collect();
        own.sort();
        let mut own = own.into_iter();
        for (name, row) in others {
            if chosen.len() >= max {
                match own.next() {
                    Some((depth, shallow)) if row.depth() > 2 * depth + 100 => {
                        chosen.remove(&shallow);
                    }
                    _ => break,
                }
            }
            chosen.insert(name.clone());
        }
        chosen.clone()
    }
}

/// All queues, copied a slice at a time: what is applied in between is in some and not in others.
async fn gather(consensus: &Consensus, server: &Server) -> BTreeMap<QueueName, Row> {
    let mut rows = BTreeMap::new();
    let mut after: Option<QueueName> = None;
    loop {
        let slice = consensus.read(|state, _| state.queues(None, after.as_ref(), SLICE));
        let is_last = slice.len() < SLICE;
        after = slice.last().map(|stats| stats.name.clone()).or(after);
        for stats in slice {
            let waiting = server.waiting(Some(&stats.name));
            rows.insert(stats.name.clone(), Row::of(&stats, waiting));
        }
        if is_last {
            return rows;
        }
        tokio::task::yield_now().await;
    }
}

/// Adds the queues that this leader knows.
pub(super) async fn add(page: &mut Page, chosen: &Chosen, consensus: &Consensus, server: &Server) {
    let rows = gather(consensus, server).await;
    let totals = consensus.read(|state, _| state.stats());
    page.gauge("queued_queues", None, "Queues", float(totals.queues));
    page.gauge("queued_sessions", None, "Sessions of clients that are remembered", float(totals.sessions));
    let named = chosen.of(&rows, NAMED_MAX);
    let mut others = Row::default();
    let mut shown = Vec::new();
    let there_are_others = rows.len() > named.len();
    for (name, row) in rows {
        if named.contains(&name) {
            shown.push((name.to_string(), row));
        } else {
            others = others.and(row);
        }
    }
    if there_are_others {
        shown.push((OTHERS.to_owned(), others));
    }
    write(page, &shown);
}

fn labels(queue: &str) -> Labels {
    vec![("queue", queue.to_owned())]
}

fn write(page: &mut Page, shown: &[(String, Row)]) {
    let each = |value: fn(&Row) -> u64| -> Vec<(Labels, f64)> {
        shown.iter().map(|(name, row)| (labels(name), float(value(row)))).collect()
    };
    let states = ["ready", "leased", "delayed", "dead"];
    let by_state = shown.iter().flat_map(|(name, row)| {
        let label = |state: &str| vec![("queue", name.clone()), ("state", state.to_owned())];
        states.iter().zip(row.states).map(move |(state, count)| (label(state), float(count)))
    });
    page.add("queued_messages", None, "Messages by state", Samples::Gauge(by_state.collect()));
    let help = "Contents of all messages";
    page.add("queued_queue_content", Some(Unit::Bytes), help, Samples::Gauge(each(|row| row.bytes)));
    #[expect(clippy::cast_precision_loss, reason = "a float by design")]
    let oldest = |row: &Row| row.oldest_ms.unwrap_or(0) as f64 / 1_000.0;
    let oldest = shown.iter().map(|(name, row)| (labels(name), oldest(row))).collect();
    let help = "Since the push of the oldest ready message; 0 without one";
    page.add("queued_queue_oldest_ready", Some(Unit::Seconds), help, Samples::Gauge(oldest));
    let help = "Messages pushed since the queue was made";
    page.add("queued_queue_pushed_messages", None, help, Samples::Counter(each(|row| row.pushed)));
    let help = "Leases granted since the queue was made, pops included";
    page.add("queued_queue_leased_messages", None, help, Samples::Counter(each(|row| row.leased)));
    let help = "Messages acked or popped since the queue was made";
    page.add("queued_queue_acked_messages", None, help, Samples::Counter(each(|row| row.acked)));
    let help = "Leases of messages that had been leased before";
    page.add("queued_queue_redelivered_messages", None, help, Samples::Counter(each(|row| row.redelivered)));
    let died = shown.iter().flat_map(|(name, row)| {
        let label = |reason: &str| vec![("queue", name.clone()), ("reason", reason.to_owned())];
        REASONS.iter().zip(row.died).map(move |(reason, count)| (label(reason), float(count)))
    });
    let help = "Messages that died since the queue was made, by reason";
    page.add("queued_queue_died_messages", None, help, Samples::Counter(died.collect()));
    let help = "Leases and pops that wait for messages";
    page.add("queued_queue_waiting_consumers", None, help, Samples::Gauge(each(|row| row.waiting)));
    let help = "The queue holds as much as it may, and refuses pushes: 1, else 0";
    page.add("queued_queue_full", None, help, Samples::Gauge(each(|row| row.full)));
    let help = "Messages are ready and none is handed out, as dead ones block their groups: 1, else 0";
    page.add("queued_queue_blocked", None, help, Samples::Gauge(each(|row| row.blocked)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(depths: &[(&str, u64)]) -> BTreeMap<QueueName, Row> {
        let row = |depth| Row { states: [depth, 0, 0, 0], ..Row::default() };
        depths.iter().map(|(name, depth)| (name.parse().unwrap(), row(*depth))).collect()
    }

    fn names(chosen: &Chosen, depths: &[(&str, u64)]) -> String {
        let named = chosen.of(&rows(depths), 2);
        named.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_deepest_are_shown_by_name_and_stay_so_until_one_is_much_deeper() {
        let chosen = Chosen::default();
        assert_eq!(names(&chosen, &[("a", 1), ("b", 5), ("c", 9)]), "b c");
        assert_eq!(names(&chosen, &[("a", 20), ("b", 5), ("c", 9)]), "b c");
        assert_eq!(names(&chosen, &[("a", 200), ("b", 5), ("c", 9)]), "a c");
        assert_eq!(names(&chosen, &[("a", 1), ("d", 0), ("e", 3)]), "a e", "c was removed");
        assert_eq!(names(&chosen, &[]), "");
    }

    #[test]
    fn what_is_added_up_is_the_sum() {
        let one = Row { states: [1, 2, 3, 4], bytes: 5, oldest_ms: Some(6), pushed: 7, ..Row::default() };
        let other = Row { states: [1; 4], oldest_ms: None, waiting: 3, ..Row::default() };
        let both = one.and(other);
        assert_eq!((both.states, both.bytes, both.oldest_ms), ([2, 3, 4, 5], 5, Some(6)));
        assert_eq!((both.pushed, both.waiting, both.depth()), (7, 3, 14));
    }
}

//! Which bodies must stay on disk: those of messages in any state and those named by recorded answers.

use std::ops::Range;

use super::ready::Entry;
use super::reply::BodyRef;
use super::state::State;

impl State {
    /// All live bodies: Raft index and rows, rising; ranges of one entry do not touch. Takes time and memory for every
    /// run and every single message; call it on a clone.
    pub fn live_bodies(&self) -> Vec<(u64, Range<u32>)> {
        let mut rows = Vec::new();
        let mut add =
            |index: u64, ordinal: u32, count: u32| rows.push((index, ordinal, ordinal.saturating_add(count)));
        let mut one = |body: &BodyRef| add(body.index, body.ordinal, 1);
        for queue in self.queues.values() {
            queue.leased.values().for_each(|leased| one(&leased.message.body));
            queue.delayed.values().for_each(|delayed| one(&delayed.message.body));
            queue.dead.values().for_each(|dead| one(&dead.message.body));
        }
        self.sessions
            .answers()
            .values()
            .flat_map(|answer| answer.grants())
            .for_each(|grant| one(&grant.body));
        for (_, entry) in self.queues.values().flat_map(|queue| queue.ready.entries()) {
            match entry {
                Entry::Run(run) => add(run.index, run.ordinal, run.count),
                Entry::One(message) => add(message.body.index, message.body.ordinal, 1),
            }
        }
        rows.sort_unstable();

        let mut live: Vec<(u64, Range<u32>)> = Vec::with_capacity(rows.len());
        for (index, start, end) in rows {
            match live.last_mut() {
                Some((last, range)) if *last == index && start <= range.end => range.end = range.end.max(end),
                _ => live.push((index, start..end)),
            }
        }
        live
    }
}

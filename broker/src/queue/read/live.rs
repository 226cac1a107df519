//! Which bodies must stay on disk: those of messages in any state, of schedules, and those named by recorded answers.

use std::ops::Range;

use crate::queue::messages::line::Entry;
use crate::queue::reply::BodyRef;
use crate::queue::state::State;

impl State {
    /// All live bodies: Raft index and rows, rising; ranges of one entry do not touch. Takes time and memory for every
    /// run and every single message; call it on a clone.
    pub fn live_bodies(&self) -> Vec<(u64, Range<u32>)> {
        let mut rows = Vec::new();
        let row = |body: &BodyRef| (body.index, body.ordinal, body.ordinal.saturating_add(1));
        let mut one = |body: &BodyRef| rows.push(row(body));
        for (_, queue) in self.catalog().iter() {
            queue.leased.values().for_each(|leased| one(&leased.message.body));
            queue.delayed.values().for_each(|delayed| one(&delayed.message.body));
            queue.dead.values().for_each(|dead| one(&dead.message.body));
        }
        self.all_schedules().by_name().values().for_each(|schedule| one(&schedule.body));
        self.sessions().answers().flat_map(|(_, answer)| answer.grants()).for_each(|grant| one(&grant.body));
        let entries =
            self.catalog().iter().flat_map(|(_, queue)| queue.ready.entries().into_iter().flatten());
        for (_, entry) in entries {
            match entry {
                Entry::Run(run) => rows.extend(run.rows().map(|(index, rows)| (index, rows.start, rows.end))),
                Entry::One(message) => rows.push(row(&message.body)),
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

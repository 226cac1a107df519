//! Rates in the model: what was taken from each bucket, as of when.

use queue_protocol::names::{Key, QueueName};
use queue_protocol::settings::Settings;

use super::{Model, Queue};

/// Taken from the bucket of a queue, or of one of its groups: messages times milliseconds, as of an elapsed time.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    group: Option<Key>,
    units: u64,
    at_ms: u64,
}

/// Messages and milliseconds of the rate of the queue or of its groups; 0 messages is no limit.
fn rate(settings: &Settings, group: bool) -> (u64, u64) {
    if group {
        (settings.group_rate_max.into(), settings.group_rate_ms)
    } else {
        (settings.rate_max.into(), settings.rate_ms)
    }
}

impl Queue {
    /// How many messages the rate lets go now.
    pub(super) fn allowed(&self, group: Option<&Key>) -> u64 {
        let (max, ms) = rate(&self.settings, group.is_some());
        if max == 0 {
            return u64::MAX;
        }
        let spent = self.spent.iter().find(|spent| spent.group.as_ref() == group);
        (max * ms - spent.map_or(0, |spent| spent.units)) / ms
    }

    /// Other rates begin with full buckets.
    pub(super) fn change_rates(&mut self, settings: &Settings) {
        for group in [false, true] {
            if rate(&self.settings, group) != rate(settings, group)
                && (self.limits(group) || max_of(settings, group))
            {
                self.spent.retain(|spent| spent.group.is_some() != group);
            }
        }
    }

    fn limits(&self, group: bool) -> bool {
        max_of(&self.settings, group)
    }

    /// When a bucket that lets nothing go lets one message go, in steps of 20 ms or more.
    fn allows_at(&self, spent: &Spent) -> Option<u64> {
        let (max, ms) = rate(&self.settings, spent.group.is_some());
        if self.allowed(spent.group.as_ref()) > 0 {
            return None;
        }
        let mut wait_ms = 20;
        while spent.units.saturating_sub(wait_ms * max) > max * ms - ms {
            wait_ms += 1;
        }
        Some(spent.at_ms + wait_ms)
    }
}

fn max_of(settings: &Settings, group: bool) -> bool {
    rate(settings, group).0 > 0
}

impl Model {
    fn queue_mut(&mut self, name: &QueueName) -> &mut Queue {
        self.queues.iter_mut().find(|queue| queue.name == *name).unwrap()
    }

    /// How many messages the rate of a queue lets go now.
    pub(super) fn allowed(&self, name: &QueueName) -> u64 {
        self.queues.iter().find(|queue| queue.name == *name).unwrap().allowed(None)
    }

    /// Gives one bucket back what it got since.
    pub(super) fn refill_one(&mut self, name: &QueueName, group: Option<&Key>) {
        let elapsed_ms = self.elapsed_ms;
        let queue = self.queue_mut(name);
        let (max, _) = rate(&queue.settings, group.is_some());
        for spent in queue.spent.iter_mut().filter(|spent| spent.group.as_ref() == group) {
            spent.units = spent.units.saturating_sub((elapsed_ms - spent.at_ms) * max);
            spent.at_ms = elapsed_ms;
        }
        queue.spent.retain(|spent| spent.units > 0);
    }

    /// One message was handed out.
    pub(super) fn spend(&mut self, name: &QueueName, group: Option<Key>) {
        let at_ms = self.elapsed_ms;
        for group in [Some(None), group.map(Some)].into_iter().flatten() {
            self.refill_one(name, group.as_ref());
            let queue = self.queue_mut(name);
            let (max, units) = rate(&queue.settings, group.is_some());
            if max == 0 {
                continue;
            }
            match queue.spent.iter_mut().find(|spent| spent.group == group) {
                Some(spent) => spent.units += units,
                None => queue.spent.push(Spent { group, units, at_ms }),
            }
        }
    }

    /// Refills the buckets whose time has come, in the order in which it came.
    pub(super) fn refill(&mut self) {
        for name in self.queues() {
            while let Some((_, group)) = {
                let queue = self.queue_mut(&name).clone();
                let due = queue.spent.iter().filter_map(|s| Some((queue.allows_at(s)?, s.group.clone())));
                due.filter(|(at_ms, _)| *at_ms <= self.elapsed_ms).min()
            } {
                self.refill_one(&name, group.as_ref());
                self.turn();
            }
        }
    }

    /// When the next bucket is refilled that messages wait for.
    pub(super) fn next_refill(&self) -> Option<u64> {
        let due = self.queues.iter().flat_map(|queue| {
            queue.spent.iter().filter_map(|spent| {
                let waits = match &spent.group {
                    Some(key) => {
                        self.count(&queue.name, Some(key), queue_protocol::wire::request::MessageState::Ready)
                            > 0
                    }
                    None => !queue.settings.leases_paused && !self.open(queue).is_empty(),
                };
                queue.allows_at(spent).filter(|_| waits)
            })
        });
        due.min()
    }
}

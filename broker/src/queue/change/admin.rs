//! Making, changing and removing queues.

use std::sync::Arc;

use queue_protocol::error::ErrorCode;
use queue_protocol::limits::{DEAD_HOPS_MAX, QUEUES_MAX};
use queue_protocol::names::{Key, MessageId, QueueName, SessionId};
use queue_protocol::settings::{QueueSettings, Settings};

use crate::queue::apply::{Apply, refusal_of};
use crate::queue::catalog::QueueNumber;
use crate::queue::queue::Queue;
use crate::queue::reply::{Outcome, Refusal};
use crate::queue::waiting::rate::Bucket;

impl Apply<'_> {
    /// Makes a queue that does not exist.
    ///
    /// # Errors
    /// Refused if there are as many as there may be, or if its settings contradict each other.
    pub(in crate::queue) fn make_queue(
        &mut self,
        name: &QueueName,
        settings: &Settings,
    ) -> Result<QueueNumber, Refusal> {
        self.sound(name, settings)?;
        if self.state.catalog().len() >= QUEUES_MAX {
            return Err(refusal_of(ErrorCode::QueueLimit, name));
        }
        Ok(self.state.catalog_mut().add(Queue::new(name.clone(), settings.clone())))
    }

    /// Makes a queue, or finds it as it should be.
    ///
    /// # Errors
    /// Refused if it exists with other settings, or if there are as many as there may be.
    pub(in crate::queue) fn create(
        &mut self,
        name: &QueueName,
        settings: &Settings,
        if_not_exists: bool,
    ) -> Result<Outcome, Refusal> {
        match self.state.settings(name) {
            None => self.make_queue(name, settings).map(|_| Outcome::Created(true)),
            Some(present) if if_not_exists || present == settings => Ok(Outcome::Created(false)),
            Some(_) => Err(refusal_of(ErrorCode::QueueExists, name)),
        }
    }

    /// Changes settings of a queue. Its version now: one more if that made a difference.
    ///
    /// # Errors
    /// Refused if there is no such queue, if it has another version, or if the settings would contradict each other.
    pub(in crate::queue) fn alter(
        &mut self,
        name: &QueueName,
        change: &QueueSettings,
        if_version: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let number = self.number(name)?;
        let queue = self.state.catalog().at(number);
        if if_version.is_some_and(|version| version != queue.version) {
            return Err(refusal_of(ErrorCode::QueueChanged, name));
        }
        let settings = queue.settings.with(change);
        self.sound(name, &settings)?;
        Ok(Outcome::Altered(self.change(number, |queue| {
            if *queue.settings != settings {
                let rate = queue.rate();
                queue.ready.follow(&settings);
                queue.settings = Arc::new(settings);
                if !queue.settings.single_active {
                    queue.active.end(None);
                }
                if queue.rate() != rate {
                    queue.bucket = Bucket::default();
                }
                queue.version += 1;
            }
            queue.version
        })))
    }

    /// Gives a group a weight of its own; the one it had.
    ///
    /// # Errors
    /// Refused if there is no such queue, or if as many of its groups have one as may.
    pub(in crate::queue) fn weigh(
        &mut self,
        queue: &QueueName,
        group: &Key,
        weight: Option<u32>,
    ) -> Result<Option<u32>, Refusal> {
        let number = self.number(queue)?;
        let before = self.change(number, |queue| queue.ready.groups.weigh(group, weight.unwrap_or(0)));
        let before = before.ok_or_else(|| refusal_of(ErrorCode::GroupLimit, queue))?;
        Ok((before > 0).then_some(before))
    }

    /// Refuses settings that contradict each other, or by which dead messages would come back or go too far.
    fn sound(&self, name: &QueueName, settings: &Settings) -> Result<(), Refusal> {
        if settings.ordered && settings.fair {
            return Err(refusal_of(ErrorCode::BadRequest, name));
        }
        let mut next = settings.dead_to.as_ref();
        for _ in 0..=DEAD_HOPS_MAX {
            match next {
                Some(to) if to != name => {
                    next = self.state.queue(to).and_then(|queue| queue.settings.dead_to.as_ref());
                }
                Some(_) => break,
                None => return Ok(()),
            }
        }
        Err(refusal_of(ErrorCode::DeadToCycle, name))
    }

    /// Removes a queue with everything in it.
    ///
    /// # Errors
    /// Refused if it does not exist or is not empty, as far as that was asked.
    pub(in crate::queue) fn remove(
        &mut self,
        name: &QueueName,
        if_exists: bool,
        if_empty: bool,
    ) -> Result<Outcome, Refusal> {
        let number = match self.number(name) {
            Ok(number) => number,
            Err(_) if if_exists => return Ok(Outcome::Count(0)),
            Err(refusal) => return Err(refusal),
        };
        let queue = self.state.catalog().at(number);
        let counts = queue.counts();
        if if_empty && counts.messages() > 0 {
            return Err(refusal_of(ErrorCode::QueueNotEmpty, name));
        }
        let holders = holders(queue);
        self.state.catalog_mut().remove(number);
        for (session, id) in holders {
            self.unhold(session, id);
        }
        Ok(Outcome::Count(counts.messages()))
    }
}

/// Who holds which lease of a queue.
fn holders(queue: &Queue) -> Vec<(Option<SessionId>, MessageId)> {
    queue.leased.iter().map(|(id, leased)| (leased.session, *id)).collect()
}

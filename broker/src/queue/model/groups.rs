//! Groups in the model: each question is a scan of all messages.

use std::collections::BTreeSet;

use queue_protocol::names::{Key, MessageId, QueueName};
use queue_protocol::settings::OnPoison;
use queue_protocol::wire::request::MessageState;

use super::Model;

impl Model {
    pub(super) fn count(&self, queue: &QueueName, group: Option<&Key>, state: MessageState) -> usize {
        let of_group = |m: &&super::Message| m.queue == *queue && m.shown.group.as_ref() == group;
        self.in_state(state).filter(of_group).count()
    }

    /// Whether the next message of a group may be handed out.
    fn is_open(&self, queue: &super::Queue, group: Option<&Key>) -> bool {
        let count = |state| self.count(&queue.name, group, state);
        let settings = &queue.settings;
        let Some(key) = group else { return count(MessageState::Ready) > 0 };
        let waits = self
            .in_state(MessageState::Delayed)
            .any(|m| m.queue == queue.name && m.shown.group.as_ref() == group && m.shown.attempts > 0);
        let held_by_order = settings.ordered
            && (count(MessageState::Leased) > 0
                || waits
                || (settings.on_poison == OnPoison::Block && count(MessageState::Dead) > 0));
        let max = settings.group_leased_max as usize;
        count(MessageState::Ready) > 0
            && !queue.parking.contains(key)
            && !held_by_order
            && queue.allowed(Some(key)) > 0
            && (max == 0 || count(MessageState::Leased) < max)
    }

    /// Groups that have ready messages: those with names first.
    fn groups(&self, queue: &QueueName) -> Vec<Option<Key>> {
        let ready = self.in_state(MessageState::Ready).filter(|m| m.queue == *queue);
        let groups = ready.map(|m| (m.shown.group.is_none(), m.shown.group.as_ref()));
        groups.collect::<BTreeSet<_>>().into_iter().map(|(_, group)| group.cloned()).collect()
    }

    /// Groups that may be served.
    pub(super) fn open(&self, queue: &super::Queue) -> Vec<Option<Key>> {
        let groups = self.groups(&queue.name).into_iter();
        groups.filter(|group| self.is_open(queue, group.as_ref())).collect()
    }

    /// The message that is handed out next.
    pub(super) fn next(&self, name: &QueueName) -> Option<MessageId> {
        let queue = self.queues.iter().find(|queue| queue.name == *name)?;
        let mut open = self.open(queue);
        if queue.settings.fair {
            open = queue.round.iter().take(1).map(|(group, _)| group.clone()).collect();
        }
        let of_open = |id: &MessageId| {
            let message = self.messages.iter().find(|m| m.shown.id == *id).unwrap();
            open.contains(&message.shown.group)
        };
        self.ready(name).into_iter().find(of_open)
    }

    /// A message of that group was handed out.
    pub(super) fn served(&mut self, name: &QueueName) {
        let queue = self.queues.iter_mut().find(|queue| queue.name == *name).unwrap();
        if let Some((_, credit)) = queue.round.first_mut() {
            *credit -= 1;
            if *credit == 0 {
                queue.round.remove(0);
            }
        }
    }

    /// After everything that happens: groups that cannot be served leave the round, those that can now are its last.
    pub(super) fn turn(&mut self) {
        for k in 0..self.queues.len() {
            let name = self.queues[k].name.clone();
            let settings = self.queues[k].settings.clone();
            let parks = settings.ordered && settings.on_poison == OnPoison::ParkGroup;
            let groups = if parks { self.groups(&name) } else { Vec::new() };
            self.queues[k].parking.retain(|key| parks && groups.contains(&Some(key.clone())));
            let open = if settings.fair { self.open(&self.queues[k]) } else { Vec::new() };
            let weights = self.queues[k].weights.clone();
            let round = &mut self.queues[k].round;
            round.retain(|(group, _)| open.contains(group));
            for group in open {
                if !round.iter().any(|(known, _)| *known == group) {
                    let own = weights.iter().find(|(key, _)| Some(key) == group.as_ref());
                    round.push((group, own.map_or(settings.group_weight.max(1), |(_, weight)| *weight)));
                }
            }
        }
    }

    /// The next message that follows a dead one of its group.
    pub(super) fn parked(&self) -> Option<MessageId> {
        self.queues.iter().find_map(|queue| {
            let is_parked = |m: &super::Message| {
                m.shown.group.as_ref().is_some_and(|group| queue.parking.contains(group))
            };
            let ready = self.in_state(MessageState::Ready).filter(|m| m.queue == queue.name && is_parked(m));
            let place = |m: &super::Message| (m.shown.group.clone(), 31 - m.shown.priority, m.shown.id);
            ready.map(place).min().map(|(_, _, id)| id)
        })
    }

    /// Messages that leases could get, as far as that is counted.
    pub fn available(&self, name: &QueueName) -> u64 {
        let queue = self.queues.iter().find(|queue| queue.name == *name).unwrap();
        let settings = &queue.settings;
        let limited = settings.ordered || settings.group_leased_max > 0 || settings.group_rate_max > 0;
        let plain = self.count(name, None, MessageState::Ready);
        let groups = self.open(queue).iter().flatten().count();
        let open = if limited { plain + groups } else { self.ready(name).len() } as u64;
        if settings.leases_paused { 0 } else { open.min(queue.allowed(None)) }
    }
}

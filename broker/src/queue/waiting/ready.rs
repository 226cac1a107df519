//! The ready messages of one queue: those without a group, and those of groups, with [`Groups`] to say which of these may
//! be handed out. By place higher priorities come first, then lower ids.

use std::collections::BTreeMap;

use queue_protocol::names::{Key, MessageId};
use queue_protocol::settings::Settings;

use super::groups::{Groups, Kept, Members, StoredRound};
use crate::queue::due::clocks::Moment;
use crate::queue::messages::line::{Entry, Line, Place, Room};
use crate::queue::messages::message::Message;
use crate::queue::messages::piece::PushedRows;

/// Ready messages in the order in which they are delivered.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Ready {
    /// Those without a group.
    plain: Line,
    /// Those of groups, each an entry of its own.
    grouped: Line,
    /// Which of `grouped` may be handed out.
    pub(in crate::queue) groups: Groups,
}

impl Ready {
    /// Those of an empty queue.
    pub(in crate::queue) fn new(settings: &Settings) -> Self {
        Self { plain: Line::default(), grouped: Line::default(), groups: Groups::new(settings) }
    }

    /// How many messages are ready.
    pub(in crate::queue) fn count(&self) -> u64 {
        self.plain.count() + self.grouped.count()
    }

    /// How many may be handed out: not fewer than this, and none only if this is 0.
    pub(in crate::queue) fn open_count(&self) -> u64 {
        self.plain.count()
            + if self.groups.are_limited() { self.groups.open_count() } else { self.grouped.count() }
    }

    /// Takes over plain messages with ids from `first` on, higher than all ids before; joins them to the run before
    /// them if nothing lies between.
    pub(in crate::queue) fn push(&mut self, priority: u8, first: MessageId, pushed: PushedRows<'_>) {
        self.plain.push(priority, first, pushed);
        self.groups.plain_is(true);
    }

    /// Takes over one message.
    pub(in crate::queue) fn put(&mut self, id: MessageId, message: Message) {
        let place = Place::new(message.priority, id);
        match message.group.clone() {
            Some(group) => {
                self.grouped.put(id, message);
                self.groups.join(&group, place);
            }
            None => {
                self.plain.put(id, message);
                self.groups.plain_is(true);
            }
        }
    }

    /// Takes what is next, as far as there is room: one message of a group, or those without one that come before any
    /// group. Nothing if there is nothing that may be handed out.
    pub(in crate::queue) fn take(&mut self, room: &mut Room, now: Moment) -> Vec<(MessageId, Message)> {
        let (plain_turn, credit) = self.groups.plain_turn();
        let plain = self.plain.head().map(|place| (plain_turn, place));
        let group = self.groups.next().map(|(turn, place, key)| ((*turn, *place), key.clone()));
        match (plain, group) {
            (None, None) => Vec::new(),
            (plain, Some((next, key))) if plain.is_none_or(|plain| next < plain) => {
                self.take_grouped(next.1, &key, room, now)
            }
            (_, group) => {
                let before = group.filter(|(next, _)| next.0 == plain_turn).map(|(next, _)| next.1);
                let taken = self.plain.take(credit, room, before);
                if self.groups.are_fair() && !taken.is_empty() {
                    self.groups.plain_served(taken.len());
                    self.groups.plain_is(self.plain.count() > 0);
                }
                taken
            }
        }
    }

    fn take_grouped(
        &mut self,
        place: Place,
        key: &Key,
        room: &mut Room,
        now: Moment,
    ) -> Vec<(MessageId, Message)> {
        if !self.grouped.find(place.first()).is_some_and(|message| room.admits(&message)) {
            return Vec::new();
        }
        let taken = self.grouped.remove(place.first());
        self.groups.leave(key, place, Some(now.elapsed_ms));
        taken.map(|message| (place.first(), message)).into_iter().collect()
    }

    /// Takes one message out, wherever it stands. A run around it falls in two.
    pub(in crate::queue) fn remove(&mut self, id: MessageId) -> Option<Message> {
        if let Some(message) = self.plain.remove(id) {
            self.groups.plain_is(self.plain.count() > 0);
            return Some(message);
        }
        let message = self.grouped.remove(id)?;
        if let Some(key) = &message.group {
            self.groups.leave(key, Place::new(message.priority, id), None);
        }
        Some(message)
    }

    /// The next message that follows a dead one of its group.
    pub(in crate::queue) fn first_parked(&self) -> Option<MessageId> {
        Some(self.groups.head(self.groups.first_parking()?)?.first())
    }

    /// Follows the settings of the queue.
    pub(in crate::queue) fn follow(&mut self, settings: &Settings) {
        self.groups.follow(settings, self.plain.count() > 0);
    }

    /// The message of that id, if it is here.
    pub(in crate::queue) fn find(&self, id: MessageId) -> Option<Message> {
        self.plain.find(id).or_else(|| self.grouped.find(id))
    }

    /// The message that was pushed first.
    pub(in crate::queue) fn oldest(&self) -> Option<MessageId> {
        self.plain.oldest().into_iter().chain(self.grouped.oldest()).min()
    }

    /// Elapsed time of the push of the message pushed first.
    pub(in crate::queue) fn oldest_ms(&self) -> Option<u64> {
        self.plain.oldest_ms().into_iter().chain(self.grouped.oldest_ms()).min()
    }

    /// Places and what stands there: those without a group, then those of groups.
    pub(in crate::queue) fn entries(&self) -> [impl Iterator<Item = (Place, &Entry)>; 2] {
        [self.plain.entries(), self.grouped.entries()]
    }

    /// Messages by place, behind one that need not be taken.
    pub(in crate::queue) fn behind(
        &self,
        priority: u8,
        id: MessageId,
    ) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        by_place(self.plain.behind(priority, id), self.grouped.behind(priority, id))
    }

    /// Messages by place: in delivery order as far as no group is held back.
    pub(in crate::queue) fn messages(&self) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        by_place(self.plain.messages(), self.grouped.messages())
    }

    /// Messages by place that stand before one, of all or, where groups are served apart, of its group; at most `max` are
    /// counted.
    pub(in crate::queue) fn ahead(&self, id: MessageId, message: &Message, max: usize) -> usize {
        let place = Place::new(message.priority, id);
        let apart = self.groups.are_limited() || self.groups.are_fair();
        match message.group.as_ref().filter(|_| apart) {
            Some(key) => self.groups.line(key).take_while(|at| *at < place).take(max).count(),
            None => self.messages().take_while(|(other, _)| *other != id).take(max).count(),
        }
    }

    /// Takes over an entry of a snapshot, behind all others without a group; `None` if it has one.
    pub(in crate::queue) fn restore_plain(&mut self, place: Place, entry: Entry) -> Option<()> {
        if matches!(&entry, Entry::One(message) if message.group.is_some()) {
            return None;
        }
        self.plain.restore(place, entry);
        Some(())
    }

    /// Takes over an entry of a snapshot that is of a group; `None` if it is not.
    pub(in crate::queue) fn restore_grouped(&mut self, place: Place, entry: Entry) -> Option<()> {
        let Entry::One(message) = entry else { return None };
        message.group.as_ref()?;
        self.put(place.first(), Message::clone(&message));
        Some(())
    }

    /// Takes over what a snapshot holds of groups, when all messages are there; `None` if it cannot be.
    pub(in crate::queue) fn restore_groups(
        &mut self,
        settings: &Settings,
        round: &StoredRound,
        kept: Vec<(Key, Kept)>,
    ) -> Option<()> {
        self.groups.restore(settings, round, kept, self.plain.count() > 0)
    }

    /// Asserts that groups know their messages; `members` are those that are not ready.
    pub(in crate::queue) fn check(&self, mut members: BTreeMap<Key, Members>) {
        for key in self.grouped.messages().filter_map(|(_, message)| message.group) {
            members.entry(key).or_default().ready += 1;
        }
        self.groups.check(&members, self.plain.count() > 0);
    }
}

fn by_place<'a>(
    plain: impl Iterator<Item = (MessageId, Message)> + 'a,
    grouped: impl Iterator<Item = (MessageId, Message)> + 'a,
) -> impl Iterator<Item = (MessageId, Message)> + 'a {
    let (mut plain, mut grouped) = (plain.peekable(), grouped.peekable());
    let place = |(id, message): &(MessageId, Message)| Place::new(message.priority, *id);
    std::iter::from_fn(move || match (plain.peek().map(place), grouped.peek().map(place)) {
        (Some(first), Some(second)) if second < first => grouped.next(),
        (None, _) => grouped.next(),
        _ => plain.next(),
    })
}

//! Messages in order: higher priority first, then by id.
//!
//! Plain pushes lie here as runs, so that a backlog costs a few bytes a message. A message that comes back is a record of
//! its own and finds its old place by its id; a run around that place falls in two, so that entries never overlap.

use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdMap;
use queue_protocol::limits::{CHECKPOINTS_SIZE_MAX, PRIORITY_MAX};
use queue_protocol::names::MessageId;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::piece::PushedRows;
use super::run::{Run, StoredRun};

/// Where an entry stands: its rank, then its first id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue) struct Place {
    rank: u8,
    first: MessageId,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(in crate::queue) enum Entry {
    /// Messages without options, stored as one run.
    Run(Run),
    /// One that came back, or was due later when it was pushed.
    One(Arc<Message>),
}

/// Messages in the order of priority and id.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Line {
    entries: OrdMap<Place, Entry>,
    count: u64,
}

/// What one delivery may still hold.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) struct Room {
    count: usize,
    bytes: u64,
    checkpoints: usize,
    /// Nothing was taken yet: the first message is given however large.
    empty: bool,
}

impl Room {
    /// For at most so many messages of so many bytes together.
    pub(in crate::queue) fn new(count: usize, bytes: u64) -> Self {
        Self { count, bytes, checkpoints: CHECKPOINTS_SIZE_MAX, empty: true }
    }

    /// Whether a message still fits; it is taken off if so.
    pub(in crate::queue) fn admits(&mut self, message: &Message) -> bool {
        let (size, checkpoint) = (message.size(), message.checkpoint_size());
        let fits = self.count > 0 && (self.empty || (size <= self.bytes && checkpoint <= self.checkpoints));
        if fits {
            // One that is too large leaves no room.
            self.count = if size > self.bytes { 0 } else { self.count - 1 };
            self.bytes = self.bytes.saturating_sub(size);
            self.checkpoints = self.checkpoints.saturating_sub(checkpoint);
            self.empty = false;
        }
        fits
    }
}

impl Place {
    /// The place before all others.
    pub(in crate::queue) const FIRST: Self = Self { rank: 0, first: MessageId(0) };

    /// The place of a message of that priority and id.
    pub(in crate::queue) fn new(priority: u8, first: MessageId) -> Self {
        Self { rank: PRIORITY_MAX - priority.min(PRIORITY_MAX), first }
    }

    /// Of all messages here.
    pub(in crate::queue) fn priority(self) -> u8 {
        PRIORITY_MAX - self.rank.min(PRIORITY_MAX)
    }

    /// Of the first message here.
    pub(in crate::queue) fn first(self) -> MessageId {
        self.first
    }
}

impl Entry {
    /// How many messages the entry holds.
    pub(in crate::queue) fn count(&self) -> u32 {
        match self {
            Self::Run(run) => run.count(),
            Self::One(_) => 1,
        }
    }

    /// Bytes of the contents of all its messages.
    pub(in crate::queue) fn bytes(&self) -> u64 {
        match self {
            Self::Run(run) => run.bytes(),
            Self::One(message) => u64::from(message.body.size),
        }
    }

    /// The `k`-th message of the entry that stands at `place`.
    fn message(&self, k: u32, place: Place) -> (MessageId, Message) {
        match self {
            Self::Run(run) => (run.id(k), run.message(k, place.priority())),
            Self::One(message) => (place.first, Message::clone(message)),
        }
    }

    fn id(&self, k: u32, place: Place) -> MessageId {
        match self {
            Self::Run(run) => run.id(k),
            Self::One(_) => place.first,
        }
    }

    /// The place of the last message.
    pub(in crate::queue) fn last(&self, place: Place) -> Place {
        Place { first: self.id(self.count() - 1, place), ..place }
    }

    /// How many messages of the entry that stands at `place` have a lower id.
    fn count_below(&self, id: MessageId, place: Place) -> u32 {
        match self {
            Self::Run(run) => run.count_below(id),
            Self::One(_) => u32::from(place.first < id),
        }
    }

    /// Ids of the messages, first and last plus one of each stretch.
    pub(in crate::queue) fn id_ranges(&self, place: Place) -> Vec<(u64, u64)> {
        match self {
            Self::Run(run) => run.id_ranges().collect(),
            Self::One(_) => vec![(place.first.0, place.first.0.saturating_add(1))],
        }
    }
}

impl Line {
    /// How many messages wait here.
    pub(in crate::queue) fn count(&self) -> u64 {
        self.count
    }

    /// Takes over plain messages with ids from `first` on, higher than all ids before; joins them to the run before
    /// them if there is one with room.
    pub(in crate::queue) fn push(&mut self, priority: u8, first: MessageId, pushed: PushedRows<'_>) {
        self.count += pushed.rows.len() as u64;
        let place = Place::new(priority, first);
        let joined = match self.entries.get_prev_mut(&place) {
            Some((before, Entry::Run(run))) => before.rank == place.rank && run.join(first, pushed),
            _ => false,
        };
        if !joined {
            self.entries.insert(place, Entry::Run(Run::new(first, pushed)));
        }
    }

    /// Takes over one message.
    pub(in crate::queue) fn put(&mut self, id: MessageId, message: Message) {
        self.count += 1;
        let place = Place::new(message.priority, id);
        let around = match self.entries.get_prev(&place) {
            Some((at, Entry::Run(run))) if at.rank == place.rank => Some((*at, run.count_below(id), run)),
            _ => None,
        };
        if let Some((at, k, run)) = around.filter(|(_, k, run)| *k < run.count()) {
            let (before, behind) = run.clone().apart(k, k);
            self.entries.remove(&at);
            self.put_runs(place.rank, before, behind);
        }
        self.entries.insert(place, Entry::One(Arc::new(message)));
    }

    fn put_runs(&mut self, rank: u8, before: Option<Run>, behind: Option<Run>) {
        for run in before.into_iter().chain(behind) {
            self.entries.insert(Place { rank, first: run.id(0) }, Entry::Run(run));
        }
    }

    /// Where the first stands.
    pub(in crate::queue) fn head(&self) -> Option<Place> {
        self.entries.get_min().map(|(place, _)| *place)
    }

    /// Takes the head: at most `max` messages, as far as there is room, of those that stand before `end`.
    pub(in crate::queue) fn take(
        &mut self,
        max: usize,
        room: &mut Room,
        end: Option<Place>,
    ) -> Vec<(MessageId, Message)> {
        let max = max.min(room.count);
        let mut taken = Vec::with_capacity(max.min(usize::try_from(self.count).unwrap_or(max)));
        while taken.len() < max {
            let Some((place, entry)) = self.entries.get_min() else { break };
            let (place, count) = (*place, entry.count());
            let mut cut = 0;
            while cut < count && taken.len() < max {
                let (id, message) = entry.message(cut, place);
                let before_end = end.is_none_or(|end| Place { first: id, ..place } < end);
                if !before_end || !room.admits(&message) {
                    break;
                }
                taken.push((id, message));
                cut += 1;
            }
            if cut == 0 {
                break;
            }
            let rest = self.entries.remove(&place);
            if let Some(Entry::Run(mut run)) = rest
                && cut < count
            {
                run.advance(cut);
                self.put_runs(place.rank, Some(run), None);
                break;
            }
        }
        self.count -= taken.len() as u64;
        taken
    }

    /// Takes one message out, wherever it stands. A run around it falls in two.
    pub(in crate::queue) fn remove(&mut self, id: MessageId) -> Option<Message> {
        let (place, k) = self.locate(id)?;
        let entry = self.entries.remove(&place)?;
        let (_, message) = entry.message(k, place);
        if let Entry::Run(run) = entry {
            let (before, behind) = run.apart(k, k + 1);
            self.put_runs(place.rank, before, behind);
        }
        self.count -= 1;
        Some(message)
    }

    /// The message of that id, if it is here.
    pub(in crate::queue) fn find(&self, id: MessageId) -> Option<Message> {
        let (place, k) = self.locate(id)?;
        self.entries.get(&place).map(|entry| entry.message(k, place).1)
    }

    /// Where a message stands, and as the how-manieth of its entry.
    fn locate(&self, id: MessageId) -> Option<(Place, u32)> {
        self.ranks().find_map(|rank| {
            let (at, entry) = self.entries.get_prev(&Place { rank, first: id })?;
            // The entry before may be of a higher priority, with any id.
            let k = entry.count_below(id, *at);
            (at.rank == rank && k < entry.count() && entry.id(k, *at) == id).then_some((*at, k))
        })
    }

    /// The message that was pushed first.
    pub(in crate::queue) fn oldest(&self) -> Option<MessageId> {
        let heads =
            self.ranks().filter_map(|rank| self.entries.get_next(&Place { rank, first: MessageId(0) }));
        heads.map(|(at, _)| at.first).min()
    }

    /// Elapsed time of the push of the message pushed first.
    pub(in crate::queue) fn oldest_ms(&self) -> Option<u64> {
        let heads =
            self.ranks().filter_map(|rank| self.entries.get_next(&Place { rank, first: MessageId(0) }));
        heads.map(|(at, entry)| entry.message(0, *at).1.pushed.elapsed_ms).min()
    }

    /// Ranks in use, rising.
    fn ranks(&self) -> impl Iterator<Item = u8> + '_ {
        let next =
            |rank: u8| self.entries.get_next(&Place { rank, first: MessageId(0) }).map(|(at, _)| at.rank);
        std::iter::successors(next(0), move |rank| next(rank + 1))
    }

    /// Places and what stands there, in delivery order.
    pub(in crate::queue) fn entries(&self) -> impl Iterator<Item = (Place, &Entry)> {
        self.entries.iter().map(|(place, entry)| (*place, entry))
    }

    /// Messages in delivery order, behind a place that need not be taken.
    pub(in crate::queue) fn behind(
        &self,
        priority: u8,
        id: MessageId,
    ) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        let after = Place::new(priority, id);
        // The run before may reach beyond it.
        let from = self.entries.get_prev(&after).map_or(after, |(place, _)| *place);
        self.entries.range(from..).flat_map(move |(place, entry)| {
            let passed = match place.rank.cmp(&after.rank) {
                Ordering::Less => entry.count(),
                Ordering::Equal => entry.count_below(MessageId(id.0.saturating_add(1)), *place),
                Ordering::Greater => 0,
            };
            (passed..entry.count()).map(move |k| entry.message(k, *place))
        })
    }

    /// Messages in delivery order.
    pub(in crate::queue) fn messages(&self) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        self.entries().flat_map(|(place, entry)| (0..entry.count()).map(move |k| entry.message(k, place)))
    }
}

/// An entry as a snapshot holds it; sizes that differ follow one by one.
#[derive(Serialize, Deserialize)]
pub(in crate::queue) struct Stored {
    rank: u8,
    first: MessageId,
    what: StoredEntry,
}

#[derive(Serialize, Deserialize)]
enum StoredEntry {
    One(Message),
    Run(StoredRun),
}

impl Entry {
    /// This entry for a snapshot, and the sizes that follow it.
    pub(in crate::queue) fn to_stored(&self, place: Place) -> (Stored, impl Iterator<Item = u32> + '_) {
        let (what, sizes) = match self {
            Self::One(message) => (StoredEntry::One(Message::clone(message)), None),
            Self::Run(run) => {
                let (stored, sizes) = run.to_stored();
                (StoredEntry::Run(stored), Some(sizes))
            }
        };
        (Stored { rank: place.rank, first: place.first, what }, sizes.into_iter().flatten())
    }
}

impl Stored {
    /// How many sizes follow.
    pub(in crate::queue) fn sizes_count(&self) -> u64 {
        match &self.what {
            StoredEntry::One(_) => 0,
            StoredEntry::Run(run) => run.sizes_count(),
        }
    }

    /// The entry and its place, unless something is out of range or it does not lie behind `last`, the place of the last
    /// message before.
    pub(in crate::queue) fn into_entry(self, sizes: Vec<u32>, last: Option<Place>) -> Option<(Place, Entry)> {
        let place = Place { rank: self.rank, first: self.first };
        let entry = match self.what {
            StoredEntry::One(message) if message.priority == place.priority() => {
                Entry::One(Arc::new(message))
            }
            StoredEntry::One(_) => return None,
            StoredEntry::Run(run) => Entry::Run(run.into_run(sizes)?),
        };
        let in_order = last < Some(place) && entry.id(0, place) == place.first;
        (in_order && self.rank <= PRIORITY_MAX).then_some((place, entry))
    }
}

impl Line {
    /// Takes over an entry of a snapshot, behind all others.
    pub(in crate::queue) fn restore(&mut self, place: Place, entry: Entry) {
        self.count = self.count.saturating_add(u64::from(entry.count()));
        self.entries.insert(place, entry);
    }
}

//! The ready messages of one queue in delivery order: higher priority first, then by id.
//!
//! Plain pushes of one entry lie here as runs, so that a backlog costs memory per entry and not per message.
//! Only the head is ever taken, so a run is cut at its front or not at all; a message that comes back is a
//! record of its own and finds its old place by its id.

use std::sync::Arc;

use imbl::OrdMap;
use queue_protocol::content::ContentSpec;
use queue_protocol::limits::PRIORITY_MAX;
use queue_protocol::names::MessageId;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::reply::BodyRef;

/// Where an entry stands: its rank, then its first id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    rank: u8,
    first: MessageId,
}

/// Consecutive messages of one push entry that differ in size alone.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// How many are left; at least one.
    pub(super) count: u32,
    /// Row of the body table of the first that is left.
    pub(super) ordinal: u32,
    /// Raft index of the entry.
    pub(super) index: u64,
    /// Wall time of the push.
    pub(super) pushed_at_ms: u64,
    sizes: Sizes,
}

/// Sizes of the contents of a run.
#[derive(Clone, Debug)]
enum Sizes {
    Uniform(u32),
    /// Those from `skip` on belong to the messages that are left.
    Each {
        sizes: Arc<Vec<u32>>,
        skip: u32,
    },
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Plain messages.
    Run(Run),
    /// One that came back, or was due later when it was pushed.
    One(Arc<Message>),
}

/// Ready messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    entries: OrdMap<Place, Entry>,
    count: u64,
}

impl Place {
    fn new(priority: u8, first: MessageId) -> Self {
        Self { rank: PRIORITY_MAX - priority.min(PRIORITY_MAX), first }
    }

    /// Of all messages here.
    pub(super) fn priority(self) -> u8 {
        PRIORITY_MAX - self.rank.min(PRIORITY_MAX)
    }

    /// Of the first message here.
    pub(super) fn first(self) -> MessageId {
        self.first
    }
}

impl Run {
    /// The messages of `rows`, the first of which is row `ordinal` of entry `index`.
    pub(super) fn new(index: u64, ordinal: u32, pushed_at_ms: u64, rows: &[ContentSpec]) -> Self {
        let first = rows.first().map_or(0, |row| row.size);
        let mut run = Self { count: 0, ordinal, index, pushed_at_ms, sizes: Sizes::Uniform(first) };
        run.extend(rows);
        run
    }

    /// The next rows of the same entry.
    fn extend(&mut self, rows: &[ContentSpec]) {
        let more = u32::try_from(rows.len()).expect("a body table has fewer than 2^32 rows");
        match &mut self.sizes {
            Sizes::Uniform(size) if rows.iter().all(|row| row.size == *size) => {}
            Sizes::Uniform(size) => {
                let mut sizes = Vec::with_capacity(self.count as usize + rows.len());
                sizes.resize(self.count as usize, *size);
                sizes.extend(rows.iter().map(|row| row.size));
                self.sizes = Sizes::Each { sizes: Arc::new(sizes), skip: 0 };
            }
            Sizes::Each { sizes, .. } => Arc::make_mut(sizes).extend(rows.iter().map(|row| row.size)),
        }
        self.count += more;
    }

    /// Size of the content of the `k`-th message that is left.
    pub(super) fn size(&self, k: u32) -> u32 {
        match &self.sizes {
            Sizes::Uniform(size) => *size,
            Sizes::Each { sizes, skip } => sizes[*skip as usize + k as usize],
        }
    }

    /// The one size all have, if they have one.
    fn uniform(&self) -> Option<u32> {
        let first = self.size(0);
        match &self.sizes {
            Sizes::Uniform(size) => Some(*size),
            Sizes::Each { .. } => (1..self.count).all(|k| self.size(k) == first).then_some(first),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.sizes {
            Sizes::Uniform(size) => u64::from(*size) * u64::from(self.count),
            Sizes::Each { .. } => (0..self.count).map(|k| u64::from(self.size(k))).sum(),
        }
    }

    fn advance(&mut self, by: u32) {
        self.count -= by;
        self.ordinal += by;
        if let Sizes::Each { skip, .. } = &mut self.sizes {
            *skip += by;
        }
    }

    fn message(&self, k: u32, priority: u8) -> Message {
        let body = BodyRef { index: self.index, ordinal: self.ordinal + k, size: self.size(k) };
        Message::pushed(body, self.pushed_at_ms, priority)
    }
}

impl Entry {
    /// Messages.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Run(run) => run.count,
            Self::One(_) => 1,
        }
    }

    /// Contents together.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Run(run) => run.bytes(),
            Self::One(message) => u64::from(message.body.size),
        }
    }

    fn message(&self, k: u32, priority: u8) -> Message {
        match self {
            Self::Run(run) => run.message(k, priority),
            Self::One(message) => Message::clone(message),
        }
    }
}

impl Ready {
    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes over plain messages with ids from `first` on, higher than all ids before; joins them to the run before
    /// them if nothing lies between.
    pub(super) fn push(&mut self, priority: u8, first: MessageId, run: PushedRows<'_>) {
        let place = Place::new(priority, first);
        let PushedRows { index, ordinal, pushed_at_ms, rows } = run;
        if rows.is_empty() {
            return;
        }
        self.count += rows.len() as u64;
        if let Some((before, Entry::Run(run))) = self.entries.get_prev_mut(&place)
            && before.rank == place.rank
            && run.index == index
            && before.first.0 + u64::from(run.count) == first.0
            && run.ordinal + run.count == ordinal
        {
            run.extend(rows);
        } else {
            self.entries.insert(place, Entry::Run(Run::new(index, ordinal, pushed_at_ms, rows)));
        }
    }

    /// Takes over one message.
    pub(super) fn put(&mut self, id: MessageId, message: Message) {
        self.count += 1;
        self.entries.insert(Place::new(message.priority, id), Entry::One(Arc::new(message)));
    }

    /// Takes the head: at most `max` messages of at most `max_bytes` together, but at least one if there is any.
    pub(super) fn take(&mut self, max: usize, max_bytes: u64) -> Vec<(MessageId, Message)> {
        let mut taken = Vec::with_capacity(max.min(usize::try_from(self.count).unwrap_or(max)));
        let mut bytes = 0u64;
        while taken.len() < max {
            let Some((place, entry)) = self.entries.get_min() else { break };
            let (place, count) = (*place, entry.count());
            let mut cut = 0;
            while cut < count && taken.len() < max {
                let message = entry.message(cut, place.priority());
                bytes = bytes.saturating_add(u64::from(message.body.size));
                if bytes > max_bytes && !taken.is_empty() {
                    break;
                }
                taken.push((MessageId(place.first.0 + u64::from(cut)), message));
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
                let first = MessageId(place.first.0 + u64::from(cut));
                self.entries.insert(Place { rank: place.rank, first }, Entry::Run(run));
                break;
            }
        }
        self.count -= taken.len() as u64;
        taken
    }

    /// The message of that id, if it is here.
    pub(super) fn find(&self, id: MessageId) -> Option<Message> {
        self.ranks().find_map(|rank| {
            let (at, entry) = self.entries.get_prev(&Place { rank, first: id })?;
            // The entry before may be of a higher priority, with any id.
            let k = u32::try_from(id.0.checked_sub(at.first.0)?).ok()?;
            (at.rank == rank && k < entry.count()).then(|| entry.message(k, at.priority()))
        })
    }

    /// Wall time of the push of the message pushed first.
    pub(super) fn oldest_at_ms(&self) -> Option<u64> {
        let heads =
            self.ranks().filter_map(|rank| self.entries.get_next(&Place { rank, first: MessageId(0) }));
        heads.map(|(at, entry)| entry.message(0, at.priority()).pushed_at_ms).min()
    }

    /// Ranks in use, rising.
    fn ranks(&self) -> impl Iterator<Item = u8> + '_ {
        let next =
            |rank: u8| self.entries.get_next(&Place { rank, first: MessageId(0) }).map(|(at, _)| at.rank);
        std::iter::successors(next(0), move |rank| next(rank + 1))
    }

    /// Places and what stands there, in delivery order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Place, &Entry)> {
        self.entries.iter().map(|(place, entry)| (*place, entry))
    }

    /// Messages in delivery order.
    pub(super) fn messages(&self) -> impl Iterator<Item = (MessageId, Message)> + '_ {
        self.entries().flat_map(|(place, entry)| {
            (0..entry.count())
                .map(move |k| (MessageId(place.first.0 + u64::from(k)), entry.message(k, place.priority())))
        })
    }
}

/// Rows of the body table of entry `index`, from `ordinal` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushedRows<'a> {
    /// Raft index of the entry.
    pub(super) index: u64,
    /// Row of the first.
    pub(super) ordinal: u32,
    /// Wall time of the entry.
    pub(super) pushed_at_ms: u64,
    /// The rows.
    pub(super) rows: &'a [ContentSpec],
}

/// An entry as a snapshot holds it; sizes that differ follow one by one.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    rank: u8,
    first: MessageId,
    what: StoredEntry,
}

#[derive(Serialize, Deserialize)]
enum StoredEntry {
    One(Message),
    /// `size` is `None` if sizes differ.
    Run {
        count: u32,
        ordinal: u32,
        index: u64,
        pushed_at_ms: u64,
        size: Option<u32>,
    },
}

impl Entry {
    /// This entry for a snapshot, and the sizes that follow it.
    pub(super) fn to_stored(&self, place: Place) -> (Stored, impl Iterator<Item = u32> + '_) {
        let (what, run) = match self {
            Self::One(message) => (StoredEntry::One(Message::clone(message)), None),
            Self::Run(run) => {
                // A run may have lost the messages that differed.
                let size = run.uniform();
                let Run { count, ordinal, index, pushed_at_ms, .. } = *run;
                (
                    StoredEntry::Run { count, ordinal, index, pushed_at_ms, size },
                    size.is_none().then_some(run),
                )
            }
        };
        let sizes = run.into_iter().flat_map(|run| (0..run.count).map(|k| run.size(k)));
        (Stored { rank: place.rank, first: place.first, what }, sizes)
    }
}

impl Stored {
    /// How many sizes follow.
    pub(super) fn sizes_count(&self) -> u32 {
        match self.what {
            StoredEntry::Run { count, size: None, .. } => count,
            _ => 0,
        }
    }

    /// The entry and its place, unless something is out of range.
    pub(super) fn into_entry(self, sizes: Vec<u32>) -> Option<(Place, Entry)> {
        let place = Place { rank: self.rank, first: self.first };
        let entry = match self.what {
            StoredEntry::One(message) => {
                (message.priority == place.priority()).then(|| Entry::One(Arc::new(message)))?
            }
            StoredEntry::Run { count, ordinal, index, pushed_at_ms, size } => {
                let in_range = count > 0 && ordinal.checked_add(count).is_some();
                let sizes = match size {
                    Some(size) => Sizes::Uniform(size),
                    None => Sizes::Each { sizes: Arc::new(sizes), skip: 0 },
                };
                in_range.then_some(Entry::Run(Run { count, ordinal, index, pushed_at_ms, sizes }))?
            }
        };
        (self.rank <= PRIORITY_MAX).then_some((place, entry))
    }
}

impl Ready {
    /// Takes over an entry of a snapshot, behind all others.
    pub(super) fn restore(&mut self, place: Place, entry: Entry) {
        self.count = self.count.saturating_add(u64::from(entry.count()));
        self.entries.insert(place, entry);
    }
}

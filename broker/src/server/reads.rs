//! Reads are taken in turn: of one connection one at a time, and its next one behind those of all others.
//!
//! ```text
//! connection 1   [r r r r]──►r ┐
//! connection 2        [r r]──►r ├──► read index, one round for all that wait ──► one look at the state at a time
//! connection 3               ►r ┘
//! ```
//!
//! A read has its turn until its answer is with what is written: a client that takes nothing has one answer in memory.
//! What needs no quorum has a turn of its own, so that it is answered while there is none. While entries are applied and
//! more than a few connections read, each pauses between two of its reads: processors are for writes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::wire::requests::{Place, ReadRequest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::Access;
use super::dispatch::Dispatch;
use super::reply_to::ReplyTo;
use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};

/// Turns that whatever else is ready has after each look, so that a flood of reads costs a write little on each of its
/// ways through this node.
const TURNS_OF_OTHERS: usize = 8;
/// Connections that may read without a pause while entries are applied.
const UNPAUSED_COUNT_MAX: usize = 4;
/// Between two reads of a connection when more of them read.
const PAUSE: Duration = Duration::from_millis(1);
/// As long after an entry was applied, more of them are to be expected.
const WRITING_FOR: Duration = Duration::from_millis(20);

/// Whose turn: a connection, and whether the quorum is asked.
type Key = (u64, Asks);

/// Whether a read asks a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Nobody,
    Quorum,
}

impl From<Place> for Asks {
    fn from(place: Place) -> Self {
        match place {
            Place::Asked => Self::Nobody,
            Place::Leader => Self::Quorum,
        }
    }
}

/// What waits for its turn. A key is there while one of it has the turn.
struct Turns<T>(BTreeMap<Key, VecDeque<T>>);

impl<T> Turns<T> {
    /// Gives it back if it has the turn now.
    fn ask(&mut self, key: Key, read: T) -> Option<T> {
        if let Some(waiting) = self.0.get_mut(&key) {
            waiting.push_back(read);
            return None;
        }
        self.0.insert(key, VecDeque::new());
        Some(read)
    }

    /// The turn is over; the next one has it.
    fn next(&mut self, key: Key) -> Option<T> {
        let next = self.0.get_mut(&key)?.pop_front();
        if next.is_none() {
            self.0.remove(&key);
        }
        next
    }

    /// What waits for a connection that is gone.
    fn disconnected(&mut self, connection: u64) -> Vec<T> {
        let keys = (connection, Asks::Nobody)..=(connection, Asks::Quorum);
        self.0.range_mut(keys).flat_map(|(_, waiting)| std::mem::take(waiting)).collect()
    }
}

/// What is asked, as whom, and where its answer goes.
type Read = (ReadRequest, Access, ReplyTo);

/// The reads of all connections.
pub(crate) struct Reads {
    turns: Mutex<Turns<Read>>,
    /// Held while one looks at the state; those who wait have it in the order of their coming.
    look: tokio::sync::Mutex<()>,
    /// The newest index applied that was seen here, and when it was seen first.
    applied: Mutex<(u64, Option<Instant>)>,
}

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            turns: Mutex::new(Turns(BTreeMap::new())),
            look: tokio::sync::Mutex::default(),
            applied: Mutex::default(),
        }
    }

    /// The pause before the next read of a connection that had its turn. `applied` gives the newest index applied.
    fn pause(&self, applied: impl FnOnce() -> u64, now: Instant) -> Option<Duration> {
        if self.turns().0.len() <= UNPAUSED_COUNT_MAX {
            return None;
        }
        let applied = applied();
        let mut seen = self.applied.locked();
        if seen.0 != applied {
            *seen = (applied, Some(now));
        }
        seen.1.is_some_and(|since| now < since + WRITING_FOR).then_some(PAUSE)
    }

    fn turns(&self) -> MutexGuard<'_, Turns<Read>> {
        self.turns.locked()
    }

    /// Begins with a read, or lets it wait.
    pub(super) fn ask(
        dispatch: &Arc<Dispatch>,
        request: ReadRequest,
        access: Access,
        place: Place,
        reply: ReplyTo,
    ) {
        if mutants::on(Mutant::ReadsNotInTurn) {
            return crate::raft::spawn(Arc::clone(dispatch).read(request, access, reply));
        }
        let key = (reply.connection(), Asks::from(place));
        let first = dispatch.reads.turns().ask(key, (request, access, reply));
        if let Some(first) = first {
            crate::raft::spawn(take_turns(Arc::clone(dispatch), key, first));
        }
    }

    /// Looks, when the others have looked that came before.
    pub(super) async fn look<T>(&self, look: impl FnOnce() -> T) -> T {
        let _one = self.look.lock().await;
        let seen = look();
        for _ in 0..TURNS_OF_OTHERS {
            tokio::task::yield_now().await;
        }
        seen
    }

    /// A connection is gone: what waits for it is dropped.
    pub(super) fn disconnected(&self, connection: u64) {
        let gone = self.turns().disconnected(connection);
        drop(gone);
    }
}

/// Reads one after the other, until none of the connection is left.
async fn take_turns(dispatch: Arc<Dispatch>, key: Key, first: Read) {
    let mut next = Some(first);
    while let Some((request, access, mut reply)) = next {
        let (turn, over) = oneshot::channel::<()>();
        reply.hold(turn);
        Arc::clone(&dispatch).read(request, access, reply).await;
        // It is over when it was dropped.
        let _ = over.await;
        let applied = || dispatch.consensus.read_now(|_, index| index);
        if let Some(pause) = dispatch.reads.pause(applied, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
        next = dispatch.reads.turns().next(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_connection_one_read_at_a_time_has_the_turn_and_the_others_are_not_held_up() {
        let mut turns = Turns(BTreeMap::new());
        let (first, second) = ((1, Asks::Quorum), (2, Asks::Quorum));
        assert_eq!(turns.ask(first, "a"), Some("a"));
        assert_eq!(turns.ask(first, "b"), None);
        assert_eq!(turns.ask(first, "c"), None);
        assert_eq!(turns.ask(second, "x"), Some("x"), "another connection");
        assert_eq!(turns.ask((1, Asks::Nobody), "s"), Some("s"), "it asks no quorum");
        assert_eq!(turns.next(first), Some("b"));
        assert_eq!(turns.next(second), None);
        assert_eq!(turns.next(first), Some("c"));
        assert_eq!(turns.next(first), None);
        assert_eq!(turns.ask(first, "d"), Some("d"));
        assert_eq!(turns.0.len(), 2);
    }

    #[test]
    fn many_who_read_pause_while_entries_are_applied_and_not_longer() {
        let (reads, begin) = (Reads::new(), Instant::now());
        let turn = |connection| reads.turns().0.insert((connection, Asks::Quorum), VecDeque::new());
        (0..=UNPAUSED_COUNT_MAX as u64).for_each(|connection| drop(turn(connection)));
        assert_eq!(reads.pause(|| 7, begin), Some(PAUSE));
        assert_eq!(reads.pause(|| 7, begin + WRITING_FOR / 2), Some(PAUSE));
        assert_eq!(reads.pause(|| 7, begin + WRITING_FOR), None, "nothing was applied for a while");
        assert_eq!(reads.pause(|| 8, begin + WRITING_FOR), Some(PAUSE));
        reads.turns().0.remove(&(0, Asks::Quorum));
        assert_eq!(reads.pause(|| panic!("it is asked"), begin + WRITING_FOR), None, "few read");
    }

    #[test]
    fn what_waits_for_a_connection_that_is_gone_has_no_turn() {
        let mut turns = Turns(BTreeMap::new());
        for read in 0..3 {
            turns.ask((1, Asks::Quorum), read);
            turns.ask((2, Asks::Quorum), read);
        }
        assert_eq!(turns.disconnected(1), [1, 2]);
        assert_eq!(turns.next((1, Asks::Quorum)), None);
        assert_eq!(turns.next((2, Asks::Quorum)), Some(1));
    }
}

//! The queues, by name and by number, and what is kept about all of them together. A queue is changed through
//! [`Catalog::change`] alone, so the sums follow.

use imbl::{OrdMap, OrdSet};
use queue_protocol::limits::QUEUES_MAX;
use queue_protocol::names::{QueueName, SessionId};

use super::due::deadlines::{Head, Heads};
use super::messages::dead::Leaver;
use super::messages::gone::Went;
use super::queue::{Counts, Queue};
use super::read::turnover::Turnover;

/// A queue inside the state: given in order of creation, never reused.
pub(super) type QueueNumber = u64;

/// All queues, and the sums and indexes over them.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    next: QueueNumber,
    names: OrdMap<QueueName, QueueNumber>,
    queues: OrdMap<QueueNumber, Queue>,
    /// First deadlines of the queues.
    heads: Heads,
    /// Queues that a session claims, by session.
    claims: OrdSet<(SessionId, QueueNumber)>,
    /// Sums over the queues.
    counts: Counts,
    /// Since the cluster was made, removed queues included.
    turnover: Turnover,
}

/// What came of a change of one queue.
pub(super) struct Changed<R> {
    pub(super) result: R,
    /// Messages that go to other queues, and the name of the queue that they leave.
    pub(super) leaving: Option<(QueueName, Vec<Leaver>)>,
    /// Messages that went for good.
    pub(super) went: Vec<Went>,
    /// More messages can be had than before, or another session may have them.
    pub(super) gained: bool,
}

impl Catalog {
    /// No queue, as a state begins with that gave numbers below `next` and has seen `turnover`.
    pub(super) fn begin(next: QueueNumber, turnover: Turnover) -> Self {
        Self { next, turnover, ..Self::default() }
    }

    /// The number of the next queue.
    pub(super) fn next(&self) -> QueueNumber {
        self.next
    }

    /// The highest number of a queue that is there.
    pub(super) fn last(&self) -> Option<QueueNumber> {
        self.queues.get_max().map(|(last, _)| *last)
    }

    /// Numbers of the queues by name, in order of the names.
    pub(super) fn names(&self) -> &OrdMap<QueueName, QueueNumber> {
        &self.names
    }

    /// The number of a queue.
    pub(super) fn number(&self, name: &QueueName) -> Option<QueueNumber> {
        self.names.get(name).copied()
    }

    /// The queue of that name.
    pub(super) fn named(&self, name: &QueueName) -> Option<&Queue> {
        self.queues.get(self.names.get(name)?)
    }

    /// The queue of that number, if it is still there.
    pub(super) fn get(&self, number: QueueNumber) -> Option<&Queue> {
        self.queues.get(&number)
    }

    /// The queue of a number that [`Catalog::number`] gave.
    pub(super) fn at(&self, number: QueueNumber) -> &Queue {
        self.queues.get(&number).expect("a number names a queue")
    }

    /// All queues in order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueNumber, &Queue)> + '_ {
        self.queues.iter().map(|(number, queue)| (*number, queue))
    }

    /// How many queues there are.
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// First deadlines of the queues.
    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Sums over the queues.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// What went through all queues since the cluster was made.
    pub(super) fn turnover(&self) -> Turnover {
        self.turnover
    }

    /// Queues that a session claims.
    pub(super) fn claimed_by(&self, session: SessionId) -> impl Iterator<Item = QueueNumber> + '_ {
        let all = (session, QueueNumber::MIN)..=(session, QueueNumber::MAX);
        self.claims.range(all).map(|(_, number)| *number)
    }

    /// Takes in a queue that was just made.
    pub(super) fn add(&mut self, queue: Queue) -> QueueNumber {
        let number = self.next;
        self.next += 1;
        self.names.insert(queue.name.clone(), number);
        self.counts = self.counts.replace(Counts::default(), queue.counts());
        self.queues.insert(number, queue);
        number
    }

    /// Takes in a queue that was read back; `false` if there is one of its name.
    pub(super) fn restore(&mut self, number: QueueNumber, mut queue: Queue) -> bool {
        if self.names.insert(queue.name.clone(), number).is_some() {
            return false;
        }
        self.claims.extend(queue.active.holder().map(|holder| (holder, number)));
        self.counts = self.counts.replace(Counts::default(), queue.counts());
        queue.head = Head::of(&queue);
        self.heads.shift(number, Head::default(), queue.head);
        self.queues.insert(number, queue);
        true
    }

    /// Takes a queue out.
    pub(super) fn remove(&mut self, number: QueueNumber) {
        let queue = self.queues.remove(&number).expect("a number names a queue");
        self.heads.shift(number, queue.head, Head::default());
        queue.active.holder().map(|holder| self.claims.remove(&(holder, number)));
        self.counts = self.counts.replace(queue.counts(), Counts::default());
        self.names.remove(&queue.name);
    }

    /// Changes one queue; everything that is kept about queues as a whole follows.
    pub(super) fn change<R>(
        &mut self,
        number: QueueNumber,
        change: impl FnOnce(&mut Queue) -> R,
    ) -> Changed<R> {
        let queue = self.queues.get_mut(&number).expect("a number names a queue");
        let (counts, turnover) = (queue.counts(), queue.turnover);
        let (available, holder) = (queue.available(), queue.active.holder());
        let dead_to = queue.settings.dead_to.as_ref().and_then(|to| self.names.get(to)).copied();
        queue.leaving.dead_to = dead_to;
        let result = change(queue);
        let leaving = std::mem::take(&mut queue.leaving).messages;
        let leaving = (!leaving.is_empty()).then(|| (queue.name.clone(), leaving));
        let went = std::mem::take(&mut queue.going);
        let head = std::mem::take(&mut queue.head);
        queue.head = Head::of(queue);
        let holder_after = queue.active.holder();
        let gained = queue.available() > available || (holder.is_some() && holder_after != holder);
        if holder_after != holder {
            holder.map(|holder| self.claims.remove(&(holder, number)));
            holder_after.map(|holder| self.claims.insert((holder, number)));
        }
        self.counts = self.counts.replace(counts, queue.counts());
        self.turnover = self.turnover.grow(turnover, queue.turnover);
        self.heads.shift(number, head, queue.head);
        Changed { result, leaving, went, gained }
    }

    /// Replaces who may have been served, as nobody goes on being served by a cluster that was lost.
    pub(super) fn recover_claims(&mut self, skipped: u64) {
        let numbers: Vec<QueueNumber> = self.queues.keys().copied().collect();
        for number in numbers {
            let queue = self.queues.get_mut(&number).expect("it was listed");
            queue.active = queue.active.recovered(queue.settings.single_active, skipped);
        }
    }

    /// Asserts that everything kept twice agrees.
    pub(super) fn check(&self) {
        assert!(self.names.len() <= QUEUES_MAX && self.names.len() == self.queues.len());
        for (name, number) in &self.names {
            assert!(*number < self.next && self.queues.get(number).is_some_and(|queue| queue.name == *name));
        }
        let mut counts = Counts::default();
        let mut claims = OrdSet::new();
        let mut turnover = Turnover::default();
        for (number, queue) in &self.queues {
            queue.check();
            claims.extend(queue.active.holder().map(|holder| (holder, *number)));
            counts = counts.replace(Counts::default(), queue.counts());
            turnover = turnover.grow(Turnover::default(), queue.turnover);
        }
        assert_eq!(counts, self.counts);
        assert!(claims == self.claims, "claims of sessions");
        assert!(turnover.pushed <= self.turnover.pushed, "pushed");
        assert!(turnover.leased <= self.turnover.leased, "leased");
        assert!(turnover.acked <= self.turnover.acked, "acked");
        assert!(self.turnover.less(turnover).is_some(), "what went through");
        self.heads.check(self);
    }

    /// The sums, to be made wrong.
    #[cfg(test)]
    pub(super) fn sums_mut(&mut self) -> (&mut Counts, &mut Turnover) {
        (&mut self.counts, &mut self.turnover)
    }
}

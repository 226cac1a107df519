//! Messages that go for good: what apply tells of each, for whoever keeps it. The state itself forgets them.

use queue_protocol::names::{MessageId, QueueName};
use queue_protocol::wire::history::{GoneHow, GoneView};
use queue_protocol::wire::response::Event;

use super::message::Message;
use crate::queue::catalog::QueueNumber;
use crate::queue::due::clocks::Moment;
use crate::queue::queue::Queue;
use crate::queue::state::State;

/// Messages that went from one queue at one time.
#[derive(Clone, Debug)]
pub struct Gone {
    pub(in crate::queue) queue: QueueNumber,
    /// The time of the entry by which they went.
    pub at: Moment,
    /// The messages that went, in the order in which they did.
    pub went: Vec<Went>,
}

/// A message that went for good.
#[derive(Clone, Debug)]
pub struct Went {
    /// The message, by id.
    pub id: MessageId,
    how: GoneHow,
    pushed_at_ms: u64,
    attempts: u32,
    failures: u32,
    releases: u32,
    events: Vec<Event>,
}

impl Went {
    /// What is told of it.
    pub fn view(&self, at_ms: u64) -> (GoneView, &[Event]) {
        let Self { how, pushed_at_ms, attempts, failures, releases, .. } = *self;
        (GoneView { how, at_ms, pushed_at_ms, attempts, failures, releases }, &self.events)
    }
}

impl Queue {
    /// Lets a message go for good that is in no state.
    pub(in crate::queue) fn let_go(&mut self, id: MessageId, message: &Message, how: GoneHow) {
        self.tell(id, message, how);
        self.let_leave(id, message);
    }

    /// Tells of a message that is in no state any more.
    pub(super) fn tell(&mut self, id: MessageId, message: &Message, how: GoneHow) {
        self.going.push(Went {
            id,
            how,
            pushed_at_ms: message.pushed.wall_ms,
            attempts: message.attempts,
            failures: message.failures,
            releases: message.releases,
            events: message.history.clone(),
        });
    }
}

impl State {
    /// Whether messages that went were in the queue of that name.
    pub fn was_in(&self, gone: &Gone, queue: &QueueName) -> bool {
        self.catalog().number(queue) == Some(gone.queue)
    }

    /// Whether a message of that id was ever pushed.
    pub fn was_pushed(&self, id: MessageId) -> bool {
        id.0 > 0 && id < self.numbers().id()
    }
}

//! Where the outcome of one request goes: to the connection that asked, in any order.

use std::sync::Arc;

use queue_protocol::error::{Applied, Error, ErrorCode, Retry};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::response::{Age, Answer, At};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::budget::Charge;
use super::order::Order;
use super::slow::Asked;
use crate::raft::{Committed, ProposeError, Waited};

/// How a request ended, before it is an answer on the wire.
pub(crate) enum Finished {
    /// A command took effect, or was refused by the state.
    Committed(Box<Committed>),
    /// A lease or pop found nothing; `index` is the entry it was read behind.
    Empty {
        /// Raft index.
        index: u64,
    },
    /// A read, with contents for the tail.
    Read {
        /// Raft index.
        index: u64,
        /// What was read.
        answer: Box<Answer>,
        /// Whose contents go into the tail, in this order.
        bodies: Vec<crate::queue::reply::BodyRef>,
    },
    /// A read that asked nobody.
    Stale {
        /// How old what it shows may be.
        age: Age,
        /// What it shows.
        read: Box<Finished>,
    },
    /// Not done, or not known.
    Failed(Error),
    /// Not proposed here; the connection names who leads.
    NotLeader,
}

impl Finished {
    /// What was read behind the entry `index`, without contents.
    pub(crate) fn read(index: u64, answer: Answer) -> Self {
        Self::Read { index, answer: Box::new(answer), bodies: Vec::new() }
    }

    /// The outcome of a proposal.
    pub(crate) fn of(result: Result<Committed, ProposeError>) -> Self {
        match result {
            Ok(committed) => Self::Committed(Box::new(committed)),
            Err(ProposeError::NotLeader) => Self::NotLeader,
            Err(ProposeError::NoQuorum) => {
                Self::Failed(Error::again(ErrorCode::NoLeader, "no quorum answers this leader"))
            }
            Err(ProposeError::NoRoom(error)) => Self::Failed(error),
            Err(ProposeError::Unknown) => Self::Failed(Error {
                code: ErrorCode::NotConfirmed,
                applied: Applied::Unknown,
                retry: Retry::Again,
                message: Text::cut("leadership was lost before the outcome was known"),
                similar: None,
            }),
        }
    }
}

impl From<Waited> for Finished {
    fn from(waited: Waited) -> Self {
        match waited {
            Waited::Decided(result) => Self::of(result),
            Waited::Empty { index } => Self::Empty { index },
            Waited::Failed(error) => Self::Failed(error),
            Waited::NotLeader => Self::NotLeader,
        }
    }
}

/// Where a read that was refused by the state stands.
pub(crate) fn read_at(index: u64) -> At {
    At { index, position: u32::MAX }
}

/// The way back to one request of one connection.
pub(crate) struct ReplyTo {
    connection: u64,
    request_id: u64,
    size: usize,
    /// Its memory, until there is an outcome.
    _charge: Option<Charge>,
    to: Option<mpsc::UnboundedSender<Reply>>,
    /// The number it has in its session.
    number: Option<(Arc<Order>, u64)>,
    turn: Option<oneshot::Sender<()>>,
    asked: Option<Asked>,
}

/// An outcome on its way to a connection's writer.
pub(crate) struct Reply {
    pub(crate) request_id: u64,
    /// What the request was charged; given back when it is answered.
    pub(crate) size: usize,
    /// `None` if nobody waits for the outcome any more.
    pub(crate) finished: Option<Finished>,
    /// What was asked.
    pub(super) asked: Option<Asked>,
    /// The turn of a read: over when this is dropped.
    _turn: Option<oneshot::Sender<()>>,
}

impl ReplyTo {
    pub(crate) fn new(
        connection: u64,
        request_id: u64,
        size: usize,
        to: mpsc::UnboundedSender<Reply>,
    ) -> Self {
        let (number, turn, asked) = (None, None, None);
        Self { connection, request_id, size, _charge: None, to: Some(to), number, turn, asked }
    }

    /// What was asked, for those who look how long it took.
    pub(super) fn asked(mut self, asked: Asked) -> Self {
        self.asked = Some(asked);
        self
    }

    /// When the request came: the clock is read once for it.
    pub(super) fn came(&self) -> Instant {
        self.asked.as_ref().and_then(|asked| asked.at).unwrap_or_else(Instant::now)
    }

    /// The memory of the request is charged until there is an outcome.
    pub(super) fn charged(mut self, charge: Charge) -> Self {
        self._charge = Some(charge);
        self
    }

    /// The way back to a request that has a number.
    pub(crate) fn numbered(mut self, order: Arc<Order>, number: u64) -> Self {
        self.number = Some((order, number));
        self
    }

    /// Keeps a turn until it is answered.
    pub(super) fn hold(&mut self, turn: oneshot::Sender<()>) {
        self.turn = Some(turn);
    }

    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    pub(crate) fn request_id(&self) -> u64 {
        self.request_id
    }

    /// Answers. A connection that is gone needs none.
    pub(crate) fn finish(mut self, finished: Finished) {
        if let (Finished::Failed(error), Some((order, number))) = (&finished, &self.number)
            && error.code == ErrorCode::Overloaded
        {
            order.refuse(*number);
        }
        self.send(Some(finished));
    }

    fn send(&mut self, finished: Option<Finished>) {
        if let Some(to) = self.to.take() {
            let (_turn, asked) = (self.turn.take(), self.asked.take());
            let _ = to.send(Reply { request_id: self.request_id, size: self.size, finished, asked, _turn });
        }
    }
}

/// Dropped unanswered, it still gives its place back.
impl Drop for ReplyTo {
    fn drop(&mut self) {
        self.send(None);
    }
}

//! What is in flight on one connection: who waits for what, and what is to be written. Shared by the callers and the
//! two tasks of the connection.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::error::Error;
use crate::limits::{IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX};
use crate::wire::frame::{Frame, FrameError, FrameKind, Goodbye, OutFrame};
use crate::wire::io::Outbox;

/// How often a connection with open requests looks whether the other side is alive, in milliseconds.
pub const KEEPALIVE_MS: u64 = 500;
/// Looks without a sign of life, each followed by a ping, after which the other side counts as dead.
const SILENCE_COUNT_MAX: u32 = 4;
/// Why a connection is of no more use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Gone {
    /// The other side closed, or this one did.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<std::io::Error>),
    /// The other side sent what is no frame, or no message that is due.
    #[error("{0}")]
    Frame(FrameError),
    /// What it sent did not answer what it was asked.
    #[error("{0}")]
    Nonsense(&'static str),
    /// Nothing came, not even the answer to a ping.
    #[error("no sign of life for {} ms", KEEPALIVE_MS * u64::from(SILENCE_COUNT_MAX))]
    Silent,
    /// The other side said why it leaves.
    #[error("{0}")]
    Goodbye(Error),
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Not a byte was handed over: the connection was gone before.
    #[error("not sent: {0}")]
    NotSent(Gone),
    /// Not a byte was handed over: as much as may be is in flight, or the request is too big.
    #[error("not sent: {0}")]
    NotAdmitted(NotAdmitted),
    /// Handed over, then the connection was lost.
    #[error("{0}")]
    Lost(Gone),
    /// Handed over and not answered before the deadline.
    #[error("no answer in time")]
    TimedOut,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Room in flight did not become free before the deadline.
    #[error("too much is in flight")]
    InFlight,
    /// Header or contents exceed a frame.
    #[error("{0}")]
    TooBig(FrameError),
}

/// What callers and tasks share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something is in the outbox, or the connection is to close.
    pub(super) write: Notify,
    pub(super) room_count: Semaphore,
    pub(super) room_size: Semaphore,
}

pub(super) struct State {
    pub(super) outbox: Outbox,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
    /// The other side takes no new requests.
    pub(super) leaving: Option<Error>,
    /// The handle was dropped: write what is left and close.
    pub(super) closing: bool,
    pub(super) gone: Option<Gone>,
    tasks: Vec<AbortHandle>,
}

pub(super) struct Waiting {
    pub(super) expected: FrameKind,
    pub(super) answer: oneshot::Sender<Result<Frame, Gone>>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                outbox: Outbox::new(),
                waiting: BTreeMap::new(),
                next_id: 1,
                leaving: None,
                closing: false,
                gone: None,
                tasks: Vec::new(),
            }),
            write: Notify::new(),
            room_count: Semaphore::new(IN_FLIGHT_COUNT_MAX),
            room_size: Semaphore::new(IN_FLIGHT_SIZE_MAX),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, tasks: [AbortHandle; 2]) {
        let mut state = self.lock();
        if state.gone.is_some() {
            tasks.iter().for_each(AbortHandle::abort);
        }
        state.tasks.extend(tasks);
    }

    pub(super) fn why_gone(&self) -> Gone {
        self.lock().gone.clone().unwrap_or(Gone::Closed)
    }

    pub(super) fn send(
        &self,
        waiting: Waiting,
        push: impl FnOnce(u64, &mut Outbox) -> Result<(), FrameError>,
    ) -> Result<u64, CallError> {
        let mut state = self.lock();
        if let Some(gone) = &state.gone {
            return Err(CallError::NotSent(gone.clone()));
        }
        if let Some(error) = &state.leaving {
            return Err(CallError::NotSent(Gone::Goodbye(error.clone())));
        }
        let id = state.next_id;
        push(id, &mut state.outbox).map_err(|error| CallError::NotAdmitted(NotAdmitted::TooBig(error)))?;
        state.next_id += 1;
        state.waiting.insert(id, waiting);
        drop(state);
        self.write.notify_one();
        Ok(id)
    }

    pub(super) fn fail(&self, why: Gone) {
        let mut state = self.lock();
        if state.gone.is_some() {
            return;
        }
        state.gone = Some(why.clone());
        let waiting = mem::take(&mut state.waiting);
        let tasks = mem::take(&mut state.tasks);
        state.outbox = Outbox::new();
        drop(state);
        self.room_count.close();
        self.room_size.close();
        for (_, waited) in waiting {
            // The caller may have stopped waiting this moment.
            let _ = waited.answer.send(Err(why.clone()));
        }
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Completes whoever waits for `frame`.
    pub(super) fn take(&self, frame: Frame) -> Result<(), Gone> {
        match frame.kind {
            FrameKind::Response | FrameKind::Pong => self.answer(frame),
            FrameKind::Ping => {
                let mut state = self.lock();
                // Nothing but a head: it always fits.
                let _ = state.outbox.push(&OutFrame::bare(frame.request_id, FrameKind::Pong));
                drop(state);
                self.write.notify_one();
                Ok(())
            }
            FrameKind::Goodbye => {
                let goodbye: Goodbye = frame.message().map_err(Gone::Frame)?;
                match goodbye.reason {
                    Some(error) => {
                        self.lock().leaving = Some(error);
                        Ok(())
                    }
                    None => Err(Gone::Closed),
                }
            }
            got => Err(Gone::Frame(FrameError::Unexpected { expected: FrameKind::Response, got })),
        }
    }

    fn answer(&self, frame: Frame) -> Result<(), Gone> {
        let mut state = self.lock();
        if frame.request_id >= state.next_id {
            return Err(Gone::Nonsense("an answer came to what was never asked"));
        }
        match state.waiting.remove(&frame.request_id) {
            Some(waited) if waited.expected != frame.kind => {
                let error = FrameError::Unexpected { expected: waited.expected, got: frame.kind };
                state.waiting.insert(frame.request_id, waited);
                Err(Gone::Frame(error))
            }
            Some(waited) => {
                drop(state);
                // The caller may have stopped waiting this moment.
                let _ = waited.answer.send(Ok(frame));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Sends a ping if somebody waits; the number of looks in a row that found nobody answering.
    pub(super) fn look(&self, silence: u32) -> Result<u32, Gone> {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closing {
            return Ok(0);
        }
        if silence >= SILENCE_COUNT_MAX {
            return Err(Gone::Silent);
        }
        let id = state.next_id;
        state.next_id += 1;
        // Nothing but a head: it always fits.
        let _ = state.outbox.push(&OutFrame::bare(id, FrameKind::Ping));
        drop(state);
        self.write.notify_one();
        Ok(silence + 1)
    }

    /// The socket ended or failed: for the reason the other side gave, if it did.
    pub(super) fn ended(&self, why: Gone) {
        let leaving = self.lock().leaving.clone();
        self.fail(leaving.map_or(why, Gone::Goodbye));
    }
}

//! One socket with many requests in flight. Callers encode straight into a shared outbox; one task writes whatever
//! has gathered there, another reads and completes the callers. Nothing is retried here.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::Stream;
use crate::codec::CodecError;
use crate::error::Error;
use crate::frame::{Frame, FrameError, FrameKind, Goodbye, OutFrame};
use crate::gather::Gatherer;
use crate::handshake::{HandshakeError, client_handshake};
use crate::hello::{Accepted, Hello};
use crate::io::{FrameReader, Outbox};
use crate::limits::{IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX, TAIL_SIZE_MAX};
use crate::request::Call;
use crate::response::Response;

/// How often a connection with open requests looks whether the other side is alive, in milliseconds.
pub const KEEPALIVE_MS: u64 = 500;
/// Looks without a sign of life, each followed by a ping, after which the other side counts as dead.
const SILENCE_COUNT_MAX: u32 = 4;
/// Charged to a request besides its tail.
const REQUEST_SIZE_MIN: usize = 256;

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

/// A connection to one node. When it is dropped it says goodbye and closes.
pub struct Connection {
    shared: Arc<Shared>,
    accepted: Accepted,
}

struct Shared {
    state: Mutex<State>,
    /// Something is in the outbox, or the connection is to close.
    write: Notify,
    room_count: Semaphore,
    room_size: Semaphore,
}

struct State {
    outbox: Outbox,
    waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
    /// The other side takes no new requests.
    leaving: Option<Error>,
    /// The handle was dropped: write what is left and close.
    closing: bool,
    gone: Option<Gone>,
    tasks: Vec<AbortHandle>,
}

struct Waiting {
    expected: FrameKind,
    answer: oneshot::Sender<Result<Frame, Gone>>,
}

impl Connection {
    /// Shakes hands over `stream`.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn open(stream: Box<dyn Stream>, hello: Hello) -> Result<Self, HandshakeError> {
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read);
        let accepted = client_handshake(&mut reader, &mut writer, hello).await?;
        let shared = Arc::new(Shared {
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
        });
        let write = tokio::spawn(write_all(Arc::clone(&shared), writer)).abort_handle();
        let read = tokio::spawn(read_all(Arc::clone(&shared), reader)).abort_handle();
        shared.register([write, read]);
        Ok(Self { shared, accepted })
    }

    /// What the node said of itself when the connection was opened.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// New requests are of no use here.
    pub fn is_gone(&self) -> bool {
        let state = self.shared.lock();
        state.gone.is_some() || state.leaving.is_some()
    }

    /// Asks, and waits for the answer and its tail until `deadline`. Waits first for room among what is in flight.
    /// A dropped future tells the node that nobody waits any more.
    ///
    /// # Errors
    /// [`CallError`], which says whether the request may have been executed.
    pub async fn call(
        &self,
        call: &Call,
        tail: &[Bytes],
        deadline: Instant,
    ) -> Result<(Response, Bytes), CallError> {
        let size = REQUEST_SIZE_MIN + tail.iter().map(Bytes::len).sum::<usize>();
        let _room = self.room(size, deadline).await?;
        let frame = self
            .exchange(FrameKind::Response, deadline, |id, outbox| outbox.push_message(id, call, tail))
            .await?;
        match frame.message() {
            Ok(response) => Ok((response, frame.tail)),
            Err(error) => {
                self.fail(Gone::Frame(error));
                Err(CallError::Lost(Gone::Frame(error)))
            }
        }
    }

    /// Time a ping takes to come back.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ping(&self, deadline: Instant) -> Result<Duration, CallError> {
        let begin = Instant::now();
        self.exchange(FrameKind::Pong, deadline, |id, outbox| {
            outbox.push(&OutFrame::bare(id, FrameKind::Ping))
        })
        .await?;
        Ok(begin.elapsed())
    }

    /// Gives the connection up: everything that waits on it is lost.
    pub fn fail(&self, why: Gone) {
        self.shared.fail(why);
    }

    /// Room for a request of `size` bytes among what is in flight.
    async fn room(
        &self,
        size: usize,
        deadline: Instant,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), CallError> {
        let Ok(size) = u32::try_from(size.min(IN_FLIGHT_SIZE_MAX)) else {
            unreachable!("64 MiB fit 32 bits")
        };
        if let (Ok(count), Ok(size)) =
            (self.shared.room_count.try_acquire(), self.shared.room_size.try_acquire_many(size))
        {
            return Ok((count, size));
        }
        let both = async {
            Ok::<_, tokio::sync::AcquireError>((
                self.shared.room_count.acquire().await?,
                self.shared.room_size.acquire_many(size).await?,
            ))
        };
        match timeout_at(deadline, both).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_closed)) => Err(CallError::NotSent(self.shared.why_gone())),
            Err(_elapsed) => Err(CallError::NotAdmitted(NotAdmitted::InFlight)),
        }
    }

    /// Sends one frame and waits for the frame that answers it.
    async fn exchange(
        &self,
        expected: FrameKind,
        deadline: Instant,
        push: impl FnOnce(u64, &mut Outbox) -> Result<(), FrameError>,
    ) -> Result<Frame, CallError> {
        let (answer, answered) = oneshot::channel();
        let id = self.shared.send(Waiting { expected, answer }, push)?;
        let mut forget = Forget { shared: &self.shared, id, armed: true };
        let outcome = timeout_at(deadline, answered).await;
        match outcome {
            Ok(Ok(result)) => {
                forget.armed = false;
                result.map_err(CallError::Lost)
            }
            Ok(Err(_dropped)) => Err(CallError::Lost(self.shared.why_gone())),
            Err(_elapsed) => Err(CallError::TimedOut),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.gone.is_none() {
            state.closing = true;
            // A goodbye without a reason is a few bytes and always fits.
            let _ = state.outbox.push_message(0, &Goodbye { reason: None }, &[]);
            drop(state);
            self.shared.write.notify_one();
        }
    }
}

/// Forgets a request that nobody waits for any more, and tells the node.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
    armed: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut state = self.shared.lock();
        let waited = state.waiting.remove(&self.id);
        if state.gone.is_none() && waited.is_some_and(|waited| waited.expected == FrameKind::Response) {
            // Nothing but a head: it always fits.
            let _ = state.outbox.push(&OutFrame::bare(self.id, FrameKind::Cancel));
            drop(state);
            self.shared.write.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, tasks: [AbortHandle; 2]) {
        let mut state = self.lock();
        if state.gone.is_some() {
            tasks.iter().for_each(AbortHandle::abort);
        }
        state.tasks.extend(tasks);
    }

    fn why_gone(&self) -> Gone {
        self.lock().gone.clone().unwrap_or(Gone::Closed)
    }

    fn send(
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

    fn fail(&self, why: Gone) {
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
    fn take(&self, frame: Frame) -> Result<(), Gone> {
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
    fn look(&self, silence: u32) -> Result<u32, Gone> {
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
    fn ended(&self, why: Gone) {
        let leaving = self.lock().leaving.clone();
        self.fail(leaving.map_or(why, Gone::Goodbye));
    }
}

/// Writes whatever has gathered, all of it at once, until the connection closes.
async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(shared: Arc<Shared>, mut writer: WriteHalf<S>) {
    let mut outbox = Outbox::new();
    loop {
        let closing = {
            let mut state = shared.lock();
            mem::swap(&mut state.outbox, &mut outbox);
            state.closing
        };
        if outbox.is_empty() {
            if closing {
                break;
            }
            shared.write.notified().await;
        } else if let Err(error) = outbox.write_to(&mut writer).await {
            shared.ended(Gone::Io(Arc::new(error)));
            return;
        }
    }
    // The other side may have closed before.
    let _ = writer.shutdown().await;
    shared.fail(Gone::Closed);
}

/// Reads until the socket ends, fails, or falls silent.
async fn read_all<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    mut reader: FrameReader<ReadHalf<S>>,
) {
    let mut gatherer = Gatherer::new(IN_FLIGHT_COUNT_MAX, TAIL_SIZE_MAX);
    let mut looks = interval(Duration::from_millis(KEEPALIVE_MS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silence = 0;
    loop {
        let read = tokio::select! {
            biased;
            read = reader.next() => read,
            _ = looks.tick() => match shared.look(silence) {
                Ok(looks) => {
                    silence = looks;
                    continue;
                }
                Err(gone) => return shared.fail(gone),
            },
        };
        silence = 0;
        let mut next = read;
        loop {
            match next {
                Ok(Some(frame)) => {
                    if let Err(gone) = gather(&shared, &mut gatherer, frame) {
                        return shared.fail(gone);
                    }
                }
                Ok(None) => return shared.ended(Gone::Closed),
                Err(CodecError::Io(error)) => return shared.ended(Gone::Io(Arc::new(error))),
                Err(CodecError::Frame(error)) => return shared.fail(Gone::Frame(error)),
            }
            next = match reader.next_buffered() {
                Ok(None) => break,
                next => next,
            };
        }
    }
}

fn gather(shared: &Shared, gatherer: &mut Gatherer, frame: Frame) -> Result<(), Gone> {
    let mut budget = IN_FLIGHT_SIZE_MAX - gatherer.held();
    match gatherer.take(frame, &mut budget) {
        Ok(Some(frame)) => shared.take(frame),
        Ok(None) => Ok(()),
        Err(error) => Err(Gone::Frame(error)),
    }
}

//! One socket with many requests in flight. Callers encode straight into a shared outbox; one task writes whatever
//! has gathered there, another reads and completes the callers. Nothing is retried here.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::Stream;
use super::in_flight::{CallError, Gone, KEEPALIVE_MS, NotAdmitted, Shared, Waiting};
use crate::limits::{IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX, TAIL_SIZE_MAX};
use crate::wire::auth::{KeyId, Token};
use crate::wire::codec::CodecError;
use crate::wire::frame::{Frame, FrameError, FrameKind, Goodbye, OutFrame};
use crate::wire::gather::Gatherer;
use crate::wire::handshake::{HandshakeError, client_handshake, client_login};
use crate::wire::hello::{Accepted, Hello};
use crate::wire::io::{FrameReader, Outbox};
use crate::wire::request::Call;
use crate::wire::response::Response;

/// Charged to a request besides its tail.
const REQUEST_SIZE_MIN: usize = 256;
/// Frames taken in one turn. Then those who were answered have theirs: what they ask next is on its way to the node
/// while the other answers are taken.
const BURST: usize = 128;

/// A connection to one node. When it is dropped it says goodbye and closes.
pub struct Connection {
    shared: Arc<Shared>,
    accepted: Accepted,
    key: Option<KeyId>,
}

impl Connection {
    /// Shakes hands over `stream`.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn open(stream: Box<dyn Stream>, hello: Hello) -> Result<Self, HandshakeError> {
        Self::open_as(stream, hello, None).await
    }

    /// The same, logged in by a key, which `hello` names.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn open_as(
        stream: Box<dyn Stream>,
        hello: Hello,
        token: Option<&Token>,
    ) -> Result<Self, HandshakeError> {
        let channel = stream.end_point();
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read);
        let accepted = match token {
            None => client_handshake(&mut reader, &mut writer, hello).await?,
            Some(token) => client_login(&mut reader, &mut writer, hello, token, &channel).await?,
        };
        let shared = Arc::new(Shared::new());
        let write = tokio::spawn(write_all(Arc::clone(&shared), writer)).abort_handle();
        let read = tokio::spawn(read_all(Arc::clone(&shared), reader)).abort_handle();
        shared.register([write, read]);
        Ok(Self { shared, accepted, key: token.map(|token| token.id) })
    }

    /// What the node said of itself when the connection was opened.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// The key that it is logged in by.
    pub(super) fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Why new requests are of no use here, if they are not.
    pub fn gone(&self) -> Option<Gone> {
        let state = self.shared.lock();
        state.gone.clone().or_else(|| state.leaving.clone().map(Gone::Goodbye))
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
    let mut gatherer = Gatherer::<BytesMut>::new(IN_FLIGHT_COUNT_MAX, TAIL_SIZE_MAX);
    let period = Duration::from_millis(KEEPALIVE_MS);
    let mut looks = interval_at(Instant::now() + period, period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silence = 0;
    loop {
        let read = tokio::select! {
            biased;
            read = reader.next() => read,
            _ = looks.tick() => {
                reader.rest();
                match shared.look(silence) {
                    Ok(looks) => silence = looks,
                    Err(gone) => return shared.fail(gone),
                }
                continue;
            }
        };
        silence = 0;
        let mut next = read;
        let mut taken = 0;
        loop {
            if taken == BURST {
                taken = 0;
                tokio::task::yield_now().await;
            }
            taken += 1;
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
    let mut budget = IN_FLIGHT_SIZE_MAX.saturating_sub(gatherer.held());
    match gatherer.take(frame, &mut budget) {
        Ok(Some(frame)) => shared.take(frame),
        Ok(None) => Ok(()),
        Err(error) => Err(Gone::Frame(error)),
    }
}

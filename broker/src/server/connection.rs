//! One client: its requests are read and started in order, its answers written as they come, many in flight.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::frame::{Frame, FrameError, FrameKind, Goodbye, OutFrame};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::request::Call;
use queue_protocol::wire::requests::Class;
use queue_protocol::wire::response::WriteStage;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::answer::respond;
use super::budget::Share;
use super::caller::Caller;
use super::dispatch::Dispatch;
use super::flight::{self, Flight};
use super::input::Input;
use super::order::Order;
use super::quiet::Kind;
use super::reply_to::{Finished, Reply, ReplyTo};
use super::slow::{Asked, Passed};
use super::stop::{Ends, Stop};
use super::watched::Watch;
use crate::outside::Fatal;
use crate::tls::opening::required;

/// Answers are put together until a write is this large.
const WRITE_SIZE: usize = 1 << 20;
/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether a client takes what is written, and whether one that says that it is there still is.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks without a sign of life, each followed by a ping, after which a client that says that it is there is not.
const SILENCE_COUNT_MAX: u32 = 8;

/// What the reading half tells the writing half beside outcomes.
enum Note {
    Ping,
    Pong(u64),
    /// There is no place for this request.
    Refused(u64),
    /// The connection ends, and why.
    Goodbye(Error),
}

/// Serves one client until it leaves, misbehaves, or `stop` turns true and its open requests are answered.
pub(crate) async fn serve_client(
    dispatch: Arc<Dispatch>,
    id: u64,
    caller: Caller,
    reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: WriteHalf<Box<dyn Stream>>,
    watch: Watch,
    stop: watch::Receiver<Stop>,
) {
    let session = caller.session;
    let flight = Arc::new(Flight::new());
    let caller = Arc::new(caller);
    dispatch.roster.enter(id, &caller, &flight);
    let (replies, outcomes) = mpsc::unbounded_channel();
    let (notes, noted) = mpsc::unbounded_channel();
    let reading = Reading {
        dispatch: Arc::clone(&dispatch),
        id,
        order: dispatch.orders.connected(session),
        caller: Arc::clone(&caller),
        flight: Arc::clone(&flight),
        replies,
        notes,
        attends: false.into(),
        share: dispatch.budget.share(id),
        watch: watch.clone(),
    };
    let writing =
        Writing { dispatch: Arc::clone(&dispatch), caller, flight, outcomes, noted, writer, oldest: None };
    let read = std::pin::pin!(reading.run(reader, stop));
    let write = std::pin::pin!(writing.run());
    // Reading ends first: at the end of the stream, on a bad frame, or when the node stops. Writing then ends by
    // itself when everything is answered; if the client is gone, at the first failed write.
    match futures_util::future::select(read, write).await {
        futures_util::future::Either::Left((Left::Gone, _)) => {}
        futures_util::future::Either::Left((Left::InOrder, write)) => {
            // Nobody reads any more: that the client is gone is seen by looking only.
            let ended = std::pin::pin!(async {
                tokio::time::sleep(LOOK_EVERY).await;
                watch.ended(LOOK_EVERY).await;
            });
            futures_util::future::select(write, ended).await;
        }
        futures_util::future::Either::Right(_) => {}
    }
    dispatch.disconnected(session, id);
    dispatch.orders.disconnected(session);
    dispatch.roster.leave(id);
}

/// How reading ended.
enum Left {
    /// The client closed or broke the connection: nobody reads answers.
    Gone,
    /// Open requests are still to be answered.
    InOrder,
}

pub(crate) struct Reading {
    dispatch: Arc<Dispatch>,
    id: u64,
    caller: Arc<Caller>,
    order: Arc<Order>,
    flight: Arc<Flight>,
    replies: mpsc::UnboundedSender<Reply>,
    notes: mpsc::UnboundedSender<Note>,
    /// The client said that it is there as long as this connection is.
    attends: std::sync::atomic::AtomicBool,
    /// Memory for what it sends.
    share: Arc<Share>,
    watch: Watch,
}

impl Reading {
    async fn run(
        self,
        reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
        mut stop: watch::Receiver<Stop>,
    ) -> Left {
        let mut input = Input::new(reader, Arc::clone(&self.share)).watched(self.watch.clone());
        let mut silence = 0;
        loop {
            while self.flight.rests() {
                tokio::select! {
                    biased;
                    () = self.flight.landed.notified() => {}
                    stop = stop.wait_for(|stop| self.ends(stop)) => {
                        return self.stopped(stop.map_or_else(|_| Stop::default(), |stop| *stop));
                    }
                    () = self.watch.ended(LOOK_EVERY) => return Left::Gone,
                }
            }
            self.flight.turn().await;
            let attends = self.attends.load(Relaxed);
            let first = tokio::select! {
                biased;
                first = input.next() => first,
                stop = stop.wait_for(|stop| self.ends(stop)) => {
                    return self.stopped(stop.map_or_else(|_| Stop::default(), |stop| *stop));
                }
                () = tokio::time::sleep(LOOK_EVERY), if attends => {
                    match self.look(silence) {
                        Some(looks) => silence = looks,
                        None => return Left::Gone,
                    }
                    continue;
                }
            };
            silence = 0;
            let mut next = match first {
                Ok(Some(frame)) => Some(frame),
                Ok(None) => return Left::Gone,
                Err(error) => return self.broken(error),
            };
            // What came along is taken in the same turn, so that it goes into one entry.
            while let Some(frame) = next {
                if let Err(error) = self.start(frame) {
                    return self.broken(error.into());
                }
                self.flight.turn().await;
                let buffered = if self.flight.rests() { Ok(None) } else { input.next_buffered() };
                next = match buffered {
                    Ok(buffered) => buffered,
                    Err(error) => return self.broken(error),
                };
            }
        }
    }

    fn ends(&self, stop: &Stop) -> bool {
        self.why_ends(stop).is_some()
    }

    fn why_ends(&self, stop: &Stop) -> Option<Ends> {
        stop.ends(self.id, self.caller.is_secured).or_else(|| {
            let admitted = &self.caller.admitted;
            if admitted.load(Relaxed) == stop.rights {
                return None;
            }
            let shut = self.dispatch.shut_out(self.caller.login).map(|_| Ends::Shut);
            if shut.is_none() {
                admitted.store(stop.rights, Relaxed);
            }
            shut
        })
    }

    /// Reads no more; what is open is answered.
    fn stopped(&self, stop: Stop) -> Left {
        let why = match self.why_ends(&stop) {
            Some(Ends::Plain) => Some(required()),
            Some(Ends::Shut) => self.dispatch.shut_out(self.caller.login),
            Some(Ends::Stopping) | None => None,
        };
        if let Some(why) = why {
            // What waits would keep its connection for as long as it may wait.
            self.dispatch.waiters.refused(self.id, &why);
            self.dispatch.disconnected(self.caller.session, self.id);
            let _ = self.notes.send(Note::Goodbye(why));
        }
        Left::InOrder
    }

    /// Asks a silent client whether it is there; the number of looks in a row that found nothing of it, `None` if they
    /// are too many.
    fn look(&self, silence: u32) -> Option<u32> {
        if !self.dispatch.presence.attends(self.caller.session, self.id) {
            self.attends.store(false, Relaxed);
            return Some(0);
        }
        if silence >= SILENCE_COUNT_MAX {
            self.dispatch.quiet.say(
                Kind::Silent,
                Some(self.caller.from),
                &format_args!("session {}", self.caller.session),
            );
            return None;
        }
        let _ = self.notes.send(Note::Ping);
        let taking = self.flight.taking.swap(false, Relaxed);
        Some(if taking { 0 } else { silence + 1 })
    }

    fn broken(&self, error: queue_protocol::wire::codec::CodecError) -> Left {
        match error {
            queue_protocol::wire::codec::CodecError::Io(_) => Left::Gone,
            queue_protocol::wire::codec::CodecError::Frame(FrameError::Truncated) => Left::Gone,
            queue_protocol::wire::codec::CodecError::Frame(error) => {
                self.dispatch.quiet.say(Kind::BadFrame, Some(self.caller.from), &error);
                // What waits would keep a connection that nobody reads.
                self.dispatch.disconnected(self.caller.session, self.id);
                let _ = self.notes.send(Note::Goodbye(error.to_wire()));
                Left::InOrder
            }
        }
    }

    fn start(&self, frame: Frame) -> Result<(), FrameError> {
        match frame.kind {
            FrameKind::Ping => {
                self.flight.owe_pong();
                let _ = self.notes.send(Note::Pong(frame.request_id));
            }
            FrameKind::Cancel => {
                self.dispatch.waiters.cancelled(self.id, frame.request_id);
                self.dispatch.presence.cancelled(self.caller.session, self.id, frame.request_id);
            }
            FrameKind::Pong | FrameKind::Goodbye => {}
            _ => {
                let call: Call = frame.message()?;
                let size = frame.size();
                let charge = if self.flight.has_place() { self.share.request(size) } else { None };
                let room = charge.is_some();
                let admitted = call.stamp.map_or(room, |stamp| self.order.admit(stamp, room));
                let Some(charge) = charge.filter(|_| admitted) else {
                    self.flight.owe_refusal();
                    self.dispatch.overloaded.fetch_add(1, Relaxed);
                    let _ = self.notes.send(Note::Refused(frame.request_id));
                    return Ok(());
                };
                self.flight.take(size);
                if call.request.row().class == Class::Wait {
                    self.attends.store(true, Relaxed);
                }
                let reply = ReplyTo::new(self.id, frame.request_id, size, self.replies.clone());
                let reply = reply.charged(charge).asked(Asked::now(&call.request));
                let reply = match call.stamp {
                    Some(stamp) => reply.numbered(Arc::clone(&self.order), stamp.number),
                    None => {
                        self.flight.count_light();
                        reply
                    }
                };
                self.dispatch.handle(&self.caller, call, frame.tail, reply);
            }
        }
        Ok(())
    }
}

pub(crate) struct Writing {
    dispatch: Arc<Dispatch>,
    caller: Arc<Caller>,
    flight: Arc<Flight>,
    outcomes: mpsc::UnboundedReceiver<Reply>,
    noted: mpsc::UnboundedReceiver<Note>,
    writer: WriteHalf<Box<dyn Stream>>,
    /// When the oldest outcome was known that is about to be written.
    oldest: Option<Instant>,
}

impl Writing {
    async fn run(mut self) {
        let mut outbox = Outbox::new();
        let mut goodbye = None;
        let mut reading = true;
        loop {
            tokio::select! {
                biased;
                note = self.noted.recv(), if reading => match note {
                    Some(note) => {
                        goodbye = goodbye.or(self.heed(note, &mut outbox));
                        while outbox.size() < WRITE_SIZE
                            && let Ok(note) = self.noted.try_recv()
                        {
                            goodbye = goodbye.or(self.heed(note, &mut outbox));
                        }
                        // Outcomes are not held up by those who ask without end.
                        if let Ok(reply) = self.outcomes.try_recv()
                            && !self.take(reply, &mut outbox)
                        {
                            return;
                        }
                    }
                    // The reading half is gone; what is in flight is still answered.
                    None => reading = false,
                },
                reply = self.outcomes.recv(), if reading || !self.flight.is_empty() => match reply {
                    Some(reply) => {
                        if !self.take(reply, &mut outbox) {
                            return;
                        }
                    }
                    // Every way to answer is gone: nothing can come any more.
                    None => break,
                },
                else => break,
            }
            if outbox.is_empty() {
                continue;
            }
            let since = self.oldest.take();
            let mut taken_at = Instant::now();
            while !outbox.is_empty() {
                let before = outbox.size();
                match tokio::time::timeout(LOOK_EVERY, outbox.write_to(&mut self.writer)).await {
                    Ok(Ok(())) => {}
                    // Slow, not gone.
                    Err(_) if outbox.size() < before => {
                        taken_at = Instant::now();
                        self.flight.taking.store(true, Relaxed);
                    }
                    Err(_) if taken_at.elapsed() < WRITE_TIMEOUT => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            if let Some(since) = since {
                self.dispatch.consensus.log().stages().record(WriteStage::Answer, since.elapsed());
            }
        }
        let reason = goodbye.unwrap_or_else(|| {
            Error::again(ErrorCode::ShuttingDown, "the node is stopping, try another one")
        });
        let frame = OutFrame::new(0, &Goodbye { reason: Some(reason) }, Vec::new());
        push(&mut outbox, &frame);
        let _ = tokio::time::timeout(WRITE_TIMEOUT, outbox.write_to(&mut self.writer)).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.writer).await;
    }

    /// Encodes what is owed beside outcomes; gives the reason to say goodbye, if there is one.
    fn heed(&self, note: Note, outbox: &mut Outbox) -> Option<Error> {
        match note {
            Note::Ping => push(outbox, &OutFrame::bare(0, FrameKind::Ping)),
            Note::Pong(id) => {
                self.flight.paid();
                push(outbox, &OutFrame::bare(id, FrameKind::Pong));
            }
            Note::Refused(id) => {
                self.flight.paid();
                outbox.push_message(id, &flight::refusal(), &[]).expect("an error fits a frame");
            }
            Note::Goodbye(error) => return Some(error),
        }
        None
    }

    /// Encodes this outcome and all that are there already. `false` if the node must not go on.
    fn take(&mut self, reply: Reply, outbox: &mut Outbox) -> bool {
        let mut next = Some(reply);
        while let Some(reply) = next {
            self.flight.give_back(reply.size);
            if let Some(Finished::Committed(committed)) = &reply.finished {
                self.oldest.get_or_insert(committed.since);
            }
            if let Some(finished) = reply.finished
                && !self.encode(reply.request_id, finished, reply.asked.as_ref(), outbox)
            {
                return false;
            }
            if outbox.size() >= WRITE_SIZE {
                break;
            }
            next = self.outcomes.try_recv().ok();
        }
        true
    }

    fn encode(
        &self,
        request_id: u64,
        finished: Finished,
        asked: Option<&Asked>,
        outbox: &mut Outbox,
    ) -> bool {
        let passed = match &finished {
            Finished::Committed(committed) => Some(Passed::of(committed)),
            _ => None,
        };
        let (response, contents) = match respond(&self.dispatch.consensus, finished) {
            Ok(response) => response,
            Err(error) => {
                let what = format!("a message cannot be read back: {error}");
                let damaged = Fatal::damaged(what, self.dispatch.consensus.others());
                (self.dispatch.consensus.outside().end)(damaged);
                return false;
            }
        };
        if let Some(asked) = asked {
            self.dispatch.slow.look(&self.dispatch.consensus, &self.caller, asked, passed, &response);
            asked.say_refused(&self.caller, &response);
        }
        if let Err(error) = outbox.push_message(request_id, &response, &contents) {
            // Only an answer that exceeds a frame: refused in its place, nothing else is lost.
            let refused = queue_protocol::wire::response::Response {
                result: Err(Error::refused(ErrorCode::MessageTooBig, error.to_string())),
                ..response
            };
            outbox.push_message(request_id, &refused, &[]).expect("an error fits a frame");
        }
        true
    }
}

fn push(outbox: &mut Outbox, frame: &OutFrame) {
    outbox.push(frame).expect("frames without contents fit");
}

//! What a client sends, until it is whole: frames that are arriving and requests that come in pieces, read only as far as
//! the [`Budget`](super::budget::Budget) has room for them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::limits::{IN_FLIGHT_COUNT_MAX, IN_FLIGHT_SIZE_MAX, TAIL_SIZE_MAX};
use queue_protocol::wire::codec::CodecError;
use queue_protocol::wire::frame::{Frame, FrameError};
use queue_protocol::wire::gather::{Gatherer, OPEN_SIZE};
use queue_protocol::wire::io::{FrameReader, REST_SIZE};
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep, sleep_until};

use super::budget::Share;
use super::connection::LOOK_EVERY;
use super::watched::Watch;
use crate::mutants::{self, Mutant};

/// A connection that sent nothing for so long gives its buffers back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Time of reading over which unfinished input is measured.
const PACE_WINDOW: Duration = Duration::from_secs(30);
/// Bytes that come in that time at least: 1 KiB a second.
const PACE_SIZE_MIN: usize = 30 << 10;

/// Input of one connection.
pub(super) struct Input<R> {
    reader: FrameReader<R>,
    gatherer: Gatherer,
    /// A piece that waits for room.
    piece: Option<Frame>,
    share: Arc<Share>,
    /// What of the share is for this.
    charged: usize,
    pace: Pace,
    watch: Option<Watch>,
    alarm: Alarm,
}

/// How fast unfinished input comes, in the time in which it was read.
#[derive(Default)]
struct Pace {
    read: Duration,
    size: usize,
}

impl<R> Drop for Input<R> {
    fn drop(&mut self) {
        self.share.give_back(self.charged);
        self.share.set_unfinished(false);
    }
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(super) fn new(reader: FrameReader<R>, share: Arc<Share>) -> Self {
        let gatherer = Gatherer::new(IN_FLIGHT_COUNT_MAX, TAIL_SIZE_MAX);
        Self {
            reader,
            gatherer,
            piece: None,
            share,
            charged: 0,
            pace: Pace::default(),
            watch: None,
            alarm: Alarm::default(),
        }
    }

    /// While nothing is read for want of memory, it is looked whether the client has gone.
    pub(super) fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The next whole frame; `None` at the end of the stream between two frames. Safe to cancel.
    ///
    /// # Errors
    /// [`CodecError`]; the stream cannot be read on. [`FrameError::Slow`] and [`FrameError::NotGranted`] are among them.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            if let Some(frame) = self.next_buffered()? {
                return Ok(Some(frame));
            }
            self.settle();
            self.share.set_unfinished(self.is_unfinished());
            let wanted = if self.piece.is_some() { OPEN_SIZE } else { self.reader.wanted() };
            let size = (self.held() + wanted).saturating_sub(REST_SIZE + self.charged);
            if size > 0 {
                self.room(size).await?;
            }
            if let Some(piece) = self.piece.take() {
                if let Some(frame) = self.gather(piece)? {
                    return Ok(Some(frame));
                }
            } else if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next whole frame that is here already; never waits.
    ///
    /// # Errors
    /// As [`Input::next`].
    pub(super) fn next_buffered(&mut self) -> Result<Option<Frame>, CodecError> {
        if self.piece.is_some() {
            return Ok(None);
        }
        let Some(frame) = self.reader.next_buffered()? else { return Ok(None) };
        if frame.flags.more() || self.gatherer.is_open(frame.request_id) {
            self.piece = Some(frame);
            return Ok(None);
        }
        self.took_whole();
        Ok(Some(kept_with_its_buffer(frame)))
    }

    fn gather(&mut self, piece: Frame) -> Result<Option<Frame>, CodecError> {
        let mut left = IN_FLIGHT_SIZE_MAX.saturating_sub(self.gatherer.held());
        let whole = self.gatherer.take(piece, &mut left)?;
        if whole.is_some() {
            self.took_whole();
        }
        Ok(whole)
    }

    /// A whole frame leaves: its memory is charged to the request from now on.
    fn took_whole(&mut self) {
        if self.gatherer.held() == 0 {
            self.pace = Pace::default();
            self.share.set_unfinished(false);
        }
        self.settle();
    }

    fn is_unfinished(&self) -> bool {
        self.reader.unfinished() > 0 || self.gatherer.held() > 0 || self.piece.is_some()
    }

    fn held(&self) -> usize {
        self.reader.capacity() + self.gatherer.held() + self.piece.as_ref().map_or(0, Frame::<Bytes>::size)
    }

    /// Gives back what is charged beyond what is held.
    fn settle(&mut self) {
        let beyond = self.charged.saturating_sub(self.held().saturating_sub(REST_SIZE));
        self.share.give_back(beyond);
        self.charged -= beyond;
    }

    /// Waits for memory, or until what is unfinished has to give way.
    async fn room(&mut self, size: usize) -> Result<(), FrameError> {
        tokio::select! {
            biased;
            () = self.share.room(size) => {}
            () = self.share.asked(), if self.is_unfinished() => return Err(FrameError::NotGranted),
            () = ended(self.watch.as_ref()) => return Err(FrameError::Truncated),
        }
        self.charged += size;
        Ok(())
    }

    /// Reads once. What is not used of the buffer is given back when nothing comes for a while.
    async fn fill(&mut self) -> Result<bool, CodecError> {
        let mut begin = Instant::now();
        loop {
            let unfinished = self.is_unfinished();
            let unused = self.reader.capacity() > self.reader.unfinished();
            let limit = match (unused, unfinished) {
                (true, _) => Some(begin + REST_AFTER),
                (false, true) => Some(Instant::now() + PACE_WINDOW.saturating_sub(self.pace.read)),
                (false, false) => None,
            };
            let before = self.reader.unfinished();
            let reading = unfinished.then(|| Measured { pace: &mut self.pace, since: Instant::now() });
            let filled = tokio::select! {
                biased;
                filled = self.reader.fill() => Some(filled),
                () = self.share.asked(), if unfinished => return Err(FrameError::NotGranted.into()),
                () = self.alarm.rings(limit) => None,
            };
            drop(reading);
            self.pace.size += self.reader.unfinished().saturating_sub(before);
            if unfinished && self.pace.is_too_slow() {
                return Err(FrameError::Slow.into());
            }
            if let Some(filled) = filled {
                return filled;
            }
            if unused && limit.is_some_and(|limit| limit <= Instant::now()) {
                self.reader.rest();
                self.settle();
                begin = Instant::now();
            }
        }
    }
}

/// Until the client has closed, as far as that is looked at.
async fn ended(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.ended(LOOK_EVERY).await,
        None => std::future::pending().await,
    }
}

/// A timer that outlives the reads that set it: one that was set for an earlier time rings then, and is set anew by who
/// asks again. So a busy connection does not set and take back a timer with each read.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// At `limit` or before; never without one.
    async fn rings(&mut self, limit: Option<Instant>) {
        let Some(limit) = limit else {
            self.0 = None;
            return std::future::pending().await;
        };
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        if timer.deadline() > limit {
            timer.as_mut().reset(limit);
        }
        timer.await;
        self.0 = None;
    }
}

impl Pace {
    /// Looks at the end of each window, and begins the next one.
    fn is_too_slow(&mut self) -> bool {
        if self.read < PACE_WINDOW {
            return false;
        }
        let Pace { size, .. } = std::mem::take(self);
        size < PACE_SIZE_MIN && !mutants::on(Mutant::SlowInputStays)
    }
}

/// Adds the time until it is dropped, also if the reading is cancelled.
struct Measured<'a> {
    pace: &'a mut Pace,
    since: Instant,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.pace.read += self.since.elapsed();
    }
}

/// The planted bug: the buffer that a frame came in lives as long as its contents.
fn kept_with_its_buffer(frame: Frame) -> Frame {
    const BUFFER_SIZE: usize = 256 << 10;
    if !mutants::on(Mutant::ContentsKeepTheirBuffer) || !(1..BUFFER_SIZE).contains(&frame.tail.len()) {
        return frame;
    }
    let mut buffer = vec![1; BUFFER_SIZE];
    buffer[..frame.tail.len()].copy_from_slice(&frame.tail);
    Frame { tail: Bytes::from(buffer).slice(..frame.tail.len()), ..frame }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::frame::OutFrame;
    use queue_protocol::wire::io::{Outbox, READ_SIZE};
    use queue_protocol::wire::request::{Call, Request};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::server::budget::Budget;

    fn bytes(size: usize) -> Vec<u8> {
        let call = Call::new(None, 1, Request::Status);
        let frame = OutFrame::new(1, &call, vec![vec![7; size].into()]);
        let mut outbox = Outbox::new();
        outbox.push(&frame).expect("it fits a frame");
        let mut bytes = Vec::new();
        let written = outbox.write_to(&mut bytes);
        futures_util::FutureExt::now_or_never(written).expect("memory takes all").expect("it never fails");
        bytes
    }

    fn input(budget: &Arc<Budget>, connection: u64) -> (DuplexStream, Input<DuplexStream>) {
        let (near, far) = duplex(16 << 20);
        let mut reader = FrameReader::new(far);
        reader.open();
        (near, Input::new(reader, budget.share(connection)))
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_input_that_comes_too_slowly_ends() {
        let budget = Budget::new(64 << 20);
        let (mut near, mut input) = input(&budget, 1);
        near.write_all(&bytes(1 << 20)[..40_000]).await.expect("there is room");
        let began = Instant::now();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if near.write_all(&[7; 90]).await.is_err() {
                    return;
                }
            }
        };
        let ended = tokio::select! {
            ended = input.next() => ended,
            () = drip => panic!("it drips for ever"),
        };
        assert!(matches!(ended, Err(CodecError::Frame(FrameError::Slow))), "{ended:?}");
        // The first window began with 40,000 bytes at once.
        assert!(
            (PACE_WINDOW..=2 * PACE_WINDOW + REST_AFTER).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_counts_in_which_it_is_read() {
        let budget = Budget::new(64 << 20);
        let (mut near, mut input) = input(&budget, 1);
        let bytes = bytes(1 << 20);
        near.write_all(&bytes[..40_000]).await.expect("there is room");
        for _ in 0..100 {
            // Cancelled each time, as when a connection has no room for requests.
            assert!(tokio::time::timeout(Duration::from_millis(100), input.next()).await.is_err());
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        near.write_all(&bytes[40_000..]).await.expect("there is room");
        let frame = input.next().await.expect("it is not slow").expect("it is whole");
        assert_eq!(frame.tail.len(), 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_between_requests_holds_nothing() {
        let budget = Budget::new(64 << 20);
        let (mut near, mut input) = input(&budget, 1);
        for size in [1, 1_000, 100_000, 3_000_000, 10] {
            near.write_all(&bytes(size)).await.expect("there is room");
            assert_eq!(input.next().await.expect("a frame").expect("a frame").tail.len(), size);
            let idle = tokio::time::timeout(Duration::from_secs(3_600), input.next()).await;
            assert!(idle.is_err(), "{idle:?}");
            assert_eq!((input.held(), input.charged), (0, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_and_frames_are_charged_while_they_are_unfinished() {
        let budget = Budget::new(64 << 20);
        let (mut near, mut input) = input(&budget, 1);
        let call = Call::new(None, 1, Request::Status);
        let frame = OutFrame::new(1, &call, vec![vec![7; 1 << 20].into()]);
        let pieces = frame.cut(200_000);
        let mut outbox = Outbox::new();
        pieces[..pieces.len() - 1].iter().for_each(|piece| outbox.push(piece).expect("it fits"));
        outbox.write_to(&mut near).await.expect("there is room");
        assert!(tokio::time::timeout(Duration::from_secs(5), input.next()).await.is_err());
        assert!(input.charged >= 1_000_000 - REST_SIZE, "{} bytes", input.charged);
        near.write_all(&bytes(8 << 20)[..4 << 20]).await.expect("there is room");
        assert!(tokio::time::timeout(Duration::from_secs(5), input.next()).await.is_err());
        let held = 1_000_000 + (4 << 20);
        assert!((held - REST_SIZE..held + READ_SIZE).contains(&input.charged), "{} bytes", input.charged);
        drop(input);
        assert!(budget.share(2).request(30 << 20).is_some(), "all was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_memory_is_not_read() {
        let budget = Budget::new(64 << 20);
        let other = budget.share(2);
        let charge = other.request(31 << 20).expect("there is room");
        let more = other.request(60 << 20);
        assert!(more.is_none());
        let (mut near, mut input) = input(&budget, 1);
        near.write_all(&bytes(8 << 20)).await.expect("there is room");
        let third = budget.share(3);
        let rest = third.request(16 << 20).expect("there is room");
        let waits = tokio::time::timeout(Duration::from_secs(20), input.next()).await;
        assert!(waits.is_err(), "{waits:?}");
        assert!(input.reader.unfinished() < 4 << 20, "{} bytes", input.reader.unfinished());
        drop((charge, rest));
        assert_eq!(input.next().await.expect("a frame").expect("a frame").tail.len(), 8 << 20);
    }
}

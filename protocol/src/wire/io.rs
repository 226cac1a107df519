//! Frames over a socket: [`FrameReader`] hands out frames in memory of their own, [`Outbox`] collects what is to be sent
//! and writes it with one vectored write a wake-up, without copying bodies.
//!
//! What a frame holds outlives its read: in the log's tail, in a request that waits. So a small frame is copied out of
//! the buffer, which is used again; a large one gets a buffer of its size, and is read into it. A buffer that is mostly
//! bodies is given away to its frames instead, which then share it, as far as a [`Lender`] allows. A reader at rest has no
//! buffer at all.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::limits::{FRAME_HEADER_SIZE, HELLO_FRAME_SIZE_MAX};
use crate::wire::codec::{CodecError, FrameCodec, FrameLimits};
use crate::wire::frame::{self, Flags, Frame, FrameError, Message, OutFrame};
use crate::wire::lent::Lender;

/// Room for one read of a connection that is busy; a frame larger than this has a buffer of its own.
pub const READ_SIZE: usize = 64 << 10;
/// Room for one read of a connection at rest. It is on the stack: whoever waits holds nothing.
pub const REST_SIZE: usize = 4 << 10;
/// Room made at a time for a large frame that is arriving.
pub const RESERVE_STEP: usize = 256 << 10;
/// A read that fills its room gets so many times as much the next time.
const GROWTH: usize = 4;
/// Pieces up to this size are copied behind their head: an entry of its own in the vector costs more.
const COPY_SIZE_MAX: usize = 512;
/// Room made at once for small pieces, at most.
const OUTBOX_ROOM_MAX: usize = 64 << 10;
/// Room that an empty outbox keeps.
const KEPT_SIZE_MAX: usize = 1 << 10;
/// Pieces that it keeps room for.
const KEPT_RUNS_MAX: usize = 16;
/// Pieces handed to one write.
const SLICES_MAX: usize = 256;

const _: () = assert!(REST_SIZE >= HELLO_FRAME_SIZE_MAX && READ_SIZE > REST_SIZE);

/// Reads frames. Begins with the limits of the hello; [`FrameReader::open`] lifts them.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    codec: FrameCodec,
    buffer: Vec<u8>,
    /// Where in the buffer the first byte is that was not handed out.
    start: usize,
    /// Room for the next read, as long as no large frame is arriving.
    room: usize,
    room_max: usize,
    lender: Option<Arc<Lender>>,
    /// Whole frames that share the buffer they were read into.
    shared: Bytes,
    /// Nothing of the buffer was handed out since the last read.
    fresh: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader in the phase of the hello.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            codec: FrameCodec::default(),
            buffer: Vec::new(),
            start: 0,
            room: REST_SIZE,
            room_max: REST_SIZE,
            lender: None,
            shared: Bytes::new(),
            fresh: false,
        }
    }

    /// A reader in the phase of the hello, of a stream from which `bytes` were read already.
    pub fn after(bytes: &[u8], stream: R) -> Self {
        Self { buffer: bytes.to_vec(), ..Self::new(stream) }
    }

    /// The hello is done: frames of full size from now on.
    pub fn open(&mut self) {
        self.codec.set_limits(FrameLimits::OPEN);
        self.room_max = READ_SIZE;
    }

    /// Frames may share the buffer they were read into, as far as `lender` allows.
    pub fn lend_by(&mut self, lender: Arc<Lender>) {
        self.lender = Some(lender);
    }

    /// Makes the whole frames of a buffer its owners, if at least half of its memory is bodies.
    fn share(&mut self) {
        let Some(lender) =
            self.lender.as_ref().filter(|_| (REST_SIZE..=READ_SIZE).contains(&self.buffer.capacity()))
        else {
            return;
        };
        let (mut end, mut bodies) = (self.start, 0);
        // What is wrong is told when it is taken.
        while let Ok(Some(size)) = self.codec.whole_size(&self.buffer[end..]) {
            bodies += frame::claimed_tail_size(&self.buffer[end..end + size]);
            end += size;
        }
        if bodies < self.buffer.capacity() / 2 {
            return;
        }
        let mut next = Vec::with_capacity(self.buffer.capacity());
        next.extend_from_slice(&self.buffer[end..]);
        match lender.lend(mem::take(&mut self.buffer)) {
            Ok(lent) => {
                self.shared = lent.slice(self.start..end);
                (self.buffer, self.start) = (next, 0);
            }
            Err(buffer) => self.buffer = buffer,
        }
    }

    /// The next frame that is in the buffer already; never waits.
    ///
    /// # Errors
    /// [`CodecError::Frame`]; the stream cannot be read on.
    pub fn next_buffered(&mut self) -> Result<Option<Frame>, CodecError> {
        if mem::take(&mut self.fresh) {
            self.share();
        }
        if let Some(size) = self.codec.whole_size(&self.shared)? {
            return Ok(Some(frame::decode_shared(self.shared.split_to(size))?));
        }
        let kept = &self.buffer[self.start..];
        let Some(size) = self.codec.whole_size(kept)? else { return Ok(None) };
        if size > READ_SIZE && self.buffer.len() == size && self.buffer.capacity() == size {
            // Read into a buffer of its size: that becomes the frame's.
            return Ok(Some(frame::decode(mem::take(&mut self.buffer).into())?));
        }
        let frame = frame::decode_copied(&kept[..size])?;
        self.start += size;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(Some(frame))
    }

    /// The next frame; `None` at the end of the stream between two frames. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// [`CodecError`]; the stream cannot be read on.
    pub async fn next(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            if let Some(frame) = self.next_buffered()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads once, when no whole frame is buffered; `false` at the end of the stream between two frames. With
    /// [`FrameReader::next_buffered`] and [`FrameReader::wanted`] this is [`FrameReader::next`] for who grants memory
    /// before a frame arrives. Safe to cancel.
    ///
    /// # Errors
    /// [`CodecError`]; the stream cannot be read on.
    pub async fn fill(&mut self) -> Result<bool, CodecError> {
        debug_assert!(self.shared.is_empty(), "it is read on before all whole frames are taken");
        let (read, room) = if self.buffer.capacity() == 0 {
            (poll_fn(|context| self.poll_at_rest(context)).await?, REST_SIZE)
        } else {
            self.make_room();
            // Never beyond what was granted, and never beyond the end of a large frame.
            let room = self.buffer.capacity() - self.buffer.len();
            (self.stream.read_buf(&mut (&mut self.buffer).limit(room)).await?, room)
        };
        if read == room {
            self.room = (self.room * GROWTH).min(self.room_max);
        }
        if read > 0 {
            self.fresh = true;
            return Ok(true);
        }
        if self.buffer.is_empty() { Ok(false) } else { Err(FrameError::Truncated.into()) }
    }

    /// Reads to the stack; a buffer is made for what came.
    fn poll_at_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); REST_SIZE];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Makes the room that [`FrameReader::wanted`] told of.
    fn make_room(&mut self) {
        let capacity = self.next_capacity();
        if self.incoming_size() > READ_SIZE {
            // Behind a large frame there is another one: of that the head is read first, the rest to its place.
            self.room = REST_SIZE;
        }
        if capacity != self.buffer.capacity() {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.extend_from_slice(&self.buffer[self.start..]);
            self.buffer = buffer;
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
    }

    /// The size of the buffer for the next read. Room is made as bytes come, not on a claim alone.
    fn next_capacity(&self) -> usize {
        let (kept, capacity, incoming) = (self.unfinished(), self.buffer.capacity(), self.incoming_size());
        if kept < REST_SIZE {
            return capacity.clamp(self.room, READ_SIZE);
        }
        if incoming <= READ_SIZE {
            return capacity.clamp(self.room.max(incoming), READ_SIZE);
        }
        let own = self.start == 0 && (capacity == incoming || capacity > READ_SIZE);
        if own && capacity > kept { capacity } else { (2 * kept).max(kept + RESERVE_STEP).min(incoming) }
    }

    /// Bytes that the next [`FrameReader::fill`] allocates beyond what is held.
    pub fn wanted(&self) -> usize {
        match self.buffer.capacity() {
            0 => REST_SIZE,
            capacity => self.next_capacity().saturating_sub(capacity),
        }
    }

    /// Gives back what an unfinished frame does not need: for who has read nothing for a while.
    pub fn rest(&mut self) {
        self.buffer = self.buffer[self.start..].to_vec();
        self.start = 0;
        self.room = REST_SIZE;
    }

    /// Size, head included, of the frame that is arriving, as it claims and within the limits; 0 if none is.
    pub fn incoming_size(&self) -> usize {
        self.codec.incoming_size(&self.buffer[self.start..])
    }

    /// Bytes that were read and not handed out.
    pub fn unfinished(&self) -> usize {
        self.shared.len() + self.buffer.len() - self.start
    }

    /// Bytes allocated for them, without those of a [`Lender`].
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Frames to be written, encoded. Heads, headers and small pieces are copied into shared runs; larger pieces are
/// kept as they came.
#[derive(Debug, Default)]
pub struct Outbox {
    runs: VecDeque<Bytes>,
    /// Small pieces behind the runs.
    small: BytesMut,
    /// So much of them is written.
    small_written: usize,
    /// Runs were made of the memory of `small` since all was written.
    sealed: bool,
    size: usize,
    /// Room for small pieces that the last write needed.
    room: usize,
    /// All may be written, and the stream (TLS) may hold some of it back.
    flushing: bool,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes not yet written.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Nothing is left to write or to flush.
    pub fn is_empty(&self) -> bool {
        self.size == 0 && !self.flushing
    }

    /// Appends a frame that carries `message`; the cheapest way, as the header is encoded in its place.
    ///
    /// # Errors
    /// [`FrameError::TooBig`] if header or tail exceed their limits; nothing was appended.
    pub fn push_message<M: Message>(
        &mut self,
        request_id: u64,
        message: &M,
        tail: &[Bytes],
    ) -> Result<(), FrameError> {
        self.make_room();
        let begin = self.small.len();
        self.small.extend_from_slice(&[0; FRAME_HEADER_SIZE]);
        frame::encode_message(message, &mut self.small);
        let (head, header) = self.small[begin..].split_at_mut(FRAME_HEADER_SIZE);
        match frame::encode_head(request_id, M::KIND, Flags::NONE, header, tail) {
            Ok(encoded) => head.copy_from_slice(&encoded),
            Err(error) => {
                self.small.truncate(begin);
                return Err(error);
            }
        }
        self.size += self.small.len() - begin;
        self.push_tail(tail);
        Ok(())
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// As [`Outbox::push_message`].
    pub fn push(&mut self, frame: &OutFrame) -> Result<(), FrameError> {
        let head = frame::encode_head(frame.request_id, frame.kind, frame.flags, &frame.header, &frame.tail)?;
        self.make_room();
        self.small.extend_from_slice(&head);
        self.size += head.len();
        self.push_piece(&frame.header);
        self.push_tail(&frame.tail);
        Ok(())
    }

    fn push_tail(&mut self, tail: &[Bytes]) {
        for piece in tail {
            self.push_piece(piece);
        }
    }

    fn push_piece(&mut self, piece: &Bytes) {
        self.size += piece.len();
        if piece.len() <= COPY_SIZE_MAX {
            self.small.extend_from_slice(piece);
        } else {
            self.seal();
            self.runs.push_back(piece.clone());
        }
    }

    fn make_room(&mut self) {
        if self.small.capacity() == 0 {
            self.small.reserve(self.room);
        }
    }

    /// Makes the small pieces a run of its own.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.room = self.small.len().min(OUTBOX_ROOM_MAX);
            let mut run = self.small.split().freeze();
            run.advance(mem::take(&mut self.small_written));
            self.runs.push_back(run);
            self.sealed = true;
        }
    }

    /// Writes everything, as few times as the stream allows, and flushes. If it is cancelled, what is left can be
    /// written on.
    ///
    /// # Errors
    /// The stream's.
    pub async fn write_to<W: AsyncWrite + Unpin>(&mut self, stream: &mut W) -> io::Result<()> {
        self.flushing = true;
        while self.size > 0 {
            let written = poll_fn(|context| {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let small = &self.small[self.small_written..];
                let pieces = self.runs.iter().map(|run| &run[..]).chain((!small.is_empty()).then_some(small));
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                Pin::new(&mut *stream).poll_write_vectored(context, &slices[..count])
            })
            .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        self.give_back();
        stream.flush().await?;
        self.flushing = false;
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.size -= written;
        while let Some(run) = self.runs.front_mut() {
            if written < run.len() {
                run.advance(written);
                return;
            }
            written -= run.len();
            self.runs.pop_front();
        }
        self.small_written += written;
    }

    /// All is written. Until there is something to write again no more memory is kept than a few answers need.
    fn give_back(&mut self) {
        if self.runs.capacity() > KEPT_RUNS_MAX {
            self.runs = VecDeque::new();
        }
        if !self.small.is_empty() {
            self.room = self.small.len().min(OUTBOX_ROOM_MAX);
        }
        if self.sealed || self.small.capacity() > KEPT_SIZE_MAX {
            self.small = BytesMut::new();
        }
        self.small.clear();
        (self.small_written, self.sealed) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything, and holds it back until it is flushed for the second time.
    struct Holding {
        flushes: u32,
    }

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes > 1 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_a_stream_holds_back_is_not_forgotten_when_the_write_is_cancelled() {
        let (mut outbox, mut stream) = (Outbox::new(), Holding { flushes: 0 });
        let mut context = Context::from_waker(std::task::Waker::noop());
        outbox.push(&OutFrame::bare(1, frame::FrameKind::Ping)).expect("it fits");
        assert!(std::pin::pin!(outbox.write_to(&mut stream)).poll(&mut context).is_pending());
        assert!(outbox.size() == 0 && !outbox.is_empty());
        assert!(std::pin::pin!(outbox.write_to(&mut stream)).poll(&mut context).is_ready());
        assert!(outbox.is_empty());
    }
}

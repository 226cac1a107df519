//! Frames over a socket: [`FrameReader`] reads 256 KiB at a time and hands out slices, [`Outbox`] collects what is to
//! be sent and writes it with one vectored write a wake-up, without copying bodies.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::Decoder;

use crate::codec::{CodecError, FrameCodec, FrameLimits};
use crate::frame::{self, Flags, Frame, FrameError, Message, OutFrame};
use crate::limits::{FRAME_HEADER_SIZE, HELLO_FRAME_SIZE_MAX};

/// Room for one read of an open connection.
pub const READ_SIZE: usize = 256 << 10;
/// A read goes on in the room left by the last one while it is at least this.
const READ_SIZE_MIN: usize = 64 << 10;
/// Pieces up to this size are copied behind their head: an entry of its own in the vector costs more.
const COPY_SIZE_MAX: usize = 512;
/// Pieces handed to one write.
const SLICES_MAX: usize = 256;

/// Reads frames. Begins with the limits of the hello; [`FrameReader::open`] lifts them.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    codec: FrameCodec,
    buffer: BytesMut,
    read_size: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader in the phase of the hello.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            codec: FrameCodec::default(),
            buffer: BytesMut::new(),
            read_size: HELLO_FRAME_SIZE_MAX,
        }
    }

    /// The hello is done: frames of full size from now on.
    pub fn open(&mut self) {
        self.codec.set_limits(FrameLimits::OPEN);
        self.read_size = READ_SIZE;
    }

    /// The next frame that is in the buffer already; never waits.
    ///
    /// # Errors
    /// [`CodecError::Frame`]; the stream cannot be read on.
    pub fn next_buffered(&mut self) -> Result<Option<Frame>, CodecError> {
        if self.buffer.is_empty() { Ok(None) } else { self.codec.decode(&mut self.buffer) }
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

    /// Reads once, when no whole frame is buffered; `false` at the end of the stream between two frames. With [`FrameReader::next_buffered`] and
    /// [`FrameReader::incoming_size`] this is [`FrameReader::next`] for who grants memory before a frame arrives. Safe
    /// to cancel.
    ///
    /// # Errors
    /// [`CodecError`]; the stream cannot be read on.
    pub async fn fill(&mut self) -> Result<bool, CodecError> {
        if self.buffer.capacity() - self.buffer.len() < READ_SIZE_MIN.min(self.read_size) {
            self.buffer.reserve(self.read_size);
        }
        if self.stream.read_buf(&mut self.buffer).await? > 0 {
            return Ok(true);
        }
        if self.buffer.is_empty() { Ok(false) } else { Err(FrameError::Truncated.into()) }
    }

    /// Size, head included, of the frame that is arriving, as it claims and within the limits; 0 if none is.
    pub fn incoming_size(&self) -> usize {
        self.codec.incoming_size(&self.buffer)
    }

    /// Bytes allocated for frames that are not complete.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Frames to be written, encoded. Heads, headers and small pieces are copied into shared runs; larger pieces are
/// kept as they came.
#[derive(Debug, Default)]
pub struct Outbox {
    runs: VecDeque<Bytes>,
    small: BytesMut,
    size: usize,
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

    /// Nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.size == 0
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

    /// Moves the run of small pieces behind the others.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.runs.push_back(self.small.split().freeze());
        }
    }

    /// Writes everything, as few times as the stream allows, and flushes. If it is cancelled, what is left can be
    /// written on.
    ///
    /// # Errors
    /// The stream's.
    pub async fn write_to<W: AsyncWrite + Unpin>(&mut self, stream: &mut W) -> io::Result<()> {
        self.seal();
        while !self.runs.is_empty() {
            let written = poll_fn(|context| {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = slices.len().min(self.runs.len());
                for (slice, run) in slices.iter_mut().zip(&self.runs) {
                    *slice = IoSlice::new(run);
                }
                Pin::new(&mut *stream).poll_write_vectored(context, &slices[..count])
            })
            .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        stream.flush().await
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
    }
}

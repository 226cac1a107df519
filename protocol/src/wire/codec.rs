//! Frames out of a byte stream and into it, for `tokio_util::codec`. Nothing is allocated on a peer's word:
//! a claim is checked as soon as its four bytes are there, and room is made only as bytes arrive. A frame that is handed
//! out keeps no more memory than it says that it holds, whatever else was read with it.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::limits::{FRAME_HEADER_SIZE, HEADER_SIZE_MAX, HELLO_FRAME_SIZE_MAX, TAIL_SIZE_MAX};
use crate::wire::frame::{self, Frame, FrameError, OutFrame, SIZE_FIELD_SIZE, SIZE_MIN};

/// What a connection accepts in its present phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// A whole frame, its head included.
    pub frame_size_max: usize,
    /// The postcard part.
    pub header_size_max: usize,
    /// The raw part.
    pub tail_size_max: usize,
}

impl FrameLimits {
    /// Before the hello is accepted.
    pub const HELLO: FrameLimits = FrameLimits {
        frame_size_max: HELLO_FRAME_SIZE_MAX,
        header_size_max: HELLO_FRAME_SIZE_MAX - FRAME_HEADER_SIZE,
        tail_size_max: 0,
    };
    /// After.
    pub const OPEN: FrameLimits = FrameLimits {
        frame_size_max: FRAME_HEADER_SIZE + HEADER_SIZE_MAX + TAIL_SIZE_MAX,
        header_size_max: HEADER_SIZE_MAX,
        tail_size_max: TAIL_SIZE_MAX,
    };
}

/// Why the stream cannot be read on. There is no way to find the next frame behind a bad one.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Decodes and encodes frames. Begins with the limits of the hello.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    limits: FrameLimits,
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self { limits: FrameLimits::HELLO }
    }
}

impl FrameCodec {
    /// From the next frame on `limits` hold; frames that were decoded before are not looked at again.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Size, head included, of the frame that begins `src`, as it claims; 0 if it does not say or is refused.
    pub fn incoming_size(&self, src: &[u8]) -> usize {
        self.frame_size(src).ok().flatten().unwrap_or(0)
    }

    /// The size of the frame that begins `src`, head included, if it is all there.
    pub(crate) fn whole_size(&self, src: &[u8]) -> Result<Option<usize>, FrameError> {
        Ok(self.frame_size(src)?.filter(|size| src.len() >= *size))
    }

    /// The size of the frame that begins `src`, head included; `None` while the size field is incomplete.
    fn frame_size(&self, src: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(field) = src.first_chunk::<SIZE_FIELD_SIZE>() else { return Ok(None) };
        let size = u32::from_le_bytes(*field);
        if (size as usize) < SIZE_MIN {
            return Err(FrameError::TooSmall { size });
        }
        let frame_size = SIZE_FIELD_SIZE + size as usize;
        if frame_size > self.limits.frame_size_max {
            return Err(FrameError::TooBig { size: frame_size as u64, max: self.limits.frame_size_max });
        }
        let Some(head) = src.first_chunk::<FRAME_HEADER_SIZE>() else { return Ok(Some(frame_size)) };
        let header_size = frame::claimed_header_size(head);
        let Some(tail_size) = (frame_size - FRAME_HEADER_SIZE).checked_sub(header_size as usize) else {
            return Err(FrameError::HeaderSize { header_size, size });
        };
        if header_size as usize > self.limits.header_size_max {
            return Err(FrameError::TooBig { size: header_size.into(), max: self.limits.header_size_max });
        }
        if tail_size > self.limits.tail_size_max {
            return Err(FrameError::TooBig { size: tail_size as u64, max: self.limits.tail_size_max });
        }
        Ok(Some(frame_size))
    }
}

/// Every frame is copied out of `src`. `FrameReader` spares that for large ones.
impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        match self.whole_size(src)? {
            Some(size) => {
                let frame = frame::decode_copied(&src[..size])?;
                src.advance(size);
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        match self.decode(src)? {
            Some(frame) => Ok(Some(frame)),
            None if src.is_empty() => Ok(None),
            None => Err(FrameError::Truncated.into()),
        }
    }
}

impl Encoder<&OutFrame> for FrameCodec {
    type Error = CodecError;

    /// Copies the tail: for tests and small frames. `Outbox` sends without copying.
    fn encode(&mut self, frame: &OutFrame, dst: &mut BytesMut) -> Result<(), CodecError> {
        let head = frame::encode_head(frame.request_id, frame.kind, frame.flags, &frame.header, &frame.tail)?;
        dst.reserve(frame.size());
        dst.put_slice(&head);
        dst.put_slice(&frame.header);
        for piece in &frame.tail {
            dst.put_slice(piece);
        }
        Ok(())
    }
}

//! The unit on the wire: a fixed head, a postcard header, and a tail of raw bytes.
//!
//! All integers are little-endian. `size` counts what follows it and not itself; the checksum covers the
//! size field and all that follows the checksum, so no bit of a frame is outside it.
//!
//! | offset | size | field | meaning |
//! |---|---|---|---|
//! | 0 | 4 | size | bytes after this field: 20 + header + tail |
//! | 4 | 4 | crc32c | of bytes 0..4 and of all from byte 8 on |
//! | 8 | 8 | request_id | chosen by the asking side, unique among its open requests; 0 where nothing is asked |
//! | 16 | 4 | header_size | bytes of the header |
//! | 20 | 1 | kind | [`FrameKind`] |
//! | 21 | 1 | flags | [`Flags`] |
//! | 22 | 2 | zero | 0 |
//! | 24 | header_size | header | one postcard message, all of it |
//! | 24 + header_size | the rest | tail | contents, one after the other |

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorCode};
use crate::limits::{FRAME_HEADER_SIZE, HEADER_SIZE_MAX, HELLO_FRAME_SIZE_MAX, TAIL_SIZE_MAX};
use crate::wire::peer::{PeerCall, PeerResponse};
use crate::wire::request::Call;
use crate::wire::response::Response;

/// The size field itself, which `size` does not count.
pub const SIZE_FIELD_SIZE: usize = 4;
/// Smallest value of the size field: a frame that is only a head.
pub const SIZE_MIN: usize = FRAME_HEADER_SIZE - SIZE_FIELD_SIZE;

const CRC_AT: usize = 4;
const REQUEST_ID_AT: usize = 8;
const HEADER_SIZE_AT: usize = 16;
const KIND_AT: usize = 20;
const FLAGS_AT: usize = 21;
const ZERO_AT: usize = 22;

const _: () = assert!(CRC_AT == SIZE_FIELD_SIZE);
const _: () = assert!(REQUEST_ID_AT == CRC_AT + size_of::<u32>());
const _: () = assert!(HEADER_SIZE_AT == REQUEST_ID_AT + size_of::<u64>());
const _: () = assert!(KIND_AT == HEADER_SIZE_AT + size_of::<u32>());
const _: () = assert!(FLAGS_AT == KIND_AT + 1 && ZERO_AT == FLAGS_AT + 1);
const _: () = assert!(FRAME_HEADER_SIZE == ZERO_AT + size_of::<u16>());
const _: () = assert!(SIZE_MIN + HEADER_SIZE_MAX + TAIL_SIZE_MAX < u32::MAX as usize);
const _: () = assert!(HELLO_FRAME_SIZE_MAX > FRAME_HEADER_SIZE);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A step of the handshake; header: [`crate::wire::hello::HelloMessage`].
    Hello = 1,
    /// A client asks; header: [`Call`].
    Request = 2,
    /// A node answers a client; header: [`Response`].
    Response = 3,
    /// A node asks another; header: [`PeerCall`].
    PeerRequest = 4,
    /// A node answers another; header: [`PeerResponse`].
    PeerResponse = 5,
    /// Are you there; either side, answered by a pong of the same request id. Empty.
    Ping = 6,
    /// Answer to a ping. Empty.
    Pong = 7,
    /// The sender takes no new requests and closes when the open ones are answered; header: [`Goodbye`].
    Goodbye = 8,
    /// The client no longer waits for this request id: a lease that is parked need not be kept. Empty, unanswered.
    Cancel = 9,
}

impl FrameKind {
    /// All of them.
    pub const ALL: &[FrameKind] = &[
        FrameKind::Hello,
        FrameKind::Request,
        FrameKind::Response,
        FrameKind::PeerRequest,
        FrameKind::PeerResponse,
        FrameKind::Ping,
        FrameKind::Pong,
        FrameKind::Goodbye,
        FrameKind::Cancel,
    ];

    /// The kind of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u8 == number)
    }

    /// Such a frame is nothing but a head.
    fn is_bare(self) -> bool {
        matches!(self, Self::Ping | Self::Pong | Self::Cancel)
    }

    /// Such a frame may have a tail, and may be sent in pieces.
    fn has_tail(self) -> bool {
        matches!(self, Self::Request | Self::Response | Self::PeerRequest | Self::PeerResponse)
    }
}

/// Bits that qualify a frame. Bits without a meaning are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// Bit 0: more frames of this request id follow; their tails belong behind this one's. Only the first has a header.
    pub const MORE: Flags = Flags(1);

    const KNOWN: u8 = Self::MORE.0;

    /// The bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The flags of `bits`; `None` if one has no meaning.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits & !Self::KNOWN == 0).then_some(Self(bits))
    }

    /// More frames of this request id follow.
    pub fn more(self) -> bool {
        self.0 & Self::MORE.0 != 0
    }
}

/// A frame. As it was received it has memory of its own, at most twice what its tail holds; as it is sent its tail is a
/// list of pieces that are never copied together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<T = Bytes> {
    /// Chosen by the asking side; 0 where nothing is asked.
    pub request_id: u64,
    /// What it is.
    pub kind: FrameKind,
    /// How it is sent.
    pub flags: Flags,
    /// One postcard message, or nothing.
    pub header: Bytes,
    /// Contents, one after the other.
    pub tail: T,
}

/// A frame to send.
pub type OutFrame = Frame<Vec<Bytes>>;

/// A type that travels as the header of one kind of frame. A connection decodes only the types of its role.
pub trait Message: Serialize + DeserializeOwned {
    /// The kind of frame that carries it.
    const KIND: FrameKind;
}

impl Message for Call {
    const KIND: FrameKind = FrameKind::Request;
}
impl Message for Response {
    const KIND: FrameKind = FrameKind::Response;
}
impl Message for PeerCall {
    const KIND: FrameKind = FrameKind::PeerRequest;
}
impl Message for PeerResponse {
    const KIND: FrameKind = FrameKind::PeerResponse;
}
impl Message for Goodbye {
    const KIND: FrameKind = FrameKind::Goodbye;
}

/// Why a side leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Goodbye {
    /// `None` in good order; else what the other side did wrong, or that this one is stopping.
    pub reason: Option<Error>,
}

/// Why bytes are not a frame, or a frame is not the message it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The size field exceeds what this phase of the connection allows.
    #[error("a frame of {size} bytes exceeds the limit of {max}")]
    TooBig {
        /// What it claims, or holds.
        size: u64,
        /// What may be.
        max: usize,
    },
    /// The size field is smaller than a head.
    #[error("a frame of {size} bytes is smaller than its head")]
    TooSmall {
        /// What it claims.
        size: u32,
    },
    /// The bytes changed on their way.
    #[error("the frame's checksum does not match")]
    Checksum,
    /// The header is larger than the frame.
    #[error("a header of {header_size} bytes does not fit its frame of {size}")]
    HeaderSize {
        /// The header's claim.
        header_size: u32,
        /// The frame's.
        size: u32,
    },
    /// No such kind.
    #[error("no frame is of kind {0}")]
    Kind(u8),
    /// A flag without meaning, or on a kind that has none.
    #[error("flags {0:#04x} have no meaning here")]
    Flags(u8),
    /// The reserved field is not zero.
    #[error("the reserved field is {0:#06x} instead of zero")]
    Zero(u16),
    /// A kind without header or tail has one.
    #[error("a {0:?} frame holds more than it may")]
    NotEmpty(FrameKind),
    /// The kind is valid but not expected here.
    #[error("a {got:?} frame came where {expected:?} was expected")]
    Unexpected {
        /// What was expected.
        expected: FrameKind,
        /// What came.
        got: FrameKind,
    },
    /// The header does not decode, or a value in it exceeds its bound.
    #[error("the header of a {0:?} frame does not decode")]
    Message(FrameKind),
    /// Bytes are left behind the header's message.
    #[error("{0} bytes are left behind the message")]
    Trailing(usize),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// Pieces of one request id do not belong together.
    #[error("the pieces of a frame do not belong together")]
    Pieces,
    /// The receiver has no memory for what is unfinished.
    #[error("there is no memory for a request that is unfinished")]
    NotGranted,
    /// What is unfinished comes too slowly.
    #[error("an unfinished request came more slowly than 1 KiB a second")]
    Slow,
}

impl FrameError {
    /// What the other side is told before the connection closes.
    pub fn to_wire(self) -> Error {
        match self {
            Self::NotGranted => Error::again(ErrorCode::Overloaded, self.to_string()),
            _ => Error::refused(ErrorCode::BadFrame, self.to_string()),
        }
    }
}

/// The head of a frame whose header and tail pieces are given.
///
/// # Errors
/// [`FrameError::TooBig`] if header or tail exceed their limits.
pub(crate) fn encode_head(
    request_id: u64,
    kind: FrameKind,
    flags: Flags,
    header: &[u8],
    tail: &[Bytes],
) -> Result<[u8; FRAME_HEADER_SIZE], FrameError> {
    let tail_size = size_of_pieces(tail);
    if header.len() > HEADER_SIZE_MAX {
        return Err(FrameError::TooBig { size: header.len() as u64, max: HEADER_SIZE_MAX });
    }
    if tail_size > TAIL_SIZE_MAX {
        return Err(FrameError::TooBig { size: tail_size as u64, max: TAIL_SIZE_MAX });
    }
    let size = u32::try_from(SIZE_MIN + header.len() + tail_size).expect("header and tail are within limits");
    let header_size = u32::try_from(header.len()).expect("the header is within its limit");
    let mut head = [0; FRAME_HEADER_SIZE];
    head[..CRC_AT].copy_from_slice(&size.to_le_bytes());
    head[REQUEST_ID_AT..HEADER_SIZE_AT].copy_from_slice(&request_id.to_le_bytes());
    head[HEADER_SIZE_AT..KIND_AT].copy_from_slice(&header_size.to_le_bytes());
    head[KIND_AT] = kind as u8;
    head[FLAGS_AT] = flags.bits();
    let mut crc = crc32c::crc32c(&head[..CRC_AT]);
    crc = crc32c::crc32c_append(crc, &head[REQUEST_ID_AT..]);
    crc = crc32c::crc32c_append(crc, header);
    for piece in tail {
        crc = crc32c::crc32c_append(crc, piece);
    }
    head[CRC_AT..REQUEST_ID_AT].copy_from_slice(&crc.to_le_bytes());
    Ok(head)
}

/// What the head of a whole frame says.
struct Head {
    request_id: u64,
    kind: FrameKind,
    flags: Flags,
    header_size: usize,
}

/// Checks a whole frame, head included.
fn check(whole: &[u8]) -> Result<Head, FrameError> {
    if whole.len() < FRAME_HEADER_SIZE {
        return Err(FrameError::Truncated);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&whole[..CRC_AT]), &whole[REQUEST_ID_AT..]);
    let mut bytes = whole;
    let size = bytes.get_u32_le();
    if crc != bytes.get_u32_le() || size as usize != (REQUEST_ID_AT - CRC_AT) + bytes.len() {
        return Err(FrameError::Checksum);
    }
    let request_id = bytes.get_u64_le();
    let header_size = bytes.get_u32_le();
    let kind = bytes.get_u8();
    let flags = bytes.get_u8();
    let zero = bytes.get_u16_le();
    let kind = FrameKind::from_number(kind).ok_or(FrameError::Kind(kind))?;
    let flags = Flags::from_bits(flags).ok_or(FrameError::Flags(flags))?;
    if zero != 0 {
        return Err(FrameError::Zero(zero));
    }
    let Some(tail_size) = bytes.len().checked_sub(header_size as usize) else {
        return Err(FrameError::HeaderSize { header_size, size });
    };
    if flags != Flags::NONE && !kind.has_tail() {
        return Err(FrameError::Flags(flags.bits()));
    }
    if (kind.is_bare() && header_size > 0) || (!kind.has_tail() && tail_size > 0) {
        return Err(FrameError::NotEmpty(kind));
    }
    Ok(Head { request_id, kind, flags, header_size: header_size as usize })
}

/// Takes a whole frame, head included, apart. Its tail stays where it is if it is most of the frame.
///
/// # Errors
/// [`FrameError`] for everything that is not exactly one frame.
#[cfg(feature = "client")]
pub(crate) fn decode(bytes: Bytes) -> Result<Frame, FrameError> {
    let Frame { request_id, kind, flags, header, tail } = decode_shared(bytes)?;
    let is_most = tail.len() >= FRAME_HEADER_SIZE + header.len();
    let tail = if is_most { tail } else { Bytes::copy_from_slice(&tail) };
    Ok(Frame { request_id, kind, flags, header: Bytes::copy_from_slice(&header), tail })
}

/// Takes a whole frame, head included, apart; header and tail get memory of their own.
///
/// # Errors
/// [`FrameError`] for everything that is not exactly one frame.
pub(crate) fn decode_copied(bytes: &[u8]) -> Result<Frame, FrameError> {
    let Head { request_id, kind, flags, header_size } = check(bytes)?;
    let (header, tail) = bytes[FRAME_HEADER_SIZE..].split_at(header_size);
    let [header, tail] = [header, tail].map(Bytes::copy_from_slice);
    Ok(Frame { request_id, kind, flags, header, tail })
}

/// Takes a whole frame, head included, apart; header and tail are slices of it.
///
/// # Errors
/// [`FrameError`] for everything that is not exactly one frame.
#[cfg(feature = "client")]
pub(crate) fn decode_shared(mut bytes: Bytes) -> Result<Frame, FrameError> {
    let Head { request_id, kind, flags, header_size } = check(&bytes)?;
    let tail = bytes.split_off(FRAME_HEADER_SIZE + header_size);
    bytes.advance(FRAME_HEADER_SIZE);
    Ok(Frame { request_id, kind, flags, header: bytes, tail })
}

/// The size of the tail of a whole frame, as its head claims it; 0 if that cannot be.
#[cfg(feature = "client")]
pub(crate) fn claimed_tail_size(frame: &[u8]) -> usize {
    let header_size = frame.first_chunk().map_or(0, claimed_header_size) as usize;
    frame.len().saturating_sub(FRAME_HEADER_SIZE + header_size)
}

/// The size of a header as a frame's head claims it.
pub(crate) fn claimed_header_size(head: &[u8; FRAME_HEADER_SIZE]) -> u32 {
    u32::from_le_bytes(head[HEADER_SIZE_AT..KIND_AT].try_into().expect("four bytes"))
}

fn size_of_pieces(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

impl<T> Frame<T> {
    /// The message in the header, all of it.
    ///
    /// # Errors
    /// [`FrameError`] if the frame is of another kind, the header does not decode, or bytes are left.
    pub fn message<M: Message>(&self) -> Result<M, FrameError> {
        if self.kind != M::KIND {
            return Err(FrameError::Unexpected { expected: M::KIND, got: self.kind });
        }
        let (message, rest) =
            postcard::take_from_bytes(&self.header).map_err(|_| FrameError::Message(self.kind))?;
        if rest.is_empty() { Ok(message) } else { Err(FrameError::Trailing(rest.len())) }
    }
}

impl Frame {
    /// A frame that carries `message` and has no tail.
    pub fn of<M: Message>(request_id: u64, message: &M) -> Self {
        let OutFrame { kind, flags, header, .. } = OutFrame::new(request_id, message, Vec::new());
        Self { request_id, kind, flags, header, tail: Bytes::new() }
    }

    /// Bytes it holds, the head included.
    pub fn size(&self) -> usize {
        FRAME_HEADER_SIZE + self.header.len() + self.tail.len()
    }
}

impl OutFrame {
    /// A frame that carries `message`, with the pieces of its tail.
    pub fn new<M: Message>(request_id: u64, message: &M, tail: Vec<Bytes>) -> Self {
        let mut header = BytesMut::new();
        encode_message(message, &mut header);
        Self { request_id, kind: M::KIND, flags: Flags::NONE, header: header.freeze(), tail }
    }

    /// A ping, pong or cancel.
    pub fn bare(request_id: u64, kind: FrameKind) -> Self {
        assert!(kind.is_bare(), "{kind:?} carries a message");
        Self { request_id, kind, flags: Flags::NONE, header: Bytes::new(), tail: Vec::new() }
    }

    /// Bytes it holds, the head included.
    pub fn size(&self) -> usize {
        FRAME_HEADER_SIZE + self.header.len() + size_of_pieces(&self.tail)
    }

    /// The same as frames of tails of at most `tail_size_max`, all but the last marked [`Flags::MORE`]. Nothing is
    /// copied. Other frames may be sent between them.
    pub fn cut(mut self, tail_size_max: usize) -> Vec<OutFrame> {
        assert!(tail_size_max > 0, "a piece holds at least a byte");
        if size_of_pieces(&self.tail) <= tail_size_max {
            return vec![self];
        }
        let mut frames = Vec::new();
        let mut tail = Vec::new();
        let mut room = tail_size_max;
        for mut piece in std::mem::take(&mut self.tail) {
            while piece.len() > room {
                tail.push(piece.split_to(room));
                room = tail_size_max;
                let header = std::mem::take(&mut self.header);
                frames.push(Frame { header, tail: std::mem::take(&mut tail), flags: Flags::MORE, ..self });
            }
            room -= piece.len();
            tail.push(piece);
        }
        frames.push(Frame { tail, ..self });
        frames
    }
}

/// Appends `message` to `to`.
pub(crate) fn encode_message<M: Serialize>(message: &M, to: &mut BytesMut) {
    postcard::serialize_with_flavor(message, Appending(to)).expect("our messages are postcard's data model");
}

/// Lets postcard write straight into a buffer.
struct Appending<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend_from_slice(&[byte]);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

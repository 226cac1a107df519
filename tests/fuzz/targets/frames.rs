//! Bytes from a socket: frames, whole ones of cut ones, and the messages in them.
//!
//! ```text
//! how 1 | stream      how: bit 0 limits of the hello, bit 1 checksums are made right first, then step - 1
//! ```

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::{FRAME_HEADER_SIZE, TAIL_SIZE_MAX};
use queue_protocol::names::NodeId;
use queue_protocol::wire::codec::{CodecError, FrameCodec, FrameLimits};
use queue_protocol::wire::frame::{Frame, FrameError, FrameKind, Goodbye, Message, OutFrame};
use queue_protocol::wire::gather::Gatherer;
use queue_protocol::wire::hello::HelloMessage;
use queue_protocol::wire::peer::{EntryKind, EntrySpec, LogId, PeerCall, PeerRequest, PeerResponse, Vote};
use queue_protocol::wire::request::Call;
use queue_protocol::wire::response::Response;
use tokio_util::codec::{Decoder, Encoder};

const HELLO: u8 = 1;
const SEALED: u8 = 2;
/// Memory for frames that come in pieces.
const BUDGET: usize = 64 << 10;

/// Frames, and why there are no more; `None` if the rest may still become one.
type Decoded = (Vec<Frame>, Option<FrameError>);

/// However the stream is cut it decodes to the same; what decodes comes back when it is encoded again. True if a
/// message was understood.
///
/// # Panics
/// If not.
pub(crate) fn run(input: &[u8]) -> bool {
    let Some((how, stream)) = input.split_first() else { return false };
    let mut stream = stream.to_vec();
    if how & SEALED != 0 {
        seal(&mut stream);
    }
    let limits = if how & HELLO != 0 { FrameLimits::HELLO } else { FrameLimits::OPEN };
    let whole = decode(&stream, limits, usize::MAX);
    assert_eq!(decode(&stream, limits, usize::from(how >> 2) + 1), whole);
    let (mut gatherer, mut budget) = (Gatherer::<BytesMut>::new(4, TAIL_SIZE_MAX), BUDGET);
    let mut understood = false;
    for frame in whole.0 {
        assert_eq!(sent(&OutFrame { tail: vec![frame.tail.clone()], ..headed(&frame) }), Ok(frame.clone()));
        let Ok(gathered) = gatherer.take(frame, &mut budget) else { break };
        assert!(gatherer.held() + budget <= BUDGET, "more is held than was granted");
        understood |= gathered.is_some_and(|frame| understand(&frame));
    }
    understood
}

fn headed(frame: &Frame) -> OutFrame {
    let Frame { request_id, kind, flags, header, .. } = frame.clone();
    OutFrame { request_id, kind, flags, header, tail: Vec::new() }
}

/// Puts the right checksum into each frame of the stream, as far as sizes lead to one.
pub(super) fn seal(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(size) = stream.get(at..).and_then(<[u8]>::first_chunk) {
        let end = at.saturating_add(4).saturating_add(u32::from_le_bytes(*size) as usize);
        let Some(frame) = stream.get_mut(at..end).filter(|frame| frame.len() >= FRAME_HEADER_SIZE) else {
            return;
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

fn decode(stream: &[u8], limits: FrameLimits, step: usize) -> Decoded {
    let mut codec = FrameCodec::default();
    codec.set_limits(limits);
    let (mut frames, mut arrived) = (Vec::new(), BytesMut::new());
    for piece in stream.chunks(step.min(stream.len()).max(1)) {
        arrived.extend_from_slice(piece);
        loop {
            match codec.decode(&mut arrived) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(CodecError::Frame(error)) => return (frames, Some(error)),
                Err(CodecError::Io(error)) => panic!("nothing is read here: {error}"),
            }
        }
    }
    match codec.decode_eof(&mut arrived) {
        Ok(None) => (frames, None),
        Err(CodecError::Frame(error)) => (frames, Some(error)),
        other => panic!("all that came was decoded: {other:?}"),
    }
}

/// The frame as the other side gets it.
fn sent(frame: &OutFrame) -> Result<Frame, FrameError> {
    let mut stream = BytesMut::new();
    FrameCodec::default().encode(frame, &mut stream).expect("it is no larger than it was");
    let (mut frames, error) = decode(&stream, FrameLimits::OPEN, usize::MAX);
    frames.pop().ok_or_else(|| error.expect("a frame or an error"))
}

fn understand(frame: &Frame) -> bool {
    match frame.kind {
        FrameKind::Hello => comes_back::<HelloMessage>(frame),
        FrameKind::Request => comes_back::<Call>(frame),
        FrameKind::Response => comes_back::<Response>(frame),
        FrameKind::PeerRequest => comes_back::<PeerCall>(frame),
        FrameKind::PeerResponse => comes_back::<PeerResponse>(frame),
        FrameKind::Goodbye => comes_back::<Goodbye>(frame),
        FrameKind::Ping | FrameKind::Pong | FrameKind::Cancel => true,
    }
}

fn comes_back<M: Message + Debug + PartialEq>(frame: &Frame) -> bool {
    let Ok(message) = frame.message::<M>() else { return false };
    let again = sent(&OutFrame::new(frame.request_id, &message, Vec::new()));
    assert_eq!(again.and_then(|frame| frame.message::<M>()), Ok(message));
    true
}

/// One stream with some of everything.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = LogId { term: 3, leader: NodeId(2), index: 70 };
    let vote = Vote { term: 3, node: NodeId(2), committed: true };
    let body = Bytes::from_static(b"a body that is cut");
    let spec =
        EntrySpec { id, kind: EntryKind::Commands, commands_size: 4, bodies_count: 1, bodies_size: 18 };
    let entries = queue_protocol::wire::bounded::Bounded::new(vec![spec]).expect("one");
    let append = queue_protocol::wire::peer::Append { vote, prev: None, commit: Some(id), entries };
    let bodies = queue_protocol::wire::bounded::Bounded::new(vec![(7, ContentSpec::of(&body))]).expect("one");
    let part = queue_protocol::wire::peer::SnapshotPart::Bodies { id, bodies };
    let refused = Error::refused(ErrorCode::NoLeader, "nobody leads");
    let mut frames =
        OutFrame::new(1, &PeerCall::from(PeerRequest::Append(append)), vec![body.clone()]).cut(5);
    frames.push(OutFrame::new(2, &PeerCall::from(PeerRequest::SnapshotPart(part)), vec![body]));
    frames.push(OutFrame::new(3, &PeerResponse::Seen(vote), Vec::new()));
    frames.push(OutFrame::new(0, &Goodbye { reason: Some(refused) }, Vec::new()));
    frames.push(OutFrame::bare(4, FrameKind::Ping));
    let mut stream = BytesMut::new();
    for frame in &frames {
        FrameCodec::default().encode(frame, &mut stream).expect("small frames");
    }
    [0, SEALED, 40 << 2 | SEALED].map(|how| [&[how], &stream[..]].concat()).into()
}

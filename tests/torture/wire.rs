//! Frames in the calls of a trace.

use bytes::BytesMut;
use harness::trace::Call;
use queue_protocol::wire::codec::{FrameCodec, FrameLimits};
use queue_protocol::wire::frame::Frame;
use tokio_util::codec::Decoder as _;

/// One direction of a connection; nothing more is read behind what strace did not show.
pub(crate) struct Stream {
    codec: FrameCodec,
    bytes: BytesMut,
    open: bool,
}

impl Default for Stream {
    fn default() -> Self {
        let mut codec = FrameCodec::default();
        codec.set_limits(FrameLimits::OPEN);
        Self { codec, bytes: BytesMut::new(), open: true }
    }
}

impl Stream {
    /// The frames that end in this call.
    pub(crate) fn frames(&mut self, call: &Call) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.bytes.extend_from_slice(&call.bytes());
        while self.open {
            match self.codec.decode(&mut self.bytes) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => self.open = false,
            }
        }
        frames
    }
}

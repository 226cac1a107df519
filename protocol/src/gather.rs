//! Frames that were sent in pieces, put together again: within a bound, and only with memory granted before.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::frame::{Flags, Frame, FrameError};

/// Grants memory before it is used.
pub trait Budget {
    /// May `size` more bytes be kept?
    fn grant(&mut self, size: usize) -> bool;
}

/// A fixed number of bytes.
impl Budget for usize {
    fn grant(&mut self, size: usize) -> bool {
        self.checked_sub(size).map(|left| *self = left).is_some()
    }
}

/// Puts the pieces of one connection together. What it was granted is the receiver's to give back: when the
/// gathered frame is dropped, or [`Gatherer::held`] bytes when the connection ends.
#[derive(Debug)]
pub struct Gatherer {
    open: BTreeMap<u64, Gathering>,
    open_count_max: usize,
    tail_size_max: usize,
    held: usize,
}

#[derive(Debug)]
struct Gathering {
    first: Frame,
    tail: BytesMut,
}

impl Gatherer {
    /// At most `open_count_max` frames are put together at a time, to tails of at most `tail_size_max` bytes each.
    pub fn new(open_count_max: usize, tail_size_max: usize) -> Self {
        Self { open: BTreeMap::new(), open_count_max, tail_size_max, held: 0 }
    }

    /// Bytes granted for frames that are incomplete.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a frame that arrived. Gives it back at once, uncopied, if it is whole; gives the whole with its last
    /// piece; `None` in between. Asks `budget` for the tail of each piece of a cut frame before keeping it.
    ///
    /// # Errors
    /// [`FrameError::Pieces`] if kinds differ, a later piece has a header, or too many are open;
    /// [`FrameError::TooBig`] beyond the bound; [`FrameError::NotGranted`]. The connection cannot go on.
    pub fn take(&mut self, frame: Frame, budget: &mut impl Budget) -> Result<Option<Frame>, FrameError> {
        let id = frame.request_id;
        let Some(gathering) = self.open.get_mut(&id) else {
            if !frame.flags.more() {
                return Ok(Some(frame));
            }
            if self.open.len() >= self.open_count_max {
                return Err(FrameError::Pieces);
            }
            if frame.tail.len() > self.tail_size_max {
                return Err(FrameError::TooBig { size: frame.tail.len() as u64, max: self.tail_size_max });
            }
            if !budget.grant(frame.tail.len()) {
                return Err(FrameError::NotGranted);
            }
            self.held += frame.tail.len();
            let tail = BytesMut::from(&frame.tail[..]);
            self.open.insert(id, Gathering { first: Frame { tail: Bytes::new(), ..frame }, tail });
            return Ok(None);
        };
        if frame.kind != gathering.first.kind || !frame.header.is_empty() {
            return Err(FrameError::Pieces);
        }
        let size = gathering.tail.len() + frame.tail.len();
        if size > self.tail_size_max {
            return Err(FrameError::TooBig { size: size as u64, max: self.tail_size_max });
        }
        if !budget.grant(frame.tail.len()) {
            return Err(FrameError::NotGranted);
        }
        self.held += frame.tail.len();
        gathering.tail.extend_from_slice(&frame.tail);
        if frame.flags.more() {
            return Ok(None);
        }
        self.held -= size;
        let whole = self.open.remove(&id).expect("it was found above");
        Ok(Some(Frame { flags: Flags::NONE, tail: whole.tail.freeze(), ..whole.first }))
    }
}

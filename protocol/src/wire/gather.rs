//! Frames that were sent in pieces, put together again: within a bound, and only with memory granted before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{Bytes, BytesMut};

use crate::wire::frame::{Flags, Frame, FrameError};

/// What a cut frame costs beside its header and tail.
pub const OPEN_SIZE: usize = 256;

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

/// How the tail of a cut frame is kept, piece by piece.
pub trait Tail: Default {
    /// The tail of a whole frame.
    type Whole;
    /// The tail of a frame that was not cut: nothing is copied.
    fn uncut(tail: Bytes) -> Self::Whole;
    /// Takes the next piece.
    fn add(&mut self, piece: Bytes);
    /// All pieces, in their order.
    fn whole(self) -> Self::Whole;
}

/// Copied together: what is kept is what was granted, whoever sent it.
impl Tail for BytesMut {
    type Whole = Bytes;

    fn uncut(tail: Bytes) -> Bytes {
        tail
    }

    fn add(&mut self, piece: Bytes) {
        self.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        self.freeze()
    }
}

/// Kept as they came, each in the memory it was read into.
impl Tail for Vec<Bytes> {
    type Whole = Self;

    fn uncut(tail: Bytes) -> Self {
        vec![tail]
    }

    fn add(&mut self, piece: Bytes) {
        self.push(piece);
    }

    fn whole(self) -> Self {
        self
    }
}

/// Puts the pieces of one connection together. What it was granted is the receiver's to give back: when the
/// gathered frame is dropped, or [`Gatherer::held`] bytes when the connection ends.
#[derive(Debug)]
pub struct Gatherer<T = BytesMut> {
    open: BTreeMap<u64, Gathering<T>>,
    open_count_max: usize,
    tail_size_max: usize,
    held: usize,
}

#[derive(Debug)]
struct Gathering<T> {
    /// The first frame, without its tail.
    first: Frame<()>,
    tail: T,
    size: usize,
}

impl<T: Tail> Gatherer<T> {
    /// At most `open_count_max` frames are put together at a time, to tails of at most `tail_size_max` bytes each.
    pub fn new(open_count_max: usize, tail_size_max: usize) -> Self {
        Self { open: BTreeMap::new(), open_count_max, tail_size_max, held: 0 }
    }

    /// Bytes granted for frames that are incomplete.
    pub fn held(&self) -> usize {
        self.held
    }

    /// More pieces of this request are to come.
    pub fn is_open(&self, request_id: u64) -> bool {
        self.open.contains_key(&request_id)
    }

    /// Takes a frame that arrived. Gives it back at once, uncopied, if it is whole; gives the whole with its last
    /// piece; `None` in between. Asks `budget` for what each piece of a cut frame brings before keeping it.
    ///
    /// # Errors
    /// [`FrameError::Pieces`] if kinds differ, a later piece has a header, or too many are open;
    /// [`FrameError::TooBig`] beyond the bound; [`FrameError::NotGranted`]. The connection cannot go on.
    pub fn take(
        &mut self,
        frame: Frame,
        budget: &mut impl Budget,
    ) -> Result<Option<Frame<T::Whole>>, FrameError> {
        let Frame { request_id, kind, flags, header, tail } = frame;
        let open_count = self.open.len();
        let mut brought = tail.len();
        let gathering = match self.open.entry(request_id) {
            Entry::Vacant(_) if !flags.more() => {
                return Ok(Some(Frame { request_id, kind, flags, header, tail: T::uncut(tail) }));
            }
            Entry::Vacant(_) if open_count >= self.open_count_max => return Err(FrameError::Pieces),
            Entry::Vacant(place) => {
                brought += OPEN_SIZE + header.len();
                if !budget.grant(brought) {
                    return Err(FrameError::NotGranted);
                }
                let first = Frame { request_id, kind, flags: Flags::NONE, header, tail: () };
                self.held += brought;
                place.insert(Gathering { first, tail: T::default(), size: 0 })
            }
            Entry::Occupied(open) if kind != open.get().first.kind || !header.is_empty() => {
                return Err(FrameError::Pieces);
            }
            Entry::Occupied(_) if !budget.grant(brought) => return Err(FrameError::NotGranted),
            Entry::Occupied(open) => {
                self.held += brought;
                open.into_mut()
            }
        };
        let size = gathering.size + tail.len();
        if size > self.tail_size_max {
            return Err(FrameError::TooBig { size: size as u64, max: self.tail_size_max });
        }
        gathering.size = size;
        gathering.tail.add(tail);
        if flags.more() {
            return Ok(None);
        }
        let Gathering { first, tail, .. } = self.open.remove(&request_id).expect("it was found above");
        self.held -= OPEN_SIZE + first.header.len() + size;
        let Frame { request_id, kind, flags, header, tail: () } = first;
        Ok(Some(Frame { request_id, kind, flags, header, tail: tail.whole() }))
    }
}

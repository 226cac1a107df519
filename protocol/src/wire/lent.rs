//! Read buffers that were given away to the frames in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The bound of the memory of such buffers, for all readers that have it. A body of a few bytes may keep a whole buffer
/// alive; whatever clients send, no more than this is held by that.
#[derive(Debug)]
pub struct Lender {
    size_max: usize,
    lent: AtomicUsize,
}

/// A buffer, counted until its last slice is dropped.
struct Lent {
    buffer: Vec<u8>,
    lender: Arc<Lender>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lender.lent.fetch_sub(self.buffer.capacity(), Ordering::Relaxed);
    }
}

impl Lender {
    /// One that lends up to `size_max` bytes; with 0 every small frame is copied.
    pub fn new(size_max: usize) -> Arc<Self> {
        Arc::new(Self { size_max, lent: AtomicUsize::new(0) })
    }

    /// Bytes of memory that frames share now.
    pub fn size(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// The bytes of `buffer`, to be shared. The buffer comes back if that would be too much.
    pub(crate) fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Result<Bytes, Vec<u8>> {
        let size = buffer.capacity();
        if self.lent.fetch_add(size, Ordering::Relaxed) + size > self.size_max {
            self.lent.fetch_sub(size, Ordering::Relaxed);
            return Err(buffer);
        }
        Ok(Bytes::from_owner(Lent { buffer, lender: Arc::clone(self) }))
    }
}

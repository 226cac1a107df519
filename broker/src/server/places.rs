//! Connections that may be open at a time: of clients, of peers, and of those being greeted. What clients get is what
//! is left of the process's descriptors when its log, its snapshots and its peers have theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Clients.
    pub clients: usize,
    /// Peers, each connection counted.
    pub peers: usize,
    /// Connections whose handshake is not over.
    pub greetings: usize,
}

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Kept {
    max: usize,
    open: AtomicUsize,
}

/// One held place; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place(Arc<Kept>);

impl Kept {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: AtomicUsize::new(0) })
    }

    /// How many there are.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.open.load(Ordering::Relaxed).min(self.max)
    }

    /// A place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let kept = Kept::new(2);
        let first = kept.take();
        let _second = kept.take().expect("the second of two");
        assert!(kept.take().is_none() && kept.take().is_none());
        drop(first);
        assert!(kept.take().is_some());
    }
}

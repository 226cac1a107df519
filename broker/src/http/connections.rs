//! Connections: who gets a place, who gives way for others, and where each one comes from.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::arriving::Arrival;
use crate::locked::Locked as _;

/// Connections over HTTP that are open at a time; one more makes another one give way.
const CONNECTIONS_MAX: usize = 256;
/// Bytes a second; a body that comes slower gives way to another connection.
const SLOW: u64 = 64 << 10;

/// The connections that are open.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<Arc<Open>>>);

/// One connection, as far as it may have to give way.
pub(super) struct Open {
    /// Requests that are being answered.
    busy: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// The body of its last request.
    arrival: Mutex<Option<Arc<Arrival>>>,
    /// It is to end, for another one.
    pub(super) give_way: Notify,
}

impl Connections {
    fn inner(&self) -> MutexGuard<'_, Vec<Arc<Open>>> {
        self.0.locked()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.inner().len()
    }

    /// The connection whose body comes slowest gives way, of those that there is room for; if one comes slowly.
    pub(super) fn shed(&self) {
        let mut open = self.inner();
        if let Some(at) = slowest(&open, Arrival::has_room) {
            open.swap_remove(at).give_way.notify_one();
        }
    }

    /// A place for one more; the one that is idle longest goes if there is none, else the one whose body comes slowest.
    /// `None` if all are busy.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entered> {
        let mut open = self.inner();
        if open.len() >= CONNECTIONS_MAX {
            let idle = open.iter().enumerate().filter(|(_, one)| one.busy.load(Ordering::Relaxed) == 0);
            let idle = idle.min_by_key(|(_, one)| one.idle_since()).map(|(at, _)| at);
            let at = idle.or_else(|| slowest(&open, |_| true))?;
            open.swap_remove(at).give_way.notify_one();
        }
        let one = Arc::new(Open {
            busy: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            arrival: Mutex::default(),
            give_way: Notify::new(),
        });
        open.push(Arc::clone(&one));
        Some(Entered { all: Arc::clone(self), one })
    }
}

fn slowest(open: &[Arc<Open>], which: impl Fn(&Arrival) -> bool) -> Option<usize> {
    let slow = open.iter().enumerate().filter_map(|(at, one)| Some((one.slowly(&which)?, at)));
    slow.min().map(|(_, at)| at)
}

impl Open {
    pub(super) fn arrival(&self) -> MutexGuard<'_, Option<Arc<Arrival>>> {
        self.arrival.locked()
    }

    /// Bytes a second of a body that comes slowly.
    fn slowly(&self, which: impl Fn(&Arrival) -> bool) -> Option<u64> {
        let arrival = self.arrival();
        let arrival = arrival.as_ref().filter(|arrival| which(arrival))?;
        arrival.rate().filter(|rate| *rate < SLOW)
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.locked()
    }
}

/// A connection's place, free again when this is dropped.
pub(super) struct Entered {
    all: Arc<Connections>,
    pub(super) one: Arc<Open>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.inner().retain(|one| !Arc::ptr_eq(one, &self.one));
    }
}

/// The connection that a request came over.
#[derive(Clone)]
pub(super) struct Occupant {
    pub(super) one: Arc<Open>,
    pub(super) from: From,
}

/// Where a connection comes from, as far as its tokens are concerned.
#[derive(Clone, Copy)]
pub(super) struct From {
    pub(super) ip: IpAddr,
    /// Nobody reads along: it is under TLS, or comes from this machine.
    pub(super) is_private: bool,
}

impl Occupant {
    /// The connection is not idle until this is dropped, though the request has its answer's head.
    pub(super) fn busy(&self) -> Busy {
        Busy::begin(&self.one)
    }
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Open>);

impl Busy {
    pub(super) fn begin(one: &Arc<Open>) -> Self {
        one.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(one))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.locked() = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

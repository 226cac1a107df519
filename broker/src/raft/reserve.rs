//! Room on the disks: whether pushes may go on. Everything else does, from the ballast.
//!
//! ```text
//! disk   [ used | free ............................ ]   room = free + ballast
//! log      [ segments | spares = ballast ]              low  = room < reserve, or spares cannot be made for lack of
//!                                                              room or of file descriptors
//! ```
//!
//! The ballast of a log is its spares, files that are written already: what other programs take from the disk they do
//! not take from these. The rest of the reserve is room left alone, not files: it is there for the next snapshots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::peer::PeerPing;
use tokio::time::Instant;

use crate::fs::Space;
use crate::log::{Ballast, Lack};

/// The most that is reserved if nothing is set.
const USUAL_MAX: u64 = 1 << 30;
/// Segments that must find room.
const SEGMENTS_MIN: u64 = 4;
/// With less room than the reserve and these segments, space is given back as soon as it can be.
const PRESSED_SEGMENTS: u64 = 2;
/// A node whose last report is older counts as not reachable.
const REPORT_AGE_MAX: Duration = Duration::from_secs(3);

/// Bytes to be kept, of a disk of `total`: as set, or the usual; room for segments and two snapshots in any case.
pub(crate) fn size(set: Option<u64>, total: u64, segment_size: u64, snapshot_size: u64) -> u64 {
    let usual = (total / 20).min(USUAL_MAX);
    let min = (SEGMENTS_MIN.saturating_mul(segment_size)).saturating_add(snapshot_size.saturating_mul(2));
    set.unwrap_or(usual).max(min)
}

/// How a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Free bytes of its disk.
    pub(crate) free: u64,
    /// Bytes that may be written before pushes must stop.
    pub(crate) spare: u64,
    /// There is so little room that what can be given back is.
    pub(crate) pressed: bool,
    /// Pushes must stop for lack of this.
    pub(crate) lacks: Option<Lack>,
}

impl Room {
    pub(crate) fn new(space: Space, ballast: Ballast, reserve: u64, segment_size: u64) -> Self {
        let room = space.free.saturating_add(ballast.bytes);
        Self {
            free: space.free,
            spare: room.saturating_sub(reserve),
            pressed: room < reserve.saturating_add(PRESSED_SEGMENTS.saturating_mul(segment_size)),
            lacks: if room < reserve { Some(Lack::Room) } else { ballast.short },
        }
    }
}

/// What every node said last of its disk.
#[derive(Default)]
pub(crate) struct Rooms {
    peers: Mutex<BTreeMap<NodeId, (Room, Instant)>>,
    /// One of them had too little when a peer was last heard: every push looks here first.
    any_low: AtomicBool,
}

impl Rooms {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Room, Instant)>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer told of itself.
    pub(crate) fn hear(&self, peer: NodeId, ping: PeerPing) {
        let lacks = match (ping.disk_low, ping.descriptors_short) {
            (true, _) => Some(Lack::Room),
            (false, true) => Some(Lack::Descriptors),
            (false, false) => None,
        };
        let room = Room { free: ping.disk_free_bytes, lacks, ..Room::default() };
        let mut peers = self.peers();
        peers.insert(peer, (room, Instant::now()));
        self.any_low.store(peers.values().any(|(room, _)| room.lacks.is_some()), Ordering::Relaxed);
    }

    /// Whether [`Rooms::low`] is worth asking.
    pub(crate) fn may_be_low(&self) -> bool {
        self.any_low.load(Ordering::Relaxed)
    }

    /// Who of the reachable `voters` has too little.
    pub(crate) fn low(&self, voters: impl Fn(NodeId) -> bool) -> Option<(NodeId, Room)> {
        let now = Instant::now();
        let mut peers = self.peers();
        peers.retain(|_, (_, at)| now.saturating_duration_since(*at) <= REPORT_AGE_MAX);
        let mut low = peers.iter().filter(|(node, (room, _))| room.lacks.is_some() && voters(**node));
        low.next().map(|(node, (room, _))| (*node, *room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_reserve_is_a_twentieth_within_bounds() {
        assert_eq!(size(None, 10 << 30, 64 * MIB, 0), 512 * MIB);
        assert_eq!(size(None, 1 << 40, 64 * MIB, 0), 1 << 30);
        assert_eq!(size(None, 100 * MIB, 64 * MIB, 10 * MIB), 276 * MIB, "four segments and two snapshots");
        assert_eq!(size(Some(5 << 30), 1 << 40, 64 * MIB, 0), 5 << 30);
        assert_eq!(size(Some(0), 1 << 40, 64 * MIB, 0), 256 * MIB, "no setting goes below what is needed");
        assert_eq!(size(None, 0, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn spares_are_room_unless_they_cannot_be_replaced() {
        let space = Space { free: 10, total: 100 };
        let lacks = |bytes, short| Room::new(space, Ballast { bytes, short }, 50, 5).lacks;
        assert_eq!(lacks(39, None), Some(Lack::Room));
        assert_eq!(lacks(40, None), None);
        assert_eq!(lacks(40, Some(Lack::Room)), Some(Lack::Room));
        assert_eq!(lacks(40, Some(Lack::Descriptors)), Some(Lack::Descriptors), "that is no full disk");
        let room = |bytes| Room::new(space, Ballast { bytes, short: None }, 50, 5);
        assert_eq!([30, 40, 49, 50].map(|bytes| room(bytes).spare), [0, 0, 9, 10]);
        assert_eq!([40, 49, 50].map(|bytes| room(bytes).pressed), [true, true, false], "two segments above");
    }

    #[tokio::test(start_paused = true)]
    async fn only_voters_that_were_heard_of_lately_count() {
        let rooms = Rooms::default();
        let ping = |low| PeerPing {
            wall_ms: 0,
            elapsed_ms: None,
            disk_free_bytes: 7,
            disk_low: low,
            descriptors_short: false,
            durable_index: 0,
            durable_vote: None,
            levels: queue_protocol::level::Levels::OURS,
            lead: None,
            hashes: [None; 4],
        };
        rooms.hear(NodeId(2), ping(true));
        rooms.hear(NodeId(3), ping(false));
        assert_eq!(rooms.low(|_| true), Some((NodeId(2), Room { free: 7, lacks: Some(Lack::Room), ..Room::default() })));
        assert_eq!(rooms.low(|node| node != NodeId(2)), None, "a learner stops nobody");
        tokio::time::advance(REPORT_AGE_MAX + Duration::from_millis(1)).await;
        assert_eq!(rooms.low(|_| true), None, "who is away stops nobody");
        rooms.hear(NodeId(2), ping(false));
        assert_eq!(rooms.low(|_| true), None);
    }
}

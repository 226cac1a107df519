//! Room on the disks: whether pushes may go on. Everything else does, from the ballast.
//!
//! ```text
//! disk   [ used | free ......................... ]   room  = free + spares - spares that there should be
//! log      [ segments | spares ]                     spare = room - reserve, without what was written since
//!                                                    low   = room < reserve, or spares cannot be made for lack of
//!                                                            room or of file descriptors
//! ```
//!
//! The spares of a log, its ballast, are files that are written already: what other programs take from the disk they do
//! not take from these. The reserve is room left alone, not files: it is there for the next snapshots. So where all
//! spares are made, the disk has as much free as this counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::PeerPing;
use tokio::time::Instant;

use crate::fs::Space;
use crate::locked::Locked as _;
use crate::log::{Ballast, Lack};
use crate::raft::node::amounts::Amounts;

/// The most that is reserved if nothing is set.
const USUAL_MAX: u64 = 1 << 30;
/// Segments that must find room.
const SEGMENTS_MIN: u64 = 2;
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
    /// Bytes that are kept; 0 if that is not known.
    pub(crate) reserve: u64,
    /// Bytes that may be written before pushes must stop.
    pub(crate) spare: u64,
    /// Bytes that the log had written then, as [`Amounts`] counts them.
    pub(crate) written: u64,
    /// There is so little room that what can be given back is.
    pub(crate) pressed: bool,
    /// Pushes must stop for lack of this.
    pub(crate) lacks: Option<Lack>,
}

impl Room {
    pub(crate) fn new(space: Space, ballast: Ballast, reserve: u64, segment_size: u64) -> Self {
        let room = space.free.saturating_add(ballast.bytes).saturating_sub(ballast.wanted);
        Self {
            free: space.free,
            reserve,
            spare: room.saturating_sub(reserve),
            written: 0,
            pressed: room < reserve.saturating_add(PRESSED_SEGMENTS.saturating_mul(segment_size)),
            lacks: if room < reserve { Some(Lack::Room) } else { ballast.short },
        }
    }
}

/// Bytes of the disk that an entry of `size` bytes may take: records are padded, and the end of a segment may stay empty.
pub(crate) fn charge(size: u64) -> u64 {
    size.saturating_add(size / 8).saturating_add(8 << 10)
}

/// What a node said of its disk.
#[derive(Clone, Copy)]
struct Report {
    room: Room,
    /// The last entry that its log had taken.
    last_index: u64,
    at: Instant,
}

/// What every node said last of its disk, and what this node's log took.
#[derive(Default)]
pub(crate) struct Rooms {
    amounts: Amounts,
    peers: Mutex<BTreeMap<NodeId, Report>>,
    /// One of them had too little when a peer was last heard: every push looks here first.
    any_low: AtomicBool,
}

impl Rooms {
    /// What this node's log took.
    pub(crate) fn amounts(&self) -> &Amounts {
        &self.amounts
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Report>> {
        self.peers.locked()
    }

    /// A peer told of itself.
    pub(crate) fn hear(&self, peer: NodeId, ping: PeerPing) {
        let lacks = match (ping.disk_low, ping.descriptors_short) {
            (true, _) => Some(Lack::Room),
            (false, true) => Some(Lack::Descriptors),
            (false, false) => None,
        };
        let (free, spare) = (ping.disk_free_bytes, ping.disk_spare_bytes);
        let room = Room { free, spare, lacks, ..Room::default() };
        let mut peers = self.peers();
        peers.insert(peer, Report { room, last_index: ping.last_index, at: Instant::now() });
        self.any_low.store(peers.values().any(|report| report.room.lacks.is_some()), Ordering::Relaxed);
    }

    /// Whether [`Rooms::low`] is worth asking.
    pub(crate) fn may_be_low(&self) -> bool {
        self.any_low.load(Ordering::Relaxed)
    }

    /// Who of the reachable `voters` has too little: already, or for `charge` bytes beside all that it was sent since its
    /// report.
    pub(crate) fn low(&self, voters: impl Fn(NodeId) -> bool, charge: Option<u64>) -> Option<(NodeId, Room)> {
        let now = Instant::now();
        let mut peers = self.peers();
        peers.retain(|_, report| now.saturating_duration_since(report.at) <= REPORT_AGE_MAX);
        let lacks = |report: &Report| {
            let takes = |charge: u64| self.amounts.behind(report.last_index).saturating_add(charge);
            report.room.lacks.is_some() || charge.is_some_and(|charge| report.room.spare < takes(charge))
        };
        let mut low = peers.iter().filter(|(node, report)| lacks(report) && voters(**node));
        low.next().map(|(node, report)| (*node, report.room))
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
        assert_eq!(size(None, 100 * MIB, 64 * MIB, 10 * MIB), 148 * MIB, "two segments and two snapshots");
        assert_eq!(size(Some(5 << 30), 1 << 40, 64 * MIB, 0), 5 << 30);
        assert_eq!(size(Some(0), 1 << 40, 64 * MIB, 0), 128 * MIB, "no setting goes below what is needed");
        assert_eq!(size(None, 0, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn spares_are_room_unless_they_cannot_be_replaced() {
        let space = Space { free: 10, total: 100 };
        let lacks = |bytes, short| Room::new(space, Ballast { bytes, wanted: 0, short }, 50, 5).lacks;
        assert_eq!(lacks(39, None), Some(Lack::Room));
        assert_eq!(lacks(40, None), None);
        assert_eq!(lacks(40, Some(Lack::Room)), Some(Lack::Room));
        assert_eq!(lacks(40, Some(Lack::Descriptors)), Some(Lack::Descriptors), "that is no full disk");
        let room = |bytes| Room::new(space, Ballast { bytes, wanted: 0, short: None }, 50, 5);
        assert_eq!([30, 40, 49, 50].map(|bytes| room(bytes).spare), [0, 0, 9, 10]);
        assert_eq!([40, 49, 50].map(|bytes| room(bytes).pressed), [true, true, false], "two segments above");
        let one_missing = Ballast { bytes: 50, wanted: 60, short: None };
        assert_eq!(Room::new(Space { free: 70, total: 100 }, one_missing, 50, 5).spare, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn only_voters_that_were_heard_of_lately_count() {
        let rooms = Rooms::default();
        let ping = |low| PeerPing {
            wall_ms: 0,
            elapsed_ms: None,
            disk_free_bytes: 7,
            disk_spare_bytes: 0,
            last_index: 0,
            disk_low: low,
            descriptors_short: false,
            durable_index: 0,
            durable_vote: None,
            levels: queue_protocol::wire::level::Levels::OURS,
            lead: None,
            hashes: [None; 4],
        };
        rooms.hear(NodeId(2), ping(true));
        rooms.hear(NodeId(3), ping(false));
        assert_eq!(
            rooms.low(|_| true, None),
            Some((NodeId(2), Room { free: 7, lacks: Some(Lack::Room), ..Room::default() }))
        );
        assert_eq!(rooms.low(|node| node != NodeId(2), None), None, "a learner stops nobody");
        tokio::time::advance(REPORT_AGE_MAX + Duration::from_millis(1)).await;
        assert_eq!(rooms.low(|_| true, None), None, "who is away stops nobody");
        rooms.hear(NodeId(2), ping(false));
        assert_eq!(rooms.low(|_| true, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_voter_was_sent_since_its_report_is_subtracted() {
        let rooms = Rooms::default();
        rooms.amounts().append(10, MIB);
        let room = Room { spare: 3 * MIB, ..Room::default() };
        rooms.peers().insert(NodeId(2), Report { room, last_index: 10, at: Instant::now() });
        let low = |charge| rooms.low(|_| true, Some(charge)).is_some();
        assert!(!low(3 * MIB) && low(3 * MIB + 1));
        rooms.amounts().append(11, MIB);
        assert!(!low(2 * MIB) && low(2 * MIB + 1));
        rooms.amounts().append(12, 2 * MIB);
        assert!(!low(0) && low(1));
        rooms.peers().insert(NodeId(2), Report { room, last_index: 12, at: Instant::now() });
        assert!(!low(3 * MIB), "it has told anew");
    }
}

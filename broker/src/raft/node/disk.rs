//! Whether the disks have room for one more entry with pushes: this node's, as it was looked at last, and those of the
//! voters, as they told last; in each case without what was written or sent since.

use std::fmt::Display;
use std::sync::Weak;

use openraft::async_runtime::watch::WatchReceiver;
use queue_protocol::error::{Error, ErrorCode, Retry};

use super::pulse::LOOK_EVERY;
use crate::complaint::Complaint;
use crate::fs::DiskError;
use crate::log::Lack;
use crate::mutants::{self, Mutant};
use crate::outside::{ExitStatus, Fatal};
use crate::raft::Consensus;
use crate::raft::cluster::reserve::{self, Room};

/// Said of a disk with too little room, of descriptors, and of their end.
static LOW: Complaint = Complaint::new();
static SHORT: Complaint = Complaint::new();
static ENOUGH: Complaint = Complaint::new();

impl Consensus {
    /// A node whose disk failed does not go on, and says `what`; where only room or descriptors lack it is tried again.
    pub(super) fn end_for(&self, error: &DiskError, what: impl Display) {
        if !error.is_for_now() {
            (self.outside.end)(Fatal { status: ExitStatus::Disk, what: what.to_string() });
        }
    }

    /// Takes note of the room on this node's disk, and says so when it gets low and when there is enough again.
    pub(in crate::raft) fn look_at_disk(&self) {
        // Before the look: what is written meanwhile is subtracted though it may be seen already.
        let written = self.rooms.amounts().written();
        let space = match self.outside.disk.space(&self.me.data_dir) {
            Ok(space) => space,
            Err(error) => return tracing::warn!(%error, "how much room the disk has is not known"),
        };
        let (segment_size, snapshot_size) = (self.log.segment_size(), self.machine.snapshot_size());
        let reserve = reserve::size(self.options.disk_reserve, space.total, segment_size, snapshot_size);
        let next = Room { written, ..Room::new(space, self.log.ballast(), reserve, segment_size) };
        self.log.set_pressed(next.pressed);
        let before = self.room.send_replace(next);
        let free = next.free;
        if next.lacks == before.lacks {
            return;
        }
        match next.lacks {
            Some(Lack::Room) => {
                if let Some(again) = LOW.due() {
                    tracing::warn!(
                        free,
                        reserve,
                        again,
                        "the disk is nearly full: pushes are refused, all else goes on"
                    );
                }
            }
            Some(Lack::Descriptors) => {
                if let Some(again) = SHORT.due() {
                    tracing::warn!(
                        again,
                        "no file descriptor is left for the log: pushes are refused until there is one"
                    );
                }
            }
            None => {
                if let Some(again) = ENOUGH.due() {
                    tracing::info!(free, reserve, again, "disk and descriptors suffice again: pushes go on");
                }
            }
        }
    }

    /// Bytes that may still be written here before the reserve is reached: as seen at the last look, without what the log
    /// took since.
    pub(in crate::raft) fn own_spare(&self) -> u64 {
        let room = *self.room.borrow();
        room.spare.saturating_sub(self.rooms.amounts().total().saturating_sub(room.written))
    }

    /// Why no push may be proposed now, if this node or a voter it hears of lacks room or descriptors for its log.
    pub(crate) fn refuse_push(&self) -> Option<Error> {
        let own = self.room.borrow().lacks.or_else(|| self.log.stalled());
        match own {
            Some(lack) => Some(self.refusal(None, lack)),
            None if !self.rooms.may_be_low() => None,
            None => self.low_voter(None),
        }
    }

    /// Why no entry of `size` bytes that holds pushes may be put together now. `in_flight` bytes are on their way to the
    /// log.
    pub(in crate::raft) fn refuse_entry(&self, size: u64, in_flight: u64) -> Option<Error> {
        if mutants::on(Mutant::RoomLookedAtInTime) {
            return None;
        }
        let charge = reserve::charge(size).saturating_add(in_flight);
        if self.own_spare() < charge {
            self.look_at_disk();
            if self.own_spare() < charge {
                return Some(self.refusal(None, Lack::Room));
            }
        }
        self.low_voter(Some(charge))
    }

    /// A voter that has too little room: for the log as it is, or for that many bytes beside all it was sent.
    fn low_voter(&self, charge: Option<u64>) -> Option<Error> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let is_voter =
            |node: queue_protocol::names::NodeId| membership.voter_ids().any(|voter| voter == node.0);
        let (node, room) = self.rooms.low(is_voter, charge)?;
        let name = membership.get_node(&node.0).map_or_else(|| node.to_string(), |node| node.name.clone());
        Some(self.refusal(Some((name, room)), room.lacks.unwrap_or(Lack::Room)))
    }

    /// What clients are told: of a voter, or of this node.
    fn refusal(&self, voter: Option<(String, Room)>, lack: Lack) -> Error {
        let name = &self.me.name;
        let own = *self.room.borrow();
        let (whose, who, Room { free, reserve, .. }) = match voter {
            Some((voter, room)) if voter != *name => (format!("the disk of {voter}"), voter, room),
            _ => ("its disk".to_owned(), name.clone(), own),
        };
        // What others keep is not told.
        let reserve = if reserve == 0 { String::new() } else { format!(" of {}", human(reserve)) };
        let (code, why) = match lack {
            Lack::Room => (
                ErrorCode::DiskReserve,
                format!("{whose} has {} free, and no room beside its reserve{reserve}", human(free)),
            ),
            Lack::Descriptors => (ErrorCode::Overloaded, format!("{who} is out of file descriptors")),
        };
        let what = format!("{name} refuses pushes: {why}. Nothing was stored; pops and acks still work");
        Error { retry: Retry::AfterMs(1_000), ..Error::refused(code, what) }
    }
}

/// Bytes for people, as in `0.9 GiB`.
fn human(bytes: u64) -> String {
    let (unit, name) = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= unit / 10)
        .unwrap_or((1, "bytes"));
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Looks at the disk again and again. Ends with the node.
pub(crate) async fn watch_disk(consensus: Weak<Consensus>) {
    while let Some(this) = consensus.upgrade() {
        this.look_at_disk();
        let pulse = this.pulse;
        drop(this);
        pulse.beat(LOOK_EVERY).await;
    }
}

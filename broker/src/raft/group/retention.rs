//! What is kept of the log. A snapshot is taken when enough was written or settled; behind it stay the bytes that
//! followers may want who are late (`raft.keep_bytes`). While the disk has little room, and for a minute more, a snapshot
//! is taken as soon as it gives a segment back, and nothing stays behind it. openraft purges nothing by itself: it is
//! asked to here alone.
//!
//! ```text
//! log     [ purged | kept for late followers | since the snapshot ]
//!                  └ at most keep_bytes,     └ snapshot
//!                    nothing under pressure
//! ```

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::growth::SnapshotEvery;
use crate::mutants::{self, Mutant};
use crate::raft::Consensus;

/// So long after the disk had little room what can be given back still is: what is popped then comes back too.
const RELIEF: Duration = Duration::from_secs(60);
/// How often this is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often under pressure.
const PRESSED_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Under pressure, a follower that still reads what is to be purged is given a snapshot after this time.
const READ_MAX: Duration = Duration::from_secs(2);
/// How often files are looked for again, under pressure, that nothing needs any more: some were being read.
const COLLECT_EVERY: Duration = Duration::from_secs(10);

/// What was done so far.
struct Done {
    /// Until when all is given back that can be: a while after the disk last had little room.
    relief: Option<Instant>,
    /// The entry that the log was last asked to be purged up to, and when.
    asked: Option<(u64, Instant)>,
    /// The purge mark, and the snapshots that were being sent, when files were last looked for that may go.
    collected: (Option<u64>, usize),
    collected_at: Instant,
}

/// Takes snapshots, purges the log behind them and gives segments back that nothing needs. Ends with the node.
pub(crate) async fn keep(consensus: Weak<Consensus>) {
    let now = Instant::now();
    let mut done = Done { relief: None, asked: None, collected: (None, 0), collected_at: now };
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let every = if this.is_pressed(&mut done) { PRESSED_LOOK_EVERY } else { LOOK_EVERY };
        let machine = Arc::clone(&this.machine);
        drop(this);
        let woken = tokio::time::timeout(every, machine.due.notified()).await.is_ok();
        let Some(this) = consensus.upgrade() else { return };
        let (pressed, growth, options) = (this.is_pressed(&mut done), machine.growth(), &this.options);
        let every = SnapshotEvery { entries: options.snapshot_entries, bytes: options.snapshot_bytes };
        let due = growth.is_due(every) || pressed && growth.bytes() >= this.log.segment_size();
        if due && this.raft.trigger().snapshot().await.is_err() {
            return;
        }
        if woken || due {
            // Raft hears a little later of a snapshot that was published.
            tokio::time::sleep(options.heartbeat).await;
        }
        if this.purge(&mut done, pressed).await.is_err() {
            return;
        }
        this.collect(&mut done, pressed);
    }
}

impl Consensus {
    /// The disk of this node has little room, or had lately: what can be given back is.
    fn is_pressed(&self, done: &mut Done) -> bool {
        let now = Instant::now();
        if self.room.borrow().pressed {
            done.relief = Some(now + RELIEF);
        }
        done.relief.is_some_and(|until| now < until)
    }

    async fn purge(&self, done: &mut Done, pressed: bool) -> Result<(), ()> {
        let Some(snapshot) = self.machine.snapshot_last() else { return Ok(()) };
        let keep =
            if pressed && !mutants::on(Mutant::KeptUnderPressure) { 0 } else { self.options.keep_bytes };
        if let Some(upto) = self.log.purge_bound(snapshot.index, keep) {
            // Again and again until it is done: Raft may not know of the snapshot yet.
            self.raft.trigger().purge_log(upto).await.map_err(|_| ())?;
            if done.asked.is_none_or(|(asked, _)| asked != upto) {
                done.asked = Some((upto, Instant::now()));
            }
        }
        // A leader's Raft waits with the purge while the entries are being streamed to a follower.
        let purged = self.log.state().purged.map_or(0, |id| id.index);
        if let Some((asked, at)) = done.asked.filter(|(asked, _)| pressed && *asked > purged)
            && at.elapsed() >= READ_MAX
        {
            self.network.release(asked);
        }
        Ok(())
    }

    /// Looks for files that may go if something may have changed that kept them.
    fn collect(&self, done: &mut Done, pressed: bool) {
        let now = (self.log.state().purged.map(|id| id.index), self.machine.snapshots_sent());
        let again = pressed && done.collected_at.elapsed() >= COLLECT_EVERY;
        if now != done.collected || again {
            (done.collected, done.collected_at) = (now, Instant::now());
            self.machine.collect();
        }
    }
}

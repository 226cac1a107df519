//! How long a leader stays one: it sends heartbeats while a quorum answers them, falls silent when none does, and hands
//! over when its disk is slower than those of its followers.
//!
//! A leader that no quorum answers takes no writes. Its heartbeats may arrive all the same, when only the answers are lost
//! or late; then nobody else would ever be elected. So it stops sending them.
//!
//! Raft's own timer decides on elections alone, as heartbeats are sent from here: it runs only while no leader is heard.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;

use super::clocks::Instant;
use super::leadership::Leadership;
use crate::raft::Consensus;
use crate::raft::node::pulse;
use crate::raft::openraft::types::TypeConfig;

/// A sync that takes longer makes a leader slow, if a follower has done the same meanwhile.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// So many of them in a row, and it hands over.
const SLOW_SYNCS: u32 = 2;
/// How long a leader is one before it may hand over for that: two slow disks must not play catch.
const TENURE_MIN: Duration = Duration::from_secs(10);
/// Between two looks at how long syncs take.
const LOOK_EVERY: Duration = Duration::from_millis(600);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a leader does at a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beat {
    /// Tells its followers that it leads.
    Send,
    /// Lets them elect another.
    BeSilent,
}

/// Whether a leader goes on: it may be without a quorum for `patience`, and is silent for twice as long then.
#[derive(Debug)]
struct Tenure {
    leadership: Leadership,
    /// The last sign of a quorum, or the end of the last silence.
    hope: Instant,
    silent_since: Option<Instant>,
}

impl Tenure {
    fn new(leadership: Leadership, now: Instant) -> Self {
        Self { leadership, hope: now, silent_since: None }
    }

    /// `acked`: when what a quorum has answered was sent.
    fn beat(&mut self, acked: Option<Instant>, now: Instant, patience: Duration) -> Beat {
        if let Some(acked) = acked.filter(|acked| *acked > self.hope) {
            self.hope = acked;
        }
        match self.silent_since {
            None if now > self.hope + patience => self.silent_since = Some(now),
            // Nobody took over: it tries again.
            Some(since) if now > since + 2 * patience => {
                self.silent_since = None;
                self.hope = now;
            }
            _ => {}
        }
        if self.silent_since.is_some() { Beat::BeSilent } else { Beat::Send }
    }
}

/// Sends heartbeats while this node leads and is of use. Ends with the node.
pub(in crate::raft) async fn beat(consensus: Weak<Consensus>) {
    let mut tenure: Option<Tenure> = None;
    let Some(mut view) = consensus.upgrade().map(|this| this.watch()) else { return };
    loop {
        let Some(this) = consensus.upgrade() else { return };
        this.note_log_end();
        let now = TypeConfig::now();
        tenure = this.seat.leadership().map(|leadership| {
            let going_on = tenure.filter(|tenure| tenure.leadership == leadership);
            going_on.unwrap_or_else(|| Tenure::new(leadership, now))
        });
        let was_silent = tenure.as_ref().is_some_and(|tenure| tenure.silent_since.is_some());
        let patience = 2 * this.options.election_max;
        let beat = tenure.as_mut().map(|tenure| tenure.beat(this.seat.acked(), now, patience));
        // Raft beats too, now and then, and for every read.
        this.raft.runtime_config().heartbeat(beat != Some(Beat::BeSilent));
        this.seat.set_silent(beat == Some(Beat::BeSilent));
        this.raft.runtime_config().tick(tenure.is_none() && !this.seat.hears_leader());
        match beat {
            Some(Beat::Send) if this.raft.trigger().heartbeat().await.is_err() => return,
            Some(Beat::BeSilent) if !was_silent => {
                tracing::warn!("no quorum answers: this leader is silent, so that another can be elected");
            }
            _ => {}
        }
        let (pulse, heartbeat) = (this.pulse, this.options.heartbeat);
        drop(this);
        let pause = if tenure.is_some() { heartbeat } else { heartbeat.max(pulse::LOOK_EVERY) };
        // A view that has ended ends with the node.
        let _ = tokio::time::timeout_at(pulse.next(pause), view.changed()).await;
    }
}

/// Hands leadership over while syncs take long here and not elsewhere. Ends with the node.
pub(in crate::raft) async fn watch_disk_speed(consensus: Weak<Consensus>) {
    let mut slow = 0;
    let mut leading: Option<(Leadership, Instant)> = None;
    loop {
        let Some(this) = consensus.upgrade() else { return };
        let now = TypeConfig::now();
        leading = this.seat.leadership().map(|leadership| {
            leading.filter(|(before, _)| *before == leadership).unwrap_or((leadership, now))
        });
        let settled = leading.is_some_and(|(_, since)| now >= since + TENURE_MIN);
        if settled && this.syncs_slower_than_a_voter().await {
            slow += 1;
        } else {
            slow = 0;
        }
        if slow >= SLOW_SYNCS {
            slow = 0;
            tracing::warn!("the disk of this leader is slower than those of its followers, it hands over");
            if let Err(error) = this.transfer(None, TRANSFER_TIMEOUT).await {
                tracing::warn!(%error, "nobody took leadership over");
            }
        }
        let pulse = this.pulse;
        drop(this);
        pulse.beat(LOOK_EVERY).await;
    }
}

impl Consensus {
    /// What the log holds now takes long to reach the disk, and is on that of another voter already.
    async fn syncs_slower_than_a_voter(self: &Arc<Self>) -> bool {
        let Some(last) = self.log.state().last else { return false };
        if tokio::time::timeout(SLOW_SYNC, self.log.flush()).await.is_ok() {
            return false;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return false };
        let me = self.me.credentials.node.0;
        metrics.membership_config.membership().voter_ids().filter(|voter| *voter != me).any(|voter| {
            let matched = replication.get(&voter).and_then(Option::as_ref);
            matched.is_some_and(|matched| matched.index >= last.index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_quorum_falls_silent_and_tries_again_if_nobody_follows() {
        let begin = TypeConfig::now();
        let after = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut tenure = Tenure::new(Leadership { term: 1 }, begin);
        assert_eq!(tenure.beat(None, after(2), PATIENCE), Beat::Send);
        assert_eq!(tenure.beat(Some(after(3)), after(4), PATIENCE), Beat::Send);
        assert_eq!(tenure.beat(Some(after(3)), after(5), PATIENCE), Beat::Send);
        assert_eq!(tenure.beat(Some(after(3)), after(6), PATIENCE), Beat::BeSilent);
        assert_eq!(tenure.beat(Some(after(3)), after(10), PATIENCE), Beat::BeSilent);
        assert_eq!(tenure.beat(Some(after(3)), after(11), PATIENCE), Beat::Send);
        assert_eq!(tenure.beat(Some(after(3)), after(13), PATIENCE), Beat::Send);
        assert_eq!(tenure.beat(Some(after(3)), after(14), PATIENCE), Beat::BeSilent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_answered_late_goes_on() {
        let begin = TypeConfig::now();
        let mut tenure = Tenure::new(Leadership { term: 1 }, begin);
        for beat in 3..1_000 {
            let now = begin + Duration::from_millis(150) * beat;
            let acked = begin + Duration::from_millis(150) * (beat - 3);
            assert_eq!(tenure.beat(Some(acked), now, PATIENCE), Beat::Send);
        }
    }
}

//! The cluster's feature level as this node has applied it, what its members speak, and the way up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::NodeId;
use queue_protocol::wire::level::{Level, Levels};
use tokio::time::Instant;

use crate::locked::Locked as _;
use crate::queue::command::{Batch, Op};
use crate::queue::reply::Outcome;
use crate::raft::Consensus;

/// What a member said longer ago is not known any more: another build may run there now.
const SAID_AGE_MAX: Duration = Duration::from_secs(5);

/// The level that is written, and the levels that are spoken. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct Spoken {
    own: Levels,
    cluster: Arc<AtomicU32>,
    peers: Arc<Mutex<BTreeMap<NodeId, (Levels, Instant)>>>,
}

/// This node cannot go on: the cluster is at a level that it does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is at feature level {cluster}, and queued {} speaks {own}. Nothing was changed",
    env!("CARGO_PKG_VERSION")
)]
pub(crate) struct NotSpoken {
    pub(crate) cluster: Level,
    pub(crate) own: Levels,
}

impl NotSpoken {
    /// What an operator can do about it.
    pub(crate) const WHAT_TO_DO: &str =
        "Start a queued that speaks it; queuectl cluster status shows what the others run";
}

impl Spoken {
    pub(crate) fn new(own: Levels) -> Self {
        Self { own, cluster: Arc::new(AtomicU32::new(Level::FIRST.0)), peers: Arc::default() }
    }

    pub(crate) fn own(&self) -> Levels {
        self.own
    }

    /// What is written at: the level of the last entry applied.
    pub(crate) fn cluster(&self) -> Level {
        Level(self.cluster.load(Ordering::Acquire))
    }

    /// The state is at this level now.
    ///
    /// # Errors
    /// It is not spoken here.
    pub(crate) fn reach(&self, level: Level) -> Result<(), NotSpoken> {
        self.check(level)?;
        self.cluster.store(level.0, Ordering::Release);
        Ok(())
    }

    /// This level is not even known here.
    pub(crate) fn unknown(&self, level: Level) -> NotSpoken {
        NotSpoken { cluster: level, own: self.own }
    }

    fn check(&self, level: Level) -> Result<(), NotSpoken> {
        if self.own.speak(level) { Ok(()) } else { Err(NotSpoken { cluster: level, own: self.own }) }
    }

    /// Looks at an entry before it is applied.
    ///
    /// # Errors
    /// It was written at a level that is not spoken here, or raises the cluster's to one.
    pub(crate) fn check_batch(&self, written: Level, batch: &Batch) -> Result<(), NotSpoken> {
        self.check(written)?;
        let mut raised = batch.commands.iter().filter_map(|command| match &command.op {
            Op::RaiseLevel(level) => Some(*level),
            _ => None,
        });
        raised.try_for_each(|level| self.check(level))
    }

    /// A peer said what it speaks.
    pub(crate) fn hear(&self, peer: NodeId, levels: Levels) {
        let mut peers = self.peers.locked();
        peers.insert(peer, (levels, Instant::now()));
    }

    fn of(&self, peer: NodeId) -> Option<Levels> {
        let peers = self.peers.locked();
        let (levels, at) = peers.get(&peer)?;
        (at.elapsed() <= SAID_AGE_MAX).then_some(*levels)
    }

    /// Lets a node in, member or not yet.
    ///
    /// # Errors
    /// It does not speak the level the cluster is at.
    pub(crate) fn admit(&self, levels: Levels) -> Result<(), Error> {
        let cluster = self.cluster();
        if levels.speak(cluster) {
            return Ok(());
        }
        let what = if levels.max < cluster {
            format!(
                "the cluster is at feature level {cluster}, and that node speaks {levels}: install a newer queued there"
            )
        } else {
            format!(
                "the cluster is at feature level {cluster}, and that node speaks {levels}: raise the cluster's first, with \
                 queuectl cluster upgrade, or install an older queued there"
            )
        };
        Err(Error::refused(ErrorCode::LevelUnknown, what))
    }
}

impl Consensus {
    /// Raises the cluster's level to `asked`, or as far as all members speak.
    ///
    /// # Errors
    /// `level_not_spoken` with the member that does not speak it or does not answer; `bad_request` for a lower one.
    pub(crate) async fn raise_level(&self, asked: Option<Level>) -> Result<Level, Error> {
        self.read_index().await?;
        // Who joins is looked at under the same lock.
        let _one = self.joining.lock().await;
        let spoken = &self.me.credentials.spoken;
        let (now, own) = (spoken.cluster(), spoken.own());
        let mut speakers = vec![(self.me.name.clone(), own)];
        for (node, member) in self.members().0 {
            if node == self.me.credentials.node.0 {
                continue;
            }
            let levels = spoken.of(NodeId(node)).ok_or_else(|| {
                let what = format!("{} does not answer: what it speaks is not known", member.name);
                Error::again(ErrorCode::LevelNotSpoken, what)
            })?;
            speakers.push((member.name, levels));
        }
        let highest = speakers.iter().map(|(_, levels)| levels.max).min().unwrap_or(own.max);
        let level = asked.unwrap_or(highest.max(now));
        if level < now {
            let what = format!("the cluster is at feature level {now}, and never goes back");
            return Err(Error::refused(ErrorCode::BadRequest, what));
        }
        if let Some((name, levels)) = speakers.iter().find(|(_, levels)| !levels.speak(level)) {
            let what = format!(
                "{name} speaks feature level {levels}, not {level}: install another queued there first"
            );
            return Err(Error::refused(ErrorCode::LevelNotSpoken, what));
        }
        if level == now {
            return Ok(now);
        }
        match self.ask_state(Op::RaiseLevel(level)).await {
            Some(Ok(Outcome::Raised(level))) => {
                tracing::info!(%level, "the cluster's feature level was raised");
                Ok(level)
            }
            Some(Err(refusal)) => {
                Err(Error::refused(refusal.code, format!("feature level {level} is not known")))
            }
            _ => {
                Err(Error::unknown(ErrorCode::NotConfirmed, "leadership was lost while the level was raised"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::bounded::Bounded;

    use super::*;
    use crate::queue::command::{Command, Stamps};

    fn levels(min: u32, max: u32) -> Levels {
        Levels { min: Level(min), max: Level(max) }
    }

    #[test]
    fn who_does_not_speak_the_clusters_level_is_told_what_to_do() {
        let spoken = Spoken::new(levels(1, 3));
        spoken.reach(Level(2)).unwrap();
        assert_eq!(spoken.admit(levels(1, 2)), Ok(()));
        let old = spoken.admit(levels(1, 1)).unwrap_err();
        assert!(old.code == ErrorCode::LevelUnknown && old.message.contains("install a newer"), "{old}");
        let new = spoken.admit(levels(3, 4)).unwrap_err();
        assert!(new.message.contains("cluster upgrade"), "{new}");
    }

    #[test]
    fn an_entry_above_what_is_spoken_is_not_applied() {
        let spoken = Spoken::new(levels(1, 1));
        let raise = |level| {
            let raise = Command { session: None, op: Op::RaiseLevel(Level(level)) };
            Batch { stamps: Stamps::default(), commands: Bounded::new(vec![raise]).unwrap() }
        };
        assert_eq!(spoken.check_batch(Level(1), &raise(1)), Ok(()));
        let above = Err(NotSpoken { cluster: Level(2), own: levels(1, 1) });
        assert_eq!(spoken.check_batch(Level(1), &raise(2)), above);
        assert_eq!(spoken.check_batch(Level(2), &raise(1)), above);
        assert_eq!(spoken.reach(Level(2)), above);
        assert_eq!(spoken.cluster(), Level(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_member_said_long_ago_is_not_known() {
        let spoken = Spoken::new(levels(1, 2));
        spoken.hear(NodeId(2), levels(1, 2));
        assert_eq!(spoken.of(NodeId(2)), Some(levels(1, 2)));
        tokio::time::advance(SAID_AGE_MAX + Duration::from_millis(1)).await;
        assert_eq!((spoken.of(NodeId(2)), spoken.of(NodeId(3))), (None, None));
    }
}

//! Rounds that ask a quorum whether this node still leads. Whoever asks while as many are under way as may be shares the
//! next one: a thousand reads that wait cost one round.

use std::sync::{Arc, Mutex, MutexGuard};

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use queue_protocol::error::Error;
use tokio::sync::oneshot;

use crate::locked::Locked as _;
use crate::mutants::{self, Mutant};
use crate::raft::{Consensus, READ_TIMEOUT, Raft, spawn};

/// Rounds under way. More than one, so that one that hangs does not hold everybody up.
const ROUNDS_MAX: usize = 2;

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum Round {
    /// This node led after the round began, and has applied all that was committed before.
    Leads,
    /// It does not lead.
    Follows,
    /// No quorum answered in time.
    NoQuorum,
}

#[derive(Default)]
struct Asked {
    under_way: usize,
    waiting: Vec<oneshot::Sender<Round>>,
}

/// All rounds of this node.
pub(in crate::raft) struct Rounds {
    raft: Raft,
    asked: Mutex<Asked>,
}

impl Rounds {
    pub(in crate::raft) fn new(raft: Raft) -> Arc<Self> {
        Arc::new(Self { raft, asked: Mutex::default() })
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.locked()
    }

    /// What a round comes to that begins after this call.
    pub(in crate::raft) async fn ask(self: &Arc<Self>) -> Round {
        let (tell, told) = oneshot::channel();
        let begin = {
            let mut asked = self.asked();
            asked.waiting.push(tell);
            let begin = asked.under_way < ROUNDS_MAX;
            asked.under_way += usize::from(begin);
            begin
        };
        if begin {
            spawn(Arc::clone(self).run());
        }
        match tokio::time::timeout(READ_TIMEOUT, told).await {
            Ok(Ok(round)) => round,
            Ok(Err(_)) | Err(_) => Round::NoQuorum,
        }
    }

    /// One round after the other, until nobody waits.
    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut asked = self.asked();
                if asked.waiting.is_empty() {
                    asked.under_way -= 1;
                    return;
                }
                std::mem::take(&mut asked.waiting)
            };
            let round = self.round().await;
            for tell in waiting {
                // Who asked may have lost patience.
                let _ = tell.send(round);
            }
        }
    }

    async fn round(&self) -> Round {
        let reading = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(_)) => Round::Leads,
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Round::Follows,
            Ok(Err(_)) | Err(_) => Round::NoQuorum,
        }
    }
}

impl Consensus {
    /// Makes sure that this node still leads and has applied all that was committed before the call.
    pub(crate) async fn read_index(&self) -> Result<u64, Error> {
        if mutants::on(Mutant::ReadWithoutQuorum) && self.leads() {
            return Ok(self.machine.read(|_, index| index));
        }
        if self.seat.is_silent() {
            return Err(self.no_quorum());
        }
        match self.rounds.ask().await {
            Round::Leads => Ok(self.machine.read(|_, index| index)),
            Round::Follows => Err(self.not_leader()),
            Round::NoQuorum => Err(self.no_quorum()),
        }
    }
}

//! Somebody else who sees what a node applies: tests that compare replicas with each other and with what clients were
//! told. Production has none.

use std::fmt;
use std::sync::Arc;

use queue_protocol::content::ContentSpec;

use crate::queue::State;
use crate::queue::command::Batch;
use crate::queue::reply::Reply;

/// What a node's state machine did, or its leader.
#[derive(Debug)]
pub enum Seen<'a> {
    /// It leads and has stamped the commands of an entry, which may come to nothing.
    Stamped {
        /// The commands as they were stamped.
        batch: &'a Batch,
    },
    /// It applied an entry.
    Applied {
        /// Raft index of the entry.
        index: u64,
        /// Raft term of the entry.
        term: u64,
        /// The commands of the entry.
        batch: &'a Batch,
        /// Size and checksum of each content of the entry.
        table: &'a [ContentSpec],
        /// One reply for each command, in order.
        replies: &'a [Reply],
        /// The state after the entry.
        state: &'a State,
    },
    /// It took a state from a snapshot, its own at start or a leader's.
    Taken {
        /// Raft index of the last entry in it.
        index: u64,
        /// The state that was taken in.
        state: &'a State,
    },
    /// As a leader it takes it by the time of day how much time has passed, since no voter knows.
    TimeTaken {
        /// The time of day in the state, Unix milliseconds.
        wall_ms: u64,
        /// The elapsed clock of the state.
        elapsed_ms: u64,
        /// Milliseconds that are added to the elapsed clock.
        gone_ms: u64,
    },
}

type Tell = dyn Fn(&Seen<'_>) + Send + Sync;

/// Called under the state's lock: keep it short in real time, and do not block.
#[derive(Clone, Default)]
pub struct Witness(Option<Arc<Tell>>);

impl Witness {
    /// Hears of everything from the start of the node on.
    pub fn new(tell: impl Fn(&Seen<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(in crate::raft) fn tell(&self, seen: &Seen<'_>) {
        if let Some(tell) = &self.0 {
            tell(seen);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Witness" } else { "nobody" })
    }
}

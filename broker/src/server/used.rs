//! Which keys are used at this node, so that people see which are not any more: the leader tells the state, once an hour a key.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use queue_protocol::wire::bounded::Bounded;

use super::caller::Caller;
use super::dispatch::Dispatch;
use crate::locked::Locked as _;
use crate::queue::command::{KEYS_NOTED_MAX, Op};
use crate::queue::{KeyNumber, ROOT_KEY};

/// How often it is looked which keys were used.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A use is not told again within this time, in milliseconds.
const TOLD_EVERY_MS: u64 = 3_600_000;

/// See the module.
pub(crate) struct Used {
    keys: Mutex<BTreeSet<KeyNumber>>,
    /// Goes up with each look: a connection notes its key once between two.
    round: AtomicU64,
}

impl Used {
    pub(super) fn new() -> Self {
        Self { keys: Mutex::default(), round: AtomicU64::new(1) }
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<KeyNumber>> {
        self.keys.locked()
    }

    /// The client of a connection asks for something.
    pub(super) fn note(&self, caller: &Caller) {
        let Some(key) = caller.login.filter(|key| *key != ROOT_KEY) else { return };
        let round = self.round.load(Ordering::Relaxed);
        if caller.noted.swap(round, Ordering::Relaxed) != round {
            self.keys().insert(key);
        }
    }

    fn take(&self) -> BTreeSet<KeyNumber> {
        self.round.fetch_add(1, Ordering::Relaxed);
        std::mem::take(&mut *self.keys())
    }
}

/// Tells the state, while this node leads. Never ends.
pub(super) async fn tell(dispatch: Arc<Dispatch>) {
    loop {
        let consensus = &dispatch.consensus;
        tokio::time::sleep_until(consensus.pulse().next(LOOK_EVERY)).await;
        let used = dispatch.used.take();
        if used.is_empty() || consensus.ready().is_none() {
            continue;
        }
        let due = consensus.read(|state, _| {
            let told_long_ago = |key: &KeyNumber| {
                let told_ms = state.key_used_ms(*key);
                told_ms.is_none_or(|told_ms| told_ms.saturating_add(TOLD_EVERY_MS) <= state.wall_ms())
            };
            used.into_iter().filter(told_long_ago).take(KEYS_NOTED_MAX).collect::<Vec<_>>()
        });
        if !due.is_empty() {
            // What is not told now is told when it is used again.
            let due = Bounded::new(due).expect("no more were taken");
            let _ = consensus.ask_state(Op::NoteKeys(due)).await;
        }
    }
}

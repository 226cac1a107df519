//! What every node applied: the first to apply an entry says what it was, the others must agree.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue_broker::queue::State;
use queue_broker::queue::command::Batch;
use queue_broker::queue::reply::Reply;
use queue_broker::raft::{Seen, Witness};
use queue_protocol::content::ContentSpec;

use super::clocks::{Clocks, TimeTaken};
use super::leases::Leases;

/// States are compared at every so manyth entry, and where a snapshot was taken over.
const COMPARED_EVERY: u64 = 8;
/// Messages up to which a state is checked whole after each entry.
const CHECKED_WHOLE_MAX: u64 = 2_000;
/// With more it is checked at every so manyth entry.
const CHECKED_EVERY: u64 = 4_096;

/// An entry, as the first node applied it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Raft term.
    pub term: u64,
    /// Its commands.
    pub batch: Batch,
    /// Its body table.
    pub table: Vec<ContentSpec>,
    /// One a command.
    pub replies: Vec<Reply>,
}

/// Counts of what happened on the nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Entries applied, on all nodes together.
    pub applied: u64,
    /// States taken over from snapshots.
    pub taken: u64,
    /// Comparisons of two states.
    pub compared: u64,
    /// States that were checked for what must always hold of them.
    pub checked: u64,
    /// Leases whose time was over.
    pub leases_ended: u64,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<u64, Applied>,
    hashes: BTreeMap<u64, (u64, String)>,
    newest: BTreeMap<String, (u64, State)>,
    leases: Leases,
    violations: Vec<String>,
    tally: Tally,
    clocks: Clocks,
}

/// What all nodes of one cluster applied. Clones are the same.
#[derive(Clone, Default)]
pub struct Replicas {
    inner: Arc<Mutex<Inner>>,
}

/// A number for a state; equal states have equal ones.
fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.encode(&mut |piece| hasher.write(piece));
    hasher.finish()
}

/// What a state contradicts itself in, if it does.
fn broken(state: &State) -> Option<String> {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| state.check())).err()?;
    let what = panic.downcast_ref::<String>().cloned();
    Some(what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned())).unwrap_or_default())
}

impl Inner {
    /// Asserts what must always hold of a state.
    fn check(&mut self, node: &str, index: u64, state: &State) {
        let totals = state.stats();
        let messages = totals.ready + totals.leased + totals.delayed + totals.dead;
        if messages <= CHECKED_WHOLE_MAX || index.is_multiple_of(CHECKED_EVERY) {
            self.tally.checked += 1;
            let broken =
                broken(state).map(|what| format!("{node}: the state after entry {index} is broken: {what}"));
            self.violations.extend(broken);
        }
    }

    fn compare(&mut self, node: &str, index: u64, state: &State) {
        let found = hash(state);
        self.tally.compared += 1;
        match self.hashes.get(&index) {
            Some((known, other)) if *known != found => {
                self.violations.push(format!("{node} and {other} have different states after entry {index}"));
            }
            Some(_) => {}
            None => {
                self.hashes.insert(index, (found, node.to_owned()));
            }
        }
    }

    fn see(&mut self, node: &str, elapsed_ms: u64, seen: &Seen<'_>) {
        let now = Duration::from_millis(elapsed_ms);
        let (index, state) = match seen {
            Seen::Stamped { batch } => {
                self.violations.extend(self.clocks.stamped(now, batch.stamps.elapsed_ms));
                return self.leases.stamp(batch, elapsed_ms);
            }
            Seen::Applied { index, term, batch, table, replies, state } => {
                self.tally.applied += 1;
                if !self.entries.contains_key(index) {
                    self.violations.extend(self.leases.apply(*index, batch, replies, state));
                    self.tally.leases_ended = self.leases.ended();
                    self.check(node, *index, state);
                }
                self.entry(node, *index, *term, batch, table, replies);
                let (wall_ms, clock_ms) = (state.wall_ms(), state.elapsed_ms());
                let at = self.leases.stamped_ms(batch).map_or(now, Duration::from_millis);
                self.violations.extend(self.clocks.applied(*index, at, wall_ms, clock_ms));
                let clock_ms = state.lease_clock_ms();
                if clock_ms > elapsed_ms {
                    self.violations.push(format!(
                        "after entry {index} the lease clock shows {clock_ms} ms, {elapsed_ms} ms have passed"
                    ));
                }
                (*index, *state)
            }
            Seen::Taken { index, state } => {
                self.tally.taken += 1;
                self.check(node, *index, state);
                self.compare(node, *index, state);
                (*index, *state)
            }
            Seen::TimeTaken { wall_ms, elapsed_ms: shown_ms, gone_ms } => {
                return self.clocks.taken(now, *wall_ms, *shown_ms, *gone_ms);
            }
        };
        if index.is_multiple_of(COMPARED_EVERY) || self.hashes.contains_key(&index) {
            self.compare(node, index, state);
        }
        self.newest.insert(node.to_owned(), (index, state.clone()));
    }

    fn entry(
        &mut self,
        node: &str,
        index: u64,
        term: u64,
        batch: &Batch,
        table: &[ContentSpec],
        replies: &[Reply],
    ) {
        let Some(known) = self.entries.get(&index) else {
            let (batch, table, replies) = (batch.clone(), table.to_vec(), replies.to_vec());
            self.entries.insert(index, Applied { term, batch, table, replies });
            return;
        };
        if known.term != term || known.batch != *batch || known.table != table {
            self.violations.push(format!(
                "{node} applied another entry {index}: of term {term} instead of {}, an applied one was lost",
                known.term
            ));
        } else if known.replies != replies {
            self.violations.push(format!("{node} gave other replies to entry {index}"));
        }
    }
}

impl Replicas {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches `node`. `elapsed_ms` is the time that has passed since the cluster was made.
    pub fn witness(&self, node: &str, elapsed_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Witness {
        let (this, node) = (self.clone(), node.to_owned());
        Witness::new(move |seen| this.lock().see(&node, elapsed_ms(), seen))
    }

    /// From now on leases are to be longer than they were asked for by `leader_lease_ms` at most: for so long a leader
    /// takes it that it leads without a quorum.
    pub fn expect_leases(&self, leader_lease_ms: u64) {
        self.lock().leases.expect(leader_lease_ms);
    }

    /// Everything that was applied, by index.
    pub fn entries(&self) -> BTreeMap<u64, Applied> {
        self.lock().entries.clone()
    }

    /// Where nodes disagreed so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Counts so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// What the entries say of time.
    pub fn clocks(&self) -> Clocks {
        self.lock().clocks.clone()
    }

    /// When time was taken from the time of day, since the last call.
    pub fn times_taken(&self) -> Vec<TimeTaken> {
        self.lock().clocks.take()
    }

    /// The last index each node applied.
    pub fn newest(&self) -> BTreeMap<String, u64> {
        self.lock().newest.iter().map(|(node, (index, _))| (node.clone(), *index)).collect()
    }

    /// Compares the newest states of `nodes`, which stand at the same index.
    pub fn compare_newest(&self, nodes: &[String]) {
        let mut inner = self.lock();
        for node in nodes {
            if let Some((index, state)) = inner.newest.get(node).cloned() {
                inner.compare(node, index, &state);
            }
        }
    }
}

//! A disk that forgets, tears and fails, for tests: in memory, and the same for the same seed.
//!
//! It holds two views, the cache's, which every operation sees, and the platter's, which alone survives
//! [`SimDisk::crash`]. Between them lie pending facts: units of a file (512 or 4,096 bytes), its sizes, and the
//! changes of names. A sync of a file settles its units and sizes, a sync of a directory the names in it, nothing
//! else does. At a crash each pending fact persists or not, independently, so that order means nothing and a file
//! may be long and empty. This is more than a journaling file system loses, and what POSIX allows it to lose.
//!
//! A `SimDisk` is a reference to the disk of one machine; clones are the same disk. [`SimDisk::crash`] ends a boot:
//! files opened before it, and disks from [`SimDisk::boot`], answer errors from then on.

mod disk;
mod faults;
mod names;
mod pages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use self::faults::{Fault, Injection, Op};

use self::faults::Faults;
use self::names::{Names, Target, Tree, normal};
use self::pages::Pages;
use super::rng::Rng;
use super::{DiskError, DiskResult};

/// How a simulated disk behaves.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Decides all that is chance, except crashes, which have a seed of their own.
    pub seed: u64,
    /// Bytes that reach the platter together.
    pub unit: Unit,
    /// Bytes all files may have together; a size counts in full, holes too.
    pub capacity: u64,
    /// How long syncs take.
    pub latency: Latency,
}

/// Bytes that reach the platter together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 512 bytes: a sector of an old disk. Tears more.
    Sector,
    /// 4,096 bytes: a page.
    Page,
}

/// How long syncs take, in simulated time. With all zero no timer is used, so no runtime is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// At least this.
    pub min: Duration,
    /// At most this, evenly spread.
    pub max: Duration,
    /// This many of a thousand stall.
    pub stalls_per_mille: u32,
    /// A stall takes up to this much longer.
    pub stall: Duration,
}

/// How much of what is pending survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Each fact with one half.
    Half,
    /// Each with fifteen sixteenths.
    AlmostAll,
    /// Each with one sixteenth.
    AlmostNone,
    /// Everything, as if the last moment had been synced.
    All,
    /// Nothing that was not synced.
    None,
}

/// What lies on a platter.
#[derive(Clone, Debug, Default)]
pub struct Image {
    names: Tree,
    contents: BTreeMap<u64, Vec<u8>>,
}

/// The disk of one simulated machine. Cheap to clone; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
    /// The boot this reference belongs to; `None` follows the machine through all of them.
    boot: Option<u64>,
}

struct State {
    options: SimOptions,
    unit: usize,
    rng: Rng,
    /// Counts boots.
    boot: u64,
    names: Names,
    contents: BTreeMap<u64, Contents>,
    file_next: u64,
    locks: BTreeMap<PathBuf, u64>,
    lock_next: u64,
    faults: Faults,
}

struct Contents {
    pages: Pages,
    /// Open files of this boot.
    opened: usize,
}

/// Decides for one pending fact after the other.
struct Persists<'a> {
    rng: &'a mut Rng,
    sixteenths: u64,
}

impl Persists<'_> {
    fn next(&mut self) -> bool {
        self.rng.chance(self.sixteenths, 16)
    }
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { seed: 0, unit: Unit::Page, capacity: 1 << 40, latency: Latency::default() }
    }
}

impl SimDisk {
    /// An empty disk, powered on.
    pub fn new(options: SimOptions) -> Self {
        let unit = match options.unit {
            Unit::Sector => 512,
            Unit::Page => 4096,
        };
        let state = State {
            rng: Rng::new(options.seed),
            options,
            unit,
            boot: 0,
            names: Names::default(),
            contents: BTreeMap::new(),
            file_next: 0,
            locks: BTreeMap::new(),
            lock_next: 0,
            faults: Faults::default(),
        };
        Self { shared: Arc::new(Mutex::new(state)), boot: None }
    }

    /// The same disk for the present boot only: after the next crash or kill it answers errors, so that tasks left
    /// over from before cannot touch what the next process does.
    pub fn boot(&self) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(&self.shared), boot: Some(self.state().boot) })
    }

    /// The power goes and comes back: pending facts persist or not, with a bias that the seed chooses too, and only
    /// the platter is left. Open files and locks are gone. Injected faults that did not fire stay.
    pub fn crash(&self, rng_seed: u64) {
        let mut rng = Rng::new(rng_seed);
        let bias = [Bias::Half, Bias::AlmostAll, Bias::AlmostNone][pages::small(rng.below(3))];
        self.crash_with(rng.next_u64(), bias);
    }

    /// [`SimDisk::crash`] with a chosen bias.
    pub fn crash_with(&self, rng_seed: u64, bias: Bias) {
        let sixteenths = match bias {
            Bias::Half => 8,
            Bias::AlmostAll => 15,
            Bias::AlmostNone => 1,
            Bias::All => 16,
            Bias::None => 0,
        };
        let persists = &mut Persists { rng: &mut Rng::new(rng_seed), sixteenths };
        let mut state = self.state();
        let state = &mut *state;
        state.names.crash(persists);
        for contents in state.contents.values_mut() {
            contents.pages.crash(persists);
        }
        state.end_boot();
        state.faults.power_until = None;
    }

    /// The process ends and another may start: files and locks are gone, the cache stays.
    pub fn kill(&self) {
        self.state().end_boot();
    }

    /// Turns the machine off after this many more operations of those that [`Op::mutates`]; all later operations
    /// fail until [`SimDisk::crash`] turns it on.
    pub fn off_after(&self, operations: u64) {
        let mut state = self.state();
        state.faults.power_until = Some(state.faults.mutations.saturating_add(operations));
    }

    /// Whether the machine is off.
    pub fn is_off(&self) -> bool {
        self.state().faults.off()
    }

    /// Operations so far of those that [`Op::mutates`].
    pub fn operations(&self) -> u64 {
        self.state().faults.mutations
    }

    /// Lets an operation go wrong.
    pub fn inject(&self, injection: Injection) {
        assert!(injection.nth > 0, "the next operation is the first");
        self.state().faults.injections.push(injection);
    }

    /// Lets the `nth` operation of a kind from now go wrong, whatever it is on; 1 is the next.
    pub fn fail(&self, op: Op, nth: u64, fault: Fault) {
        self.inject(Injection { op, path: String::new(), nth, fault });
    }

    /// Takes back all faults that have not happened, and tells how many.
    pub fn clear_faults(&self) -> usize {
        std::mem::take(&mut self.state().faults.injections).len()
    }

    /// Faults that have not happened yet.
    pub fn planned_faults(&self) -> usize {
        self.state().faults.injections.len()
    }

    /// Changes the bytes that all files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().options.capacity = bytes;
    }

    /// Changes how long syncs take.
    pub fn set_latency(&self, latency: Latency) {
        self.state().options.latency = latency;
    }

    /// Flips one bit of a file, counted from its first byte's lowest, on the platter and in the cache.
    ///
    /// # Errors
    ///
    /// There is no such file or no such bit.
    pub fn flip(&self, path: &Path, bit: u64) -> DiskResult<()> {
        let mut state = self.state();
        let file = state.file(Op::Open, path)?;
        if !state.pages(file).flip(bit) {
            return Err(DiskError::new("flip", path, io::ErrorKind::UnexpectedEof));
        }
        Ok(())
    }

    /// All bytes of a file, as processes see it. Counts as no operation.
    ///
    /// # Errors
    ///
    /// There is no such file.
    pub fn bytes(&self, path: &Path) -> DiskResult<Vec<u8>> {
        let mut state = self.state();
        let file = state.file(Op::Open, path)?;
        Ok(state.pages(file).cached().to_vec())
    }

    /// All files that processes can name.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.files().map(|(path, _)| path.clone()).collect()
    }

    /// Begins to record operations, or begins anew.
    pub fn record(&self) {
        self.state().faults.record = Some(Vec::new());
    }

    /// What was recorded, one line an operation: the count of those that mutate, what, on which path, where.
    pub fn recorded(&self) -> Vec<String> {
        self.state().faults.record.clone().unwrap_or_default()
    }

    /// What lies on the platter now: for going back to it later, or for another machine.
    pub fn image(&self) -> Image {
        let state = self.state();
        let names = state.names.durable().clone();
        let contents = names.values().filter_map(|target| match target {
            Target::File(file) => Some((*file, state.contents.get(file)?.pages.durable().to_vec())),
            Target::Dir => None,
        });
        Image { contents: contents.collect(), names }
    }

    /// The machine is turned off and comes back with this on the platter; [`Image::default`] is a new disk.
    pub fn restore(&self, image: &Image) {
        let mut state = self.state();
        let state = &mut *state;
        state.names = Names::new(image.names.clone());
        let unit = state.unit;
        let contents = image
            .contents
            .iter()
            .map(|(file, bytes)| (*file, Contents { pages: Pages::new(unit, bytes.clone()), opened: 0 }));
        state.contents = contents.collect();
        state.file_next = state.file_next.max(image.contents.keys().next_back().map_or(0, |last| last + 1));
        state.end_boot();
        state.faults.power_until = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("no operation panics half done")
    }
}

impl State {
    fn end_boot(&mut self) {
        self.boot += 1;
        self.locks.clear();
        for contents in self.contents.values_mut() {
            contents.opened = 0;
        }
        self.forget_unnamed();
    }

    /// Drops files that nobody can reach any more.
    fn forget_unnamed(&mut self) {
        let referred: BTreeSet<u64> = self.names.referred().collect();
        self.contents.retain(|file, contents| contents.opened > 0 || referred.contains(file));
    }

    fn file(&self, op: Op, path: &Path) -> DiskResult<u64> {
        match self.names.get(&normal(path)) {
            Some(Target::File(file)) => Ok(file),
            Some(Target::Dir) => Err(DiskError::new(op.call(), path, io::ErrorKind::IsADirectory)),
            None => Err(DiskError::new(op.call(), path, io::ErrorKind::NotFound)),
        }
    }

    fn pages(&mut self, file: u64) -> &mut Pages {
        &mut self.contents.get_mut(&file).expect("what has a name or is open has contents").pages
    }

    /// Bytes that files may still grow by.
    fn free(&self) -> u64 {
        let sizes =
            self.names.files().filter_map(|(_, file)| Some(self.contents.get(&file)?.pages.cached().len()));
        self.options.capacity.saturating_sub(sizes.map(|size| size as u64).sum())
    }

    /// How long the next sync takes.
    fn latency(&mut self) -> Duration {
        let Latency { min, max, stalls_per_mille, stall } = self.options.latency;
        let mut between = |from: Duration, to: Duration| {
            let spread = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX - 1);
            from + Duration::from_micros(self.rng.below(spread + 1))
        };
        let usual = between(min, max);
        let extra = between(Duration::ZERO, stall);
        if self.rng.chance(u64::from(stalls_per_mille), 1_000) { usual + extra } else { usual }
    }
}

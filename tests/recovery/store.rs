//! The store of one node as `node` and `raft` use it, on a simulated disk, and a workload that does everything to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queue_broker::fs::rng::Rng;
use queue_broker::fs::sim::SimDisk;
use queue_broker::fs::{Disk, create_dirs};
use queue_broker::log::examples::{body, entry, id, joined, vote};
use queue_broker::log::{Contents, Done, Entry, LiveBodies, Log, LogError, LogOptions, Recovered};
use queue_broker::node::identity::{Identity, IdentityError};
use queue_broker::node::{LOG_DIR, SNAPSHOTS_DIR};
use queue_broker::queue::Admission;
use queue_broker::snapshots::{SnapshotError, Snapshots};
use queue_protocol::names::{ClusterId, NodeId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::peer::{LogId, Vote};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The data directory.
pub(crate) fn dir() -> &'static Path {
    Path::new("data")
}

fn log_dir() -> PathBuf {
    dir().join(LOG_DIR)
}

pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_size: 32 << 10,
        spares: 2,
        tail_size: 4 << 10,
        seal_after: Duration::from_millis(20),
        clean_rate: u64::MAX,
        ..LogOptions::new(0x5eed_0000_0000_0001)
    }
}

pub(crate) fn identity() -> Identity {
    let (cluster, node, store) = (ClusterId(7), NodeId(3), StoreId(9));
    let (name, admission) = (Text::cut("n3"), Some(Admission { generation: 1, key: [7; 32] }));
    Identity { cluster, node, store, name, admission, assigned: 5, removed: false, forming: false }
}

/// Lets the other tasks do what they can without time passing.
pub(crate) async fn settle() {
    for _ in 0..60 {
        tokio::task::yield_now().await;
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    #[error(transparent)]
    Log(#[from] LogError),
}

fn watched(
    task: impl Future<Output = Result<(), LogError>> + Send + 'static,
    tell: watch::Sender<Option<String>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = task.await {
            tell.send_replace(Some(error.to_string()));
        }
    })
}

/// An open store with the log's two tasks.
pub(crate) struct Store {
    pub(crate) log: Log,
    pub(crate) snapshots: Snapshots,
    pub(crate) identity: Identity,
    pub(crate) recovered: Recovered,
    /// What ended the writer or the keeper, which ends a node.
    pub(crate) failure: watch::Receiver<Option<String>>,
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Store {
    /// As `node::start` does.
    pub(crate) async fn open(disk: &SimDisk) -> Result<Self, OpenError> {
        let boot: Arc<dyn Disk> = disk.boot();
        let identity = Identity::open(&*boot, dir()).await?.identity;
        let (snapshots, _) = Snapshots::open(Arc::clone(&boot), &dir().join(SNAPSHOTS_DIR)).await?;
        let snapshot_upto = snapshots.newest().map(|file| file.last.index);
        let options = LogOptions { snapshot_upto, ..options() };
        let (log, writer, keeper, recovered) = Log::open(boot, &log_dir(), options).await?;
        let (tell, failure) = watch::channel(None);
        let (writer, keeper) = (watched(writer.run(), tell.clone()), watched(keeper.run(), tell));
        Ok(Self { log, snapshots, identity, recovered, failure, writer, keeper })
    }

    /// The process is gone.
    pub(crate) fn kill(self, disk: &SimDisk) {
        self.stop();
        disk.kill();
    }

    fn stop(&self) {
        self.writer.abort();
        self.keeper.abort();
    }

    /// The orderly end.
    pub(crate) async fn close(self) {
        self.log.close();
        self.writer.await.expect("the writer ends");
        self.keeper.await.expect("the keeper ends");
        assert_eq!(*self.failure.borrow(), None);
    }

    pub(crate) fn entries(&self) -> Result<BTreeMap<u64, Entry>, LogError> {
        let entries = self.log.read(0..u64::MAX, usize::MAX, Contents::With)?;
        Ok(entries.iter().map(|entry| (entry.id.index, joined(entry))).collect())
    }

    /// One more entry, durable.
    pub(crate) async fn append(&self, term: u64) -> LogId {
        let next = self.log.state().last.map_or(0, |last| last.index + 1);
        self.log.append(vec![entry(next, term)], Box::new(|| {}));
        self.log.flush().await.expect("the log is open");
        id(next, term)
    }
}

/// Makes the store, as `node::init` does.
pub(crate) async fn format(disk: &SimDisk) {
    let boot: Arc<dyn Disk> = disk.boot();
    create_dirs(&*boot, dir()).await.expect("an empty disk");
    Snapshots::format(&*boot, &dir().join(SNAPSHOTS_DIR)).await.expect("an empty disk");
    Log::format(Arc::clone(&boot), &log_dir(), &options()).await.expect("an empty disk");
    boot.sync_dir(dir()).await.expect("an empty disk");
    identity().write(&*boot, dir(), 0).await.expect("an empty disk");
}

/// What the log must say after some number of operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) entries: BTreeMap<u64, Entry>,
}

impl View {
    /// What it says.
    pub(crate) fn of(store: &Store) -> Result<Self, LogError> {
        let state = store.log.state();
        Ok(Self { vote: state.vote, purged: state.purged, last: state.last, entries: store.entries()? })
    }
}

/// A snapshot that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) last: LogId,
    /// What it says, which names its bodies.
    pub(crate) state: Vec<u8>,
    pub(crate) live: LiveBodies,
    /// The terms of the entries its bodies are in.
    terms: BTreeMap<u64, u64>,
}

impl Kept {
    fn new(last: LogId, bodies: Vec<(LogId, std::ops::Range<u32>)>) -> Self {
        let live: LiveBodies = bodies.iter().map(|(id, range)| (id.index, range.clone())).collect();
        let terms = bodies.iter().map(|(id, _)| (id.index, id.term)).collect();
        let state = format!("{last:?} {live:?} {}", "x".repeat(3_000)).into_bytes();
        Self { last, state, live, terms }
    }

    /// Every body it names is readable, and is what was pushed.
    pub(crate) fn check(&self, log: &Log) -> Result<(), LogError> {
        for (index, range) in &self.live {
            let whole = entry(*index, self.terms[index]);
            let ordinals: Vec<u32> = range.clone().collect();
            let expected: Vec<_> = ordinals.iter().map(|ordinal| body(&whole, *ordinal)).collect();
            assert_eq!(log.read_bodies(*index, &ordinals)?, expected, "bodies of entry {index}");
        }
        Ok(())
    }
}

/// A workload, what it asked for and what it was told.
pub(crate) struct Script {
    pub(crate) store: Store,
    rng: Rng,
    /// After each record asked for; the first is the empty log.
    pub(crate) views: Vec<View>,
    /// The view that was last reported durable.
    durable: Arc<AtomicUsize>,
    /// Snapshots asked for, by index; of these so many were reported published.
    pub(crate) kept: Vec<Kept>,
    pub(crate) published: usize,
}

impl Script {
    pub(crate) fn new(store: Store, seed: u64) -> Self {
        let views = vec![View::default()];
        Self { store, rng: Rng::new(seed), views, durable: Arc::default(), kept: Vec::new(), published: 0 }
    }

    /// Counts what is reported durable, also after the script is gone.
    pub(crate) fn durable(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.durable)
    }

    /// Stops it, and tells how much was durable.
    pub(crate) fn end(self) -> (Vec<View>, usize, Vec<Kept>, usize) {
        self.store.stop();
        (self.views, self.durable.load(Ordering::Relaxed), self.kept, self.published)
    }

    fn view(&self) -> &View {
        self.views.last().expect("there is the empty one")
    }

    fn done(&self) -> Done {
        let (durable, mine) = (Arc::clone(&self.durable), self.views.len());
        Box::new(move || {
            let before = durable.swap(mine, Ordering::Relaxed);
            assert!(before < mine, "waiters are completed in order");
        })
    }

    fn ask(&mut self, change: impl FnOnce(&mut View), ask: impl FnOnce(&Log, Done)) {
        let mut view = self.view().clone();
        change(&mut view);
        ask(&self.store.log, self.done());
        self.views.push(view);
    }

    /// Entries of one call are not one operation: the first of them may be there alone.
    fn append(&mut self, count: u64, term: u64) {
        let mut view = self.view().clone();
        let first = view.last.map_or(0, |last| last.index + 1);
        let entries: Vec<Entry> = (first..first + count).map(|index| entry(index, term)).collect();
        let (last, others) = entries.split_last().expect("count is not zero");
        for entry in others {
            view.last = Some(entry.id);
            view.entries.insert(entry.id.index, joined(entry));
            self.views.push(view.clone());
        }
        let last = last.clone();
        self.ask(
            |view| {
                view.last = Some(last.id);
                view.entries.insert(last.id.index, joined(&last));
            },
            |log, done| log.append(entries, done),
        );
    }

    fn vote(&mut self, term: u64) {
        self.ask(|view| view.vote = Some(vote(term)), |log, done| log.save_vote(vote(term), done));
    }

    fn truncate(&mut self, keep: LogId) {
        let change = |view: &mut View| {
            view.last = Some(keep);
            view.entries.retain(|index, _| *index <= keep.index);
        };
        self.ask(change, |log, done| log.truncate_after(Some(keep), done));
    }

    fn purge(&mut self, upto: LogId) {
        let change = |view: &mut View| {
            view.purged = Some(upto);
            view.last = view.last.filter(|last| last.index >= upto.index).or(Some(upto));
            view.entries.retain(|index, _| *index > upto.index);
        };
        self.ask(change, |log, done| log.purge_upto(upto, done));
    }

    /// Some of the bodies that are live: those of a few entries in a hundred, or of most.
    fn choose(&mut self, per_mille: u64) -> Vec<(LogId, std::ops::Range<u32>)> {
        let before = self.kept.last().cloned();
        let mut bodies = Vec::new();
        for (index, range) in before.iter().flat_map(|kept| kept.live.iter().cloned()) {
            let term = before.as_ref().map_or(0, |kept| kept.terms[&index]);
            bodies.push((id(index, term), range));
        }
        let covered = before.as_ref().map(|kept| kept.last.index);
        for entry in self.view().entries.values().filter(|entry| Some(entry.id.index) > covered) {
            let count = u32::try_from(entry.table.len()).expect("a few");
            if count > 0 {
                bodies.push((entry.id, 0..count));
            }
        }
        bodies.retain(|_| self.rng.chance(per_mille, 1_000));
        bodies
    }

    /// As `Machine::save`: the log synced first, then the snapshot, then what nothing needs may go.
    async fn snapshot(&mut self, per_mille: u64, keep: u64) -> Option<()> {
        let last = self.view().last.expect("something was appended");
        let bodies = self.choose(per_mille);
        self.store.log.flush().await.ok()?;
        let kept = Kept::new(last, bodies);
        self.kept.push(kept.clone());
        self.store.snapshots.publish(last, b"meta", |out| out(&kept.state)).await.ok()?;
        self.published = self.kept.len();
        let upto = self.view().entries.range(..=last.index.saturating_sub(keep)).next_back();
        if let Some((_, entry)) = upto {
            let upto = entry.id;
            self.purge(upto);
        }
        settle().await;
        self.store.log.collect(kept.live, last.index);
        settle().await;
        Some(())
    }

    /// As `Machine::take_in`: a peer's snapshot of entries that never were here.
    async fn install(&mut self, last: LogId) -> Option<()> {
        let applied = self.view().last.expect("something was appended").index;
        let mut bodies = self.choose(500);
        let new: Vec<u64> = (applied + 1..last.index).step_by(7).filter(|index| index % 5 == 2).collect();
        let mut import = self.store.log.import().ok()?;
        for index in &new {
            let whole = entry(*index, last.term);
            let (spec, bytes) = body(&whole, 0);
            import.add(whole.id, &[(0, spec)], bytes).await.ok()?;
            bodies.push((whole.id, 0..1));
        }
        let kept = Kept::new(last, bodies);
        let mut stage = self.store.snapshots.stage(last, kept.state.len() as u64).ok()?;
        for part in kept.state.chunks(700) {
            stage.add(part).ok()?;
        }
        let staged = stage.finish().ok()?;
        self.store.log.flush().await.ok()?;
        import.publish(applied, last).await.ok()?;
        self.kept.push(kept.clone());
        staged.publish(b"meta").await.ok()?;
        self.published = self.kept.len();
        self.purge(last);
        settle().await;
        self.store.log.collect(kept.live, last.index);
        settle().await;
        Some(())
    }

    /// Everything a store does, some of it at once, some after silence; ends early when the power goes.
    pub(crate) async fn run(&mut self) -> Option<()> {
        self.vote(1);
        settle().await;
        self.append(3, 1);
        let few = 1 + self.rng.below(8);
        self.append(few, 1);
        settle().await;
        self.store.log.save_committed(Some(id(2, 1)));
        self.append(1, 1);
        self.vote(2);
        self.append(8, 1);
        settle().await;
        let last = self.view().last.expect("appended").index;
        let keep = last - self.rng.below(5);
        self.truncate(id(keep, 1));
        self.append(5, 3);
        settle().await;
        tokio::time::sleep(Duration::from_millis(25)).await;
        self.append(12, 3);
        let many = 6 + self.rng.below(12);
        self.append(many, 3);
        self.snapshot(700, 8).await?;
        self.append(30, 3);
        settle().await;
        self.append(20, 3);
        // What is left of the first files is little: it is copied together.
        self.snapshot(60, 3).await?;
        self.vote(4);
        self.append(9, 5);
        settle().await;
        self.snapshot(500, 0).await?;
        self.install(id(300, 6)).await?;
        self.append(25, 6);
        settle().await;
        self.vote(8);
        self.snapshot(150, 2).await?;
        self.append(4, 6);
        settle().await;
        tokio::time::sleep(Duration::from_millis(25)).await;
        self.append(2, 6);
        settle().await;
        Some(())
    }
}

//! openraft's own storage suite on our log and machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::StorageError;
use openraft::entry::EntryPayload;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use queue_protocol::names::NodeId;
use queue_protocol::wire::level::Levels;
use queue_protocol::wire::peer::LogId;

use super::cause::Cause;
use super::log_store::LogStore;
use super::types::{Entry, TypeConfig, to_log_id};
use crate::fs::Disk;
use crate::fs::sim::{SimDisk, SimOptions};
use crate::log::{Log, LogOptions};
use crate::outside::{Job, Tasks};
use crate::raft::cluster::levels::Spoken;
use crate::raft::group::growth::SnapshotEvery;
use crate::raft::group::machine::{Machine, MachineStore, SnapshotData};
use crate::raft::node::witness::Witness;
use crate::snapshots::Snapshots;

struct OnThisRuntime;

impl Tasks for OnThisRuntime {
    fn blocking(&self, _name: &'static str, job: Job) {
        tokio::spawn(job);
    }
    fn serving(&self, job: Job) {
        tokio::spawn(job);
    }
}

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, MachineStore, ()> for Stores {
    async fn build(&self) -> Result<((), LogStore, MachineStore), StorageError<TypeConfig>> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(SimOptions::default()));
        let (log_dir, snapshots_dir) = (PathBuf::from("log"), Path::new("snapshots"));
        disk.create_dir_all(&log_dir).unwrap();
        let options = LogOptions { segment_size: 64 << 10, ..LogOptions::new(7) };
        Log::format(Arc::clone(&disk), &log_dir, &options).await.unwrap();
        let (log, writer, keeper, _) = Log::open(Arc::clone(&disk), &log_dir, options).await.unwrap();
        tokio::spawn(async move { writer.run().await.unwrap() });
        tokio::spawn(async move { keeper.run().await.unwrap() });
        Snapshots::format(&*disk, snapshots_dir).await.unwrap();
        let (snapshots, _) = Snapshots::open(disk, snapshots_dir).await.unwrap();
        let every = SnapshotEvery { entries: 100, bytes: 1 << 20 };
        let (tasks, witness) = (Arc::new(OnThisRuntime), Witness::default());
        let (spoken, cause) = (Spoken::new(Levels::OURS), Cause::default());
        let machine =
            Machine::load(log.clone(), snapshots, every, tasks, witness, spoken, cause.clone()).unwrap();
        Ok(((), LogStore::new(log, cause, Arc::default()), MachineStore(Arc::new(machine))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_stores_pass_openrafts_suite() {
    crate::raft::seeded(1, async {
        Suite::test_all(Stores).await.unwrap();
    })
    .await;
}

/// Applies blank entries `range`.
async fn apply_blanks(machine: &mut MachineStore, range: std::ops::Range<u64>) {
    let entry = |index| Entry {
        log_id: to_log_id(LogId { term: 1, leader: NodeId(1), index }),
        payload: EntryPayload::Blank,
    };
    let entries = range.map(|index| Ok((entry(index), None)));
    machine.apply(futures_util::stream::iter(entries)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_late_does_not_replace_a_newer_one() {
    crate::raft::seeded(2, async {
        let ((), _log, mut machine) = Stores.build().await.unwrap();
        apply_blanks(&mut machine, 0..3).await;
        let mut early = machine.get_snapshot_builder().await;
        apply_blanks(&mut machine, 3..6).await;
        let mut late = machine.get_snapshot_builder().await;
        late.build_snapshot().await.unwrap();
        early.build_snapshot().await.unwrap();
        let newest = machine.get_current_snapshot().await.unwrap().unwrap();
        let SnapshotData::Local(pinned) = newest.snapshot else { panic!("it was published here") };
        assert_eq!(newest.meta.last_log_id.map(|id| id.index), Some(5));
        assert_eq!(pinned.file.last.index, 5);
    })
    .await;
}

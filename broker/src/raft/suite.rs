//! openraft's own storage suite on our log and machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::log_store::LogStore;
use super::machine::{Machine, MachineStore, SnapshotEvery};
use super::types::TypeConfig;
use crate::fs::Disk;
use crate::fs::sim::{SimDisk, SimOptions};
use crate::log::{Log, LogOptions};
use crate::outside::{Job, Tasks};
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
        let machine = Machine::load(log.clone(), snapshots, every, Arc::new(OnThisRuntime)).unwrap();
        Ok(((), LogStore::new(log), MachineStore(Arc::new(machine))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_stores_pass_openrafts_suite() {
    super::seeded(1, async {
        Suite::test_all(Stores).await.unwrap();
    })
    .await;
}

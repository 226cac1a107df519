//! What messages cost on disk: their bodies are written once.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use harness::bodies::{push, stored};
use harness::cluster::Cluster;
use harness::settings::choose;
use harness::until;

const BODY_SIZE: usize = 4 << 10;
const BATCH: usize = 100;

/// Bytes that the files below `dir` take on the disk, as `du` counts them.
fn disk_usage(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory of the node").flatten();
    let usage = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // A file that was replaced this moment.
        Err(_) => 0,
    };
    entries.map(usage).sum()
}

/// Bytes of segments that are ready and were never written: they begin with zeros. Nothing is freed in this test, so
/// none is recycled.
fn preallocated(dir: &Path) -> u64 {
    let log = fs::read_dir(dir.join("log")).expect("the log of the node").flatten();
    let unwritten = |entry: &fs::DirEntry| {
        let mut begin = Vec::new();
        let read = fs::File::open(entry.path()).and_then(|file| file.take(4_096).read_to_end(&mut begin));
        read.is_ok() && begin.iter().all(|byte| *byte == 0)
    };
    log.filter(unwritten).flat_map(|entry| entry.metadata()).map(|metadata| metadata.blocks() * 512).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_needs_little_more_than_the_bodies() {
    let total: usize = choose(64 << 20, 1 << 30);
    let settings = [
        ("QUEUED_STORAGE_SEGMENT_SIZE", choose("4MiB", "64MiB")),
        ("QUEUED_RAFT_SNAPSHOT_EVERY", choose("50", "500")),
        ("QUEUED_RAFT_KEEP_BYTES", "0B"),
    ];
    let cluster = Cluster::start_with(3, &settings).await;
    let client = cluster.client();
    let bodies = vec![vec![b'b'; BODY_SIZE]; BATCH];
    for _ in 0..total.div_ceil(BODY_SIZE * BATCH) {
        stored(&push(&client, "bulk", &bodies).await.expect("they are stored"), BATCH);
    }
    let max =
        (total as u64).div_ceil(BODY_SIZE as u64 * BATCH as u64) * (BODY_SIZE * BATCH) as u64 * 115 / 100;
    let limit = Duration::from_secs(choose(30, 300));
    for n in 0..cluster.count() {
        until("the node has it all in little room", limit, async || {
            let status = cluster.status(n).await?;
            let (leader, _) = cluster.leader().await;
            let commit = cluster.status(leader).await?.commit_index;
            let dir = cluster.data_dir(n);
            let used = disk_usage(dir).saturating_sub(preallocated(dir));
            if status.snapshot_index > 0 && status.applied_index >= commit && used <= max {
                return Ok(());
            }
            Err(format!(
                "{} has applied {} of {commit}, snapshot {}, uses {used} of {max} bytes",
                status.name, status.applied_index, status.snapshot_index
            ))
        })
        .await;
    }
}

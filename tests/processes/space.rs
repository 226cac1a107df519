//! What messages cost on disk: their bodies are written once.

use std::fs;
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

/// Bytes of segments that are ready to be written and hold nothing: files behind the newest that was opened. One
/// begins with the four bytes of its kind when it is opened; before that it is all zeros, or of an older life.
fn preallocated(dir: &Path, segment_size: u64) -> u64 {
    let log = fs::read_dir(dir.join("log")).expect("the log of the node").flatten();
    let mut segments: Vec<_> =
        log.filter(|entry| entry.path().extension().is_some_and(|e| e == "log")).collect();
    segments.sort_by_key(fs::DirEntry::file_name);
    let written = segments.iter().map(|entry| entry.metadata().and_then(|m| m.modified()).ok());
    let newest = written.enumerate().max_by_key(|(_, time)| *time).map_or(0, |(at, _)| at);
    (segments.len() - 1 - newest) as u64 * segment_size
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_needs_little_more_than_the_bodies() {
    let total: usize = choose(64 << 20, 1 << 30);
    let segment: u64 = choose(4 << 20, 64 << 20);
    let segment_text = format!("{}MiB", segment >> 20);
    let settings = [
        ("QUEUED_STORAGE_SEGMENT_SIZE", segment_text.as_str()),
        ("QUEUED_RAFT_SNAPSHOT_EVERY", choose("50", "500")),
        ("QUEUED_RAFT_KEEP_ENTRIES", "10"),
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
            let used = disk_usage(dir).saturating_sub(preallocated(dir, segment));
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

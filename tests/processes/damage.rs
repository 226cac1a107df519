//! Flipped bits: `store verify` says what a node does with each, and a node does what it says.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::bodies::{drain, push};
use harness::cluster::Cluster;
use harness::program::run;
use harness::{LIMIT, until};
use queue_protocol::wire::response::Role;

/// Bits flipped in each file, spread over what is in it.
const FLIPS: u64 = 4;
const SEGMENT_SIZE: u64 = 64 << 10;

/// The files of a data directory, by path.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in [dir.to_owned(), dir.join("log"), dir.join("snapshots")] {
        for entry in std::fs::read_dir(&dir).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            if path.is_file()
                && !path.ends_with("LOCK")
                && !["SECRET", "NODE-KEY", "ADMISSION"].iter().any(|name| path.ends_with(name))
            {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it is not shorter");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("it is ours");
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("it is ours");
    }
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("there is cp");
    assert!(status.success(), "{} was not copied", from.display());
}

/// Places in a file that hold something: where they are few, all of them are near each other.
fn places(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).expect("it is there");
    let used: Vec<u64> = (0..).zip(&bytes).filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    let step = (used.len() as u64 / FLIPS).max(1);
    (0..FLIPS).filter_map(|n| used.get(usize::try_from(n * step + step / 2).ok()?).copied()).collect()
}

/// A node of its own that was stopped with so many messages, and a snapshot that covers at least so many entries.
async fn stopped_with_snapshot(count: u64, at_least: u64) -> Cluster {
    let segment_size = format!("{SEGMENT_SIZE}B");
    let settings = [
        ("QUEUED_RAFT_SNAPSHOT_EVERY", "20"),
        ("QUEUED_RAFT_KEEP_BYTES", "0B"),
        ("QUEUED_STORAGE_SEGMENT_SIZE", segment_size.as_str()),
    ];
    let mut cluster = Cluster::start_with(1, &settings).await;
    for number in 0..count {
        push(&cluster.client(), "q", &[vec![b'x'; 5_000]]).await.unwrap_or_else(|e| panic!("{number}: {e}"));
    }
    until("there is a snapshot", LIMIT, async || {
        let status = cluster.status(0).await?;
        if status.snapshot_index >= at_least { Ok(()) } else { Err(format!("at {}", status.snapshot_index)) }
    })
    .await;
    cluster.stop(0).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_says_what_a_node_does_with_each_flipped_bit() {
    let mut cluster = stopped_with_snapshot(50, 20).await;
    let (dir, image) = (cluster.data_dir(0).to_owned(), cluster.dir().join("image"));
    copy(&dir, &image);
    let (mut refused, mut met, mut fine) = (0, 0, 0);
    // Before any node changes what is there.
    let flips: Vec<(PathBuf, u64)> = files(&dir)
        .into_iter()
        .flat_map(|path| places(&path).into_iter().map(move |at| (path.clone(), at)))
        .collect();
    for (path, offset) in flips {
        copy(&image, &dir);
        flip(&path, offset);
        let place = format!("{} byte {offset}", path.display());
        let mut verify = harness::program::queued();
        verify.args(["store", "verify", "--json"]).arg(&dir);
        let ran = run(&mut verify, b"").await;
        let said = ran.json();
        let findings = said["findings"].as_array().expect("a list");
        assert_eq!(ran.code, if findings.is_empty() { 0 } else { 65 }, "{place}: {ran}");
        let refuses = findings.iter().any(|finding| finding["node"] == "does not start");
        cluster.start_node(0);
        if refuses {
            assert_eq!(cluster.ended(0).await.code(), Some(65), "{place}: {ran}\n{}", cluster.log_of(0));
            refused += 1;
            continue;
        }
        if findings.is_empty() {
            cluster.leader().await;
            let all = drain(&cluster.client(), "q").await;
            assert_eq!(all.len(), 50, "{place}: {ran}");
            cluster.kill(0);
            fine += 1;
            continue;
        }
        // Its own work may read what is damaged, as soon as it has started.
        let ended = until("it leads or has ended", LIMIT, async || {
            if cluster.has_ended(0).is_some() {
                return Ok(true);
            }
            let status = cluster.status(0).await?;
            if status.role == Role::Leader { Ok(false) } else { Err(format!("{:?}", status.role)) }
        })
        .await;
        if ended {
            assert_eq!(cluster.ended(0).await.code(), Some(65), "{place}: {ran}");
        } else {
            cluster.kill(0);
        }
        met += 1;
    }
    assert!(
        refused > 3 && met > 3 && fine > 3,
        "{refused} refused, {met} met later, {fine} without consequence"
    );
}

/// With nobody else to have it, nobody is told that somebody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_that_meets_damage_ends_and_says_that_no_other_has_the_data() {
    // What a snapshot covers is not read at the start.
    let mut cluster = stopped_with_snapshot(60, 40).await;
    let log = cluster.data_dir(0).join("log");
    let first =
        files(cluster.data_dir(0)).into_iter().find(|path| path.starts_with(&log)).expect("it has files");
    let bytes = std::fs::read(&first).expect("it is there");
    let body = bytes.windows(4_000).position(|run| run.iter().all(|byte| *byte == b'x'));
    flip(&first, body.expect("it holds bodies") as u64 + 2_000);
    cluster.restart(0).await;
    let client = cluster.client();
    let reading = tokio::spawn(async move { drain(&client, "q").await.len() });
    assert_eq!(cluster.ended(0).await.code(), Some(65), "{}", cluster.log_of(0));
    let said = cluster.log_of(0);
    assert!(said.contains("No other node has the data: this is a cluster of one"), "{said}");
    assert!(!said.contains("the other nodes have"), "{said}");
    reading.abort();
}

//! A data directory that an earlier build wrote is opened by this one, with everything in it.
//!
//! `tests/golden/N` is the directory of a node alone after [`write()`], without files that hold nothing. When a format
//! changes for good, its number goes up and the old directory stays; until the first release there is one, made anew by
//! `UPDATE_GOLDEN=1 cargo test -p tests --test processes golden`.

use std::fs;
use std::path::{Path, PathBuf};

use harness::cluster::{Cluster, Place};
use tempfile::TempDir;

const SETTINGS: [(&str, &str); 3] = [
    ("QUEUED_STORAGE_SEGMENT_SIZE", "64KiB"),
    ("QUEUED_RAFT_SNAPSHOT_EVERY", "12"),
    ("QUEUED_RAFT_KEEP_BYTES", "0B"),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/1")
}

/// A file that was made in advance and never written.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().take(4_096).all(|byte| *byte == 0)
}

/// Copies what is in `from`, and what is below it, but not the blank files at the end: one in between has its number.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the place is ours");
    let mut entries: Vec<PathBuf> =
        fs::read_dir(from).expect("it is there").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let mut at_the_end = true;
    for from in entries.into_iter().rev() {
        let to = to.join(from.file_name().expect("of an entry"));
        if from.is_dir() {
            copy(&from, &to);
            continue;
        }
        let bytes = fs::read(&from).expect("it is readable");
        at_the_end &= is_blank(&bytes);
        if !at_the_end && !from.ends_with("LOCK") {
            fs::write(&to, bytes).expect("the place is ours");
        }
    }
}

async fn prints(cluster: &Cluster, words: &[&str], text: &str) {
    let ran = cluster.ctl(words).await.expect(0);
    assert!(ran.stdout.contains(text), "{text:?} is not in\n{ran}");
}

/// Something of everything that a directory can hold: settings, priorities, headers, leases, failures, the dead, bodies
/// before and behind a snapshot.
async fn write(cluster: &Cluster) {
    let ctl = async |words: &[&str]| cluster.ctl(words).await.expect(0);
    ctl(&["queue", "create", "jobs", "--max-failures", "1", "--lease", "12h"]).await;
    for number in 0..20 {
        let priority = (number % 3 + 3).to_string();
        ctl(&["push", "jobs", &format!("job {number}"), "--priority", &priority]).await;
    }
    ctl(&["push", "late", "--create", "later", "--delay", "1d", "-H", "kind=late"]).await;
    prints(cluster, &["pop", "jobs", "-n", "2"], "job 2\njob 5").await;
    let leased = ctl(&["--json", "lease", "jobs"]).await.json();
    let receipt = leased["receipt"].as_str().expect("a lease has a receipt").to_owned();
    ctl(&["nack", &receipt, "--reason", "broken"]).await;
    prints(cluster, &["lease", "jobs"], "job 11").await;
    ctl(&["push", "big", "--create", &"x".repeat(20_000)]).await;
}

async fn check(cluster: &Cluster) {
    let ctl = async |words: &[&str]| cluster.ctl(words).await.expect(0);
    prints(cluster, &["peek", "jobs", "-n", "100", "--state", "dead"], "job 8").await;
    prints(cluster, &["peek", "jobs", "-n", "100", "--state", "leased"], "job 11").await;
    // It is due a day after the directory was made.
    let delayed = cluster.ctl(&["peek", "late", "--state", "delayed"]).await.stdout;
    let ready = cluster.ctl(&["peek", "late", "--state", "ready"]).await.stdout;
    assert!(format!("{delayed}{ready}").contains("later"), "{delayed}{ready}");
    let ready = ctl(&["pop", "jobs", "-n", "100"]).await.stdout;
    let rest =
        [14, 17, 1, 4, 7, 10, 13, 16, 19, 0, 3, 6, 9, 12, 15, 18].map(|number| format!("job {number}\n"));
    assert_eq!(ready, rest.concat());
    prints(cluster, &["pop", "big"], &"x".repeat(20_000)).await;
    ctl(&["push", "jobs", "one more"]).await;
    prints(cluster, &["pop", "jobs"], "one more").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_an_earlier_build_is_opened() {
    let place = |dir: &TempDir| vec![Place::local(dir.path().join("n1"))];
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let places = place(&dir);
        let mut cluster = Cluster::start_in(dir, places, &SETTINGS).await;
        write(&cluster).await;
        cluster.stop(0).await;
        // It may not be there yet.
        let _ = fs::remove_dir_all(golden());
        copy(cluster.data_dir(0), &golden());
    }
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    copy(&golden(), &dir.path().join("n1"));
    let places = place(&dir);
    let mut cluster = Cluster::found_in(dir, places, &SETTINGS).await;
    check(&cluster).await;
    cluster.stop(0).await;
    cluster.restart(0).await;
    prints(&cluster, &["peek", "jobs", "--state", "dead"], "job 8").await;
}

//! Data directories that are not what they were: put back, copied, swapped, lost. Their node is not let in, and what
//! is told names the way out.

use std::path::Path;
use std::process::Command;

use harness::bodies::push;
use harness::cluster::Cluster;
use harness::process::Daemon;
use harness::{LIMIT, free_port, program, until};

use crate::members::voters;

const QUEUE: &str = "q";

pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("there is cp");
    assert!(status.success(), "{} was not copied", from.display());
}

pub(crate) fn put_back(image: &Path, dir: &Path) {
    std::fs::remove_dir_all(dir).expect("it is there");
    copy(image, dir);
}

pub(crate) async fn push_some(cluster: &Cluster) {
    for number in 0..20 {
        push(&cluster.client(), QUEUE, &[format!("message {number}")]).await.expect("it is stored");
    }
}

/// Waits until node `n` has applied as much as the leader had.
pub(crate) async fn caught_up(cluster: &Cluster, n: usize) {
    let (_, leader) = cluster.leader().await;
    until("the node has caught up", LIMIT, async || {
        let status = cluster.status(n).await?;
        let applied = status.applied_index;
        if applied >= leader.commit_index { Ok(()) } else { Err(format!("at {applied}")) }
    })
    .await;
}

async fn says(log: impl Fn() -> String, words: &[&str]) {
    until(&format!("it says {words:?}"), LIMIT, async || {
        let log = log();
        if words.iter().all(|word| log.contains(word)) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_directory_was_put_back_is_refused_until_it_is_replaced() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    cluster.transfer(0).await;
    push_some(&cluster).await;
    caught_up(&cluster, 2).await;
    cluster.stop(2).await;
    let image = cluster.dir().join("image");
    copy(cluster.data_dir(2), &image);
    cluster.restart(2).await;
    push_some(&cluster).await;
    caught_up(&cluster, 2).await;
    cluster.kill(2);
    put_back(&image, cluster.data_dir(2));
    let before = cluster.status(0).await.expect("n1 answers").commit_index;

    cluster.start_node(2);
    let refused = "n3 is refused: its log ends at entry";
    says(|| cluster.log_of(2), &["a member does not let this node in", refused, "cluster replace n3"]).await;
    says(|| cluster.log_of(0), &[refused, "cluster replace n3"]).await;
    push_some(&cluster).await;
    let behind = cluster.status(2).await.expect("it answers").applied_index;
    assert!(behind < before, "it takes part: {behind} of {before}");
    // Both of the others refuse it: it can never be in a majority again.
    assert_eq!(cluster.ended(2).await.code(), Some(66), "{}", cluster.log_of(2));
    let said = cluster.log_of(2);
    assert!(said.contains("can never be in a majority") && said.contains("n1, n2"), "{said}");

    cluster.take_in(&["cluster", "replace", "n3", "--yes"]).await;
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n4"]);
    push_some(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_swapped_and_lost_directories_are_refused() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    // As a leader it has spoken to the others: they know that it runs.
    cluster.transfer(2).await;
    cluster.transfer(0).await;
    push_some(&cluster).await;

    // A second process on a copy, while the first runs.
    let (second, log) = (cluster.dir().join("copy"), cluster.dir().join("copy.log"));
    copy(cluster.data_dir(2), &second);
    let mut serve = program::queued();
    serve.args(["serve", "--name", "n3", "--listen", &format!("127.0.0.1:{}", free_port())]);
    serve.arg("--data-dir").arg(&second).env("QUEUED_LOG_FORMAT", "text");
    serve.env("QUEUED_STORAGE_SEGMENT_SIZE", "1MiB").current_dir(cluster.dir());
    let daemon = Daemon::start(&mut serve, &log);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    says(said, &["a member does not let this node in", "n3 is refused", "cluster replace n3"]).await;
    push_some(&cluster).await;
    caught_up(&cluster, 2).await;
    daemon.kill();

    // Two nodes with each other's directories.
    for n in [1, 2] {
        cluster.kill(n);
    }
    let aside = cluster.dir().join("aside");
    let swap = |cluster: &Cluster| {
        let (one, other) = (cluster.data_dir(1), cluster.data_dir(2));
        for (from, to) in [(one, &*aside), (other, one), (&*aside, other)] {
            std::fs::rename(from, to).expect("one file system");
        }
    };
    swap(&cluster);
    for n in [1, 2] {
        cluster.start_node(n);
        assert_eq!(cluster.ended(n).await.code(), Some(66), "{}", cluster.log_of(n));
        assert!(cluster.log_of(n).contains("is not ours"), "{}", cluster.log_of(n));
    }
    swap(&cluster);
    for n in [1, 2] {
        cluster.restart(n).await;
    }
    push_some(&cluster).await;

    // Nothing is left.
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data_dir(2)).expect("it is there");
    std::fs::create_dir(cluster.data_dir(2)).expect("there is room");
    cluster.start_node(2);
    assert_eq!(cluster.ended(2).await.code(), Some(66), "{}", cluster.log_of(2));
    assert!(cluster.log_of(2).contains("cluster replace"), "{}", cluster.log_of(2));
    let mut join = cluster.queued("join", 2);
    join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(cluster.secret_file(0));
    program::run(&mut join, b"").await.expect(73).says("cluster replace n3");
    push_some(&cluster).await;
}

//! A node that was away until the leader had dropped what it misses: it comes back by snapshot and leads with
//! every body.

use harness::bodies::{drain, push, sorted, stored};
use harness::cluster::Cluster;
use harness::{LIMIT, until};

const MESSAGES: usize = 600;
const BATCH: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_serves_every_body_as_the_next_leader() {
    let settings = [
        ("QUEUED_RAFT_SNAPSHOT_EVERY", "10"),
        ("QUEUED_RAFT_KEEP_BYTES", "0B"),
        ("QUEUED_STORAGE_SEGMENT_SIZE", "256KiB"),
    ];
    let mut cluster = Cluster::start_with(3, &settings).await;
    let client = cluster.client();
    let (leader, _) = cluster.leader().await;
    let away = (leader + 1) % 3;
    // Some of it is known to the node that goes away, most of it is not.
    let all: Vec<String> = (0..MESSAGES).map(|number| format!("{number:05} {}", "z".repeat(2_000))).collect();
    let (known, missed) = all.split_at(2 * BATCH);
    for batch in known.chunks(BATCH) {
        stored(&push(&client, "jobs", batch).await.expect("they are stored"), batch.len());
    }
    let last = cluster.status(away).await.expect("it answers").last_index;
    cluster.stop(away).await;
    for batch in missed.chunks(BATCH) {
        stored(&push(&client, "jobs", batch).await.expect("they are stored"), batch.len());
    }
    let (leader, purged) = until("the leader has dropped what the node misses", LIMIT, async || {
        let (leader, status) = cluster.leader().await;
        let purged = status.purged_index;
        if purged > last {
            Ok((leader, purged))
        } else {
            Err(format!("purged to {purged}, the node has {last}"))
        }
    })
    .await;

    cluster.restart(away).await;
    until("the node has caught up", LIMIT, async || {
        let (theirs, ours) = (cluster.status(leader).await?, cluster.status(away).await?);
        if ours.applied_index >= theirs.commit_index && ours.snapshot_index >= purged {
            Ok(())
        } else {
            Err(format!(
                "applied {} of {}, snapshot {}",
                ours.applied_index, theirs.commit_index, ours.snapshot_index
            ))
        }
    })
    .await;
    cluster.transfer(away).await;
    let found = drain(&client, "jobs").await;
    assert_eq!(cluster.leader().await.0, away, "it has led all the while");
    assert_eq!(sorted(&found), all);

    // And what it was given outlives a crash.
    stored(&push(&client, "jobs", &all[..BATCH]).await.expect("they are stored"), BATCH);
    cluster.kill(away);
    cluster.restart(away).await;
    cluster.transfer(away).await;
    assert_eq!(sorted(&drain(&client, "jobs").await), all[..BATCH]);
}

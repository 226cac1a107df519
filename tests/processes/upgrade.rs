//! Nodes of two builds in one cluster: what is written is what all members speak, and goes up when an operator says so.

use harness::bodies::{drain, sorted};
use harness::cluster::Cluster;
use harness::program::run;
use harness::{LIMIT, until};

use crate::members::{QUEUE, keep_pushing, more_are_accepted};

/// Stops a node and starts another build in its place, which speaks levels up to `max`.
async fn install(cluster: &mut Cluster, n: usize, max: u32) {
    cluster.stop(n).await;
    cluster.run_under(n, vec!["env".to_owned(), format!("QUEUED_LEVEL_MAX={max}")]);
    cluster.start_node(n);
}

async fn shows(cluster: &Cluster, words: &[&str], end: &str) {
    let ran = cluster.ctl(words).await.expect(0);
    assert!(ran.stdout.ends_with(end), "{ran}");
}

async fn upgrade(cluster: &Cluster) {
    until("the level is raised", LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "upgrade", "2"]).await;
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_of_two_levels_make_one_cluster_which_is_raised_when_all_speak_the_next() {
    // Snapshots often, so that some are written at each level.
    let mut cluster = Cluster::start_with(3, &[("QUEUED_RAFT_SNAPSHOT_EVERY", "50")]).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    shows(&cluster, &["cluster", "upgrade"], "feature level 1\n").await;
    cluster.ctl(&["cluster", "upgrade", "2"]).await.expect(73).says("speaks feature level 1, not 2");

    for n in 0..2 {
        install(&mut cluster, n, 2).await;
        cluster.all_vote().await;
        more_are_accepted(&accepted).await;
    }
    cluster.ctl(&["cluster", "upgrade", "2"]).await.expect(73).says("level_not_spoken");
    install(&mut cluster, 2, 2).await;
    cluster.all_vote().await;
    shows(
        &cluster,
        &["cluster", "status"],
        "feature level 1; all nodes speak 2: `queuectl cluster upgrade`\n",
    )
    .await;
    upgrade(&cluster).await;
    more_are_accepted(&accepted).await;
    shows(&cluster, &["cluster", "status"], "feature level 2\n").await;
    cluster.ctl(&["cluster", "upgrade", "1"]).await.expect(65).says("never goes back");
    more_are_accepted(&accepted).await;

    // An older build neither starts on the data of this cluster, nor joins it.
    install(&mut cluster, 1, 1).await;
    assert_eq!(cluster.ended(1).await.code(), Some(76), "{}", cluster.log_of(1));
    assert!(
        cluster.log_of(1).contains("the cluster is at feature level 2, and queued"),
        "{}",
        cluster.log_of(1)
    );
    cluster.run_under(1, vec!["env".to_owned(), "QUEUED_LEVEL_MAX=2".to_owned()]);
    cluster.restart(1).await;
    cluster.all_vote().await;
    let n = cluster.new_node();
    let mut join = cluster.queued("join", n);
    join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(cluster.secret_file(0));
    run(&mut join, b"").await.expect(76).says("install a newer queued there");

    pushing.abort();
    let (found, accepted) =
        (sorted(&drain(&cluster.client(), QUEUE).await), accepted.lock().unwrap().clone());
    let lost: Vec<String> = accepted.into_iter().filter(|body| found.binary_search(body).is_err()).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "a push was stored twice");
}

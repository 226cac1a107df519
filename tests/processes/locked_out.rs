//! Nodes that the others know nothing of, or that know nothing of the others: identities keep none of them out.

use harness::cluster::Cluster;
use harness::program::run;
use harness::{LIMIT, until};

/// Until all of these nodes hold what was pushed last.
async fn all_hold(cluster: &Cluster, nodes: &[usize], body: &str) {
    until(&format!("{body} is accepted"), LIMIT, async || {
        let ran = cluster.ctl(&["--timeout", "20s", "push", "jobs", body, "--create"]).await;
        if ran.code == 0 { Ok(()) } else { Err(ran.to_string()) }
    })
    .await;
    let (_, status) = cluster.leader().await;
    for n in nodes {
        until(&format!("{} has applied {body}", cluster.name(*n)), LIMIT, async || {
            let applied = cluster.status(*n).await?.applied_index;
            if applied >= status.commit_index { Ok(()) } else { Err(format!("{applied}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_while_all_others_were_replaced_comes_back() {
    let mut cluster = Cluster::start().await;
    cluster.transfer(0).await;
    all_hold(&cluster, &[0, 1, 2], "before").await;
    cluster.kill(2);
    let (n4, _) = cluster.take_in(&["cluster", "replace", "n2", "--yes"]).await;
    cluster.ended(1).await;
    cluster.transfer(n4).await;
    let (n5, _) = cluster.take_in(&["cluster", "replace", "n1", "--yes"]).await;
    cluster.ended(0).await;
    cluster.start_node(2);
    all_hold(&cluster, &[2, n4, n5], "after").await;
    // It counts: without another one there is a majority.
    cluster.kill(n5);
    all_hold(&cluster, &[2, n4], "last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_a_fourth_node_that_only_it_and_a_dead_leader_have_locks_nobody_out() {
    // So long a leader believes that it leads though nobody answers.
    let mut cluster = Cluster::start_with(3, &[("QUEUED_RAFT_ELECTION_TIMEOUT", "6s..8s")]).await;
    cluster.transfer(0).await;
    all_hold(&cluster, &[0, 1, 2], "before").await;
    let n4 = cluster.new_node();
    let mut join = cluster.queued("join", n4);
    join.args(["--at", cluster.address(0), "--secret-file"]).arg(cluster.secret_file(0));
    run(&mut join, b"").await.expect(0);
    // It votes once it has caught up, which takes a second and more.
    cluster.pause(1);
    cluster.pause(2);
    cluster.start_node(n4);
    until("the leader and the fourth node have an entry of their own", LIMIT, async || {
        let (leader, fourth) = (cluster.status(0).await?, cluster.status(n4).await?);
        let (last, committed) = (leader.last_index, leader.commit_index);
        if leader.changing && fourth.last_index >= last && last > committed {
            Ok(())
        } else {
            Err(format!("{last}, {committed} and {}", fourth.last_index))
        }
    })
    .await;
    cluster.kill(0);
    cluster.resume(1);
    cluster.resume(2);
    all_hold(&cluster, &[1, 2, n4], "without the leader").await;
    cluster.restart(0).await;
    all_hold(&cluster, &[0, 1, 2, n4], "with all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joined_and_has_applied_nothing_yet_is_believed_by_its_certificate() {
    let mut cluster = Cluster::start().await;
    all_hold(&cluster, &[0, 1, 2], "before").await;
    // Of two followers one sleeps while the new node joins: it has heard of no such number.
    let (leader, _) = cluster.leader().await;
    let asleep = (leader + 1) % 3;
    cluster.pause(asleep);
    let (n4, _) = cluster.take_in(&["cluster", "add", "--learner"]).await;
    cluster.kill(n4);
    cluster.resume(asleep);
    cluster.transfer(asleep).await;
    cluster.start_node(n4);
    all_hold(&cluster, &[0, 1, 2, n4], "after").await;
}

//! Nodes that the others know nothing of, or that know nothing of the others: identities keep none of them out.

use std::path::Path;
use std::sync::Arc;

use harness::cluster::Cluster;
use harness::program::run;
use harness::{LIMIT, until};
use queue_broker::fs::os::OsDisk;
use queue_broker::log::{Log, LogOptions};
use queue_broker::node::LOG_DIR;
use queue_broker::node::identity::Identity;

use crate::attacks::{ask, stolen};

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

/// A change of the voters under way: n4 joins them, or takes the place of n2.
#[derive(Clone, Copy, PartialEq)]
enum Joint {
    Promotion,
    Replacement,
}

/// Formats the fourth node so that it votes once it has caught up.
async fn fourth(cluster: &mut Cluster, joint: Joint) -> usize {
    let n4 = cluster.new_node();
    let mut join = cluster.queued("join", n4);
    join.args(["--at", cluster.address(0), "--secret-file"]).arg(cluster.secret_file(0));
    if joint == Joint::Replacement {
        join.args(["--replace", &cluster.node_id(1).to_string()]);
    }
    run(&mut join, b"").await.expect(0);
    n4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_the_first_half_of_a_replacement_locks_nobody_out() {
    let mut cluster = Cluster::start_with(3, &[("QUEUED_RAFT_ELECTION_TIMEOUT", "6s..8s")]).await;
    cluster.transfer(0).await;
    all_hold(&cluster, &[0, 1, 2], "before").await;
    let n4 = fourth(&mut cluster, Joint::Replacement).await;
    cluster.pause(1);
    cluster.pause(2);
    cluster.start_node(n4);
    until("the leader and the new node alone have the joint voters", LIMIT, async || {
        let (leader, new) = (cluster.status(0).await?, cluster.status(n4).await?);
        let (last, committed) = (leader.last_index, leader.commit_index);
        if leader.changing && new.last_index >= last && last > committed {
            Ok(())
        } else {
            Err(format!("{last}, {committed}"))
        }
    })
    .await;
    cluster.kill(0);
    cluster.resume(1);
    cluster.resume(2);
    all_hold(&cluster, &[2, n4], "without the leader").await;
    cluster.restart(0).await;
    all_hold(&cluster, &[0, 2, n4], "with all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_once_the_joint_voters_are_agreed_on_locks_nobody_out() {
    for joint in [Joint::Promotion, Joint::Replacement] {
        let mut cluster = Cluster::start().await;
        cluster.transfer(0).await;
        all_hold(&cluster, &[0, 1, 2], "before").await;
        let n4 = fourth(&mut cluster, joint).await;
        let before = cluster.status(0).await.expect("it leads");
        cluster.start_node(n4);
        until("the voters are changing, or have", LIMIT, async || {
            let leader = cluster.status(0).await?;
            let votes =
                leader.members.iter().any(|member| member.node == cluster.node_id(n4) && member.voter);
            if leader.changing || votes { Ok(()) } else { Err(format!("{:?}", leader.members)) }
        })
        .await;
        cluster.kill(0);
        cluster.leader_above(before.term).await;
        all_hold(&cluster, &[2, n4], "without the leader").await;
        cluster.restart(0).await;
        let stays: &[usize] = if joint == Joint::Promotion { &[0, 1, 2, n4] } else { &[0, 2, n4] };
        all_hold(&cluster, stays, "with all").await;
    }
}

/// Starts of a directory that are counted.
const STARTS: u32 = 5_000;

/// Opens the log of a stopped node, as a start does.
async fn opened(dir: &Path, times: u32) -> u32 {
    let store = Identity::read(&OsDisk, dir).expect("a member's directory").identity.store;
    let half = |at: u32| u64::try_from((store.0 >> at) & u128::from(u64::MAX)).expect("half of it");
    let seed = half(0) ^ half(64);
    let mut epoch = 0;
    for _ in 0..times {
        let options = LogOptions { segment_size: 1 << 20, ..LogOptions::new(seed) };
        let log_dir = dir.join(LOG_DIR);
        let opening = Log::open(Arc::new(OsDisk), &log_dir, options);
        let (_log, _writer, _keeper, recovered) = opening.await.expect("it is whole");
        epoch = recovered.epoch;
    }
    epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_back_after_ten_thousand_elections_and_five_thousand_starts() {
    let (mut cluster, n4, thief) = stolen(&[]).await;
    let (leader, before) = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let mut line = thief.dial(cluster.address(leader)).await.expect("it has all that a member has");
    // One vote names what so many elections would have come to.
    let _ = line.ask(&ask_for(thief.id.node, before.term + 10_000), Vec::new()).await;
    cluster.leader_above(before.term + 9_999).await;
    drop(line);
    cluster.start_node(away);
    all_hold(&cluster, &[0, 1, 2], "after the elections").await;
    let epoch = opened(cluster.data_dir(n4), STARTS).await;
    assert!(epoch > STARTS, "{epoch}");
    cluster.start_node(n4);
    all_hold(&cluster, &[0, 1, 2, n4], "after the starts").await;
}

fn ask_for(node: queue_protocol::names::NodeId, term: u64) -> queue_protocol::wire::peer::PeerRequest {
    queue_protocol::wire::peer::PeerRequest::Vote(ask(node, term))
}

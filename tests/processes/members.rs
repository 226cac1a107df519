//! The life of a cluster under load: a dead node is replaced with one command, members come and go, and what was
//! removed does not come back.

use std::sync::{Arc, Mutex};

use harness::bodies::{drain, push, sorted};
use harness::cluster::Cluster;
use harness::program::run;
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use tokio::task::JoinHandle;

pub(crate) const QUEUE: &str = "q";

pub(crate) fn keep_pushing(client: Client) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let pushed = Arc::clone(&accepted);
    let pushing = tokio::spawn(async move {
        for number in 0.. {
            let body = format!("message {number}");
            push(&client, QUEUE, &[&body]).await.unwrap_or_else(|error| panic!("push {number}: {error}"));
            pushed.lock().unwrap().push(body);
        }
    });
    (accepted, pushing)
}

pub(crate) async fn more_are_accepted(accepted: &Mutex<Vec<String>>) {
    let count = || accepted.lock().unwrap().len();
    let goal = count() + 20;
    until("pushes are accepted", LIMIT, async || {
        if count() >= goal { Ok(()) } else { Err(format!("{} of {goal}", count())) }
    })
    .await;
}

pub(crate) async fn voters(cluster: &Cluster) -> Vec<String> {
    let (_, status) = cluster.leader().await;
    let voters = status.members.iter().filter(|member| member.voter);
    voters.map(|member| member.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_replaced_and_members_come_and_go_under_load() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;

    cluster.transfer(0).await;
    cluster.kill(2);
    cluster.ctl(&["cluster", "safe-to-stop", "n1"]).await.expect(1);
    let (n4, said) = cluster.take_in(&["cluster", "replace", "n3", "--yes"]).await;
    assert!(said.contains("votes instead of n3"), "{said}");
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n4"]);
    cluster.ctl(&["cluster", "safe-to-stop", "n1"]).await.expect(0);

    // The old one is told, and remembers.
    for _ in 0..2 {
        cluster.start_node(2);
        let status = cluster.ended(2).await;
        assert_eq!(status.code(), Some(66), "{}", cluster.log_of(2));
    }
    assert!(cluster.log_of(2).contains("n3 was removed from its cluster"), "{}", cluster.log_of(2));

    // A learner has no vote until it is given one.
    let (n5, _) = cluster.take_in(&["cluster", "add", "--learner"]).await;
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n4"]);
    cluster.ctl(&["cluster", "promote", "n5"]).await.expect(0);
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n4", "n5"]);
    more_are_accepted(&accepted).await;

    // Drained, a node does not lead; a removed leader hands over first.
    let (leader, _) = cluster.leader().await;
    let name = cluster.name(leader).to_owned();
    cluster.ctl(&["cluster", "drain", &name]).await.expect(0);
    let (next, _) = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.ctl(&["cluster", "drain", &name, "--undo"]).await.expect(0);
    let next_name = cluster.name(next).to_owned();
    cluster.ctl(&["cluster", "remove", &next_name, "--yes"]).await.expect(0);
    assert_eq!(cluster.ended(next).await.code(), Some(66));
    let left = voters(&cluster).await;
    assert!(left.len() == 3 && !left.contains(&next_name), "{left:?}");

    // Not below what answers.
    let silent =
        [n4, n5].into_iter().find(|n| *n != next && *n != leader).expect("one of them does not lead");
    cluster.kill(silent);
    let other = left.iter().find(|name| **name != cluster.name(silent)).expect("three are left").clone();
    let refused = cluster.ctl(&["cluster", "remove", &other, "--yes"]).await.expect(73);
    refused.says("quorum_at_risk");
    cluster.restart(silent).await;
    more_are_accepted(&accepted).await;

    pushing.abort();
    let found = sorted(&drain(&cluster.client(), QUEUE).await);
    let lost: Vec<String> =
        accepted.lock().unwrap().iter().filter(|body| found.binary_search(body).is_err()).cloned().collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "a push was stored twice");
}

/// `queued join` on a new machine, through a member, and `queued serve`.
async fn join(cluster: &mut Cluster) {
    let n = cluster.new_node();
    let mut join = cluster.queued("join", n);
    join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(cluster.secret_file(0));
    run(&mut join, b"").await.expect(0);
    cluster.start_node(n);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_to_five_and_shrinks_to_one_under_load() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    for _ in 0..2 {
        join(&mut cluster).await;
    }
    cluster.ctl(&["cluster", "wait", "--for", "members=3"]).await.expect(0);
    until("three nodes vote", LIMIT, async || {
        let voters = voters(&cluster).await;
        if voters == ["n1", "n2", "n3"] { Ok(()) } else { Err(voters.join(" ")) }
    })
    .await;
    more_are_accepted(&accepted).await;
    for _ in 0..2 {
        let (_, said) = cluster.take_in(&["cluster", "add"]).await;
        assert!(said.contains("is a voter"), "{said}");
    }
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n3", "n4", "n5"]);
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
    more_are_accepted(&accepted).await;

    // The leader is removed too, and hands over first.
    cluster.ctl(&["cluster", "transfer", "n5"]).await.expect(0);
    for n in [1, 4, 2, 3] {
        let name = cluster.name(n).to_owned();
        cluster.ctl(&["cluster", "remove", &name, "--yes"]).await.expect(0);
        assert_eq!(cluster.ended(n).await.code(), Some(66), "{}", cluster.log_of(n));
        more_are_accepted(&accepted).await;
    }
    assert_eq!(voters(&cluster).await, ["n1"]);
    cluster.ctl(&["cluster", "remove", "n1", "--yes"]).await.expect(73).says("the last voter");

    pushing.abort();
    let found = sorted(&drain(&cluster.client(), QUEUE).await);
    let accepted = accepted.lock().unwrap().clone();
    let lost: Vec<&String> = accepted.iter().filter(|body| found.binary_search(body).is_err()).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "a push was stored twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_make_no_sense_are_refused() {
    let cluster = Cluster::start().await;
    cluster.ctl(&["cluster", "remove", "n9", "--yes"]).await.expect(66).says("no member named");
    cluster.ctl(&["cluster", "remove", "n2"]).await.expect(2).says("--yes");
    cluster.ctl(&["cluster", "add", "127.0.0.1:1"]).await.expect(69).says("no node that waits");
    let member = cluster.address(1).to_owned();
    cluster.ctl(&["cluster", "add", &member]).await.expect(69).says("no node that waits");
    cluster.ctl(&["cluster", "safe-to-stop", "n9"]).await.expect(66);
}

//! The life of a cluster under load: a dead node is replaced with one command, members come and go, and what was
//! removed does not come back.

use std::path::Path;
use std::sync::{Arc, Mutex};

use harness::bodies::{drain, push, sorted};
use harness::cluster::Cluster;
use harness::program::{Running, run};
use harness::{LIMIT, until};
use queue_broker::mutants::{self, Mutant};
use queue_protocol::client::Client;
use tokio::net::TcpStream;
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

/// Until `safe-to-stop` ends with this code: the leader hears of others once a second.
async fn safe_to_stop(cluster: &Cluster, name: &str, code: i32) {
    until(&format!("safe-to-stop {name} ends with {code}"), LIMIT, async || {
        let ran = cluster.ctl(&["cluster", "safe-to-stop", name]).await;
        if ran.code == code { Ok(()) } else { Err(ran.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_replaced_and_members_come_and_go_under_load() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;

    cluster.transfer(0).await;
    cluster.kill(2);
    // Once the leader has noticed.
    safe_to_stop(&cluster, "n1", 1).await;
    let (n4, said) = cluster.take_in(&["cluster", "replace", "n3", "--yes"]).await;
    assert!(said.contains("votes instead of n3"), "{said}");
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n4"]);
    safe_to_stop(&cluster, "n1", 0).await;

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

/// Node `n` ends, and so does its disk.
fn lose_disk(cluster: &mut Cluster, n: usize) {
    cluster.kill(n);
    std::fs::remove_dir_all(cluster.data_dir(n)).expect("it was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_was_replaced_comes_back_at_its_old_address_and_name_with_one_command() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let (accepted, pushing) = keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    cluster.transfer(0).await;

    // On its machine.
    lose_disk(&mut cluster, 2);
    let mut join = cluster.queued("join", 2);
    join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(cluster.secret_file(0));
    let refused = run(&mut join, b"").await.expect(73);
    refused.says("belongs to member n3 (number 3)").says("queued join with --replace 3");
    run(join.args(["--replace", "3"]), b"").await.expect(0);
    cluster.start_node(2);
    let came_back = async |cluster: &Cluster, number: u64| {
        until("the new node votes and the old one is gone", LIMIT, async || {
            let (_, status) = cluster.leader().await;
            let members: Vec<_> = status.members.iter().map(|m| (m.node.0, m.voter)).collect();
            if members.len() == 3 && members.contains(&(number, true)) {
                Ok(())
            } else {
                Err(format!("{members:?}"))
            }
        })
        .await;
    };
    came_back(&cluster, 4).await;
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n3"]);
    more_are_accepted(&accepted).await;

    // From anywhere, while the new node waits on the old one's machine.
    lose_disk(&mut cluster, 1);
    let mut join = cluster.queued("join", 1);
    let joining = Running::start(join.arg("--secret-file").arg(cluster.secret_file(0)));
    let address = cluster.address(1).to_owned();
    until("the new node listens", LIMIT, async || TcpStream::connect(&address).await.map(drop)).await;
    cluster.ctl(&["cluster", "add", &address]).await.expect(73).says("--replace 2");
    let command = Running::start(cluster.queuectl().args(["cluster", "replace", "n2", "--yes", &address]));
    joining.end().await.expect(0);
    cluster.start_node(1);
    let said = command.end().await.expect(0).stdout;
    assert!(said.contains("votes instead of n2"), "{said}");
    came_back(&cluster, 5).await;
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
    more_are_accepted(&accepted).await;

    pushing.abort();
    let found = sorted(&drain(&cluster.client(), QUEUE).await);
    let lost: Vec<String> =
        accepted.lock().unwrap().iter().filter(|body| found.binary_search(body).is_err()).cloned().collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_with_a_wrong_secret_leaves_nothing_behind_and_a_later_right_one_counts() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let n = cluster.new_node();
    let secrets = ["ab", "cd"].map(|digits| {
        let file = cluster.dir().join(digits);
        std::fs::write(&file, digits.repeat(32)).expect("there is room");
        file
    });
    let join = async |secret: &Path, more: &[&str]| {
        let mut join = cluster.queued("join", n);
        join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(secret).args(more);
        run(&mut join, b"").await
    };
    let files = || -> Vec<String> {
        let names = std::fs::read_dir(cluster.data_dir(n)).expect("it is there");
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for wrong in &secrets {
        join(wrong, &[]).await.expect(77).says("the cluster's secret was not proved");
        assert_eq!(files(), ["LOCK"]);
    }
    // Proved, and refused for its address: what was proved stays, and nothing of another secret comes in its place.
    let right = cluster.secret_file(0);
    let taken = ["--advertise-address", cluster.address(0)];
    join(&right, &taken).await.expect(73).says("belongs to member n1");
    let secret = || std::fs::read(cluster.secret_file(n)).expect("it was proved");
    assert_eq!(secret(), std::fs::read(&right).unwrap());
    join(&secrets[0], &[]).await.expect(77);
    assert_eq!(secret(), std::fs::read(&right).unwrap());
    std::fs::copy(&secrets[1], cluster.secret_file(n)).expect("as an old build left it");
    join(&right, &["--learner"]).await.expect(0);
    assert_eq!(secret(), std::fs::read(&right).unwrap());

    // Who waits for it is told why.
    let promoted = cluster.ctl(&["cluster", "promote", "n2", "--timeout", "5s"]).await.expect(75);
    promoted.says("waiting: n2 does not answer at").says("has not caught up in");
    cluster.start_node(n);
    cluster.ctl(&["cluster", "promote", "n2"]).await.expect(0);
    cluster.all_vote().await;
    for n in [0, 1] {
        let refusals = cluster.log_of(n).matches("not proved").count();
        assert!(refusals <= 3, "{refusals} lines of what strangers brought about\n{}", cluster.log_of(n));
    }
    let mutant = (mutants::VARIABLE, Mutant::UnprovedSecretKept.name());
    let n = cluster.new_node();
    let mut join = cluster.queued("join", n);
    join.args(["--at", cluster.address(0)]).arg("--secret-file").arg(&secrets[0]).env(mutant.0, mutant.1);
    run(&mut join, b"").await.expect(77);
    assert!(cluster.secret_file(n).exists(), "the planted bug is noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_make_no_sense_are_refused() {
    let cluster = Cluster::start().await;
    cluster.ctl(&["cluster", "remove", "n9", "--yes"]).await.expect(66).says("no member named");
    cluster.ctl(&["cluster", "remove", "n2"]).await.expect(2).says("--yes");
    cluster.ctl(&["cluster", "add", "127.0.0.1:1"]).await.expect(69).says("no node waits there");
    let member = cluster.address(1).to_owned();
    cluster.ctl(&["cluster", "add", &member]).await.expect(73).says("belongs to member n2");
    cluster.ctl(&["cluster", "safe-to-stop", "n9"]).await.expect(66);
}

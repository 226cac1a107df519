//! Nodes that come back somewhere else: one, two in each other's place, all; and a copy of one, at a third place.

use std::path::Path;
use std::process::Command;

use harness::bodies::{drain, push, sorted};
use harness::cluster::{Cluster, Place};
use harness::program::run;
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};

use crate::members::voters;

const QUEUE: &str = "q";

async fn push_some(cluster: &Cluster, from: usize) {
    for number in from..from + 20 {
        push(&cluster.client(), QUEUE, &[format!("message {number:04}")]).await.expect("it is stored");
    }
}

async fn all_are_there(cluster: &Cluster, count: usize) {
    let expected: Vec<String> = (0..count).map(|number| format!("message {number:04}")).collect();
    assert_eq!(sorted(&drain(&cluster.client(), QUEUE).await), expected);
}

/// Waits until the leader knows every node where it is, and all follow.
async fn known_where_they_are(cluster: &Cluster) {
    until("every node is known where it is", LIMIT, async || {
        let (_, status) = cluster.leader().await;
        for n in 0..cluster.count() {
            let member =
                status.members.iter().find(|member| *member.name == *cluster.name(n)).ok_or("no member")?;
            if *member.address != *cluster.address(n) {
                return Err(format!(
                    "{} is known at {}, not {}",
                    member.name,
                    member.address,
                    cluster.address(n)
                ));
            }
        }
        Ok(())
    })
    .await;
    cluster.all_vote().await;
    cluster.ctl(&["cluster", "wait", "--for", "applied", "--timeout", "60s"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_at_another_address_says_so_and_is_known_there() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    cluster.transfer(0).await;
    cluster.stop(2).await;
    push_some(&cluster, 0).await;
    let before = cluster.address(2).to_owned();
    cluster.move_node(2);
    cluster.restart(2).await;
    push_some(&cluster, 20).await;
    known_where_they_are(&cluster).await;
    let warning =
        format!("the cluster knows n3 at {before}, and this node says that it is at {}", cluster.address(2));
    assert!(cluster.log_of(2).contains(&warning), "{}", cluster.log_of(2));
    assert!(cluster.log_of(0).contains("a member is known at another address"), "{}", cluster.log_of(0));

    // The leader is found there too, by nodes and clients.
    cluster.transfer(2).await;
    cluster.stop(2).await;
    cluster.restart(2).await;
    cluster.kill(1);
    push_some(&cluster, 40).await;
    cluster.restart(1).await;
    all_are_there(&cluster, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_swap_addresses_are_known_where_they_are() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    push_some(&cluster, 0).await;
    cluster.kill(1);
    cluster.kill(2);
    cluster.swap_addresses(1, 2);
    cluster.restart_all().await;
    known_where_they_are(&cluster).await;
    push_some(&cluster, 20).await;
    all_are_there(&cluster, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_all_of_whose_nodes_moved_is_told_where_they_are() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    push_some(&cluster, 0).await;
    cluster.kill_all();
    (0..3).for_each(|n| cluster.move_node(n));
    // Each for itself, they find nobody.
    cluster.restart_all().await;
    cluster.kill_all();
    for n in 0..3 {
        for other in (0..3).filter(|other| *other != n) {
            let mut command = harness::program::queued();
            command.args(["store", "set-address"]).arg(cluster.data_dir(n));
            let said = run(command.args([cluster.name(other), cluster.address(other)]), b"").await.expect(0);
            assert!(said.stdout.contains("until the cluster agrees on an address"), "{said}");
        }
    }
    let mut own = harness::program::queued();
    own.args(["store", "set-address"]).arg(cluster.data_dir(0)).args(["n1", "10.0.0.1:7410"]);
    run(&mut own, b"").await.expect(2).says("is the node of this data directory");
    cluster.restart_all().await;
    known_where_they_are(&cluster).await;
    push_some(&cluster, 20).await;
    all_are_there(&cluster, 40).await;
    // What the cluster has agreed on stands in no file any more.
    until("what was said is overtaken", LIMIT, async || {
        let left = (0..3).filter(|n| cluster.data_dir(*n).join("ADDRESSES").exists()).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} files")) }
    })
    .await;
    cluster.stop(1).await;
    cluster.restart(1).await;
    cluster.all_vote().await;
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("there is cp");
    assert!(status.success(), "{} was not copied", from.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_came_to_a_third_address_keeps_it_and_the_older_one_is_refused() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    cluster.transfer(0).await;
    push_some(&cluster, 0).await;
    cluster.stop(2).await;
    let place = Place::local(cluster.dir().join("copy"));
    copy(cluster.data_dir(2), &place.data);
    // The one that runs is the one that counts: a copy beside it is not let in.
    cluster.restart(2).await;
    cluster.all_vote().await;
    let original = cluster.put_place(2, place);
    let mut beside = cluster.queued("serve", 2);
    let log = cluster.dir().join("beside.log");
    let mut daemon = harness::process::Daemon::start(&mut beside, &log);
    until("the copy is refused", LIMIT, async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        if log.contains("another process with the same data, or a copy of it, is running")
            || daemon.ended().is_some()
        {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    daemon.kill();
    // The original goes; a copy of all it had is started more often than it was, and found.
    let copied = cluster.put_place(2, original);
    cluster.stop(2).await;
    std::fs::remove_dir_all(&copied.data).expect("it is there");
    copy(cluster.data_dir(2), &copied.data);
    let original = cluster.put_place(2, copied);
    for _ in 0..2 {
        cluster.restart(2).await;
        cluster.stop(2).await;
    }
    cluster.restart(2).await;
    known_where_they_are(&cluster).await;
    push_some(&cluster, 20).await;
    cluster.stop(2).await;
    // The older one comes back where it always was.
    let copied = cluster.put_place(2, original);
    cluster.start_node(2);
    until("the older one is refused", LIMIT, async || {
        let log = cluster.log_of(2);
        if log.contains("does not let this node in") && log.contains("is refused: ") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    push_some(&cluster, 40).await;
    cluster.kill(2);
    cluster.put_place(2, copied);
    cluster.restart(2).await;
    known_where_they_are(&cluster).await;
    all_are_there(&cluster, 60).await;
}

/// Where the leader knows a node.
async fn address_of(cluster: &Cluster, name: &str) -> String {
    let (_, status) = cluster.leader().await;
    status.members.iter().find(|member| *member.name == *name).expect("a member").address.to_string()
}

/// Three nodes, of which the second says another name of its address; and that name.
async fn one_with_two_addresses(mutant: Option<Mutant>) -> (Cluster, String) {
    let env: Vec<_> = mutant.map(|mutant| (VARIABLE, mutant.name())).into_iter().collect();
    let mut cluster = Cluster::start_with(3, &env).await;
    cluster.transfer(0).await;
    let port = cluster.address(1).rsplit_once(':').expect("a port").1.to_owned();
    let named = format!("localhost:{port}");
    cluster.stop(1).await;
    cluster.run_under(1, vec!["env".to_owned(), format!("QUEUED_ADVERTISE_ADDRESS={named}")]);
    cluster.restart(1).await;
    (cluster, named)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sets_the_address_of_a_node_that_answers_at_both() {
    let (cluster, named) = one_with_two_addresses(None).await;
    cluster
        .ctl(&["cluster", "set-address", "n2", "127.0.0.1:1"])
        .await
        .expect(69)
        .says("nobody answers there");
    let other = cluster.address(2).to_owned();
    cluster
        .ctl(&["cluster", "set-address", "n2", &other])
        .await
        .expect(69)
        .says("another node answers there");
    until("it has said for long that it is known elsewhere", LIMIT, async || {
        let log = cluster.log_of(1);
        if !log.contains("queuectl cluster set-address n2 localhost:") {
            return Err(log);
        }
        let uptime_ms = cluster.status(1).await?.uptime_ms;
        if uptime_ms > 15_000 { Ok(()) } else { Err(format!("{uptime_ms} ms")) }
    })
    .await;
    assert_eq!(address_of(&cluster, "n2").await, cluster.address(1), "it still answers there");
    let said = cluster.ctl(&["cluster", "set-address", "n2", &named]).await.expect(0);
    assert_eq!(said.stdout, format!("n2 is known at {named} (number 2)\n"));
    assert_eq!(address_of(&cluster, "n2").await, named);
    cluster.all_vote().await;
    assert_eq!(voters(&cluster).await, ["n1", "n2", "n3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_moved_although_its_old_address_answers_is_noticed() {
    let (cluster, named) = one_with_two_addresses(Some(Mutant::MovedAtOnce)).await;
    until("it is moved", LIMIT, async || {
        let address = address_of(&cluster, "n2").await;
        if address == named { Ok(()) } else { Err(address) }
    })
    .await;
}

//! A node whose memory goes wrong: its answers differ from then on, and it stops when the others say so.

use harness::bodies::{drain, push, sorted};
use harness::cluster::Cluster;
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};

use crate::members::{QUEUE, more_are_accepted};

/// The nodes compare where this divides the index.
const COMPARED_EVERY: u64 = 4_096;

/// Pushes until every node has applied so many entries that all have told each other their next hash.
async fn push_to_the_next_comparison(cluster: &Cluster, alive: &[usize]) {
    let goal = (cluster.leader().await.1.applied_index / COMPARED_EVERY + 1) * COMPARED_EVERY;
    let pushers: Vec<_> = (0..8)
        .map(|pusher| {
            let client = cluster.client();
            tokio::spawn(async move {
                for number in 0.. {
                    let body = format!("{pusher} {number}");
                    push(&client, QUEUE, &[&body]).await.unwrap_or_else(|error| panic!("{body}: {error}"));
                }
            })
        })
        .collect();
    until("the nodes apply", 4 * LIMIT, async || {
        for n in alive {
            let applied = cluster.status(*n).await?.applied_index;
            if applied <= goal {
                return Err(format!("node {n} is at {applied} of {goal}"));
            }
        }
        Ok(())
    })
    .await;
    for pusher in pushers {
        assert!(!pusher.is_finished(), "a push was refused");
        pusher.abort();
    }
}

/// Node `wrong` has the planted bug and is the leader or not; it stops, and the others go on.
async fn stops(wrong: usize, leads: bool) {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    cluster.stop(wrong).await;
    cluster.run_under(wrong, vec!["env".to_owned(), "QUEUED_MUTANT=state-changed".to_owned()]);
    cluster.start_node(wrong);
    cluster.all_vote().await;
    cluster.transfer(if leads { wrong } else { 0 }).await;
    let right: Vec<usize> = (0..3).filter(|n| *n != wrong).collect();
    push_to_the_next_comparison(&cluster, &right).await;
    assert_eq!(cluster.ended(wrong).await.code(), Some(65), "{}", cluster.log_of(wrong));
    let said = cluster.log_of(wrong);
    assert!(said.contains("differs from that of a majority of the voters after entry 4096"), "{said}");

    let (accepted, pushing) = crate::members::keep_pushing(cluster.client());
    more_are_accepted(&accepted).await;
    cluster.ctl(&["lease", QUEUE]).await.expect(0).says("attempt 1");
    // Its disk is as it should be: without the bug it comes to the state of the others.
    cluster.run_under(wrong, Vec::new());
    cluster.restart(wrong).await;
    cluster.all_vote().await;
    more_are_accepted(&accepted).await;
    pushing.abort();
    let (found, accepted) =
        (sorted(&drain(&cluster.client(), QUEUE).await), accepted.lock().unwrap().clone());
    assert!(accepted.iter().all(|body| found.binary_search(body).is_ok()), "something accepted was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_state_differs_stops_and_the_others_go_on() {
    stops(1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_state_differs_stops_and_another_leads() {
    stops(2, true).await;
}

/// Two voters of which the second has another state, and the leader the planted bug `bug` beside; they have compared.
async fn two_that_differ(bug: Option<Mutant>) -> Cluster {
    let mut cluster = Cluster::start_with(2, &[]).await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    for (n, bug) in [(0, bug), (1, Some(Mutant::StateChanged))] {
        let Some(bug) = bug else { continue };
        cluster.stop(n).await;
        cluster.run_under(n, vec!["env".to_owned(), format!("{VARIABLE}={}", bug.name())]);
        cluster.restart(n).await;
    }
    cluster.transfer(0).await;
    push_to_the_next_comparison(&cluster, &[0, 1]).await;
    until("they have told each other", LIMIT, async || {
        let said = cluster.log_of(0);
        if said.contains("no majority agrees: nothing is leased") { Ok(()) } else { Err(said) }
    })
    .await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_majority_agrees_on_a_state_nothing_is_leased_and_pushes_are_taken() {
    let cluster = two_that_differ(None).await;
    let refused = cluster.ctl(&["--timeout", "1s", "lease", QUEUE]).await.expect(75);
    assert!(refused.stderr.contains("states_differ"), "{refused}");
    cluster.ctl(&["push", QUEUE, "x"]).await.expect(0);
    let shown = cluster.ctl(&["cluster", "status"]).await;
    assert!(shown.stdout.contains("no majority agrees on one: nothing is leased"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leases_though_no_majority_agrees_is_noticed() {
    let cluster = two_that_differ(Some(Mutant::LeasedWhileStatesDiffer)).await;
    cluster.ctl(&["--timeout", "1s", "lease", QUEUE]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_apply_alike_agree_under_load() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    push_to_the_next_comparison(&cluster, &[0, 1, 2]).await;
    // Of which each hears within two pings.
    cluster.kill(0);
    cluster.restart(0).await;
    push_to_the_next_comparison(&cluster, &[0, 1, 2]).await;
    cluster.all_vote().await;
    for n in 0..3 {
        assert!(!cluster.log_of(n).contains("differ"), "{}", cluster.log_of(n));
    }
}

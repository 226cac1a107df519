//! An outage ends no lease: the lease clock stands still while there is no quorum.

use std::time::Duration;

use harness::bodies::{self, lease, queue, stored};
use harness::cluster::Cluster;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use queue_protocol::names::{QueueName, Receipt};
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Consistency, CreateQueue, Queues, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Delivery, QueueView, Settled};
use tokio::time::Instant;

const COUNT: usize = 100;
const LEASE_MS: u64 = 2_000;

/// What takes two of three nodes away.
#[derive(Clone, Copy)]
enum Outage {
    /// SIGSTOP of both followers: the leader stays, alone.
    Paused,
    /// `kill -9` of the leader and a follower, and their restart.
    Killed,
}

/// Makes a queue with as many messages as are leased.
async fn fill(client: &Client, name: &str) {
    let settings = QueueSettings { backoff_ms: Some(0), ..QueueSettings::default() };
    let create = CreateQueue { queue: queue(name), settings, if_not_exists: false };
    client.ask(ask::CreateQueue(Box::new(create))).await.expect("the queue is new");
    let all: Vec<String> = (0..COUNT).map(|number| format!("{name} {number}")).collect();
    stored(&bodies::push(client, name, &all).await.expect("they are stored"), COUNT);
}

async fn lease_all(client: &Client, name: &str, wait_ms: u32) -> Vec<Delivery> {
    let max = u16::try_from(COUNT).expect("100");
    let asked = ask::Lease(lease(name, max, Some(LEASE_MS), wait_ms));
    client.ask(asked).await.expect("there is a leader").answer.into_vec()
}

fn receipts(name: &str, deliveries: &[Delivery]) -> Receipts {
    let receipts = deliveries.iter().map(|delivery| (delivery.id, delivery.token)).collect();
    Receipts { queue: queue(name), receipts: Bounded::new(receipts).expect("within the limit") }
}

async fn counts(client: &Client, only: QueueName) -> QueueView {
    let look = Queues { only: Some(only), after: None, consistency: Consistency::Linearizable };
    client.ask(ask::Queues(look)).await.expect("there is a leader").answer.into_vec().remove(0)
}

async fn outage_ends_no_lease(outage: Outage) {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let (leader, before) = cluster.leader().await;
    let followers: Vec<usize> = (0..cluster.count()).filter(|n| *n != leader).collect();
    fill(&client, "acked").await;
    fill(&client, "twin").await;
    let (acked, twin) = tokio::join!(lease_all(&client, "acked", 0), lease_all(&client, "twin", 0));
    assert_eq!((acked.len(), twin.len()), (COUNT, COUNT));

    let lasts = Instant::now() + Duration::from_secs(choose(5, 10));
    match outage {
        Outage::Paused => followers.iter().for_each(|n| cluster.pause(*n)),
        Outage::Killed => {
            cluster.kill(leader);
            cluster.kill(followers[0]);
        }
    }
    until(
        "the outage has lasted",
        LIMIT,
        async || {
            if Instant::now() >= lasts { Ok(()) } else { Err("not yet") }
        },
    )
    .await;
    match outage {
        Outage::Paused => followers.iter().for_each(|n| cluster.resume(*n)),
        Outage::Killed => cluster.restart_all().await,
    }

    // One request for each receipt, all at once, as soon as there is a quorum.
    let acks: Vec<_> = acked
        .iter()
        .map(|delivery| {
            let (client, one) = (client.clone(), receipts("acked", std::slice::from_ref(delivery)));
            tokio::spawn(async move {
                client.ask(ask::Ack(one)).await.expect("there is a leader").answer.into_vec()
            })
        })
        .collect();
    for ack in acks {
        assert_eq!(ack.await.expect("no ack panics"), [Settled::Ok]);
    }
    let (_, after) = cluster.leader().await;
    if let Outage::Killed = outage {
        assert!(after.term > before.term, "the leader was killed in term {}", before.term);
    }
    let view = counts(&client, queue("acked")).await;
    let seen = (view.leased_total, view.acked_total, view.ready + view.leased + view.delayed + view.dead);
    assert_eq!(seen, (COUNT as u64, COUNT as u64, 0));
    assert!(acked.iter().all(|delivery| delivery.attempt == 1));

    let mut again = Vec::new();
    until("the twin's messages come again", LIMIT, async || {
        again.extend(lease_all(&client, "twin", 5_000).await);
        if again.len() >= COUNT { Ok(()) } else { Err(format!("{} came", again.len())) }
    })
    .await;
    for (first, second) in twin.iter().zip(&again) {
        assert_eq!((first.id, first.attempt, second.attempt), (second.id, 1, 2));
        assert!(second.token > first.token);
    }
    assert_eq!(counts(&client, queue("twin")).await.leased_total, 2 * COUNT as u64);
    let old = Receipt { queue: queue("twin"), id: twin[0].id, token: twin[0].token };
    let stale = cluster.ctl(&["ack", &old.to_string()]).await;
    stale.expect(66).says("error[receipt_stale]").says(&old.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_a_pause_of_two_nodes() {
    outage_ends_no_lease(Outage::Paused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_the_death_of_two_nodes() {
    outage_ends_no_lease(Outage::Killed).await;
}

//! A lease ends no earlier than it was asked for, told by the clock of who asks: from when the lease was sent, since its
//! message was ready before.

use std::time::Duration;

use harness::bodies::{self, lease, queue, stored};
use harness::cluster::Cluster;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use queue_protocol::client::Client;
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{CreateQueue, Receipts};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Delivery;
use tokio::time::Instant;

const LENGTH: Duration = Duration::from_secs(1);
/// Leases last no longer than they were asked for and this.
const LONGER_MAX: Duration = Duration::from_millis(1_500);
/// Both followers are stopped for so long when a lease is given: shorter than the leader's lease.
const STOPPED: Duration = Duration::from_millis(240);

/// From when a lease was asked for, and from when it came, until its message came again.
#[derive(Clone, Copy, Debug)]
struct Lasted {
    since_sent: Duration,
    since_received: Duration,
}

async fn passed(time: Duration) {
    let end = Instant::now() + time;
    until("time has passed", LIMIT, async || if Instant::now() >= end { Ok(()) } else { Err("not yet") })
        .await;
}

async fn create(client: &Client) {
    let settings =
        QueueSettings { backoff_ms: Some(0), max_failures: Some(1_000), ..QueueSettings::default() };
    let create = CreateQueue { queue: queue("q"), settings, if_not_exists: true };
    client.ask(ask::CreateQueue(Box::new(create))).await.expect("there is a leader");
}

async fn leased(client: &Client) -> Delivery {
    let length_ms = u64::try_from(LENGTH.as_millis()).expect("a second");
    let wait_ms = 10_000;
    let mut given = client
        .ask(ask::Lease(lease("q", 1, Some(length_ms), wait_ms)))
        .await
        .expect("there is a leader")
        .answer
        .into_vec();
    assert_eq!(given.len(), 1, "the message did not come");
    given.remove(0)
}

/// Pushes and leases one message, lets the lease end, and takes the message away. `before` ends before the lease is sent,
/// `after` begins then.
async fn lasts(client: &Client, before: impl AsyncFnOnce(), after: impl AsyncFnOnce()) -> Lasted {
    stored(&bodies::push(client, "q", &["x"]).await.expect("it is stored"), 1);
    before().await;
    let asking = client.clone();
    let sent = Instant::now();
    let first = tokio::spawn(async move { (leased(&asking).await, Instant::now()) });
    after().await;
    let (first, received) = first.await.expect("it does not panic");
    let second = leased(client).await;
    let again = Instant::now();
    assert_eq!((second.id, second.attempt), (first.id, first.attempt + 1));
    let receipts = Bounded::new(vec![(second.id, second.token)]).expect("one");
    client.ask(ask::Ack(Receipts { queue: queue("q"), receipts })).await.expect("there is a leader");
    Lasted { since_sent: again - sent, since_received: again - received }
}

/// The shortest of so many leases that were given while both followers were stopped.
async fn shortest_while_followers_stop(env: &[(&str, &str)], tries: usize) -> Lasted {
    let cluster = Cluster::start_with(3, env).await;
    let client = cluster.client();
    create(&client).await;
    let mut shortest: Option<Lasted> = None;
    for _ in 0..tries {
        let (leader, _) = cluster.leader().await;
        let followers: Vec<usize> = (0..cluster.count()).filter(|n| *n != leader).collect();
        let before = async || {
            followers.iter().for_each(|n| cluster.pause(*n));
            passed(STOPPED * 5 / 6).await;
        };
        let after = async || {
            passed(STOPPED / 6).await;
            followers.iter().for_each(|n| cluster.resume(*n));
        };
        let lasted = lasts(&client, before, after).await;
        shortest = shortest.into_iter().chain([lasted]).min_by_key(|lasted| lasted.since_sent);
    }
    shortest.expect("there are tries")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_early_though_both_followers_stop_when_it_is_given() {
    let shortest = shortest_while_followers_stop(&[], choose(4, 40)).await;
    assert!(shortest.since_sent >= LENGTH, "it ended early: {shortest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_end_early_are_noticed() {
    let planted = [(VARIABLE, Mutant::LeaseWithoutLag.name())];
    let shortest = shortest_while_followers_stop(&planted, choose(4, 12)).await;
    assert!(shortest.since_sent < LENGTH, "the planted bug was not noticed: {shortest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_lone_node_that_was_idle_is_as_long_as_it_was_asked_for() {
    let cluster = Cluster::start_with(1, &[]).await;
    let client = cluster.client();
    create(&client).await;
    passed(Duration::from_secs(choose(3, 120))).await;
    let lasted = lasts(&client, async || {}, async || {}).await;
    assert!(lasted.since_sent >= LENGTH, "it ended early: {lasted:?}");
    assert!(lasted.since_received <= LENGTH + LONGER_MAX, "it ended late: {lasted:?}");
}

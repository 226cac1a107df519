//! A lease that waits: it costs no log entry, and whatever becomes ready reaches it.

use std::time::Duration;

use harness::bodies::{self, bodies, lease, queue, stored};
use harness::cluster::Cluster;
use harness::program::Running;
use harness::settings::choose;
use harness::{LIMIT, until};
use queue_protocol::client::{Client, NewMessage};
use queue_protocol::names::{LeaseToken, MessageId};
use queue_protocol::settings::QueueSettings;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{
    Consistency, CreateQueue, Due, Lease, Nack, NackKind, PushOptions, Queues, Receipts,
};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Delivery;
use tokio::time::Instant;

/// A queue whose failed messages are ready again at once.
async fn create(client: &Client, name: &str) {
    let settings = QueueSettings { backoff_ms: Some(0), ..QueueSettings::default() };
    let create = CreateQueue { queue: queue(name), settings, if_not_exists: false };
    client.ask(ask::CreateQueue(Box::new(create))).await.expect("the queue is new");
}

/// Waits until so many leases are parked at `name`.
async fn parked(client: &Client, name: &str, count: u32) {
    until("a lease is parked", LIMIT, async || {
        let only = Some(queue(name));
        let look = Queues { only, after: None, consistency: Consistency::Linearizable };
        let answered = client.ask(ask::Queues(look)).await.map_err(|error| error.to_string())?;
        let waiting = answered.answer.first().map_or(0, |view| view.waiting);
        if waiting == count { Ok(()) } else { Err(format!("{waiting} are parked")) }
    })
    .await;
}

/// `last` and `applied` of every node in `cluster status`.
async fn indices(cluster: &Cluster) -> Vec<(String, String)> {
    let status = cluster.ctl(&["cluster", "status", "--json"]).await.expect(0).json();
    let nodes = status["nodes"].as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("indices are strings").to_owned();
    nodes.iter().map(|node| (text(&node["last"]), text(&node["applied"]))).collect()
}

/// A lease of `name` that is parked, in a task of its own.
async fn park(cluster: &Cluster, name: &str) -> tokio::task::JoinHandle<(Delivery, String)> {
    let client = cluster.client();
    let asked = lease(name, 10, Some(30_000), 60_000);
    let waiting = tokio::spawn(async move {
        let leased = client.ask(ask::Lease(asked)).await.expect("it waits");
        let body = bodies(&leased).pop().expect("it was not empty");
        let [delivery] = &leased.answer[..] else { panic!("{:?}", leased.answer) };
        (delivery.clone(), String::from_utf8_lossy(&body).into_owned())
    });
    parked(&cluster.client(), name, 1).await;
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_lease_adds_no_entry_and_ends_with_1() {
    let cluster = Cluster::start().await;
    create(&cluster.client(), "idle").await;
    let wait = choose("3s", "30s");
    let mut waiting = Running::start(cluster.queuectl().args(["lease", "idle", "--wait", wait]));
    parked(&cluster.client(), "idle", 1).await;
    until("all nodes have applied everything", LIMIT, async || {
        let indices = indices(&cluster).await;
        let same = indices.iter().all(|pair| pair.0 == pair.1 && *pair == indices[0]);
        if same { Ok(()) } else { Err(format!("{indices:?}")) }
    })
    .await;
    let before = indices(&cluster).await;
    assert!(!waiting.has_ended());
    waiting.end().await.expect(1);
    assert_eq!(indices(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_ready_reaches_a_parked_lease() {
    let cluster = Cluster::start().await;
    let client = cluster.client();

    create(&client, "delayed").await;
    let waiting = park(&cluster, "delayed").await;
    let late = NewMessage {
        options: PushOptions { due: Due::AfterMs(1_000), ..PushOptions::default() },
        ..NewMessage::of_body(b"late")
    };
    let id = stored(&client.push(queue("delayed"), false, vec![late]).await.expect("it is stored"), 1);
    assert!(!waiting.is_finished(), "it is not due yet");
    let (delivery, body) = waiting.await.expect("it is delivered");
    assert_eq!((delivery.id, delivery.attempt, body.as_str()), (MessageId(id), 1, "late"));

    for (name, given_back) in [
        ("released", Some(NackKind::Release { delay_ms: 0 })),
        ("failed", Some(NackKind::Fail { delay_ms: Some(0), error: Default::default() })),
        ("ended", None),
    ] {
        create(&client, name).await;
        bodies::push(&client, name, &[name]).await.expect("it is stored");
        let leased = client.ask(ask::Lease(lease(name, 1, Some(1_000), 0))).await.expect("it is ready");
        let first = leased.answer.first().expect("it is ready").clone();
        let waiting = park(&cluster, name).await;
        if let Some(kind) = given_back {
            let receipts: Vec<(MessageId, LeaseToken)> = vec![(first.id, first.token)];
            let receipts = Bounded::new(receipts).expect("one is within the limit");
            client
                .ask(ask::Nack(Nack { leases: Receipts { queue: queue(name), receipts }, kind }))
                .await
                .expect("it is leased");
        }
        let again = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        let (again, body) = again.unwrap_or_else(|_| panic!("{name} did not come")).expect("it is delivered");
        assert_eq!((again.id, again.attempt, body.as_str()), (first.id, 2, name));
        assert!(again.token > first.token, "{name}: {} after {}", again.token, first.token);
        let failures = u32::from(name != "released");
        assert_eq!(again.failures, failures, "{name}");
    }
}

/// A connection may have 1,024 requests in flight; those that nobody waits for any more do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_nobody_waits_for_give_their_places_back() {
    let cluster = Cluster::start_with(1, &[]).await;
    let client = cluster.client();
    create(&client, "left").await;
    for _ in 0..1_100 {
        let waiting = client.ask(ask::Lease(lease("left", 1, Some(30_000), 60_000)));
        let left = tokio::time::timeout(Duration::from_millis(1), waiting).await;
        assert!(left.is_err(), "an empty queue gave something");
    }
    parked(&client, "left", 0).await;
    let message = NewMessage::of_body(b"still served");
    client.push(queue("left"), false, vec![message]).await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_an_active_consumer_that_was_killed_goes_to_the_one_that_waits() {
    let cluster = Cluster::start().await;
    let create = ["queue", "create", "solo", "--single-active", "on", "--lease", "1s", "--backoff", "none"];
    cluster.ctl(&create).await.expect(0);
    let client = cluster.client();
    stored(&bodies::push(&client, "solo", &["one", "two"]).await.expect("they are stored"), 2);
    let first = cluster.client();
    let leased = first
        .ask(ask::Lease(lease("solo", 1, Some(1_000), 0)))
        .await
        .expect("it has messages")
        .answer
        .into_vec();
    assert_eq!(leased[0].epoch, 1);
    // Another one waits while there are messages, and is told why.
    let waiting = park(&cluster, "solo").await;
    let explained = cluster.ctl(&["explain", "solo", "--json"]).await.expect(1).json();
    assert_eq!((&explained["holds"][0]["hold"], &explained["waiting"]), (&"active".into(), &1.into()));
    let receipts = Receipts {
        queue: queue("solo"),
        receipts: Bounded::new(vec![(leased[0].id, leased[0].token)]).expect("one is within the limit"),
    };
    first.ask(ask::Ack(receipts)).await.expect("the lease is its own");
    assert!(!waiting.is_finished());
    // It is gone without a word: nothing closes its session.
    drop(first);
    let (delivery, body) = waiting.await.expect("it is served");
    assert_eq!((delivery.epoch, body.as_str()), (2, "two"));
    assert_eq!(delivery.attempt, 1);
}

/// A lease of up to `max` messages of `name` that lingers, in a task of its own; how many it got, and when.
async fn linger(
    cluster: &Cluster,
    name: &str,
    max: u16,
    linger: Duration,
) -> tokio::task::JoinHandle<(usize, Instant)> {
    let client = cluster.client();
    let linger_ms = u32::try_from(linger.as_millis()).expect("seconds");
    let asked = Lease { linger_ms, ..lease(name, max, Some(30_000), 60_000) };
    let waiting = tokio::spawn(async move {
        let leased = client.ask(ask::Lease(asked)).await.expect("it waits");
        (leased.answer.len(), Instant::now())
    });
    parked(&cluster.client(), name, 1).await;
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_lingers_waits_for_as_many_as_it_asks_for() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    create(&client, "full").await;
    let full = linger(&cluster, "full", 5, LIMIT).await;
    for _ in 0..2 {
        bodies::push(&client, "full", &["a", "b"]).await.expect("there is a leader");
        parked(&client, "full", 1).await;
    }
    // One that does not linger does not wait for one that does.
    let other = client.ask(ask::Lease(lease("full", 1, Some(30_000), 0))).await.expect("there is a leader");
    assert_eq!(other.answer.len(), 1);
    bodies::push(&client, "full", &["c", "d", "e"]).await.expect("there is a leader");
    assert_eq!(full.await.expect("it was answered").0, 5);

    create(&client, "few").await;
    let wait = Duration::from_millis(700);
    let few = linger(&cluster, "few", 5, wait).await;
    let begin = Instant::now();
    bodies::push(&client, "few", &["a", "b"]).await.expect("there is a leader");
    let (count, at) = few.await.expect("it was answered");
    assert!(count == 2 && at - begin >= wait, "{count} after {:?}", at - begin);

    let out = cluster.ctl(&["lease", "few", "-n", "2", "--linger", "100ms"]).await.expect(1);
    assert_eq!(out.stdout, "", "nothing is there, and it was not told to wait");
    bodies::push(&client, "few", &["c"]).await.expect("there is a leader");
    cluster.ctl(&["pop", "few", "-n", "2", "--linger", "100ms"]).await.expect(0);
}

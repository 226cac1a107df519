//! What one connection may have in flight: a client with too much of it is refused in order, heard all the same, and
//! missed as soon as it is gone.

use harness::bodies::{lease, push, queue, stored};
use harness::cluster::Cluster;
use harness::raw::random_session;
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use queue_protocol::error::{Applied, Error, ErrorCode};
use queue_protocol::limits::{IN_FLIGHT_COUNT_MAX, TAIL_SIZE_MAX};
use queue_protocol::wire::frame::FrameKind;
use queue_protocol::wire::request::{Consistency, Lease, Peek, Queues, Request};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Answer, PushOutcome, QueueView};

use super::pipeline::Pipeline;

const IDLE: &str = "idle";
const PLACES: u64 = IN_FLIGHT_COUNT_MAX as u64;

async fn one_node(mutant: Option<&str>) -> Cluster {
    let env: Vec<(&str, &str)> = mutant.map(|name| ("QUEUED_MUTANT", name)).into_iter().collect();
    let cluster = Cluster::start_with(1, &env).await;
    cluster.ctl(&["queue", "create", IDLE]).await.expect(0);
    cluster
}

/// Waits until the queue is as `right` says.
async fn seen(client: &Client, what: &str, right: impl Fn(&QueueView) -> bool) {
    until(what, LIMIT, async || {
        let only = Some(queue(IDLE));
        let look = Queues { only, after: None, consistency: Consistency::Linearizable };
        let answered = client.ask(ask::Queues(look)).await.map_err(|error| error.to_string())?;
        let view = answered.answer.first().ok_or("no queue")?;
        if right(view) {
            Ok(())
        } else {
            Err(format!("{} wait, {} are ready, {} leased", view.waiting, view.ready, view.leased))
        }
    })
    .await;
}

fn patient_lease() -> Lease {
    lease(IDLE, 1, Some(30_000), 300_000)
}

/// Takes all places with leases that wait; gives their requests and a stamp that is free. It says that the leases are
/// done, which is a lie that makes room in the session's window.
async fn fill(pipeline: &mut Pipeline) -> (Vec<u64>, u64) {
    let known = pipeline.push((1, 1), "jobs", b"opens the session");
    pipeline.answered(known).await.expect("it is stored");
    let lease = |number| pipeline.ask(Some((number, 2)), Request::Lease(patient_lease()), &[]);
    let leases = (2..2 + PLACES).map(lease).collect();
    pipeline.send().await;
    (leases, 2 + PLACES)
}

fn refused(answer: Result<Answer, Error>) -> bool {
    match answer {
        Ok(_) => false,
        Err(error) => {
            assert_eq!((error.code, error.applied), (ErrorCode::Overloaded, Applied::No), "{error}");
            true
        }
    }
}

fn id_of(answer: Result<Answer, Error>) -> u64 {
    match answer.expect("there is a place") {
        Answer::Pushed(outcomes) => match outcomes[..] {
            [PushOutcome::Stored { first_id, .. }] => first_id.0,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_1024_requests_pings_and_cancels_are_heard_and_what_is_refused_keeps_its_order() {
    let cluster = one_node(None).await;
    let (client, session) = (cluster.client(), random_session());
    let mut pipeline = Pipeline::open(cluster.address(0), session).await;
    let (leases, free) = fill(&mut pipeline).await;
    let ping = pipeline.ping();
    pipeline.send().await;
    assert_eq!(pipeline.frame(ping).await.kind, FrameKind::Pong);
    let parked = u32::try_from(leases.len()).expect("a few");
    seen(&client, "all leases are parked", |view| view.waiting == parked).await;

    let (first, second, third) = (free, free + 1, free + 2);
    let asked = [first, second].map(|number| pipeline.push((number, free), "jobs", b"x"));
    pipeline.send().await;
    for id in asked {
        assert!(refused(pipeline.answer(id).await), "there was no place");
    }
    pipeline.cancel(leases[0]);
    pipeline.cancel(leases[1]);
    pipeline.send().await;
    seen(&client, "cancels are heard", |view| view.waiting == parked - 2).await;

    // There is room now, and still nothing overtakes the first: not here and not on another connection.
    let mut other = Pipeline::open(cluster.address(0), session).await;
    other.index = pipeline.index;
    let late = pipeline.push((second, free), "jobs", b"second");
    assert!(refused(pipeline.answered(late).await), "the second overtook the first");
    let late = other.push((third, free), "jobs", b"third");
    assert!(refused(other.answered(late).await), "the third overtook the first on another connection");
    let again = pipeline.push((first, free), "jobs", b"first");
    let first = id_of(pipeline.answered(again).await);
    let early = other.push((third, free), "jobs", b"third");
    assert!(refused(other.answered(early).await), "the third overtook the second");
    let again = pipeline.push((second, free), "jobs", b"second");
    let second = id_of(pipeline.answered(again).await);
    let again = other.push((third, free), "jobs", b"third");
    let third = id_of(other.answered(again).await);
    assert!(first < second && second < third, "{first}, {second}, {third}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_bug_that_lets_later_numbers_pass_is_seen() {
    let cluster = one_node(Some("refused-overtaken")).await;
    let mut pipeline = Pipeline::open(cluster.address(0), random_session()).await;
    let (leases, free) = fill(&mut pipeline).await;
    let asked = pipeline.push((free, free), "jobs", b"first");
    assert!(refused(pipeline.answered(asked).await), "there was no place");
    pipeline.cancel(leases[0]);
    pipeline.send().await;
    seen(&cluster.client(), "the cancel is heard", |view| u64::from(view.waiting) == PLACES - 1).await;
    let late = pipeline.push((free + 1, free), "jobs", b"second");
    assert!(!refused(pipeline.answered(late).await), "the bug shows nothing here");
}

/// A client with all its places taken by parked leases dies without having read an answer; then a message comes.
async fn message_after_a_death(mutant: Option<&str>) -> (Cluster, Client) {
    let cluster = one_node(mutant).await;
    let client = cluster.client();
    let mut pipeline = Pipeline::open(cluster.address(0), random_session()).await;
    for number in 1..=PLACES {
        pipeline.ask(Some((number, 1)), Request::Lease(patient_lease()), &[]);
    }
    for _ in 0..76 {
        pipeline.ask(None, Request::Stats, &[]);
    }
    pipeline.send().await;
    seen(&client, "all leases are parked", |view| u64::from(view.waiting) == PLACES).await;
    drop(pipeline);
    if mutant.is_none() {
        seen(&client, "no lease is parked", |view| view.waiting == 0).await;
    }
    stored(&push(&client, IDLE, &["late"]).await.expect("it is stored"), 1);
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_leases_of_a_client_that_died_take_nothing() {
    let (_cluster, client) = message_after_a_death(None).await;
    let leased = client.ask(ask::Lease(patient_lease())).await.expect("it is there").answer;
    assert_eq!(leased.first().map(|delivery| delivery.attempt), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_bug_that_keeps_the_leases_of_the_dead_is_seen() {
    let (_cluster, client) = message_after_a_death(Some("parked-outlives-its-connection")).await;
    seen(&client, "the dead have it", |view| view.leased == 1 && view.ready == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_and_is_read_no_further_is_missed_when_it_closes() {
    let cluster = one_node(None).await;
    let client = cluster.client();
    push(&client, "big", &[vec![7_u8; 1 << 20]]).await.expect("it is stored");
    let mut pipeline = Pipeline::open(cluster.address(0), random_session()).await;
    for number in 1..=10 {
        pipeline.ask(Some((number, 1)), Request::Lease(patient_lease()), &[]);
    }
    pipeline.send().await;
    seen(&client, "its leases are parked", |view| view.waiting == 10).await;
    let peek = Peek {
        queue: queue("big"),
        state: None,
        id: None,
        max_messages: 1,
        max_bytes: u32::try_from(TAIL_SIZE_MAX).expect("8 MiB"),
        after: None,
        consistency: Consistency::Linearizable,
    };
    for _ in 0..3 * PLACES {
        pipeline.ask(None, Request::Peek(peek.clone()), &[]);
    }
    pipeline.send().await;
    pipeline.finish().await;
    // It is still there, and reads nothing: only its end can tell.
    seen(&client, "its leases are dropped", |view| view.waiting == 0).await;
    drop(pipeline);
}

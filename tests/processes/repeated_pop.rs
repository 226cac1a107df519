//! A pop asked again under its number: the same bodies, although they were settled, the log was purged and another
//! node leads.

use bytes::Bytes;
use harness::bodies::{self, lease, push, stored};
use harness::cluster::Cluster;
use harness::raw::{call, connect, random_session, stamp};
use harness::{LIMIT, until};
use queue_protocol::content;
use queue_protocol::wire::request::{Request, Stamp};
use queue_protocol::wire::response::{Answer, Delivery, Response};

/// The deliveries of a pop with their bodies.
fn popped(response: &Response, tail: &Bytes) -> Vec<(Delivery, Bytes)> {
    let Ok(Answer::Delivered(deliveries)) = &response.result else { panic!("{response:?}") };
    let mut at = 0;
    let cut = |delivery: &Delivery| {
        let content = tail.slice(at..at + delivery.content.size as usize);
        at += content.len();
        delivery.content.verify(&content).expect("the checksum is that of the push");
        (delivery.clone(), content::decode(&content).expect("no headers were pushed").1)
    };
    let all = deliveries.iter().map(cut).collect();
    assert_eq!(at, tail.len());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_pop_gives_the_same_bodies_after_purge_and_leader_change() {
    let settings = [
        ("QUEUED_RAFT_SNAPSHOT_EVERY", "20"),
        ("QUEUED_RAFT_KEEP_BYTES", "0B"),
        ("QUEUED_STORAGE_SEGMENT_SIZE", "64KiB"),
    ];
    let mut cluster = Cluster::start_with(3, &settings).await;
    let client = cluster.client();
    let (leader, before) = cluster.leader().await;
    let pushed: Vec<String> = (0..10).map(|number| format!("{number} {}", "x".repeat(3_000))).collect();
    stored(&push(&client, "jobs", &pushed).await.expect("they are stored"), pushed.len());

    let session = random_session();
    let connection = connect(cluster.address(leader), session).await.expect("it is a node");
    let pop = Request::Pop(lease("jobs", 10, None, 0));
    let one = stamp(&connection, 1, 1);
    let (response, tail) = call(&connection, Some(one), pop.clone()).await.expect("it leads");
    let first = popped(&response, &tail);
    assert!(!response.repeated);
    assert_eq!(
        bodies::sorted(&first.iter().map(|(_, body)| body).collect::<Vec<_>>()),
        bodies::sorted(&pushed)
    );

    // More entries, so that every node takes a snapshot and drops the log up to and beyond the pop.
    let filler = vec!["y".repeat(4_000); 10];
    until("every node has purged its log beyond the pop", LIMIT, async || {
        push(&client, "filler", &filler).await.map_err(|error| error.to_string())?;
        bodies::drain(&client, "filler").await;
        for n in 0..cluster.count() {
            let status = cluster.status(n).await?;
            if status.purged_index <= response.at.index {
                let (name, purged) = (status.name, status.purged_index);
                return Err(format!("{name} has purged to {purged}, the pop is {}", response.at.index));
            }
        }
        Ok(())
    })
    .await;

    cluster.kill(leader);
    let (next, after) = cluster.leader_above(before.term).await;
    assert_ne!((next, after.term), (leader, before.term));
    let connection = connect(cluster.address(next), session).await.expect("it is a node");
    let (repeat, tail) = until("the new leader answers", LIMIT, async || {
        let answered = call(&connection, Some(one), pop.clone()).await;
        match answered.map_err(|error| error.to_string())? {
            (Response { result: Err(error), .. }, _) => Err(error.to_string()),
            answered => Ok(answered),
        }
    })
    .await;
    assert!(repeat.repeated);
    assert_eq!(repeat.at, response.at);
    assert_eq!(popped(&repeat, &tail), first);

    // Once it says that it has the answer, the number is forgotten: it is not executed again.
    let nothing = Request::Pop(lease("jobs", 10, None, 0));
    let (empty, _) =
        call(&connection, Some(Stamp { number: 2, done_below: 2, ..one }), nothing).await.expect("it leads");
    assert!(matches!(&empty.result, Ok(Answer::Delivered(none)) if none.is_empty()), "{empty:?}");
}

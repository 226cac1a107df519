//! Presence: what a client whose session is bound says, to whom, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::worker::{Report, Verdict, Worker};
use queue_protocol::client::{Client, ClientError, Presence};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::FrameKind;
use queue_protocol::wire::request::{BindSession, Call, Request};
use queue_protocol::wire::response::Answer;

use crate::scripted::*;

const GRACE: Duration = Duration::from_secs(5);

/// The next request binds the session, or unbinds it, under a number.
async fn binds(node: &mut Node, expected: Option<u64>) {
    let (id, call) = node.request().await;
    assert_eq!(call.request, Request::BindSession(BindSession { grace_ms: expected }));
    assert!(call.stamp.is_some());
    node.answer(id, Ok(Answer::Bound)).await;
}

/// The next request says that the client is there, for as long as it likes.
async fn attends(node: &mut Node) -> u64 {
    let (id, call) = node.request().await;
    assert_eq!((call.request, call.stamp), (Request::Attend, None));
    assert!(call.timeout_ms > 86_400_000, "{} ms", call.timeout_ms);
    id
}

async fn bound(client: &Client) -> Presence {
    client.bind(GRACE).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_that_it_is_not_bound_binds_again() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        binds(&mut node, Some(5_000)).await;
        for _ in 0..3 {
            let id = attends(&mut node).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            node.answer(id, Err(Error::refused(ErrorCode::SessionNotBound, "not bound"))).await;
            binds(&mut node, Some(5_000)).await;
        }
        let id = attends(&mut node).await;
        (node, id)
    };
    let (presence, (mut node, id)) = tokio::join!(bound(&client), server);
    drop(presence);
    let frame = node.frame().await;
    assert_eq!((frame.kind, frame.request_id), (FrameKind::Cancel, id), "its absence begins");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_there_for_whoever_leads_without_being_asked() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1]);
    let server = async {
        let mut first = n1.accept(Some(1)).await;
        binds(&mut first, Some(5_000)).await;
        let id = attends(&mut first).await;
        first.answer(id, Err(at_leader(2))).await;
        let mut second = n2.accept(Some(2)).await;
        attends(&mut second).await;
        (first, second)
    };
    let (_presence, _nodes) = tokio::join!(bound(&client), server);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_refused_is_an_error() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, Err(Error::refused(ErrorCode::BadRequest, "a grace is 1000 to 43200000 ms"))).await;
        node
    };
    let (refused, _node) = tokio::join!(client.bind(Duration::ZERO), server);
    let Err(ClientError::Refused(error)) = refused else { panic!("it was bound") };
    assert_eq!(error.code, ErrorCode::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_bound_worker_leases_nothing_before_it_is_bound_and_unbinds_at_its_end() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        // The cluster is away for it at first: it waits and tries again.
        let (id, _) = node.request().await;
        node.answer(id, Err(Error::again(ErrorCode::Overloaded, "later"))).await;
        binds(&mut node, Some(5_000)).await;
        let mut asked = Vec::new();
        for _ in 0..2 {
            asked.push(node.request().await);
        }
        let (lease, _) = asked.iter().find(|(_, call)| matches!(call.request, Request::Lease(_))).unwrap();
        let (attend, _) = asked.iter().find(|(_, call)| call.request == Request::Attend).unwrap();
        node.answer(*lease, Ok(Answer::Delivered(Bounded::default()))).await;
        let mut unbound = false;
        let mut cancelled = false;
        while !(unbound && cancelled) {
            let frame = node.frame().await;
            if frame.kind == FrameKind::Cancel {
                assert_eq!(frame.request_id, *attend);
                cancelled = true;
                continue;
            }
            let call: Call = frame.message().unwrap();
            assert_eq!(call.request, Request::BindSession(BindSession { grace_ms: None }));
            node.answer(frame.request_id, Ok(Answer::Bound)).await;
            unbound = true;
        }
        node
    };
    let worker = Worker::new(client.clone(), "jobs".parse().unwrap()).until_empty().bound(Some(GRACE));
    let (report, _node) = tokio::join!(worker.run(async |_| Verdict::Ack), server);
    assert_eq!(report.unwrap(), Report::default());
}

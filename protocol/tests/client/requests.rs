//! Requests on their way: one story per way they can go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::{Client, ClientError, NewMessage, Notice};
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::names::{ClusterId, NodeId, SessionId};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::frame::{FrameKind, OutFrame};
use queue_protocol::wire::handshake::accept;
use queue_protocol::wire::hello::{Hello, HelloRole};
use queue_protocol::wire::io::FrameReader;
use queue_protocol::wire::proof::{PLAIN, Secret, Told};
use queue_protocol::wire::request::{Call, Request, Stamp};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::{Answer, PushOutcome};
use tokio::io::{AsyncWriteExt, split};

use crate::scripted::*;

pub(crate) async fn push(client: &Client) -> Result<u64, ClientError> {
    let messages = vec![NewMessage::of_body(b"x")];
    let answered = client.push("jobs".parse().unwrap(), false, messages).await?;
    match answered.answer[..] {
        [PushOutcome::Stored { first_id, count: 1 }] => Ok(first_id.0),
        ref other => panic!("{other:?}"),
    }
}

pub(crate) fn stamp(number: u64, done_below: u64) -> Option<Stamp> {
    Some(Stamp { number, done_below, index: INDEX })
}

#[tokio::test(start_paused = true)]
async fn a_push_goes_to_the_leader_and_its_answer_comes_back() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        assert_eq!(node.hello.role, HelloRole::Client { session: SessionId(42) });
        let frame = node.frame().await;
        let call: Call = frame.message().unwrap();
        assert_eq!(call.stamp, stamp(1, 1));
        assert_eq!(&frame.tail[..], b"\0x");
        node.answer(frame.request_id, stored(9)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(2, 2));
        node.answer(id, stored(10)).await;
        node
    };
    let (ids, _node) = tokio::join!(async { [push(&client).await, push(&client).await] }, server);
    assert_eq!(ids.map(Result::unwrap), [9, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_names_the_leader_saves_the_detour() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1]);
    let mut notices = client.notices();
    let server = async {
        let _follower = n1.accept(Some(2)).await;
        let mut leader = n2.accept(Some(2)).await;
        let (id, _) = leader.request().await;
        leader.answer(id, stored(3)).await;
        leader
    };
    let call = client.push("jobs".parse().unwrap(), false, vec![NewMessage::of_body(b"x")]);
    let (answered, _leader) = tokio::join!(call, server);
    let answered = answered.unwrap();
    assert_eq!(answered.redirects, 1);
    assert_eq!(answered.leader, Some(Arc::new(view(2))));
    assert_eq!(answered.at.index, 102);
    assert!(
        matches!(notices.recv().await, Some(Notice::Redirected { from, to }) if from == "n1:7410" && to == view(2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirect_keeps_the_number() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1]);
    let mut notices = client.notices();
    let server = async {
        let mut before = n1.accept(Some(1)).await;
        let (id, call) = before.request().await;
        before.answer(id, Err(at_leader(2))).await;
        let mut after = n2.accept(Some(2)).await;
        let (id, again) = after.request().await;
        assert_eq!(again.stamp, call.stamp);
        after.answer(id, stored(3)).await;
        (before, after)
    };
    let (id, _nodes) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 3);
    assert!(matches!(notices.recv().await, Some(Notice::Redirected { .. })));
    let changed = notices.recv().await;
    assert!(
        matches!(&changed, Some(Notice::LeaderChanged { from, to }) if from == "n1" && to.node.0 == 2),
        "{changed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_follow_is_refused() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client_of(&net, &[1], false);
    let server = async {
        let mut node = n1.accept(Some(2)).await;
        let (id, _) = node.request().await;
        node.answer(id, Err(at_leader(2))).await;
        node
    };
    let (outcome, _node) = tokio::join!(push(&client), server);
    assert!(
        matches!(&outcome, Err(ClientError::Refused(e)) if e.code == ErrorCode::NotLeader),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_lost_after_the_send_is_asked_again_with_the_same_number() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let mut notices = client.notices();
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (_, call) = node.request().await;
        drop(node);
        drop(n1);
        // The other node has not noticed yet.
        let mut node = n2.accept(Some(1)).await;
        drop(node);
        node = n2.accept(None).await;
        let (id, asked) = node.request().await;
        assert_eq!(asked.request, Request::Status);
        node.answer(id, Ok(status(2, Some(2)))).await;
        let (id, again) = node.request().await;
        assert_eq!(again.stamp, call.stamp);
        node.answer(id, stored(8)).await;
        node
    };
    let (id, _node) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 8);
    assert!(matches!(notices.recv().await, Some(Notice::Lost { address, .. }) if address == "n1:7410"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_before_the_send_costs_nothing() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, stored(1)).await;
        drop(node);
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(2, 2));
        node.answer(id, stored(2)).await;
        node
    };
    let calls = async {
        let first = push(&client).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        [first, push(&client).await]
    };
    let (ids, _node) = tokio::join!(calls, server);
    assert_eq!(ids.map(Result::unwrap), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_never_answered_is_unknown() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let begin = tokio::time::Instant::now();
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        node.request().await;
        let forgotten = node.frame().await;
        assert_eq!(forgotten.kind, FrameKind::Cancel);
        node
    };
    let (outcome, _node) = tokio::join!(push(&client), server);
    assert!(matches!(&outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_left_before_the_deadline() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let server = async {
        let mut stopped = n1.accept(Some(1)).await;
        let _ = stopped.reader.next().await;
        let mut node = n2.accept(Some(2)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(1, 1));
        node.answer(id, stored(4)).await;
        (stopped, node)
    };
    let begin = tokio::time::Instant::now();
    let (id, _nodes) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 4);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_number_forgotten_after_it_was_sent_is_unknown() {
    for code in [ErrorCode::TooOld, ErrorCode::SessionExpired] {
        let net = Arc::new(Net::default());
        let mut n1 = net.listen(1);
        let client = client(&net, &[1]);
        let server = async {
            let mut node = n1.accept(Some(1)).await;
            node.request().await;
            drop(node);
            let mut node = n1.accept(Some(1)).await;
            let (id, _) = node.request().await;
            node.answer(id, Err(Error::refused(code, "forgotten"))).await;
            node
        };
        let (outcome, _node) = tokio::join!(push(&client), server);
        assert!(matches!(&outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expired_between_requests_is_followed_by_another() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, stored(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, Err(Error::refused(ErrorCode::SessionExpired, "expired"))).await;
        let mut next = n1.accept(Some(1)).await;
        assert_ne!(next.hello.role, node.hello.role);
        assert_eq!(next.hello.cluster, Some(CLUSTER));
        let (id, call) = next.request().await;
        assert_eq!(call.stamp, stamp(1, 1));
        next.answer(id, stored(2)).await;
        next
    };
    let (ids, _node) = tokio::join!(async { [push(&client).await, push(&client).await] }, server);
    assert_eq!(ids.map(Result::unwrap), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn nobody_reached_is_unavailable_and_names_each_server() {
    let net = Arc::new(Net::default());
    let client = client(&net, &[1, 2]);
    let begin = tokio::time::Instant::now();
    match push(&client).await {
        Err(ClientError::Unavailable { what, reached: false, leader: None }) => {
            assert!(what.contains("n1:7410 refused") && what.contains("n2:7410 refused"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn no_leader_is_unavailable_but_reached_and_people_are_told() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let mut notices = client.notices();
    let server = async {
        loop {
            let mut node = n1.accept(None).await;
            let (id, call) = node.request().await;
            assert_eq!(call.request, Request::Status, "only a leader is sent the push");
            node.answer(id, Ok(status(1, None))).await;
        }
    };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(
        matches!(&outcome, Err(ClientError::Unavailable { reached: true, leader: None, .. })),
        "{outcome:?}"
    );
    assert!(
        matches!(notices.recv().await, Some(Notice::Waiting { answering, .. }) if answering == ["n1:7410"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_be_reached_from_here_is_named() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        loop {
            n1.accept(Some(2)).await;
        }
    };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(
        matches!(&outcome, Err(ClientError::Unavailable { leader: Some(v), .. }) if *v == view(2)),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_name_each_other_do_not_spin() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let mut hellos = 0;
    let server = async {
        loop {
            tokio::select! { _ = n1.accept(Some(2)) => {}, _ = n2.accept(Some(1)) => {} }
            hellos += 1;
        }
    };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(matches!(&outcome, Err(ClientError::Unavailable { reached: true, .. })), "{outcome:?}");
    assert!(hellos < 300, "{hellos} hellos in 5 s");
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_claim_to_lead_and_send_each_other_requests_do_not_spin() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let mut requests = 0;
    let server = async {
        loop {
            let (mut node, other) = tokio::select! {
                node = n1.accept(Some(1)) => (node, 2),
                node = n2.accept(Some(2)) => (node, 1),
            };
            let (id, _) = node.request().await;
            node.answer(id, Err(at_leader(other))).await;
            requests += 1;
            assert!(requests < 300, "{requests} requests");
        }
    };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(matches!(&outcome, Err(ClientError::Unavailable { reached: true, .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_handed_on_at_once() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, Err(Error::refused(ErrorCode::QueueNotFound, "no queue"))).await;
        node
    };
    let (outcome, _node) = tokio::join!(push(&client), server);
    assert!(
        matches!(&outcome, Err(ClientError::Refused(e)) if e.code == ErrorCode::QueueNotFound),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_is_tried_until_it_is_done() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let begin = tokio::time::Instant::now();
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        let later = Error { retry: Retry::AfterMs(700), ..Error::again(ErrorCode::Overloaded, "busy") };
        node.answer(id, Err(later)).await;
        let (id, again) = node.request().await;
        assert_eq!(again.stamp, call.stamp);
        node.answer(id, stored(5)).await;
        node
    };
    let (id, _node) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 5);
    assert!(begin.elapsed() >= Duration::from_millis(700));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_had_no_room_for_comes_again_in_the_order_of_its_numbers() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let asked = [node.request().await.0, node.request().await.0, node.request().await.0];
        // The last one is to wait the shortest.
        for (id, after_ms) in asked.into_iter().zip([700, 300, 1]) {
            let full =
                Error { retry: Retry::AfterMs(after_ms), ..Error::again(ErrorCode::Overloaded, "full") };
            node.answer(id, Err(full)).await;
        }
        for number in 1..=3 {
            let (id, call) = node.request().await;
            assert_eq!(call.stamp.map(|stamp| stamp.number), Some(number));
            node.answer(id, stored(number)).await;
        }
        node
    };
    let (ids, _node) =
        tokio::join!(async { tokio::join!(push(&client), push(&client), push(&client)) }, server);
    assert_eq!((ids.0.unwrap(), ids.1.unwrap(), ids.2.unwrap()), (1, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_until_the_end_is_refused() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        loop {
            let (id, _) = node.request().await;
            node.answer(id, Err(Error::again(ErrorCode::DiskReserve, "disk is nearly full"))).await;
        }
    };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(
        matches!(&outcome, Err(ClientError::Refused(e)) if e.code == ErrorCode::DiskReserve),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_not_repeated_once_it_was_sent() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        node.request().await;
    };
    let begin = tokio::time::Instant::now();
    let (outcome, ()) = tokio::join!(client.ask(ask::TransferLeader(None)), server);
    assert!(matches!(&outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_and_never_unknown() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (_, call) = node.request().await;
        assert_eq!(call.stamp, None);
        drop(node);
        let mut node = n1.accept(Some(1)).await;
        node.request().await;
        node
    };
    let (outcome, _node) = tokio::join!(client.ask(ask::Stats), server);
    assert!(matches!(&outcome, Err(ClientError::Unavailable { reached: true, .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn garbage_instead_of_a_hello_is_incompatible() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut held = Vec::new();
        while let Some(mut stream) = n1.streams.recv().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            held.push(stream);
        }
    };
    let begin = tokio::time::Instant::now();
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(
        matches!(&outcome, Err(ClientError::Incompatible(e)) if e.code == ErrorCode::BadFrame),
        "{outcome:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn garbage_on_an_open_connection_ends_it_and_the_push_goes_on_another() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut broken = n1.accept(Some(1)).await;
        broken.request().await;
        broken.writer.write_all(&[0xee; 64]).await.unwrap();
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(1, 1));
        node.answer(id, stored(6)).await;
        (broken, node)
    };
    let (id, _nodes) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn servers_of_two_clusters_are_not_mixed() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, stored(1)).await;
        drop((node, n1));
        let (read, mut writer) = split(n2.streams.recv().await.unwrap());
        let answer = |hello: &Hello| Err(hello.check(ClusterId(8), NodeId(2)).unwrap_err());
        let mut reader = FrameReader::new(read);
        let (secret, admit) = (Secret([0; 32]), |_: &_| Ok(Told::nothing()));
        let _ = accept(&mut reader, &mut writer, &PLAIN, &secret, answer, admit).await;
    };
    let calls = async { (push(&client).await.unwrap(), client.ask_node("n2:7410", ask::Status).await) };
    let ((_, outcome), ()) = tokio::join!(calls, server);
    assert!(
        matches!(&outcome, Err(ClientError::Incompatible(e)) if e.code == ErrorCode::WrongCluster),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_waits_on_top_of_the_timeout_and_is_repeated_with_the_rest() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let content = Bytes::from_static(b"\0body");
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (_, call) = node.request().await;
        assert_eq!(call.request, Request::Lease(lease_of(60_000)));
        assert_eq!(call.timeout_ms, 65_000);
        let parked = tokio::time::timeout(Duration::from_secs(20), node.frame()).await;
        assert!(parked.is_err(), "the client gave up");
        drop(node);
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        let Request::Lease(lease) = call.request else { panic!("{call:?}") };
        assert!((39_000..=40_000).contains(&lease.wait_ms), "{}", lease.wait_ms);
        assert_eq!(call.stamp, stamp(1, 1));
        let deliveries = Bounded::new(vec![delivery(&content)]).unwrap();
        node.answer_with(id, Ok(Answer::Delivered(deliveries)), vec![content.clone()]).await;
        node
    };
    let (answered, _node) = tokio::join!(client.ask(ask::Lease(lease_of(60_000))), server);
    assert_eq!(answered.unwrap().contents, std::slice::from_ref(&content));
}

#[tokio::test(start_paused = true)]
async fn a_content_that_changed_is_never_handed_out() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let content = Bytes::from_static(b"\0body");
    let answer = Answer::Delivered(Bounded::new(vec![delivery(&content)]).unwrap());
    let server = async {
        for tail in [&b"\0bady"[..], b"\0bod", b"\0body!", b"\0body"] {
            let mut node = n1.accept(Some(1)).await;
            let (id, _) = node.request().await;
            node.answer_with(id, Ok(answer.clone()), vec![Bytes::from_static(tail)]).await;
        }
    };
    let (answered, ()) = tokio::join!(client.ask(ask::Lease(lease_of(0))), server);
    assert_eq!(answered.unwrap().contents, std::slice::from_ref(&content));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_and_its_number_done() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (parked, _) = node.request().await;
        let cancel = node.frame().await;
        assert_eq!((cancel.kind, cancel.request_id), (FrameKind::Cancel, parked));
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(2, 2), "nobody waits for number 1");
        // A late answer to what nobody waits for harms nobody.
        node.answer(parked, Ok(Answer::Delivered(Bounded::default()))).await;
        node.answer(id, stored(7)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(3, 3));
        node.answer(id, stored(7)).await;
        node
    };
    let calls = async {
        let lease = client.ask(ask::Lease(lease_of(60_000)));
        assert!(tokio::time::timeout(Duration::from_secs(1), lease).await.is_err(), "nothing was answered");
        push(&client).await.unwrap();
        push(&client).await
    };
    let (id, _node) = tokio::join!(calls, server);
    assert_eq!(id.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_one_connection_and_stay_in_the_window() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        for round in 0..3_000 {
            let (id, call) = node.request().await;
            let stamp = call.stamp.unwrap();
            assert!(stamp.number - stamp.done_below < 1_024, "round {round}: {stamp:?}");
            node.answer(id, stored(stamp.number)).await;
        }
        node
    };
    let calls = futures_util::future::join_all((0..3_000).map(|_| push(&client)));
    let (ids, _node) = tokio::join!(calls, server);
    let ids: Vec<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids, (1..=3_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn many_callers_make_one_search() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut hellos = 0;
        for _ in 0..3 {
            let mut node = n1.accept(None).await;
            hellos += 1;
            let (id, call) = node.request().await;
            assert_eq!(call.request, Request::Status);
            node.answer(id, Ok(status(1, None))).await;
        }
        let mut node = n1.accept(Some(1)).await;
        for _ in 0..100 {
            let (id, _) = node.request().await;
            node.answer(id, stored(1)).await;
        }
        assert_eq!(hellos, 3);
        node
    };
    let calls = futures_util::future::join_all((0..100).map(|_| push(&client)));
    let (ids, _node) = tokio::join!(calls, server);
    assert!(ids.into_iter().all(|id| id.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_stopping_answers_what_is_open_and_is_left() {
    use queue_protocol::wire::frame::Goodbye;
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    let client = client(&net, &[1, 2]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        let reason = Some(Error::again(ErrorCode::ShuttingDown, "stopping"));
        node.send(&OutFrame::new(0, &Goodbye { reason }, Vec::new())).await;
        node.answer(id, stored(1)).await;
        drop(n1);
        let mut next = n2.accept(Some(2)).await;
        let (id, _) = next.request().await;
        next.answer(id, stored(2)).await;
        (node, next)
    };
    let (ids, _nodes) = tokio::join!(async { [push(&client).await, push(&client).await] }, server);
    assert_eq!(ids.map(Result::unwrap), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_closed_and_the_next_request_opens_another() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, stored(1)).await;
        let (id, call) = node.request().await;
        assert_eq!((call.request, call.stamp), (Request::CloseSession, stamp(2, 2)));
        node.answer(id, Ok(Answer::Closed)).await;
        let mut next = n1.accept(Some(1)).await;
        assert_ne!(next.hello.role, node.hello.role);
        let (id, call) = next.request().await;
        assert_eq!(call.stamp, stamp(1, 1));
        next.answer(id, stored(2)).await;
        next
    };
    let calls = async {
        push(&client).await.unwrap();
        client.close_session().await;
        push(&client).await
    };
    let (id, _node) = tokio::join!(calls, server);
    assert_eq!(id.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ping_measures_the_way_to_one_node() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(None).await;
        let ping = node.reader.next().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        node.send(&OutFrame::bare(ping.request_id, FrameKind::Pong)).await;
        node
    };
    let (time, _node) = tokio::join!(client.ping("n1:7410"), server);
    assert_eq!(time.unwrap(), Duration::from_millis(30));
    let nobody = client.ping("n9:7410").await;
    assert!(matches!(nobody, Err(ClientError::Unavailable { reached: false, .. })), "{nobody:?}");
}

#[tokio::test(start_paused = true)]
async fn contents_that_the_request_does_not_describe_are_not_sent() {
    let net = Arc::new(Net::default());
    let client = client(&net, &[1]);
    let outcome = client.call(Request::Stats, vec![Bytes::from_static(b"x")]).await;
    assert!(
        matches!(&outcome, Err(ClientError::Refused(e)) if e.code == ErrorCode::BadRequest),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_that_answers_pings_is_waited_for_until_the_deadline() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let begin = tokio::time::Instant::now();
    let server = async { n1.accept(Some(1)).await.stay_silent().await };
    let outcome = tokio::select! { outcome = push(&client) => outcome, () = server => unreachable!() };
    assert!(matches!(&outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
    assert_eq!(begin.elapsed().as_secs(), 5);
}

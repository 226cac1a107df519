//! The index of a session: learned before its first request, the same for ever, never too old for the first.

use std::sync::Arc;
use std::time::Duration;

use queue_protocol::client::ClientError;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::limits::SESSION_INDEX_MS_MAX;
use queue_protocol::wire::request::{Request, Stamp};
use queue_protocol::wire::requests::ask;

use crate::requests::{push, stamp};
use crate::scripted::*;

fn under(index: u64, number: u64) -> Option<Stamp> {
    Some(Stamp { number, done_below: number, index })
}

#[tokio::test(start_paused = true)]
async fn a_session_keeps_the_index_that_it_learned_first_wherever_it_goes() {
    let net = Arc::new(Net::default());
    let (mut n1, mut n2) = (net.listen(1), net.listen(2));
    n2.index = Some(70);
    let client = client(&net, &[1]);
    let server = async {
        let mut first = n1.accept(Some(1)).await;
        let (id, call) = first.request().await;
        assert_eq!(call.stamp, under(INDEX, 1));
        first.answer(id, Err(at_leader(2))).await;
        let mut second = n2.accept(Some(2)).await;
        let (id, call) = second.request().await;
        assert_eq!(call.stamp, under(INDEX, 1));
        second.answer(id, stored(1)).await;
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        drop(second);
        n2.index = Some(90);
        let _follower = n1.accept(Some(2)).await;
        let mut again = n2.accept(Some(2)).await;
        assert_eq!(again.hello.role, first.hello.role);
        let (id, call) = again.request().await;
        assert_eq!(call.stamp, under(INDEX, 2));
        again.answer(id, stored(2)).await;
        (first, again)
    };
    let calls = async {
        push(&client).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2_000)).await;
        push(&client).await
    };
    let (id, _nodes) = tokio::join!(calls, server);
    assert_eq!(id.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_first_under_an_index_that_is_too_old() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut idle = n1.accept(Some(1)).await;
        let (id, call) = idle.request().await;
        assert_eq!(call.stamp, None);
        idle.answer(id, Err(Error::refused(ErrorCode::Unsupported, "no"))).await;
        n1.index = Some(70);
        let mut next = n1.accept(Some(1)).await;
        assert_ne!(next.hello.role, idle.hello.role, "another session");
        let (id, call) = next.request().await;
        assert_eq!(call.stamp, under(70, 1));
        next.answer(id, stored(1)).await;
        (idle, next)
    };
    let calls = async {
        client.ask(ask::Stats).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(SESSION_INDEX_MS_MAX + 1)).await;
        push(&client).await
    };
    let (id, _nodes) = tokio::join!(calls, server);
    assert_eq!(id.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expired_is_followed_by_one_under_a_newer_index_unseen_by_the_user() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        for index in [70, 90] {
            let (id, _) = node.request().await;
            node.answer(id, Err(Error::refused(ErrorCode::SessionExpired, "at or below the mark"))).await;
            n1.index = Some(index);
            let next = n1.accept(Some(1)).await;
            assert_ne!(next.hello.role, node.hello.role);
            node = next;
        }
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, under(90, 1));
        node.answer(id, stored(1)).await;
        node
    };
    let (id, _node) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_to_a_session_that_then_expired_is_unknown_and_not_sent_under_another() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        node.request().await;
        drop(node);
        n1.index = Some(70);
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, stamp(1, 1), "repeated as it was");
        node.answer(id, Err(Error::refused(ErrorCode::SessionExpired, "at or below the mark"))).await;
        node
    };
    let (outcome, _node) = tokio::join!(push(&client), server);
    assert!(matches!(&outcome, Err(ClientError::Unknown { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_names_no_index_yet_is_asked_again_for_it_before_anything_is_sent() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    n1.index = None;
    let client = client(&net, &[1]);
    let server = async {
        let early = n1.accept(Some(1)).await;
        n1.index = Some(70);
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, under(70, 1));
        node.answer(id, stored(1)).await;
        (early, node)
    };
    let (id, _nodes) = tokio::join!(push(&client), server);
    assert_eq!(id.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_led_only_after_its_hello_is_greeted_again_before_anything_is_sent() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut follower = n1.accept(Some(2)).await;
        for _ in 0..2 {
            let (id, call) = follower.request().await;
            assert_eq!(call.request, Request::Status);
            follower.answer(id, Ok(status(1, Some(1)))).await;
        }
        n1.index = Some(70);
        let mut node = n1.accept(Some(1)).await;
        let (id, call) = node.request().await;
        assert_eq!(call.stamp, under(70, 1));
        node.answer(id, stored(1)).await;
        (follower, node)
    };
    let calls = async {
        let status = client.ask_node("n1:7410", ask::Status).await.unwrap();
        assert!(matches!(status.answer.leader, Some(leader) if leader.node.0 == 1));
        push(&client).await
    };
    let (id, _nodes) = tokio::join!(calls, server);
    assert_eq!(id.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_is_denied_leaves_it_unknown_whether_the_first_was_done() {
    for code in [ErrorCode::Denied, ErrorCode::KeyEnded, ErrorCode::AuthRequired] {
        let net = Arc::new(Net::default());
        let mut n1 = net.listen(1);
        let client = client(&net, &[1]);
        let server = async {
            let mut node = n1.accept(Some(1)).await;
            node.request().await;
            drop(node);
            let mut node = n1.accept(Some(1)).await;
            let (id, _) = node.request().await;
            node.answer(id, Err(Error::refused(code, "bob may not push jobs"))).await;
            let (id, _) = node.request().await;
            node.answer(id, Err(Error::refused(code, "bob may not push jobs"))).await;
            node
        };
        let (outcomes, _node) = tokio::join!(async { [push(&client).await, push(&client).await] }, server);
        let [first, second] = outcomes;
        let said = match first {
            Err(ClientError::Unknown { what }) => what,
            other => panic!("{other:?}"),
        };
        assert!(said.contains("the repeat was denied: ") && said.contains("bob may not"), "{said}");
        assert!(matches!(&second, Err(ClientError::Refused(_))), "it was sent once: {second:?}");
    }
}

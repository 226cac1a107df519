//! The worker: what it asks for, what becomes of the leases it holds, and how it ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::worker::{Job, Outcome, Report, Stage, Told, Verdict, Worker, WorkerEvent};
use queue_protocol::client::{Client, ClientError};
use queue_protocol::content::{ContentSpec, Headers, encode};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{LeaseToken, MessageId};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::frame::FrameKind;
use queue_protocol::wire::request::{Call, ExtendWhich, Lease, NackKind, Receipts, Request};
use queue_protocol::wire::response::{Answer, Delivery, Extended, Settled};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::scripted::*;

const LEASE_MS: u64 = 30_000;

fn content() -> Bytes {
    encode(&Headers::default(), b"x").unwrap()
}

/// Answers a lease with messages of these tokens; their ids are the same.
async fn deliver(node: &mut Node, id: u64, tokens: &[u64]) {
    let content = content();
    let one = |token: &u64| Delivery {
        id: MessageId(*token),
        token: LeaseToken(*token),
        lease_ms: LEASE_MS,
        deadline_ms: LEASE_MS + 5,
        content: ContentSpec::of(&content),
        ..delivery(&content)
    };
    let deliveries = Bounded::new(tokens.iter().map(one).collect()).unwrap();
    node.answer_with(id, Ok(Answer::Delivered(deliveries)), vec![content.clone(); tokens.len()]).await;
}

/// The next request that is no lease; leases are kept in `parked`.
async fn beside_leases(node: &mut Node, parked: &mut Vec<(u64, Lease)>) -> (u64, Call) {
    loop {
        let (id, call) = node.request().await;
        match call.request {
            Request::Lease(lease) => parked.push((id, lease)),
            _ => return (id, call),
        }
    }
}

async fn next_lease(node: &mut Node) -> (u64, Lease) {
    let (id, call) = node.request().await;
    let Request::Lease(lease) = call.request else { panic!("{:?}", call.request) };
    (id, lease)
}

fn tokens(receipts: &Receipts) -> Vec<u64> {
    receipts.receipts.iter().map(|(_, token)| token.0).collect()
}

async fn settle(node: &mut Node, id: u64, results: &[Settled]) {
    node.answer(id, Ok(Answer::Settled(Bounded::new(results.to_vec()).unwrap()))).await;
}

fn worker(client: &Client) -> Worker {
    Worker::new(client.clone(), "jobs".parse().unwrap())
}

async fn acks(_: Job) -> Verdict {
    Verdict::Ack
}

#[tokio::test(start_paused = true)]
async fn requests_cover_the_slots_that_are_free_and_acks_go_together() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, lease) = next_lease(&mut node).await;
        assert_eq!((lease.max_messages, lease.wait_ms > 0, lease.linger_ms), (4, true, 200));
        deliver(&mut node, id, &[1, 2]).await;
        // One more is parked for the two slots that are left; then for those that became free.
        let mut parked = Vec::new();
        let (id, call) = beside_leases(&mut node, &mut parked).await;
        let Request::Ack(receipts) = call.request else { panic!("{:?}", call.request) };
        assert_eq!(tokens(&receipts), [1, 2], "one request for both");
        settle(&mut node, id, &[Settled::Ok, Settled::Ok]).await;
        while parked.iter().map(|(_, lease)| lease.max_messages).sum::<u16>() < 4 {
            parked.push(next_lease(&mut node).await);
        }
        assert_eq!(parked.len(), 2, "so many are parked at once");
        deliver(&mut node, parked[0].0, &[3]).await;
        let mut more = Vec::new();
        let (id, _) = beside_leases(&mut node, &mut more).await;
        settle(&mut node, id, &[Settled::Ok]).await;
        node
    };
    let (stop, stage) = watch::channel(Stage::Working);
    let linger = Some(Duration::from_millis(200));
    let work = worker(&client).parallel(4).linger(linger).stop_by(stage).run(acks);
    let quiet = async {
        let mut node = server.await;
        stop.send_replace(Stage::Finishing);
        loop {
            let frame = node.frame().await;
            if frame.kind != FrameKind::Request {
                continue;
            }
            let (id, call) = (frame.request_id, frame.message::<Call>().unwrap());
            match call.request {
                Request::Lease(lease) if lease.wait_ms == 0 => deliver(&mut node, id, &[]).await,
                // Asked before the stop was heard; it is hurried next.
                Request::Lease(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let report = tokio::select! { report = work => report.unwrap(), () = quiet => unreachable!() };
    assert_eq!(report, Report { acked: 3, ..Report::default() });
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_a_third_of_its_length_and_a_refused_renewal_is_told() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        let begin = Instant::now();
        deliver(&mut node, id, &[7]).await;
        let mut parked = Vec::new();
        for (round, result) in [(1, Settled::Ok), (2, Settled::Stale)] {
            let (id, call) = beside_leases(&mut node, &mut parked).await;
            let Request::Extend(extend) = call.request else { panic!("{:?}", call.request) };
            let ExtendWhich::Receipts(receipts) = extend.leases else { panic!("named one by one") };
            assert_eq!((tokens(&receipts), extend.lease_ms), (vec![7], LEASE_MS));
            let third = Duration::from_millis(LEASE_MS / 3);
            let late = begin.elapsed().checked_sub(third * round).expect("not before its time");
            assert!(late < Duration::from_secs(1), "{late:?} late");
            let results = Bounded::new(vec![result]).unwrap();
            let extended = Extended { results, count: 1, deadline_ms: 0 };
            node.answer(id, Ok(Answer::Extended(extended))).await;
        }
        node
    };
    let told = async |mut job: Job| {
        assert_eq!(job.told().await, Told::LeaseLost);
        Verdict::Ack
    };
    let work = worker(&client).max(1).run(told);
    let (report, _node) = tokio::join!(work, server);
    assert_eq!(report.unwrap(), Report { lost: 1, ..Report::default() }, "its ack is not even sent");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_runs_and_asks_once_more_under_the_same_number() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let (stop, stage) = watch::channel(Stage::Working);
    let (open, gate) = watch::channel(false);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        deliver(&mut node, id, &[1]).await;
        let (_, parked) = node.request().await;
        stop.send_replace(Stage::Finishing);
        let cancel = node.frame().await;
        assert_eq!(cancel.kind, FrameKind::Cancel);
        let (id, hurried) = node.request().await;
        assert_eq!(hurried.stamp.unwrap().number, parked.stamp.unwrap().number);
        assert!(matches!(hurried.request, Request::Lease(lease) if lease.wait_ms == 0));
        // It had been granted meanwhile.
        deliver(&mut node, id, &[2]).await;
        let (id, call) = node.request().await;
        let Request::Nack(nack) = call.request else { panic!("{:?}", call.request) };
        assert_eq!((tokens(&nack.leases), nack.kind), (vec![2], NackKind::Release { delay_ms: 0 }));
        settle(&mut node, id, &[Settled::Ok]).await;
        open.send_replace(true);
        let (id, call) = node.request().await;
        assert!(matches!(call.request, Request::Ack(receipts) if tokens(&receipts) == [1]));
        settle(&mut node, id, &[Settled::Ok]).await;
        node
    };
    let handler = |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Verdict::Ack
        }
    };
    let work = worker(&client).parallel(2).stop_by(stage).run(handler);
    let (report, _node) = tokio::join!(work, server);
    assert_eq!(report.unwrap(), Report { acked: 1, released: 1, ..Report::default() });
}

#[tokio::test(start_paused = true)]
async fn giving_back_tells_handlers_and_drops_those_that_do_not_end() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let (stop, stage) = watch::channel(Stage::Working);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        deliver(&mut node, id, &[1, 2]).await;
        tokio::task::yield_now().await;
        stop.send_replace(Stage::GivingBack);
        let mut released = Vec::new();
        while released.len() < 2 {
            let (id, call) = node.request().await;
            let Request::Nack(nack) = call.request else { panic!("{:?}", call.request) };
            assert_eq!(nack.kind, NackKind::Release { delay_ms: 0 });
            released.extend(tokens(&nack.leases));
            settle(&mut node, id, &vec![Settled::Ok; nack.leases.receipts.len()]).await;
        }
        assert_eq!(released, [1, 2]);
        node
    };
    let handler = async |mut job: Job| {
        let told = job.told().await;
        assert_eq!(told, Told::GiveBack);
        if job.delivery.token.0 == 2 {
            std::future::pending::<()>().await;
        }
        Verdict::Release { delay_ms: 0 }
    };
    let work = worker(&client).parallel(2).stop_by(stage).run(handler);
    let (report, _node) = tokio::join!(work, server);
    assert_eq!(report.unwrap(), Report { released: 2, ..Report::default() });
}

#[tokio::test(start_paused = true)]
async fn each_verdict_has_its_request_and_a_panic_is_a_failure() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        deliver(&mut node, id, &[1, 2, 3, 4]).await;
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let (id, call) = node.request().await;
            let count = match call.request {
                Request::Ack(receipts) => {
                    seen.push((tokens(&receipts), None));
                    receipts.receipts.len()
                }
                Request::Nack(nack) => {
                    seen.push((tokens(&nack.leases), Some(nack.kind)));
                    nack.leases.receipts.len()
                }
                other => panic!("{other:?}"),
            };
            settle(&mut node, id, &vec![Settled::Ok; count]).await;
        }
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let fail = NackKind::Fail { delay_ms: Some(9), error: Text::cut("why") };
        let panicked = NackKind::Fail { delay_ms: None, error: Text::cut("the handler panicked") };
        let expected = [
            (vec![1], None),
            (vec![2], Some(fail)),
            (vec![3], Some(NackKind::Reject { reason: Text::cut("bad") })),
            (vec![4], Some(panicked)),
        ];
        assert_eq!(seen, expected);
        node
    };
    let handler = async |job: Job| match job.delivery.token.0 {
        1 => Verdict::Ack,
        2 => Verdict::Fail { delay_ms: Some(9), error: "why".to_owned() },
        3 => Verdict::Reject { reason: "bad".to_owned() },
        _ => panic!("on purpose"),
    };
    let work = worker(&client).parallel(4).max(4).run(handler);
    let (report, _node) = tokio::join!(work, server);
    assert_eq!(report.unwrap(), Report { acked: 1, failed: 2, rejected: 1, ..Report::default() });
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_is_asked_ever_more_rarely_and_said_to_be_away_once() {
    let net = Arc::new(Net::default());
    let client = client(&net, &[1]);
    let (stop, stage) = watch::channel(Stage::Working);
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let begin = Instant::now();
    let work = worker(&client)
        .stop_by(stage)
        .observe(move |event| seen.lock().unwrap().push((begin.elapsed(), event)))
        .run(acks);
    let outage = async {
        tokio::time::sleep(Duration::from_secs(120)).await;
        let mut n1 = net.listen(1);
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        deliver(&mut node, id, &[1]).await;
        let mut parked = Vec::new();
        let (id, _) = beside_leases(&mut node, &mut parked).await;
        settle(&mut node, id, &[Settled::Ok]).await;
        stop.send_replace(Stage::Finishing);
        let (id, _) = loop {
            let frame = node.frame().await;
            if frame.kind == FrameKind::Request {
                break (frame.request_id, frame);
            }
        };
        deliver(&mut node, id, &[]).await;
        node
    };
    let (report, _node) = tokio::join!(work, outage);
    assert_eq!(report.unwrap().acked, 1);
    let events = events.lock().unwrap();
    let kinds: Vec<_> = events
        .iter()
        .map(|(_, event)| match event {
            WorkerEvent::Away(ClientError::Unavailable { .. }) => "away",
            WorkerEvent::Back => "back",
            WorkerEvent::Ended { outcome: Outcome::Settled, .. } => "ended",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["away", "back", "ended"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_exist_ends_the_worker() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let (id, _) = next_lease(&mut node).await;
        node.answer(id, Err(Error::refused(ErrorCode::QueueNotFound, "no such queue"))).await;
        node
    };
    let (report, _node) = tokio::join!(worker(&client).run(acks), server);
    let Err(ClientError::Refused(error)) = report else { panic!("{report:?}") };
    assert_eq!(error.code, ErrorCode::QueueNotFound);
}

#[tokio::test(start_paused = true)]
async fn until_empty_ends_when_nothing_is_ready_and_nothing_runs() {
    let net = Arc::new(Net::default());
    let mut n1 = net.listen(1);
    let client = client(&net, &[1]);
    let server = async {
        let mut node = n1.accept(Some(1)).await;
        let mut left = vec![2, 1];
        loop {
            let (id, call) = node.request().await;
            match call.request {
                Request::Lease(lease) => {
                    assert_eq!(lease.wait_ms, 0);
                    let one: Vec<u64> = left.pop().into_iter().collect();
                    deliver(&mut node, id, &one).await;
                }
                Request::Ack(receipts) => {
                    settle(&mut node, id, &vec![Settled::Ok; receipts.receipts.len()]).await;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let work = worker(&client).parallel(2).until_empty().run(acks);
    let report = tokio::select! { report = work => report.unwrap(), () = server => unreachable!() };
    assert_eq!(report.acked, 2);
}

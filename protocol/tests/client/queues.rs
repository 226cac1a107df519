//! Handles and builders: what they ask on the wire, and what they make of the answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue_protocol::client::worker::Verdict;
use queue_protocol::client::{Client, ConnectOptions, Error, Leased, Message, Pushed, Queue};
use queue_protocol::content::{Headers, encode};
use queue_protocol::error::{self, ErrorCode};
use queue_protocol::names::{LeaseToken, MessageId, Receipt};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{Action, MessageState, NackKind, PushOptions, Request, Select};
use queue_protocol::wire::response::{Answer, DeadReason, Extended, PushOutcome, Settled, Swept};
use queue_protocol::wire::txn::{Condition, Step, StepDone, TxnOutcome, TxnPart};

use crate::first_steps::first_steps;
use crate::scripted::*;
use crate::small::small_node;

/// A node that leads and has answered a push, and a handle on a queue of it.
async fn pair() -> (Node, Client, Queue) {
    let net = Arc::new(Net::default());
    let mut listener = net.listen(1);
    let client = client(&net, &[1]);
    let queue = client.queue("jobs").unwrap();
    let (first, node) = tokio::join!(queue.push("first").send(), async {
        let mut node = listener.accept(Some(1)).await;
        let (id, _) = node.request().await;
        node.answer(id, stored(1)).await;
        node
    });
    assert_eq!(first.unwrap().id, MessageId(1));
    (node, client, queue)
}

/// The outcome of `call`, whose one request is answered with `answer`, and that request.
async fn asked<T>(
    node: &mut Node,
    call: impl Future<Output = T>,
    answer: Result<Answer, error::Error>,
) -> (T, Request) {
    tokio::join!(call, async {
        let (id, call) = node.request().await;
        node.answer(id, answer).await;
        call.request
    })
}

async fn leased(node: &mut Node, jobs: &Queue) -> Leased {
    let text = |text: &str| Text::new(text).unwrap();
    let headers: Headers = Bounded::new(vec![(text("type"), text("png"))]).unwrap();
    let content = encode(&headers, b"body").unwrap();
    let deliveries = Bounded::new(vec![delivery(&content)]).unwrap();
    let (jobs, ()) = tokio::join!(jobs.lease().send(), async {
        let (id, _) = node.request().await;
        node.answer_with(id, Ok(Answer::Delivered(deliveries)), vec![content.clone()]).await;
    });
    let mut jobs = jobs.unwrap();
    assert_eq!(jobs.len(), 1);
    jobs.pop().unwrap()
}

fn settled(settled: &[Settled]) -> Result<Answer, error::Error> {
    Ok(Answer::Settled(Bounded::new(settled.to_vec()).unwrap()))
}

fn pushed(runs: &[PushOutcome]) -> Result<Answer, error::Error> {
    Ok(Answer::Pushed(Bounded::new(runs.to_vec()).unwrap()))
}

#[tokio::test]
async fn the_ten_lines_of_the_page_run() {
    let page = include_str!("../../src/client/mod.rs");
    let block = page.lines().skip_while(|line| !line.contains("```rust")).skip(1);
    let block = block.take_while(|line| !line.contains("```"));
    let block: Vec<&str> = block.map(|line| line.trim_start_matches("//!").trim()).collect();
    let here = include_str!("first_steps.rs").replace("servers)", "\"127.0.0.1:7410\")");
    let here: Vec<&str> = here.lines().map(str::trim).collect();
    let steps = |lines: &[&str]| {
        let first = lines.iter().position(|line| line.starts_with("let client")).unwrap();
        let last = lines.iter().position(|line| *line == "Ok(())").unwrap();
        lines[first..=last].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(steps(&block), steps(&here), "the page shows what is run here");
    assert!(steps(&block).len() <= 10);

    let servers = small_node().await;
    first_steps(&servers).await.unwrap();
    let client = Client::connect(format!("localhost:1,{servers}")).await.unwrap();
    let jobs = client.queue("jobs").unwrap();
    assert!(jobs.lease().send().await.unwrap().is_empty(), "it was acked");
}

#[tokio::test]
async fn addresses_that_are_wrong_and_nodes_that_are_not_there_are_told_apart() {
    let refused = Client::connect("http://mq1:7410").await.err().unwrap();
    assert!(matches!(&refused, Error::Invalid(text) if text.contains("http://")), "{refused}");
    // Nothing listens on the port that was just given up.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ConnectOptions::new().timeout(Duration::from_millis(50));
    let refused = options.clone().connect(free.to_string()).await.err().unwrap();
    assert!(matches!(&refused, Error::Unavailable { what } if what.contains(&free.to_string())), "{refused}");
    let lazy = options.connect_lazily(free.to_string()).unwrap();
    let refused = lazy.queue("jobs").unwrap().push("x").send().await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable { .. }) && refused.is_temporary(), "{refused}");
    let refused = lazy.queue("no name").unwrap_err();
    assert!(matches!(&refused, Error::Invalid(text) if text.contains("no name")), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_push_says_what_became_of_it() {
    let (mut node, _client, jobs) = pair().await;
    let push = jobs.push("body").priority(9).create_queue().send();
    let (outcome, request) = asked(&mut node, push, stored(7)).await;
    assert_eq!(outcome.unwrap(), Pushed { id: MessageId(7), duplicate: false });
    let Request::Push(push) = request else { panic!("{request:?}") };
    assert!(push.create && !push.atomic);
    assert_eq!(push.messages[0].options, PushOptions { priority: 9, ..PushOptions::default() });

    let known = pushed(&[PushOutcome::Duplicate { id: MessageId(3) }]);
    let (outcome, _) = asked(&mut node, jobs.push("body").dedup("k").send(), known).await;
    assert_eq!(outcome.unwrap(), Pushed { id: MessageId(3), duplicate: true });

    let full = pushed(&[PushOutcome::Refused { code: ErrorCode::QueueFull, count: 1 }]);
    let (outcome, _) = asked(&mut node, jobs.push("body").send(), full).await;
    assert!(matches!(outcome, Err(Error::QueueFull(_))), "{outcome:?}");

    let none = Err(error::Error::refused(ErrorCode::QueueNotFound, "no queue named \"jobs\""));
    let (outcome, _) = asked(&mut node, jobs.push("body").send(), none).await;
    assert!(matches!(outcome, Err(Error::NotFound(_))), "{outcome:?}");

    let unsure =
        Err(error::Error { retry: error::Retry::Never, ..error::Error::unknown(ErrorCode::TimedOut, "?") });
    let (outcome, _) = asked(&mut node, jobs.push("body").send(), unsure).await;
    assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_result_a_message_and_an_answer_of_another_length_is_none() {
    let (mut node, _client, jobs) = pair().await;
    let runs = [
        PushOutcome::Stored { first_id: MessageId(4), count: 2 },
        PushOutcome::Refused { code: ErrorCode::UniqueHeld, count: 1 },
        PushOutcome::Duplicate { id: MessageId(1) },
    ];
    let batch = || jobs.push_all(["a", "b", "c", "d"]);
    let (outcome, request) = asked(&mut node, batch().all_or_none().send(), pushed(&runs)).await;
    let outcome = outcome.unwrap();
    assert!(matches!(&request, Request::Push(push) if push.atomic && push.messages.len() == 4));
    let ids: Vec<_> =
        outcome.iter().map(|one| one.as_ref().ok().map(|one| (one.id.0, one.duplicate))).collect();
    assert_eq!(ids, [Some((4, false)), Some((5, false)), None, Some((1, true))]);
    assert!(matches!(&outcome[2], Err(Error::UniqueHeld(_))));

    let many = pushed(&[PushOutcome::Stored { first_id: MessageId(1), count: u32::MAX }]);
    let (outcome, _) = asked(&mut node, batch().send(), many).await;
    assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");
    assert!(jobs.push_all::<Message>([]).send().await.unwrap().is_empty(), "nobody is asked");
    let refused = jobs.push_all(vec!["x"; 1_001]).send().await.unwrap_err();
    assert_eq!(refused.to_string(), "1001 messages in one push: 1000 is the limit");
}

#[tokio::test(start_paused = true)]
async fn a_lease_asks_for_what_was_named_and_each_way_to_settle_is_sent() {
    let (mut node, _client, jobs) = pair().await;
    let second = Duration::from_secs(1);
    let lease = jobs.lease().max(10).wait(second).linger(second / 2).length(second * 60).max_bytes(9);
    let nothing = || Ok(Answer::Delivered(Bounded::default()));
    let (outcome, request) = asked(&mut node, lease.send(), nothing()).await;
    assert!(outcome.unwrap().is_empty());
    let Request::Lease(lease) = request else { panic!("{request:?}") };
    assert_eq!((lease.max_messages, lease.wait_ms, lease.linger_ms), (10, 1_000, 500));
    assert_eq!((lease.lease_ms, lease.max_bytes), (Some(60_000), 9));
    let (_, request) = asked(&mut node, jobs.pop().max(999).send(), nothing()).await;
    assert!(matches!(request, Request::Pop(pop) if pop.max_messages == 256));

    let job = leased(&mut node, &jobs).await;
    assert_eq!((job.text().as_ref(), job.header("type"), job.header("x")), ("body", Some("png"), None));
    assert_eq!((job.receipt().to_string(), job.fencing_token(), job.attempt), ("jobs/1/2".to_owned(), 2, 1));
    let (outcome, request) = asked(&mut node, job.ack(), settled(&[Settled::Ok])).await;
    outcome.unwrap();
    assert!(
        matches!(&request, Request::Ack(leases) if leases.receipts[..] == [(MessageId(1), LeaseToken(2))])
    );
    let kinds = [
        (NackKind::Fail { delay_ms: None, error: Text::cut("why") }, Verdict::fail("why")),
        (NackKind::Release { delay_ms: 0 }, Verdict::Release { delay_ms: 0 }),
        (NackKind::Reject { reason: Text::cut("why") }, Verdict::reject("why")),
    ];
    for (kind, verdict) in kinds {
        let job = &job;
        let settle = async move {
            match verdict {
                Verdict::Fail { .. } => job.fail("why").await,
                Verdict::Release { .. } => job.release().await,
                _ => job.reject("why").await,
            }
        };
        let (outcome, request) = asked(&mut node, settle, settled(&[Settled::Ok])).await;
        outcome.unwrap();
        assert!(matches!(&request, Request::Nack(nack) if nack.kind == kind), "{request:?}");
    }
    let (_, request) = asked(&mut node, job.fail_for(second, "why"), settled(&[Settled::Ok])).await;
    let after = Some(1_000);
    assert!(
        matches!(&request, Request::Nack(nack) if matches!(nack.kind, NackKind::Fail { delay_ms, .. } if delay_ms == after))
    );
    let (_, request) = asked(&mut node, job.release_for(second), settled(&[Settled::Ok])).await;
    assert!(matches!(&request, Request::Nack(nack) if nack.kind == NackKind::Release { delay_ms: 1_000 }));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_has_ended_is_a_stale_receipt() {
    let (mut node, _client, jobs) = pair().await;
    let job = leased(&mut node, &jobs).await;
    let (outcome, _) = asked(&mut node, job.ack(), settled(&[Settled::Stale])).await;
    assert!(
        matches!(&outcome, Err(Error::StaleReceipt { gone: false, receipt }) if *receipt == job.receipt())
    );
    let (outcome, _) = asked(&mut node, job.ack(), settled(&[Settled::Gone])).await;
    assert!(matches!(outcome, Err(Error::StaleReceipt { gone: true, .. })), "{outcome:?}");
    let extended = |result| {
        let results = Bounded::new(vec![result]).unwrap();
        Ok(Answer::Extended(Extended { results, count: 0, deadline_ms: 0 }))
    };
    let minute = Duration::from_secs(60);
    let (outcome, request) = asked(&mut node, job.extend(minute), extended(Settled::Stale)).await;
    assert!(matches!(outcome, Err(Error::StaleReceipt { .. })), "{outcome:?}");
    assert!(matches!(request, Request::Extend(extend) if extend.lease_ms == 60_000));
    let save = job.save_checkpoint(minute, "half");
    let (outcome, request) = asked(&mut node, save, extended(Settled::Ok)).await;
    outcome.unwrap();
    assert!(matches!(request, Request::SaveCheckpoint(save) if save.id == MessageId(1)));
    let refused = job.save_checkpoint(minute, vec![0; 4_097]).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid(_)), "{refused}");

    let (outcome, _) = asked(&mut node, jobs.ack([&job, &job]), settled(&[Settled::Ok, Settled::Gone])).await;
    let outcome = outcome.unwrap();
    assert!(outcome[0].is_ok() && matches!(outcome[1], Err(Error::StaleReceipt { gone: true, .. })));
    let other: Receipt = "other/1/2".parse().unwrap();
    let refused = jobs.ack([other]).await.unwrap_err();
    assert_eq!(refused.to_string(), "receipt other/1/2 is not of the queue jobs");
}

#[tokio::test(start_paused = true)]
async fn headers_that_do_not_decode_leave_the_message_readable() {
    let (mut node, _client, jobs) = pair().await;
    let content = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff]);
    let deliveries = Bounded::new(vec![delivery(&content)]).unwrap();
    let (popped, ()) = tokio::join!(jobs.pop().send(), async {
        let (id, _) = node.request().await;
        node.answer_with(id, Ok(Answer::Delivered(deliveries)), vec![content.clone()]).await;
    });
    let [popped] = &popped.unwrap()[..] else { panic!("one message") };
    assert!(popped.malformed && popped.headers.is_empty());
    assert_eq!(popped.body, content);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_done_or_says_what_was_in_the_way() {
    let (mut node, client, jobs) = pair().await;
    let job = leased(&mut node, &jobs).await;
    let next = client.queue("next").unwrap();
    let txn = || {
        let txn = client.transaction().if_leased(&job).if_at_most(&next, 10).push(&next, "a");
        txn.ack(&job).push(&next, Message::new("b").priority(9))
    };
    let run = |id| {
        let run = PushOutcome::Stored { first_id: MessageId(id), count: 1 };
        StepDone::Pushed(Bounded::new(vec![run]).unwrap())
    };
    let done = TxnOutcome::Done(Bounded::new(vec![run(8), StepDone::Done, run(9)]).unwrap());
    let (outcome, request) = asked(&mut node, txn().commit(), Ok(Answer::Txn(done))).await;
    let pushed = outcome.unwrap().pushed;
    assert_eq!(pushed.iter().map(|one| one.id.0).collect::<Vec<_>>(), [8, 9]);
    let Request::Txn(sent) = request else { panic!("{request:?}") };
    assert!(matches!(sent.conditions[..], [Condition::Leased { .. }, Condition::AtMost { count: 10, .. }]));
    assert!(matches!(sent.steps[..], [Step::Push(_), Step::Ack(_), Step::Push(_)]));

    let failed = TxnOutcome::Failed { at: TxnPart::Condition(1), code: ErrorCode::ConditionFailed };
    let (outcome, _) = asked(&mut node, txn().commit(), Ok(Answer::Txn(failed))).await;
    let outcome = outcome.unwrap_err();
    assert!(matches!(outcome, Error::Aborted { at: TxnPart::Condition(1), .. }), "{outcome}");
    let refused = client.transaction().push(&next, Message::new("x").group("")).commit().await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_chosen_by_what_the_builder_names() {
    let (mut node, client, jobs) = pair().await;
    let dead = jobs.dead_letters();
    let swept = || Ok(Answer::Swept(Swept { count: 3, next: None, skipped: 1 }));
    let redrive = dead.redrive().reason(DeadReason::Rejected).error_contains("disk").limit(5).dry_run();
    let (outcome, request) = asked(&mut node, redrive.send(), swept()).await;
    assert_eq!(outcome.unwrap(), 3);
    let Request::Sweep(sweep) = request else { panic!("{request:?}") };
    let select = Select {
        state: Some(MessageState::Dead),
        reason: Some(DeadReason::Rejected),
        error: Some(Text::cut("disk")),
        ..Select::default()
    };
    assert_eq!((sweep.select, sweep.limit, sweep.dry_run), (select, 5, true));
    assert_eq!(sweep.action, Action::Redrive { to: None });
    let other = client.queue("other").unwrap();
    let (_, request) = asked(&mut node, dead.redrive_to(&other).send(), swept()).await;
    let to = Action::Redrive { to: Some("other".parse().unwrap()) };
    assert!(matches!(request, Request::Sweep(sweep) if sweep.action == to));
    let (_, request) = asked(&mut node, dead.delete().ids([MessageId(1)]).send(), swept()).await;
    assert!(matches!(request, Request::Sweep(sweep) if sweep.action == Action::Delete));
    let refused = dead.delete().ids((0..1_001).map(MessageId)).send().await.unwrap_err();
    assert_eq!(refused.to_string(), "1001 ids in one request: 1000 is the limit");
}

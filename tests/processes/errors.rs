//! Codes of refusals that no other test brings about at a node: `tests/errors.csv` names one test for each code.

use std::time::Duration;

use harness::cluster::Cluster;
use harness::program::{Running, queued, run};
use harness::stranger::{self, Stranger};
use harness::{LIMIT, until};
use queue_protocol::error::{Applied, Error, ErrorCode, Retry};
use queue_protocol::wire::frame::{FrameKind, Goodbye};
use queue_protocol::wire::request::Request;
use queue_protocol::wire::response::Response;
use tokio::net::TcpListener;

async fn greet(cluster: &Cluster, n: usize) -> Stranger {
    Stranger::greet(cluster.address(n)).await.expect("there is room for it")
}

fn refusal(response: Response) -> Error {
    response.result.expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stores_nothing_and_names_the_leader() {
    let cluster = Cluster::start().await;
    let (leader, _) = cluster.leader().await;
    let mut stranger = greet(&cluster, (leader + 1) % 3).await;
    let asked = stranger::push(stranger.stamp(1, 1), "jobs", b"x");
    let error = refusal(stranger.ask(asked).await.expect("it answers"));
    assert_eq!((error.code, error.applied), (ErrorCode::NotLeader, Applied::No));
    let Retry::AtLeader(view) = error.retry else { panic!("{:?}", error.retry) };
    assert_eq!(&*view.address, cluster.address(leader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_leader_was_deposed_is_not_confirmed() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    let (leader, before) = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let mut stranger = greet(&cluster, leader).await;
    let frame = stranger::push(stranger.stamp(1, 1), "jobs", b"x");
    let bytes = stranger::bytes(&[frame]).await;
    others.into_iter().for_each(|n| cluster.kill(n));
    // A leader takes entries for some time after the last answer of a quorum.
    assert!(stranger.send(&bytes, LIMIT).await, "it reads");
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.pause(leader);
    for n in others {
        cluster.restart(n).await;
    }
    until("another leads", LIMIT, async || match cluster.status(others[0]).await {
        Ok(status) if status.term > before.term && status.leader.is_some() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cluster.resume(leader);
    let answer = tokio::time::timeout(LIMIT, stranger.next()).await.expect("it answers in time");
    let response: Response = answer.expect("it is open").message().expect("an answer");
    let error = refusal(response);
    assert_eq!((error.code, error.applied), (ErrorCode::NotConfirmed, Applied::Unknown), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_so() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let mut stranger = greet(&cluster, 0).await;
    let said = async {
        loop {
            let frame = stranger.next().await.expect("it says goodbye first");
            if frame.kind == FrameKind::Goodbye {
                let goodbye: Goodbye = frame.message().expect("a goodbye");
                return goodbye.reason.expect("it has a reason");
            }
        }
    };
    let (reason, ()) = tokio::join!(said, cluster.stop(0));
    assert_eq!((reason.code, reason.applied), (ErrorCode::ShuttingDown, Applied::No), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_bound_cannot_attend() {
    let cluster = Cluster::start_with(1, &[]).await;
    let mut stranger = greet(&cluster, 0).await;
    let asked = stranger::request(1, None, Request::Attend, Vec::new());
    let error = refusal(stranger.ask(asked).await.expect("it answers"));
    assert_eq!((error.code, error.applied), (ErrorCode::SessionNotBound, Applied::No), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_is_not_taken_over_has_timed_out() {
    let cluster = Cluster::start().await;
    cluster.all_vote().await;
    let (leader, _) = cluster.leader().await;
    let other = (leader + 1) % 3;
    let mut stranger = greet(&cluster, leader).await;
    let transfer = Request::TransferLeader(Some(cluster.node_id(other)));
    // It was heard a moment ago.
    cluster.pause(other);
    let answer = stranger.ask(stranger::request(1, None, transfer, Vec::new())).await;
    cluster.resume(other);
    let error = refusal(answer.expect("it answers"));
    assert_eq!((error.code, error.applied), (ErrorCode::TimedOut, Applied::No), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_is_not_handed_leadership() {
    let cluster = Cluster::start().await;
    cluster.all_vote().await;
    let (leader, before) = cluster.leader().await;
    let other = (leader + 1) % 3;
    cluster.pause(other);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ran = cluster.ctl(&["cluster", "transfer", cluster.name(other)]).await;
    cluster.resume(other);
    assert_ne!(ran.code, 0, "{ran}");
    ran.says("address_unreachable");
    let (still, after) = cluster.leader().await;
    assert_eq!((still, after.term), (leader, before.term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_member_has_is_not_given_twice() {
    let cluster = Cluster::start_with(1, &[]).await;
    let dir = cluster.dir().join("another");
    let mut join = queued();
    join.args([
        "join",
        "--name",
        "n1",
        "--listen",
        "127.0.0.1:0",
        "--at",
        cluster.address(0),
        "--secret-file",
    ]);
    join.arg(cluster.secret_file(0)).arg("--data-dir").arg(dir);
    run(&mut join, b"").await.expect(73).says("name n1 belongs to member n1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_address_is_dialed_no_other_is() {
    let cluster = Cluster::start_with(1, &[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let first = Running::start(cluster.queuectl().args(["cluster", "add", &address, "--timeout", "20s"]));
    let _held = silent.accept().await.expect("the leader dials");
    let ran = cluster.ctl(&["cluster", "add", &address, "--timeout", "500ms"]).await;
    assert_ne!(ran.code, 0, "{ran}");
    ran.says("change_in_progress");
    first.end().await.expect(69).says("no node waits there");
}

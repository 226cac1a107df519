//! Clients that come for one push and go: none is refused for how many came before, whether they close their session or
//! not, and no repeat of theirs is executed anew.

use bytes::Bytes;
use harness::cluster::Cluster;
use harness::raw::{call_with, connect, random_session, stamp};
use harness::settings::choose;
use queue_protocol::client::{Connection, NewMessage};
use queue_protocol::content::ContentSpec;
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{Push, PushMessage, Request, Stamp};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::Answer;
use tokio::task::JoinSet;

/// Clients at a time.
const LANES: usize = 16;

async fn push(connection: &Connection, stamp: Stamp) -> Result<Answer, Error> {
    let message = NewMessage::of_body(b"x");
    let row = PushMessage { content: ContentSpec::of(&message.content), options: message.options };
    let messages = Bounded::new(vec![row]).expect("one");
    let queue = "jobs".parse().expect("a name");
    let push = Request::Push(Push { queue, create: true, atomic: false, messages });
    ask(connection, stamp, push, &[message.content]).await
}

async fn ask(
    connection: &Connection,
    stamp: Stamp,
    request: Request,
    tail: &[Bytes],
) -> Result<Answer, Error> {
    call_with(connection, Some(stamp), request, tail).await.expect("the node is there").0.result
}

/// Comes, pushes once, and goes; closes its session if it is told to, and then comes with its push again.
async fn visit(address: &str, close: bool) {
    let connection = connect(address, random_session()).await.expect("it is a node");
    let first = stamp(&connection, 1, 1);
    let pushed = push(&connection, first).await;
    assert!(matches!(pushed, Ok(Answer::Pushed(_))), "{pushed:?}");
    if close {
        let closed = ask(&connection, Stamp { number: 2, ..first }, Request::CloseSession, &[]).await;
        assert_eq!(closed, Ok(Answer::Closed));
        let again = push(&connection, first).await;
        assert_eq!(again.map_err(|error| error.code), Err(ErrorCode::SessionExpired));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_clients_push_once_the_next_one_is_served() {
    let cluster = Cluster::start_with(1, &[]).await;
    let (leader, _) = cluster.leader().await;
    // The long setting is more than a cluster has sessions.
    let visits = choose(2_000, 120_000) / LANES;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let address = cluster.address(leader).to_owned();
        lanes.spawn(async move {
            for _ in 0..visits {
                visit(&address, lane % 4 == 0).await;
            }
        });
    }
    lanes.join_all().await;
    let stats = cluster.client().ask(ask::Stats).await.expect("it leads").answer;
    assert_eq!(stats.pushed_total, (LANES * visits) as u64, "no push counted twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_two_indices_is_refused() {
    let cluster = Cluster::start_with(1, &[]).await;
    let (leader, _) = cluster.leader().await;
    let session = random_session();
    let first = connect(cluster.address(leader), session).await.expect("it is a node");
    push(&first, stamp(&first, 1, 1)).await.expect("it is stored");
    let second = connect(cluster.address(leader), session).await.expect("it is a node");
    let renewed = stamp(&second, 2, 2);
    assert!(renewed.index > stamp(&first, 2, 2).index);
    let refused = push(&second, renewed).await;
    assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::BadRequest));
    push(&second, stamp(&first, 2, 2)).await.expect("it is stored");
}

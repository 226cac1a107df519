//! Workers that are bound to what they lease: when one is gone, its messages need not wait for the end of its leases.

use std::path::PathBuf;
use std::time::Duration;

use harness::bodies::{push, stored};
use harness::cluster::Cluster;
use harness::program::Running;
use harness::{LIMIT, until};
use queue_protocol::client::Client;
use queue_protocol::wire::request::{Consistency, MessageState, Peek};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::MessageView;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

fn signal(running: &Running, signal: Signal) {
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, signal).expect("it runs");
}

/// A worker on `jobs` with leases of ten minutes whose two handlers run until the file `gate` is there.
fn worker(cluster: &Cluster, grace: &str) -> (Running, PathBuf) {
    let gate = cluster.dir().join("gate");
    let script = format!("while ! test -e {}; do sleep 0.05; done", gate.display());
    let mut command = cluster.queuectl();
    command.args(["work", "jobs", "-P", "2", "--lease", "10m", "--bound", grace, "--shell", &script]);
    (Running::start(&mut command), gate)
}

async fn seen(client: &Client, state: MessageState) -> Vec<MessageView> {
    let queue = "jobs".parse().expect("a name");
    let (max_messages, max_bytes, consistency) = (9, 1 << 20, Consistency::Linearizable);
    let peek =
        Peek { queue, state: Some(state), id: None, max_messages, max_bytes, after: None, consistency };
    client.ask(ask::Peek(peek)).await.expect("there is a leader").answer.messages.into_vec()
}

async fn are(client: &Client, state: MessageState, count: usize) -> Vec<MessageView> {
    until(&format!("{count} are {state:?}"), LIMIT, async || {
        let seen = seen(client, state).await;
        if seen.len() == count { Ok(seen) } else { Err(format!("{} are", seen.len())) }
    })
    .await
}

/// All have been leased once, given back once, and blamed for nothing.
fn came_back(seen: &[MessageView]) {
    for view in seen {
        assert_eq!((view.attempts, view.failures, view.releases), (1, 0, 1), "{view:?}");
        assert!(view.last_error.is_none(), "{view:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_held_goes_to_the_next_one_at_once_and_without_blame() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    stored(&push(&client, "jobs", &["1", "2", "3"]).await.expect("they are stored"), 3);
    let (first, gate) = worker(&cluster, "1s");
    are(&client, MessageState::Leased, 2).await;
    signal(&first, Signal::KILL);
    let killed = Instant::now();
    let ready = are(&client, MessageState::Ready, 3).await;
    assert!(killed.elapsed() < Duration::from_secs(20), "after {:?}", killed.elapsed());
    came_back(&ready[..2]);
    // They are before the one that was never leased.
    let ids: Vec<u64> = ready.iter().map(|view| view.id.0).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    std::fs::write(gate, "").expect("the directory is ours");
    let next = ["work", "jobs", "--drain", "--bound", "1s", "--shell", "echo $(cat) $QUEUE_ATTEMPT"];
    assert_eq!(cluster.ctl(&next).await.expect(0).stdout, "1 2\n2 2\n3 1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_answers_no_ping_loses_what_it_holds_and_learns_it() {
    let cluster = Cluster::start_with(1, &[]).await;
    let client = cluster.client();
    stored(&push(&client, "jobs", &["1", "2"]).await.expect("they are stored"), 2);
    let (stopped, gate) = worker(&cluster, "1s");
    are(&client, MessageState::Leased, 2).await;
    // Its connection stays open, and nobody is there.
    signal(&stopped, Signal::STOP);
    came_back(&are(&client, MessageState::Ready, 2).await);
    std::fs::write(gate, "").expect("the directory is ours");
    let next = ["work", "jobs", "--drain", "--quiet", "--shell", "cat"];
    assert_eq!(cluster.ctl(&next).await.expect(0).stdout, "12");
    signal(&stopped, Signal::CONT);
    signal(&stopped, Signal::TERM);
    let ran = stopped.end().await.expect(0);
    assert!(ran.stderr.contains(", 2 lost"), "its handlers ran for nothing, and it says so\n{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_there_for_the_next_leader_too() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    stored(&push(&client, "jobs", &["1", "2"]).await.expect("they are stored"), 2);
    let (worker, _) = worker(&cluster, "2s");
    are(&client, MessageState::Leased, 2).await;
    let (leader, before) = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader_above(before.term).await;
    let kept = Instant::now();
    // Longer than the grace: what it holds is the lease it was given first.
    until("the grace has passed twice", LIMIT, async || {
        let leased = are(&client, MessageState::Leased, 2).await;
        assert!(leased.iter().all(|view| (view.attempts, view.releases) == (1, 0)), "{leased:?}");
        if kept.elapsed() > Duration::from_secs(4) { Ok(()) } else { Err("not yet") }
    })
    .await;
    signal(&worker, Signal::KILL);
    came_back(&are(&client, MessageState::Ready, 2).await);
}

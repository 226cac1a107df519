//! What is wrong gets a clear error, the exit code of the manual, and changes nothing.

use std::process::Command;
use std::time::Duration;

use harness::bodies::{drain, sorted};
use harness::cluster::{Cluster, random};
use harness::program::{Running, queued, run};
use harness::stranger::{self, Stranger};
use harness::terminal::Terminal;
use harness::{LIMIT, free_port, until};
use queue_protocol::error::{Applied, Error, ErrorCode};
use queue_protocol::names::{ClusterId, NodeId, SessionId, StoreId};
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::frame::{Frame, FrameKind, Message, OutFrame};
use queue_protocol::wire::hello::{Hello, HelloMessage, HelloRole, PeerId, Versions};
use queue_protocol::wire::io::{FrameReader, Outbox};
use queue_protocol::wire::proof::{Facts, Proof};
use queue_protocol::wire::request::{Call, OnBehalfOf};
use queue_protocol::wire::requests::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Words, standard input, exit code, and what is said.
type Case<'a> = (&'a [&'a str], &'a [u8], i32, &'a [&'a str]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_says_what_is_wrong_and_changes_nothing() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    cluster.ctl(&["push", "jobs", "here before"]).await.expect(0);
    let leased = cluster.ctl(&["lease", "jobs", "--json"]).await.expect(0).json();
    let receipt = leased["receipt"].as_str().expect("a lease has a receipt").to_owned();
    cluster.ctl(&["ack", &receipt]).await.expect(0);

    let large = vec![b'x'; (1 << 20) + 1];
    let huge = vec![b'x'; (8 << 20) + 1];
    let nowhere = format!("127.0.0.1:{}", free_port());
    let cases: &[Case<'_>] = &[
        (&["push", "jobs", "x", "--frobnicate"], b"", 2, &["--frobnicate"]),
        (&["frobnicate"], b"", 2, &["frobnicate"]),
        (&["push", "two words", "x"], b"", 2, &["two words"]),
        (&["push", "jobs", "x", "--delay", "5"], b"", 2, &["--delay", "unit"]),
        (&["push", "jobs"], b"good\nbad\0bad\nnever\n", 65, &["error[looks_binary]", "line 2", "--null"]),
        (&["push", "jobs", "--whole"], &large, 65, &["error[message_too_big]", "limit"]),
        (&["push", "jobs", "--whole"], &huge, 65, &["error[message_too_big]", "limit"]),
        (&["push", "jbos", "x"], b"", 66, &["error[queue_not_found]", "\"jbos\"", "did you mean \"jobs\"?"]),
        (&["pop", "jbos"], b"", 66, &["error[queue_not_found]", "did you mean \"jobs\"?"]),
        (&["queue", "info", "nothing-like-it"], b"", 66, &["queue create nothing-like-it"]),
        (&["ack", &receipt], b"", 66, &["error[receipt_stale]", &receipt]),
        (&["nack", &receipt], b"", 66, &["error[receipt_stale]", &receipt]),
        (&["extend", &receipt], b"", 66, &["error[receipt_stale]", &receipt]),
        (&["ack", "jobs/1"], b"", 2, &["jobs/1"]),
        (&["queue", "create", "jobs", "--max-failures", "9"], b"", 73, &["error[queue_exists]"]),
        (&["queue", "purge", "jobs"], b"", 2, &["error[confirm_required]", "--yes"]),
        (&["cluster", "transfer", "n9"], b"", 66, &["error[node_not_found]", "\"n9\""]),
        (&["-s", &nowhere, "--timeout", "1s", "pop", "jobs"], b"", 69, &["error[unreachable]", &nowhere]),
    ];
    for (words, input, code, said) in cases {
        let ran = run(cluster.queuectl().args(*words), input).await;
        assert_eq!(ran.code, *code, "{words:?}\n{ran}");
        for text in *said {
            assert!(ran.stderr.contains(text), "{words:?}: {text:?} is not in\n{ran}");
        }
        assert_eq!(ran.stdout, "", "{words:?}: what failed prints no data");
        let json = run(cluster.queuectl().arg("--json").args(*words), input).await;
        let document: serde_json::Value = serde_json::from_str(json.stderr.trim())
            .unwrap_or_else(|error| panic!("{words:?} --json: {error}\n{json}"));
        assert_eq!((&document["schema"], &document["exit"]), (&"error/v1".into(), &(*code).into()), "{json}");
        assert_eq!(document["applied"], "no", "{json}");
        assert_eq!(json.code, *code, "{json}");
    }
    // The good line before the bad one was stored, each time; nothing else was.
    assert_eq!(sorted(&drain(&cluster.client(), "jobs").await), ["good", "good"]);

    let mut push = cluster.queuectl();
    push.args(["push", "jobs"]);
    let mut terminal = Terminal::start(push);
    let (said, code) = terminal.ends();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("error[usage]: no body given and standard input is a terminal"), "{said}");
    assert!(said.contains("queuectl push jobs \"text\""), "{said}");
}

/// Writes `bytes` to the node's port and reads until it closes the connection.
async fn closed_after(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
    // A reset is a way to close, too.
    let _ = closed.unwrap_or_else(|_| panic!("the node does not close after {} bytes", bytes.len()));
    answer
}

/// Sends `message` as a hello and gives what is answered.
async fn greet(stream: &mut TcpStream, message: &HelloMessage) -> HelloMessage {
    let mut outbox = Outbox::new();
    outbox.push(&OutFrame::new(0, message, Vec::new())).expect("it fits a frame");
    outbox.write_to(stream).await.expect("the node reads");
    let frame: Frame = FrameReader::new(stream).next().await.expect("it is a frame").expect("it answers");
    assert_eq!(frame.kind, HelloMessage::KIND);
    frame.message().expect("it is a hello message")
}

fn refusal(answer: HelloMessage) -> ErrorCode {
    match answer {
        HelloMessage::Refused(error) => error.code,
        other => panic!("{other:?} is no refusal"),
    }
}

fn client_role() -> HelloRole {
    HelloRole::Client { session: SessionId(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_strangers_and_serves_on() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["push", "jobs", "kept", "--create"]).await.expect(0);
    let address = cluster.address(0).to_owned();
    let id = cluster.status(0).await.expect("it answers").cluster;

    closed_after(&address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    closed_after(&address, &[0xff; 4096]).await;
    closed_after(&address, &[0; 4096]).await;
    // A length that would be 4 GiB, and one just above what a hello may be.
    closed_after(&address, &u32::MAX.to_le_bytes()).await;
    closed_after(&address, &4_097_u32.to_le_bytes()).await;

    let stream = async || TcpStream::connect(&address).await.expect("the node listens");
    let hello = |cluster, role| Hello::new(cluster, role, 0, random());
    let ask =
        async |hello: Hello| refusal(greet(&mut stream().await, &HelloMessage::Hello(Box::new(hello))).await);

    let versions = Versions { min: 200, max: 201 };
    let newer = Hello { versions, ..hello(None, client_role()) };
    assert_eq!(ask(newer).await, ErrorCode::VersionMismatch);
    let stranger = Some(ClusterId(id.0 ^ 1));
    assert_eq!(ask(hello(stranger, client_role())).await, ErrorCode::WrongCluster);
    let me = PeerId { node: NodeId(2), store: StoreId(7) };
    assert_eq!(ask(hello(stranger, HelloRole::Peer(me))).await, ErrorCode::WrongCluster);

    let mut peer = stream().await;
    let hello = HelloMessage::Hello(Box::new(hello(Some(id), HelloRole::Peer(me))));
    let accepted = greet(&mut peer, &hello).await;
    let HelloMessage::Accepted(accepted) = accepted else { panic!("{accepted:?}") };
    assert_eq!((&*accepted.name, accepted.leader, accepted.index), ("", None, None), "told before a proof");
    let forged = Proof { mac: [7; 32], identity: None, facts: Facts::NONE, facts_mac: [7; 32] };
    let proof = greet(&mut peer, &HelloMessage::Proof(Box::new(forged))).await;
    assert_eq!(refusal(proof), ErrorCode::NotPermitted);

    assert_eq!(cluster.ctl(&["pop", "jobs"]).await.expect(0).stdout, "kept\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_changed_on_its_way_is_refused_and_nothing_of_it_is_stored() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    let mut stranger = Stranger::greet(cluster.address(0)).await.expect("it is let in");
    let mut changed = stranger::push(stranger.stamp(1, 1), "jobs", b"body");
    changed.tail[0] = changed.tail[0].iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
    let refused = stranger.ask(changed).await.expect("it is answered").result.expect_err("it is refused");
    assert_eq!(refused.code, ErrorCode::ContentCorrupt);
    let whole = stranger::push(stranger.stamp(2, 1), "jobs", b"whole");
    stranger.ask(whole).await.expect("it is answered").result.expect("it is stored");
    assert_eq!(cluster.ctl(&["pop", "jobs", "-n", "9"]).await.expect(0).stdout, "whole\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reserved_in_a_call_is_refused_when_it_is_used_and_nothing_is_done() {
    let cluster = Cluster::start_with(1, &[]).await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    let mut stranger = Stranger::greet(cluster.address(0)).await.expect("it is let in");
    let other = OnBehalfOf { session: [7; 16], principal: 1, key: [7; 10], from: Text::cut("10.0.0.7:1") };
    let push = stranger::push(stranger.stamp(1, 1), "jobs", b"body");
    let call = push.message::<Call>().expect("it was made of one");
    let reserved = [
        (Call { group: 1, ..call.clone() }, ErrorCode::BadRequest),
        (Call { group: u32::MAX, ..call.clone() }, ErrorCode::BadRequest),
        (Call { on_behalf_of: Some(other.clone()), ..call }, ErrorCode::NotPermitted),
        (Call { group: 1, ..Call::new(None, 1, Request::Status) }, ErrorCode::BadRequest),
        (Call { on_behalf_of: Some(other), ..Call::new(None, 1, Request::Status) }, ErrorCode::NotPermitted),
    ];
    for (call, code) in reserved {
        let tail = if call.stamp.is_some() { push.tail.clone() } else { Vec::new() };
        let answer = stranger.ask(OutFrame::new(2, &call, tail)).await.expect("it is answered");
        let refused = answer.result.expect_err("it is refused");
        assert_eq!((refused.code, refused.applied), (code, Applied::No), "{call:?}");
    }
    stranger.ask(push).await.expect("it is served on").result.expect("it is stored, under the same number");
    assert_eq!(cluster.ctl(&["pop", "jobs", "-n", "9"]).await.expect(0).stdout, "body\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_tells_a_newer_node_and_a_stranger_from_a_dead_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let newer = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let error =
                Error::refused(ErrorCode::VersionMismatch, "this side speaks protocol 7-9, the other 1-1");
            let mut outbox = Outbox::new();
            let frame = OutFrame::new(0, &HelloMessage::Refused(error), Vec::new());
            assert_eq!(frame.kind, FrameKind::Hello);
            outbox.push(&frame).expect("it fits a frame");
            // The shell may be gone.
            let _ = outbox.write_to(&mut stream).await;
            let _ = stream.shutdown().await;
        }
    });
    let ctl = |server: &str| {
        let mut ctl = harness::program::queuectl();
        ctl.args(["-s", server, "--timeout", "2s", "pop", "jobs"]);
        ctl
    };
    run(&mut ctl(&newer), b"").await.expect(76).says("error[version_mismatch]").says("protocol 7-9");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let web = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The shell may be gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let ran = run(&mut ctl(&web), b"").await.expect(76);
    assert!(ran.stderr.contains("protocol"), "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_start_where_it_must_not() {
    let cluster = Cluster::start_with(1, &[]).await;
    let dir = cluster.data_dir(0).to_str().expect("it is text").to_owned();
    let other = cluster.dir().join("other").to_str().expect("it is text").to_owned();
    let (taken, free) = (cluster.address(0).to_owned(), format!("127.0.0.1:{}", free_port()));
    let secret = cluster.secret_file(0).to_str().expect("it is text").to_owned();
    let wrong = cluster.dir().join("wrong");
    std::fs::write(&wrong, format!("{}\n", "07".repeat(32))).expect("it is ours");
    let wrong = wrong.to_str().expect("it is text");

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["serve", "--data-dir", &dir, "--listen", &free], 66, &["error[locked]", &dir]),
        (&["serve", "--data-dir", &other, "--listen", &free], 66, &[&other]),
        (&["init", "--data-dir", &dir, "--listen", &free], 66, &[&dir]),
        (&["init", "--data-dir", &other, "--name", "n9", "--listen", &free], 0, &[]),
        (&["init", "--data-dir", &other, "--listen", &free], 66, &["n9", "queued serve"]),
        (&["serve", "--data-dir", &other, "--listen", &taken], 69, &["error[port_in_use]", &taken]),
        (&["serve", "--data-dir", &other, "--name", "n2", "--listen", &free], 66, &["n9", "n2"]),
        (
            &["join", "--data-dir", &other, "--at", &taken, "--secret-file", &secret, "--listen", &free],
            66,
            &["n9"],
        ),
        (&["serve", "--data-dir", &other, "--listen", "0.0.0.0:7410"], 78, &["error[config]", "--insecure"]),
        (&["serve", "--raft-heartbeat", "5"], 2, &["--raft-heartbeat", "unit"]),
        (&["frobnicate"], 2, &["frobnicate"]),
    ];
    let queued = |words: &[&str]| -> Command {
        let mut command = queued();
        command.args(words).current_dir(cluster.dir()).env("QUEUED_STORAGE_SEGMENT_SIZE", "1MiB");
        command
    };
    for (words, code, said) in cases {
        let ran = run(&mut queued(words), b"").await;
        assert_eq!(ran.code, *code, "{words:?}\n{ran}");
        for text in *said {
            assert!(ran.stderr.contains(text), "{words:?}: {text:?} is not in\n{ran}");
        }
    }
    let third = cluster.dir().join("third");
    let third = third.to_str().expect("it is text");
    let join = ["join", "--data-dir", third, "--at", &taken, "--listen", &free, "--secret-file", wrong];
    run(&mut queued(&join), b"").await.expect(77).says("error[not_permitted]").says("secret");
    let members = cluster.status(0).await.expect("it answers").members.len();
    assert_eq!(members, 1, "nobody joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_nothing_is_changed_and_that_is_said() {
    let mut cluster = Cluster::start().await;
    cluster.ctl(&["push", "jobs", "kept", "--create"]).await.expect(0);
    let (leader, _) = cluster.leader().await;
    let left = (leader + 1) % 3;
    for n in (0..3).filter(|n| *n != left) {
        cluster.kill(n);
    }
    let push = ["--timeout", "3s", "push", "jobs", "lost"];
    until("the last node knows that nobody leads", LIMIT, async || {
        let ran = run(cluster.queuectl().args(push), b"").await;
        if ran.code == 75 { Ok(()) } else { Err(ran) }
    })
    .await;
    let ran = run(cluster.queuectl().args(push), b"").await.expect(75);
    let ran = ran.says("error[no_leader]").says("nothing was changed").says("queuectl cluster status");
    assert_eq!(ran.stdout, "");
    let status = cluster.ctl(&["cluster", "status"]).await.expect(1);
    assert_eq!(status.stdout.matches("UNREACHABLE").count(), 2, "{status}");
    assert!(status.stdout.contains("no quorum"), "{status}");

    // One that is patient is served as soon as there is a leader again.
    let patient = Running::start(cluster.queuectl().args(["push", "jobs", "patient"]));
    cluster.restart_all().await;
    patient.end().await.expect(0);
    cluster.kill_all();
    let ran = run(cluster.queuectl().args(push), b"").await.expect(69);
    ran.says("error[unreachable]");
    cluster.restart_all().await;
    let found = tokio::time::timeout(Duration::from_secs(60), drain(&cluster.client(), "jobs")).await;
    assert_eq!(sorted(&found.expect("there is a leader again")), ["kept", "patient"]);
}

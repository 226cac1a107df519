//! Who is connected, and who holds what: programs name themselves in their hello, and nodes tell operators.

use harness::cluster::{Cluster, random};
use harness::program::Running;
use harness::{LIMIT, until};
use queue_protocol::client::{ConnectOptions, Connection, Dial, TcpDial};
use queue_protocol::names::SessionId;
use queue_protocol::wire::credentials::{Credentials, Login};
use queue_protocol::wire::handshake::HandshakeError;
use queue_protocol::wire::hello::{Hello, HelloRole};
use serde_json::Value;

/// The document of a command that succeeds.
async fn json(cluster: &Cluster, line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().chain(["--json"]).collect();
    cluster.ctl(&words).await.expect(0).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_tell_program_and_version_what_they_hold_and_what_they_wait_for() {
    let cluster = Cluster::start().await;
    for queue in ["jobs", "empty"] {
        cluster.ctl(&["queue", "create", queue]).await.expect(0);
    }
    cluster.ctl(&["push", "jobs", "one", "two", "three"]).await.expect(0);
    let connect = |name: &str| ConnectOptions::new().name(name).connect(cluster.servers());
    let billing = connect("billing/2.3").await.expect("it connects");
    let jobs = billing.queue("jobs").expect("a name");
    let held = jobs.lease().max(2).send().await.expect("it leases");
    assert_eq!(held.len(), 2);
    let mut waiting = {
        let mut pop = cluster.queuectl();
        Running::start(pop.args(["pop", "empty", "--wait", "1m"]))
    };
    until("both are listed with what they have", LIMIT, async || {
        let document = json(&cluster, "cluster clients").await;
        let clients = document["nodes"][0]["clients"].as_array().cloned().unwrap_or_default();
        let leases = clients.iter().any(|client| {
            client["program"] == "billing" && client["leased"] == 2 && client["version"] == "2.3"
        });
        let parks = clients.iter().any(|client| {
            client["program"] == "queuectl"
                && client["parked"] == 1
                && client["parked_on"] == serde_json::json!(["empty"])
                && client["version"] == env!("CARGO_PKG_VERSION")
        });
        if leases && parks { Ok(()) } else { Err(document) }
    })
    .await;
    let all = json(&cluster, "cluster clients --all").await;
    assert_eq!(all["nodes"].as_array().expect("a list").len(), 3, "{all}");
    let text = cluster.ctl(&["cluster", "clients", "--all"]).await.expect(0).stdout;
    assert!(text.contains("billing") && text.contains("PARKED"), "{text}");
    assert!(!waiting.has_ended());

    // Who holds what, of one message and of a queue.
    let id = held[0].id.to_string();
    let shown = json(&cluster, &format!("message show jobs {id}")).await;
    let holder = &shown["holder"];
    let client = &holder["client"];
    assert_eq!((&client["program"], &client["connected"]), (&"billing".into(), &true.into()), "{shown}");
    let text = cluster.ctl(&["message", "show", "jobs", &id]).await.expect(0).stdout;
    assert!(text.contains("held by") && text.contains("billing/2.3 at 127.0.0.1:"), "{text}");
    let listed = cluster.ctl(&["lease", "ls", "jobs"]).await.expect(0).stdout;
    assert_eq!(listed.matches("billing/2.3").count(), 2, "{listed}");
    let page = cluster.ctl(&["lease", "ls", "jobs", "--limit", "1", "--json"]).await.expect(0).json();
    let after = page["next"].as_str().expect("there is one more").to_owned();
    let rest = json(&cluster, &format!("lease ls jobs --after {after}")).await;
    assert_ne!((&rest["id"], &rest["next"]), (&page["id"], &page["next"]));
    // A queue may be called as the word.
    cluster.ctl(&["push", "ls", "x", "--create"]).await.expect(0);
    assert_eq!(cluster.ctl(&["lease", "--", "ls"]).await.expect(0).stdout, "x\n");

    // Another leader has not heard of the one who holds them until it connects there.
    drop(billing);
    let (leader, _) = cluster.leader().await;
    cluster.transfer((leader + 1) % 3).await;
    let text = cluster.ctl(&["lease", "ls", "jobs"]).await.expect(0).stdout;
    assert_eq!(text.matches("not heard yet").count(), 2, "{text}");
    let shown = json(&cluster, &format!("message show jobs {id}")).await;
    assert_eq!((&shown["holder"]["client"], &shown["holder"]["session"]), (&Value::Null, &holder["session"]));
    assert_eq!(shown["holder"]["since"], holder["since"], "the stamp is part of the state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_and_credentials_that_are_not_understood_are_refused_and_no_name_is_fine() {
    let cluster = Cluster::start_with(1, &[]).await;
    let role = || HelloRole::Client { session: SessionId(u128::from_le_bytes(random())) };
    let open = async |hello: Hello| {
        let stream = TcpDial::default().dial(cluster.address(0)).await.expect("it listens");
        match Connection::open(stream, hello).await {
            Ok(_) => "accepted".to_owned(),
            Err(HandshakeError::Refused(error)) => error.code.as_str().to_owned(),
            Err(error) => panic!("{error}"),
        }
    };
    let plain = || Hello::new(None, role(), 0, random());
    assert_eq!(open(plain()).await, "accepted");
    assert_eq!(open(plain().with(&Credentials::of("x/1"))).await, "accepted");
    let login = Some(Login {
        key: queue_protocol::wire::auth::KeyId([7; 10]),
        r#as: Some(queue_protocol::wire::bounded::Text::cut("ann")),
    });
    let login = Credentials { login, ..Credentials::of("x/1") };
    assert_eq!(open(plain().with(&login)).await, "not_permitted");
    let unknown = Hello { credentials: vec![1, 2, 3].try_into().expect("three"), ..plain() };
    assert_eq!(open(unknown).await, "not_permitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_keys_and_times_to_live_are_told_when_messages_come_back() {
    let cluster = Cluster::start_with(1, &[]).await;
    let ctl = async |line: &str| cluster.ctl(&line.split_whitespace().collect::<Vec<_>>()).await;
    ctl("queue create jobs").await.expect(0);
    ctl("queue create other").await.expect(0);
    for _ in 0..2 {
        ctl("push jobs x --unique k").await.expect(0);
        let receipt = json(&cluster, "lease jobs").await["receipt"].as_str().expect("a receipt").to_owned();
        ctl(&format!("nack {receipt} --reject")).await.expect(0);
    }
    let id = json(&cluster, "push jobs x --unique k").await["ids"][0].as_str().expect("an id").to_owned();
    let ran = ctl("dead retry jobs --all --yes").await.expect(0);
    assert_eq!(ran.stdout, "moved 0 messages to jobs, skipped 2 whose unique keys other messages hold\n");
    let dead =
        ctl("dead ls jobs --json --limit 1").await.expect(0).json()["id"].as_str().expect("an id").to_owned();
    ctl(&format!("message kick jobs {dead}")).await.expect(73).says("another message holds its unique key");
    ctl(&format!("dead retry jobs {dead}")).await.expect(73).says("unique_held");
    let moved = json(&cluster, "queue move jobs other --state ready").await;
    assert_eq!((&moved["messages"], &moved["skipped"]), (&1.into(), &0.into()));
    ctl("push other x --unique k").await.expect(73).says("unique_held");
    let moved = json(&cluster, "queue move jobs other").await;
    assert_eq!((&moved["messages"], &moved["skipped"]), (&0.into(), &2.into()));
    ctl(&format!("message rm other {id} --yes")).await.expect(0);
    assert_eq!(
        json(&cluster, "dead retry jobs --all --yes").await["skipped"],
        1,
        "one of two takes the key up"
    );

    ctl("push jobs brief --ttl 1m").await.expect(0);
    ctl("pop jobs").await.expect(0);
    let receipt = json(&cluster, "lease jobs").await["receipt"].as_str().expect("a receipt").to_owned();
    let ran = ctl(&format!("nack {receipt} --delay 1h")).await.expect(0);
    assert!(ran.stderr.contains("expires before its delay is over"), "{ran}");
}

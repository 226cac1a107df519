//! Who is served: nobody without a token where logins are required, a session and a lease for their owner alone, and nothing
//! any more of who was shut out. The cluster's secret is the way in when everything else is lost.

use std::sync::Arc;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::dial::{client_over, trusting};
use harness::http::http;
use harness::login::{ADMIN, add, add_key, change, grants};
use harness::program::{Ran, queued, run};
use harness::{LIMIT, until};
use queue_protocol::client::{Client, ClientConfig, ClientError, LoginDial, TcpDial, TokenSource};
use queue_protocol::error::ErrorCode;
use queue_protocol::wire::auth::{AuthChange, Token};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{Lease, Receipts, Stamp};
use queue_protocol::wire::requests::{Request, ask};
use queue_protocol::wire::response::Answer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::tls::{Certificates, cluster};

/// From a change to the end of the connections that may not stay.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

fn code<T>(result: Result<T, ClientError>) -> ErrorCode {
    match result.err().expect("it is refused") {
        ClientError::Refused(error) | ClientError::Incompatible(error) => error.code,
        other => panic!("{other}"),
    }
}

fn lease(wait_ms: u32) -> Lease {
    Lease {
        queues: Bounded::new(vec!["jobs".parse().expect("a name")]).expect("one"),
        max_messages: 1,
        max_bytes: 1 << 20,
        lease_ms: None,
        wait_ms,
        linger_ms: 0,
    }
}

async fn make_queue(client: &Client) {
    client.queue("jobs").expect("a name").create(Default::default()).await.expect("it is made");
}

async fn ctl_as(cluster: &Cluster, flag: &str, file: &std::path::Path, words: &[&str]) -> Ran {
    let file = file.to_str().expect("it is text");
    cluster.ctl(&[&[flag, file], words].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_set_up_by_the_shell_and_nobody_else_is_served_then() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(3, &certificates, "require").await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    cluster.ctl(&["whoami"]).await.expect(0).prints("nobody");
    cluster.ctl(&["principal", "add", "ann", "--grant", "admin"]).await.expect(77).says("auth_required");
    let secret = cluster.secret_file(0);
    let root = async |words: &[&str]| ctl_as(&cluster, "--secret-file", &secret, words).await;
    root(&["principal", "add", "ann", "--grant", "admin", "--note", "operator"]).await.expect(0);
    root(&["auth", "on", "--yes"]).await.expect(73).says("last_admin");
    let ann = cluster.dir().join("ann.token");
    root(&["key", "add", "ann", "--out", ann.to_str().expect("text")]).await.expect(0);
    let root = async |words: &[&str]| ctl_as(&cluster, "--secret-file", &secret, words).await;
    root(&["auth", "on", "--yes"]).await.expect(73).says("last_admin");

    // One who came before logins were required, and waits.
    let early = cluster.client();
    early.ask(ask::Stats).await.expect("everybody may");
    let parked = tokio::spawn(async move { early.ask(ask::Pop(lease(60_000))).await.map(drop) });
    until("it is parked", LIMIT, async || {
        let waiting =
            cluster.client().ask(ask::Stats).await.map_err(|error| error.to_string())?.answer.waiting;
        if waiting == 1 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
    let as_ann = async |words: &[&str]| ctl_as(&cluster, "--token-file", &ann, words).await;
    let began = Instant::now();
    as_ann(&["auth", "on", "--yes", "--because", "ticket 7"]).await.expect(0);
    assert_eq!(code(parked.await.expect("it runs")), ErrorCode::AuthRequired);
    assert!(began.elapsed() < 3 * ENDED_WITHIN, "{:?}", began.elapsed());

    cluster.ctl(&["queue", "ls"]).await.expect(77).says("auth_required");
    as_ann(&["whoami"]).await.expect(0).prints("ann");
    as_ann(&["principal", "add", "bob", "--grant", "worker:jobs"]).await.expect(0);
    let token = as_ann(&["key", "add", "bob", "--ttl", "1h"]).await.expect(0).stdout;
    let token: Token = token.trim().parse().expect("a token is printed");
    let bob = cluster.token_file("bob", &token);
    let as_bob = async |words: &[&str]| ctl_as(&cluster, "--token-file", &bob, words).await;
    as_bob(&["push", "jobs", "x"]).await.expect(77).says("bob may not push jobs");
    as_bob(&["can", "me", "take", "jobs"]).await.expect(0).prints("granted by take,look:jobs");
    as_ann(&["can", "bob", "push", "jobs"]).await.expect(1).prints("principal grant bob push:jobs");
    as_ann(&["principal", "grant", "bob", "push:jobs"]).await.expect(0);
    as_bob(&["push", "jobs", "x"]).await.expect(0);
    as_bob(&["pop", "jobs"]).await.expect(0).prints("x");
    let keys = as_ann(&["key", "ls", "--json"]).await.expect(0).json();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2));
    as_ann(&["principal", "rm", "ann", "--yes"]).await.expect(73).says("last_admin");
    let status = as_ann(&["auth", "status", "--json"]).await.expect(0).json();
    assert_eq!((&status["required"], &status["admins"]), (&json!(true), &json!(1)));

    // What is left when all keys are gone and all nodes were away: the secret.
    as_ann(&["principal", "rm", "ann", "--yes", "--force"]).await.expect(0);
    cluster.look_by_secret();
    cluster.kill_all();
    cluster.restart_all().await;
    ctl_as(&cluster, "--token-file", &ann, &["whoami"]).await.expect(77).says("auth_failed");
    let secret = cluster.secret_file(1);
    ctl_as(&cluster, "--secret-file", &secret, &["auth", "off", "--yes"]).await.expect(0);
    cluster.ctl(&["queue", "ls"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_the_session_of_another_gets_nothing_of_it_and_settles_none_of_its_leases() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let (admin, _) = cluster.require_logins().await;
    make_queue(&admin).await;
    admin.queue("jobs").expect("a name").push("secret work").send().await.expect("it is taken");
    let [bob, eve] = [add(&admin, "bob", &["take:jobs"]).await, add(&admin, "eve", &["take:jobs"]).await];
    // Two clients of one session, as a stranger has it who saw its id.
    let client = |token: &Token| {
        let dial = LoginDial::over(Arc::new(TcpDial::default()), TokenSource::Given(token.clone()));
        let servers = vec![cluster.address(0).to_owned()];
        let config = ClientConfig { servers, timeout: LIMIT, follow: true, seed: 0x5e55_1011 };
        Client::new(config, Arc::new(dial))
    };
    let (bob, eve) = (client(&bob), client(&eve));
    let index = bob.ask(ask::Status).await.expect("it answers").at.index;
    let stamp = |number| Stamp { number, done_below: 1, index };
    let ask = async |client: &Client, number, request: Request| {
        client.call_stamped(stamp(number), request, Vec::new()).await
    };
    let got = ask(&bob, 1, Request::Lease(lease(0))).await.expect("bob may").answer;
    let Answer::Delivered(deliveries) = got else { panic!("{got:?}") };
    let delivery = deliveries.first().expect("one was pushed");
    assert_eq!(code(ask(&eve, 1, Request::Lease(lease(0))).await), ErrorCode::Denied, "a recorded answer");
    assert_eq!(code(ask(&eve, 2, Request::Lease(lease(0))).await), ErrorCode::Denied);
    assert_eq!(code(ask(&eve, 2, Request::CloseSession).await), ErrorCode::Denied);
    assert_eq!(code(eve.call(Request::Attend, Vec::new()).await), ErrorCode::Denied);
    let receipts = Receipts {
        queue: delivery.queue.clone(),
        receipts: Bounded::new(vec![(delivery.id, delivery.token)]).expect("one"),
    };
    let other = cluster.client_as(TokenSource::Given(add_key(&admin, "eve", None).await));
    assert_eq!(
        code(other.ask(ask::Ack(receipts.clone())).await),
        ErrorCode::Denied,
        "its own session, not its lease"
    );
    let settled = ask(&bob, 3, Request::Ack(receipts)).await.expect("it is bob's");
    assert!(!settled.repeated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_has_no_effect_any_more_and_its_connections_end() {
    let mut cluster = Cluster::start().await;
    let (admin, _) = cluster.require_logins().await;
    make_queue(&admin).await;
    for (how, index) in [("revoked", 0), ("disabled", 1), ("ended", 2)] {
        let name = format!("bob{index}");
        let token = add(&admin, &name, &["take,push:jobs"]).await;
        let token =
            if how == "ended" { add_key(&admin, &name, Some(Duration::from_secs(2))).await } else { token };
        let bob = cluster.client_as(TokenSource::Given(token.clone()));
        bob.queue("jobs").expect("a name").push("x").send().await.expect("bob may");
        let popped = bob.ask(ask::Pop(lease(0))).await.expect("bob may").answer;
        assert_eq!(popped.len(), 1);
        let waits = bob.clone();
        let parked = tokio::spawn(async move { waits.ask(ask::Pop(lease(60_000))).await.map(drop) });
        until("it is parked", LIMIT, async || {
            let waiting = admin.ask(ask::Stats).await.map_err(|error| error.to_string())?.answer.waiting;
            if waiting == 1 { Ok(()) } else { Err(format!("{waiting} wait")) }
        })
        .await;
        match how {
            "revoked" => drop(change(&admin, AuthChange::RevokeKey(token.id)).await.expect("admin may")),
            "disabled" => {
                let shut = AuthChange::Disable { name: Text::cut(name.as_str()), disabled: true };
                change(&admin, shut).await.expect("admin may");
            }
            _ => {}
        }
        let revoked = Instant::now();
        if how != "ended" {
            let late = bob.queue("jobs").expect("a name").push("late").send().await;
            assert!(late.is_err(), "{how}: it was pushed");
        }
        if how == "ended" {
            // The replicated clock goes on with entries.
            until("the key has ended", LIMIT, async || {
                let nothing = AuthChange::Grant { name: Text::cut(ADMIN), grants: grants(&[]) };
                change(&admin, nothing).await.map_err(|error| error.to_string())?;
                if parked.is_finished() { Ok(()) } else { Err("it waits".to_owned()) }
            })
            .await;
        }
        let ended = parked.await.expect("it runs").expect_err("it is refused");
        assert!(how == "ended" || revoked.elapsed() < 2 * ENDED_WITHIN, "{how}: {:?}", revoked.elapsed());
        let (ClientError::Refused(error) | ClientError::Incompatible(error)) = ended else {
            panic!("{ended}")
        };
        assert!(matches!(error.code, ErrorCode::KeyEnded | ErrorCode::AuthFailed), "{how}: {error}");
        let ready = admin.ask(ask::Stats).await.expect("admin may").answer.ready;
        assert_eq!(ready, 0, "{how}: nothing was done behind it");
    }
}

/// A proxy that ends TLS: a certificate of its own, plain behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_new_token_in_its_file_when_the_old_key_ends_is_not_disturbed() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let (admin, _) = cluster.require_logins().await;
    make_queue(&admin).await;
    let old = add(&admin, "bob", &["push:jobs"]).await;
    let file = cluster.token_file("bob", &old);
    let queue = cluster.client_as(TokenSource::File(file)).queue("jobs").expect("a name");
    queue.push("before").send().await.expect("it may");
    let new = add_key(&admin, "bob", None).await;
    cluster.token_file("bob", &new);
    change(&admin, AuthChange::RevokeKey(old.id)).await.expect("admin may");
    queue.push("at once").send().await.expect("with the new key");
    change(&admin, AuthChange::RevokeKey(new.id)).await.expect("admin may");
    let refused = queue.push("none is left").send().await.expect_err("nobody may");
    assert_eq!(refused.code(), Some(ErrorCode::KeyEnded), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_through_a_proxy_that_ends_tls_fails_and_says_so_and_a_replay_is_worth_nothing() {
    let certificates = Certificates::new().await;
    let mut cluster = cluster(1, &certificates, "optional").await;
    let (_, token) = cluster.require_logins().await;
    let node = cluster.address(0).to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = proxy.local_addr().expect("it is bound").to_string();
    let config = certificates.server_config();
    tokio::spawn(async move {
        while let Ok((stream, _)) = proxy.accept().await {
            let (config, node) = (config.clone(), node.clone());
            tokio::spawn(async move {
                let Ok(secured) =
                    queue_protocol::client::tls::accept(config, Box::new(stream), &[], [0; 32]).await
                else {
                    return;
                };
                let Ok(behind) = tokio::net::TcpStream::connect(node).await else { return };
                let ((mut read, mut write), (mut from, mut to)) =
                    (tokio::io::split(secured), tokio::io::split(behind));
                let up = async {
                    let mut room = [0; 1 << 10];
                    while let Ok(size @ 1..) = read.read(&mut room).await {
                        to.write_all(&room[..size]).await?;
                    }
                    std::io::Result::Ok(())
                };
                let down = async {
                    let mut room = [0; 1 << 10];
                    while let Ok(size @ 1..) = from.read(&mut room).await {
                        write.write_all(&room[..size]).await?;
                        write.flush().await?;
                    }
                    std::io::Result::Ok(())
                };
                let _ = tokio::join!(up, down);
            });
        }
    });
    let below = trusting(Some(certificates.file("ca.crt")));
    let dial = Arc::new(LoginDial::over(below, TokenSource::Given(token)));
    let client = client_over(dial, vec![at.clone()], Duration::from_secs(5));
    let Err(ClientError::Incompatible(error)) = client.ask_node(&at, ask::Status).await else {
        panic!("it was let in, or refused otherwise")
    };
    assert_eq!(error.code, ErrorCode::AuthFailed);
    assert!(error.message.contains("a proxy between them ends TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_a_bearer_token_is_who_asks() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    let (admin, token) = cluster.require_logins().await;
    make_queue(&admin).await;
    let bob = add(&admin, "bob", &["push,look:jobs"]).await;
    let bearer = format!("Bearer {}", bob.reveal());
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("Authorization", *token)).collect();
        let body = if method == "POST" { "{}" } else { "" };
        http(cluster.http(0), method, path, &headers, body).await
    };
    for open in ["/livez", "/readyz", "/leader"] {
        ask("GET", open, None).await.expect(200);
    }
    let refused = ask("GET", "/v1/queues", None).await.expect(401);
    assert_eq!(refused.json()["error"]["code"], "auth_required");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    ask("GET", "/metrics", None).await.expect(401);
    ask("POST", "/v1/queues/jobs/messages", Some(&bearer)).await.expect(201);
    assert_eq!(ask("GET", "/v1/queues/jobs", Some(&bearer)).await.expect(200).json()["ready"], 1);
    let denied = ask("POST", "/v1/queues/jobs/pop", Some(&bearer)).await.expect(403);
    assert_eq!(denied.json()["error"]["code"], "denied");
    ask("GET", "/metrics", Some(&bearer)).await.expect(403);
    // The secret made the first principal; an alarm rests on it.
    let metrics = ask("GET", "/metrics", Some(&format!("Bearer {}", token.reveal()))).await.expect(200).body;
    assert!(metrics.contains("\nqueued_audit_secret_used_seconds 1"), "{metrics}");
    assert!(metrics.contains("\nqueued_audit_cut_total 0"), "{metrics}");
    let stranger = format!("Bearer {}", Token::new([3; 10], [4; 32]).reveal());
    ask("GET", "/v1/queues", Some(&stranger)).await.expect(401);
    ask("GET", "/v1/queues", Some("Basic Ym9iOmJvYg==")).await.expect(401);
    change(&admin, AuthChange::RevokeKey(bob.id)).await.expect("admin may");
    ask("GET", "/v1/queues/jobs", Some(&bearer)).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_tokens_over_http_is_put_off_and_holds_nobody_up() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    let (admin, _) = cluster.require_logins().await;
    let bob = format!("Bearer {}", add(&admin, "bob", &["look:*"]).await.reveal());
    let at = cluster.http(0);
    let ask = async |token: &str| http(at, "GET", "/v1/queues", &[("Authorization", token)], "").await;
    let mut statuses = Vec::new();
    for guess in 0..30 {
        statuses.push(ask(&format!("Bearer {}", Token::new([3; 10], [guess; 32]).reveal())).await);
    }
    let put_off = statuses.iter().position(|answer| answer.status != 401).expect("not for ever");
    assert!(put_off >= 10, "{:?}", statuses[put_off]);
    let answer = statuses[put_off].clone().expect(503);
    assert_eq!(answer.json()["error"]["code"], "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    // From the same address, as behind a proxy.
    let begun = Instant::now();
    ask(&bob).await.expect(200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_makes_ten_administrative_changes_a_second_beyond_a_thousand() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let (admin, _) = cluster.require_logins().await;
    let ann = cluster.client_as(TokenSource::Given(add(&admin, "ann", &["manage:*"]).await));
    let bob = cluster.client_as(TokenSource::Given(add(&admin, "bob", &["manage,push:*"]).await));
    let begun = Instant::now();
    let mut made = JoinSet::new();
    for number in 0..1_030 {
        let queue = ann.queue(format!("q{number}")).expect("a name");
        made.spawn(async move { queue.create(Default::default()).await.map(drop) });
    }
    let made = made.join_all().await;
    assert!(made.iter().all(Result::is_ok), "those that are put off are made later: {made:?}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    // Neither another one nor what is no change of queues waits for it.
    let begun = Instant::now();
    bob.queue("b").expect("a name").create(Default::default()).await.expect("it is made");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dev_cluster_with_tls_and_logins_is_two_commands_away() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut command = queued();
    let script = "queuectl whoami && queuectl push a x --create && [ \"$(queuectl pop a)\" = x ] && \
                  ! env -u QUEUECTL_TOKEN_FILE queuectl whoami";
    command.args(["dev", "--any-port", "--tls", "--auth", "--", "sh", "-c", script]);
    command.env("TMPDIR", dir.path()).env_remove("XDG_RUNTIME_DIR");
    let ran = run(&mut command, b"").await.expect(0);
    ran.prints("dev").says("auth_required");
}

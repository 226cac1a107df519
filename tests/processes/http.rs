//! HTTP beside the protocol: health, metrics, the seed's calls and their guards, at leader and follower, with kills.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::http::{Http, http};
use harness::program::run;
use harness::{LIMIT, until};
use queue_broker::mutants::{Mutant, VARIABLE};
use serde_json::{Value, json};

const SENT: &str =
    r#"{"timestamp": "2022-05-15T17:19:09Z", "author": "John Doe", "content": "This is a sample comment."}"#;
const DATA: &str = "{\"Data\":{\"timestamp\":\"2022-05-15T17:19:09Z\",\"author\":\"John Doe\",\"content\":\"This is a sample comment.\"}}\n";

async fn get(address: &str, path: &str) -> harness::http::Answered {
    http(address, "GET", path, &[], "").await
}

async fn post(address: &str, path: &str, body: &str) -> harness::http::Answered {
    http(address, "POST", path, &[], body).await
}

async fn three() -> Cluster {
    let mut cluster = Cluster::start().await;
    cluster.serve_http().await;
    cluster
}

/// The samples of a page of metrics by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?} has no value")))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_the_seed_work_at_every_node_and_while_the_leader_is_killed() {
    let mut cluster = three().await;
    let (leader, _) = cluster.leader().await;
    let followers: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    for n in 0..3 {
        assert_eq!(get(cluster.http(n), "/recieve").await.expect(200).body, "{\"Data\":{}}\n");
    }
    // Stored at one, taken at another; unknown fields and their order stay.
    post(cluster.http(followers[0]), "/send", SENT).await.expect(201);
    assert_eq!(get(cluster.http(followers[1]), "/recieve").await.expect(200).body, DATA);
    post(cluster.http(leader), "/send", "{ \"z\" : 1.0e5, \"a\": { \"b\": [ 1 ] } }").await.expect(201);
    assert_eq!(
        get(cluster.http(leader), "/receive").await.expect(200).body,
        "{\"Data\":{\"z\":1.0e5,\"a\":{\"b\":[1]}}}\n"
    );
    for body in ["", "[1]", "{\"a\":", "text"] {
        let refused = post(cluster.http(leader), "/send", body).await.expect(400).json();
        assert_eq!(refused["error"]["code"], "bad_request", "{refused}");
    }
    // What is stored outlives the leader; a follower goes on answering.
    post(cluster.http(leader), "/send", SENT).await.expect(201);
    cluster.kill(leader);
    assert_eq!(get(cluster.http(followers[0]), "/recieve").await.expect(200).body, DATA);
    assert_eq!(get(cluster.http(followers[1]), "/recieve").await.expect(200).body, "{\"Data\":{}}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statistics_of_raft_are_a_flat_map_of_texts_by_name() {
    let cluster = three().await;
    let (leader, _) = cluster.leader().await;
    for n in 0..3 {
        let stats = get(cluster.http(n), "/stats").await.expect(200);
        let map: BTreeMap<String, String> = serde_json::from_str(&stats.body).expect("texts by name");
        let sorted = format!("{}\n", serde_json::to_string(&map).expect("a map of texts"));
        assert_eq!(stats.body, sorted, "by name");
        for name in [
            "state",
            "term",
            "last_log_index",
            "last_log_term",
            "commit_index",
            "applied_index",
            "fsm_pending",
            "last_snapshot_index",
            "last_snapshot_term",
            "latest_configuration",
            "latest_configuration_index",
            "last_contact",
            "num_peers",
            "protocol_version",
            "protocol_version_min",
            "protocol_version_max",
            "snapshot_version_min",
            "snapshot_version_max",
        ] {
            assert!(map.contains_key(name), "{name} is not in {map:?}");
        }
        let state = if n == leader { "Leader" } else { "Follower" };
        assert_eq!((map["state"].as_str(), map["num_peers"].as_str()), (state, "2"));
        assert_eq!(map["last_contact"] == "0", n == leader, "{map:?}");
        assert!(map["latest_configuration"].contains(cluster.address(n)), "{map:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_takes_in_a_node_that_waits_for_it_and_no_other() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    let nobody = json!({ "id": "n9", "address": "127.0.0.1:1" }).to_string();
    let refused = post(cluster.http(0), "/join", &nobody).await.expect(409).json();
    assert_eq!(refused["error"]["code"], "address_unreachable", "{refused}");
    post(cluster.http(0), "/join", "{}").await.expect(400);
    let n = cluster.new_node();
    let address = cluster.address(n).to_owned();
    let mut join = cluster.queued("join", n);
    let joining = harness::program::Running::start(join.arg("--secret-file").arg(cluster.secret_file(0)));
    until("it waits", LIMIT, async || tokio::net::TcpStream::connect(&address).await.map(drop)).await;
    let body = json!({ "id": "n2", "address": address }).to_string();
    let joined = post(cluster.http(0), "/join", &body).await.expect(201).json();
    assert_eq!((&joined["id"], &joined["number"]), (&"n2".into(), &2.into()), "{joined}");
    joining.end().await.expect(0);
    cluster.start_node(n);
    cluster.all_vote().await;
}

/// Not even while it tries again, which it does every few seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_alone_does_not_say_that_it_leads() {
    let mut cluster = three().await;
    let (leader, _) = cluster.leader().await;
    for n in (0..3).filter(|n| *n != leader) {
        cluster.kill(n);
    }
    let leads = async || {
        let told = get(cluster.http(leader), "/leader").await.status == 200;
        let page = get(cluster.http(leader), "/metrics").await.expect(200).body;
        (told || page.contains("\nqueued_raft_leads 1") || page.contains("queued_queues "), page)
    };
    until("it knows", LIMIT, async || if leads().await.0 { Err("it leads") } else { Ok(()) }).await;
    let silent = || cluster.log_of(leader).matches("this leader is silent").count();
    until("it has tried again", LIMIT, async || {
        let (leads, page) = leads().await;
        assert!(!leads, "{page}");
        if silent() >= 2 { Ok(()) } else { Err("it is silent") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_is_alive_and_not_ready_and_says_why() {
    let mut cluster = three().await;
    let (leader, _) = cluster.leader().await;
    let other = (leader + 1) % 3;
    for n in 0..3 {
        get(cluster.http(n), "/livez").await.expect(200);
        let ready = get(cluster.http(n), "/readyz").await.expect(200).json();
        assert_eq!((&ready["ready"], &ready["reasons"]), (&true.into(), &json!([])), "{ready}");
        let known = get(cluster.http(n), "/leader").await.expect(if n == leader { 200 } else { 503 }).json();
        assert_eq!(known["leader"]["address"], cluster.address(leader), "{known}");
    }
    for n in (0..3).filter(|n| *n != other) {
        cluster.kill(n);
    }
    until("it is not ready", LIMIT, async || {
        let ready = get(cluster.http(other), "/readyz").await;
        if ready.status == 503 { Ok(()) } else { Err(ready.body) }
    })
    .await;
    get(cluster.http(other), "/livez").await.expect(200);
    let ready = get(cluster.http(other), "/readyz").await.expect(503).json();
    let why = ready["reasons"][0].as_str().expect("a reason");
    let mut healthcheck = harness::program::queued();
    healthcheck.args(["healthcheck", "--ready", "--address", cluster.address(other)]);
    run(&mut healthcheck, b"").await.expect(1).says(why);
    let refused = post(cluster.http(other), "/send", "{}").await.expect(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["error"]["applied"], "no", "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_those_of_the_node_and_queues_those_of_the_leader() {
    let cluster = three().await;
    let (leader, _) = cluster.leader().await;
    cluster.ctl(&["push", "jobs", "--create", "one", "two", "three"]).await.expect(0);
    cluster.ctl(&["lease", "jobs"]).await.expect(0);
    for n in 0..3 {
        let answered = get(cluster.http(n), "/metrics").await.expect(200);
        assert_eq!(answered.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let page = samples(&answered.body);
        let value =
            |name: &str| *page.get(name).unwrap_or_else(|| panic!("{name} is not in\n{}", answered.body));
        assert_eq!(value("queued_raft_role{role=\"leader\"}"), if n == leader { 1.0 } else { 0.0 });
        assert_eq!(value("queued_ready"), 1.0);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("queued_write_stage_seconds_count{stage=\"sync\"}") > 0.0);
        assert!(value("queued_disk_free_bytes") > 1e6 && value("queued_log_size_bytes") > 0.0);
        let of_queues = page.keys().filter(|name| name.starts_with("queued_queue_")).count();
        assert_eq!(of_queues > 0, n == leader);
        if n == leader {
            assert_eq!(value("queued_messages{queue=\"jobs\",state=\"ready\"}"), 2.0);
            assert_eq!(value("queued_messages{queue=\"jobs\",state=\"leased\"}"), 1.0);
            assert_eq!(value("queued_queue_pushed_messages_total{queue=\"jobs\"}"), 3.0);
            assert_eq!(value("queued_raft_voters_heard"), 3.0);
            assert_eq!(value("queued_queue_died_messages_total{queue=\"jobs\",reason=\"rejected\"}"), 0.0);
        }
    }
    // What is shipped speaks of metrics that exist.
    let page = get(cluster.http(leader), "/metrics").await.expect(200).body;
    let name = regex::Regex::new(r"\bqueued_[a-z0-9_]+").expect("it is one");
    for file in ["alerts.yml", "rules.yml"] {
        let path = format!("{}/../broker/packaging/prometheus/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("it is there");
        let names: Vec<&str> = name.find_iter(&text).map(|found| found.as_str()).collect();
        assert!(!names.is_empty());
        for name in names {
            let is_there = page
                .lines()
                .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
            assert!(is_there, "{file}: there is no {name}");
        }
    }
    let open = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let open = http(cluster.http(leader), "GET", "/metrics", &open, "").await.expect(200);
    assert!(
        open.body.ends_with("# EOF\n")
            && open.header("content-type").is_some_and(|t| t.contains("openmetrics"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_at_the_port_of_the_protocol_is_told_where_to_go() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    let off = get(cluster.address(0), "/livez").await.expect(400);
    assert!(off.body.contains("--listen-http"), "{off:?}");
    cluster.serve_http().await;
    let elsewhere = get(cluster.address(0), "/livez").await.expect(400);
    assert!(elsewhere.body.contains(&format!("http://{}\n", cluster.http(0))), "{elsewhere:?}");
    cluster.ctl(&["ping"]).await.expect(0);
}

/// Whether a page of another site is kept out.
async fn strangers_are_refused(cluster: &Cluster) -> Result<(), String> {
    let at = cluster.http(0);
    let rebound = http(at, "POST", "/send", &[("Host", "evil.example:7411")], "{}").await;
    let foreign = http(at, "GET", "/recieve", &[("Sec-Fetch-Site", "cross-site")], "").await;
    let origin = http(at, "POST", "/send", &[("Origin", "https://evil.example")], "{}").await;
    match (rebound.status, foreign.status, origin.status) {
        (421, 403, 403) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_and_foreign_pages_are_refused() {
    let mut cluster = Cluster::start_with(1, &[("QUEUED_HTTP_HOSTS", "mq.example.net, proxy")]).await;
    cluster.serve_http().await;
    strangers_are_refused(&cluster).await.expect("they are refused");
    for host in ["mq.example.net", "Proxy:80", "localhost:1", "n1"] {
        http(cluster.http(0), "GET", "/livez", &[("Host", host)], "").await.expect(200);
    }
    get(cluster.http(0), "/nothing").await.expect(404);
    get(cluster.http(0), "/send").await.expect(405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_any_host_is_caught() {
    let mutant = [(VARIABLE, Mutant::AnyHostAnswered.name())];
    let mut cluster = Cluster::start_with(1, &mutant).await;
    cluster.serve_http().await;
    strangers_are_refused(&cluster).await.expect_err("it answers them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_idle_senders_and_large_requests_are_bounded_and_others_are_served() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    let at = cluster.http(0).to_owned();
    let before = cluster.resident(0);
    let mut held = Vec::new();
    for n in 0..1_000 {
        let mut one = Http::connect(&at).await.expect("it listens");
        let begun = ["", "POST /send HTTP/1.1\r\nHost: x", "GET /stats HTTP/1.1\r\n"][n % 3];
        // Those that give way are closed meanwhile.
        let _ = one.write(begun.as_bytes()).await;
        held.push(one);
    }
    for _ in 0..20 {
        post(&at, "/send", "{}").await.expect(201);
    }
    let grown = cluster.resident(0).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for connections that say nothing");
    let page = samples(&get(&at, "/metrics").await.expect(200).body);
    assert!(page["queued_connections{kind=\"http\"}"] <= 256.0, "{page:?}");
    drop(held);
    let long = "x".repeat(64 << 10);
    let mut http = Http::connect(&at).await.expect("it listens");
    let refused = http.call("GET", "/stats", &[("X-Long", &long)], b"").await;
    assert!(refused.is_ok_and(|refused| refused.status == 431));
    let mut http = Http::connect(&at).await.expect("it listens");
    http.write(b"POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        .await
        .expect("it reads");
    http.answer().await.expect("an answer").expect(413);
}

/// Pushes twice under one number at two nodes; how many messages came of it.
async fn pushed_twice(cluster: &Cluster) -> usize {
    let session = post(cluster.http(0), "/v1/sessions", "").await.expect(201).json();
    let session = session["session"].as_str().expect("a name").to_owned();
    let headers = [("Queue-Session", session.as_str()), ("Queue-Number", "1")];
    let first = http(cluster.http(0), "POST", "/send", &headers, SENT).await.expect(201).json();
    let again = http(cluster.http(1), "POST", "/send", &headers, SENT).await.expect(201).json();
    let mut count = 0;
    while get(cluster.http(2), "/recieve").await.expect(200).body == DATA {
        count += 1;
    }
    assert_eq!(first == again, count == 1);
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_session_counts_once_wherever_it_is_repeated() {
    let mut cluster = three().await;
    assert_eq!(pushed_twice(&cluster).await, 1);
    // A pop that is repeated gives the same message, also when the leader was killed in between.
    let session = post(cluster.http(0), "/v1/sessions", "").await.expect(201).json();
    let session = session["session"].as_str().expect("a name").to_owned();
    let numbered =
        |number: &'static str| [("Queue-Session", session.clone()), ("Queue-Number", number.to_owned())];
    async fn call(
        at: &str,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> harness::http::Answered {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        http(at, method, path, &headers, body).await
    }
    call(cluster.http(0), "POST", "/send", &numbered("1"), "{\"n\":1}").await.expect(201);
    call(cluster.http(0), "POST", "/send", &numbered("2"), "{\"n\":2}").await.expect(201);
    let first = call(cluster.http(1), "GET", "/recieve", &numbered("3"), "").await.expect(200);
    assert_eq!(first.body, "{\"Data\":{\"n\":1}}\n");
    let (leader, _) = cluster.leader().await;
    cluster.kill(leader);
    let alive = (leader + 1) % 3;
    let again = call(cluster.http(alive), "GET", "/recieve", &numbered("3"), "").await.expect(200);
    assert_eq!(again.body, first.body);
    let next = call(cluster.http(alive), "GET", "/recieve", &numbered("4"), "").await.expect(200);
    assert_eq!(next.body, "{\"Data\":{\"n\":2}}\n");
    // A number that is done, and a session of another cluster.
    let old = call(cluster.http(alive), "GET", "/recieve", &numbered("1"), "").await;
    assert_eq!((old.status, &old.json()["error"]["applied"]), (504, &Value::from("unknown")), "{old:?}");
    assert!(old.body.contains("too_old"), "{old:?}");
    let foreign = format!("{}{}", if session.starts_with('0') { "1" } else { "0" }, &session[1..]);
    let foreign = [("Queue-Session", foreign), ("Queue-Number", "5".to_owned())];
    call(cluster.http(alive), "GET", "/recieve", &foreign, "").await.expect(421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ignores_sessions_is_caught() {
    let mutant = [(VARIABLE, Mutant::HttpSessionIgnored.name())];
    let mut cluster = Cluster::start_with(3, &mutant).await;
    cluster.serve_http().await;
    assert_eq!(pushed_twice(&cluster).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_told_and_a_stop_ends_what_waits() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    let mut idle = Http::connect(cluster.http(0)).await.expect("it listens");
    idle.call("GET", "/livez", &[], b"").await.expect("an answer").expect(200);
    let begun = tokio::time::Instant::now();
    cluster.stop(0).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let taken = tokio::net::TcpListener::bind(cluster.http(0)).await.expect("it is free");
    let mut serve = cluster.queued("serve", 0);
    serve.args(["--listen-http", cluster.http(0)]);
    run(&mut serve, b"").await.expect(69).says("listen_http");
    drop(taken);
    let mut serve = cluster.queued("serve", 0);
    serve.args(["--listen-http", "0.0.0.0:0"]);
    run(&mut serve, b"").await.expect(78).says("insecure");
}

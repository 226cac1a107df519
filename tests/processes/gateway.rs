//! Queues over HTTP: what is pushed at one node is leased at another and settled at a third; lines; waits that are given
//! up; and the calls of the README, typed.

use std::time::Duration;

use harness::cluster::Cluster;
use harness::http::{Answered, Http, http};
use harness::{LIMIT, until};
use serde_json::{Value, json};

async fn cluster_of(count: usize) -> Cluster {
    let mut cluster = Cluster::start_with(count, &[]).await;
    cluster.serve_http().await;
    cluster
}

async fn ask(at: &str, method: &str, path: &str, body: &Value) -> Answered {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http(at, method, path, &[], &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_pushed_leased_renewed_and_settled_at_any_node() {
    let cluster = cluster_of(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| cluster.http(n));
    let missing = ask(a, "GET", "/v1/queues/jobs", &Value::Null).await.expect(404).json();
    assert_eq!(missing["error"]["code"], "queue_not_found");
    ask(a, "PUT", "/v1/queues/jobs", &json!({ "max_failures": 2, "on_full": "drop_oldest" }))
        .await
        .expect(201);
    ask(b, "PUT", "/v1/queues/jobs", &json!({ "max_failures": 2, "on_full": "drop_oldest" }))
        .await
        .expect(200);
    let there = ask(b, "PUT", "/v1/queues/jobs", &json!({ "max_failures": 3 })).await.expect(200).json();
    assert_eq!(there, json!({ "created": false }), "it is there, and stays as it is");
    let headers = [("Queue-Priority", "20"), ("Queue-Header-Kind", "t"), ("Queue-Dedup-Key", "k")];
    let first = http(a, "POST", "/v1/queues/jobs/messages", &headers, "body \u{e9}").await.expect(201).json();
    let again = http(b, "POST", "/v1/queues/jobs/messages", &headers, "body \u{e9}").await.expect(200).json();
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &true.into()));
    let seen = ask(c, "GET", "/v1/queues/jobs/messages?limit=5", &Value::Null).await.expect(200).json();
    assert_eq!(seen["messages"][0]["body"], "body \u{e9}");

    let leased = ask(c, "POST", "/v1/queues/jobs/leases", &json!({ "max": 5, "lease_ms": 60_000 }))
        .await
        .expect(200)
        .json();
    let message = &leased["messages"][0];
    assert_eq!(
        (&message["id"], &message["body"], &message["attempt"]),
        (&first["id"], &"body \u{e9}".into(), &1.into())
    );
    assert_eq!((&message["priority"], &message["headers"]), (&20.into(), &json!({ "kind": "t" })));
    let receipts = json!({ "receipts": [message["receipt"]], "lease_ms": 90_000 });
    assert_eq!(ask(a, "POST", "/v1/renew", &receipts).await.expect(200).json(), json!({ "results": ["ok"] }));
    let receipts = json!({ "receipts": [message["receipt"]] });
    let failed = json!({ "receipts": [message["receipt"]], "kind": "fail", "delay_ms": 0, "error": "no" });
    ask(b, "POST", "/v1/nack", &failed).await.expect(200);
    let stale = ask(a, "POST", "/v1/ack", &receipts).await.expect(409).json();
    assert_eq!(stale, json!({ "results": ["stale"] }));
    let leased = ask(b, "POST", "/v1/queues/jobs/leases", &Value::Null).await.expect(200).json();
    assert_eq!(
        (&leased["messages"][0]["attempt"], &leased["messages"][0]["failures"]),
        (&2.into(), &1.into())
    );
    ask(c, "POST", "/v1/ack", &json!({ "receipts": [leased["messages"][0]["receipt"]] })).await.expect(200);

    let empty = ask(a, "POST", "/v1/queues/jobs/pop", &Value::Null).await.expect(200).json();
    assert_eq!(empty, json!({ "messages": [] }));
    let looked = ask(a, "GET", "/v1/queues/jobs", &Value::Null).await.expect(200);
    assert_eq!(looked.header("etag"), Some("\"1\""));
    let changed = http(a, "PATCH", "/v1/queues/jobs", &[("If-Match", "\"1\"")], "{\"ttl_ms\":60000}").await;
    assert_eq!(changed.expect(200).json(), json!({ "version": 2 }));
    http(a, "PATCH", "/v1/queues/jobs", &[("If-Match", "\"1\"")], "{\"ttl_ms\":1}").await.expect(409);
    ask(a, "PATCH", "/v1/queues/jobs", &json!({ "colour": 1 })).await.expect(400);
    let queues = ask(b, "GET", "/v1/queues", &Value::Null).await.expect(200).json();
    assert_eq!(
        (&queues["queues"][0]["name"], &queues["queues"][0]["settings"]["on_full"]),
        (&"jobs".into(), &"drop_oldest".into())
    );
    assert_eq!(ask(b, "GET", "/v1/stats", &Value::Null).await.expect(200).json()["acked_total"], 1);
    ask(b, "DELETE", "/v1/queues/jobs", &Value::Null).await.expect(200);
    ask(b, "DELETE", "/v1/queues/jobs", &Value::Null).await.expect(404);
    for (method, path, body) in [
        ("POST", "/v1/queues/a%20b/leases", "{}"),
        ("POST", "/v1/queues/jobs/leases", "{\"max\":0}"),
        ("POST", "/v1/queues/jobs/leases", "{\"wait_ms\":60001}"),
        ("POST", "/v1/queues/jobs/leases", "{\"what\":1}"),
        ("POST", "/v1/ack", "{\"receipts\":[\"x\"]}"),
        ("POST", "/v1/ack", "{\"receipts\":[\"a/1/1\",\"b/1/1\"]}"),
        ("POST", "/v1/ack", "{\"receipts\":[]}"),
    ] {
        http(a, method, path, &[], body).await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_the_document_that_answers_are_held_against() {
    let cluster = cluster_of(1).await;
    let at = cluster.http(0);
    let shown = ask(at, "GET", "/v1/openapi.json", &Value::Null).await.expect(200).json();
    assert_eq!(shown, queue_broker::http::openapi());
    let push = &shown["paths"]["/v1/queues/{queue}/messages"]["post"];
    let names: Vec<_> =
        push["parameters"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert!(names.contains(&&"Queue-Session".into()) && names.contains(&&"queue".into()), "{names:?}");
    assert!(push["description"].as_str().is_some_and(|about| about.contains("Store messages")), "{push}");
    // What is read out of paths and queries fails as a document, too.
    for path in
        ["/v1/queues?after=%2F", "/v1/queues/%FF", "/v1/queues/q/messages?limit=x", "/v1/queues/q?if_empty=x"]
    {
        let method = if path.contains("if_empty") { "DELETE" } else { "GET" };
        let refused = ask(at, method, path, &Value::Null).await.expect(400).json();
        assert_eq!(refused["error"]["code"], "bad_request", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_waits_and_leaves_with_who_asked_for_it() {
    let cluster = cluster_of(1).await;
    let at = cluster.http(0);
    ask(at, "PUT", "/v1/queues/jobs", &Value::Null).await.expect(201);
    let waiting = async |wanted: u64| {
        until(&format!("{wanted} wait"), LIMIT, async || {
            let view = ask(at, "GET", "/v1/queues/jobs", &Value::Null).await.expect(200).json();
            if view["waiting"] == wanted { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    };
    let wait = json!({ "wait_ms": 60_000 }).to_string();
    let mut gone = Http::connect(at).await.expect("it listens");
    gone.ask("POST", "/v1/queues/jobs/leases", &[], wait.as_bytes()).await.expect("it is sent");
    waiting(1).await;
    drop(gone);
    waiting(0).await;
    // Who stays gets what comes.
    let mut stays = Http::connect(at).await.expect("it listens");
    stays.ask("POST", "/v1/queues/jobs/leases", &[], wait.as_bytes()).await.expect("it is sent");
    waiting(1).await;
    http(at, "POST", "/v1/queues/jobs/messages", &[], "late").await.expect(201);
    let leased = stays.answer().await.expect("an answer").expect(200).json();
    assert_eq!(
        (&leased["messages"][0]["body"], &leased["messages"][0]["attempt"]),
        (&"late".into(), &1.into())
    );
    // Pushes go on while hundreds wait: each wait has a session of its own.
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut one = Http::connect(at).await.expect("it listens");
        one.ask("POST", "/v1/queues/other/leases", &[], wait.as_bytes()).await.expect("it is sent");
        all.push(one);
    }
    for _ in 0..10 {
        http(at, "POST", "/v1/queues/jobs/messages", &[], "x").await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_messages_and_are_answered_line_by_line() {
    let cluster = cluster_of(1).await;
    let at = cluster.http(0);
    let lines: String = (0..2_500).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let headers =
        [("Content-Type", "application/x-ndjson"), ("Queue-Create", "true"), ("Queue-Dedup-Key", "file")];
    for duplicate in [false, true] {
        let answered = http(at, "POST", "/v1/queues/jobs/messages", &headers, &lines).await.expect(200);
        let ids: Vec<Value> =
            answered.body.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
        assert_eq!(ids.len(), 2_500);
        assert!(ids.iter().all(|id| id["id"].is_string() && id["duplicate"].is_boolean() == duplicate));
    }
    let popped = ask(at, "POST", "/v1/queues/jobs/pop", &json!({ "max": 256 })).await.expect(200).json();
    let bodies: Vec<&str> = popped["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["body"].as_str())
        .collect();
    assert_eq!(bodies.len(), 256);
    assert!(bodies.iter().enumerate().all(|(n, body)| *body == format!("{{\"n\":{n}}}")), "in order");
    // What came before the break is stored, and said so.
    let mut http = Http::connect(at).await.expect("it listens");
    let head = "POST /v1/queues/jobs/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    http.write(head.as_bytes()).await.expect("it reads");
    http.write(b"4\r\none\n\r\n").await.expect("it reads");
    until("it is stored", LIMIT, async || {
        let view = ask(at, "GET", "/v1/queues/jobs", &Value::Null).await.expect(200).json();
        if view["pushed_total"] == 2_501 { Ok(()) } else { Err(view["pushed_total"].to_string()) }
    })
    .await;
}

/// The documents of the next chunk.
async fn documents(http: &mut Http) -> Vec<Value> {
    let chunk = http.chunk().await.expect("it goes on");
    chunk.lines().map(|line| serde_json::from_str(line).expect("a document")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_as_lines_until_the_reader_goes_or_nothing_comes_for_a_while() {
    let cluster = cluster_of(3).await;
    let at = cluster.http(1);
    let lines = [("Accept", "application/x-ndjson")];
    let create = [("Queue-Create", "true")];
    let missing = http(at, "POST", "/v1/queues/jobs/leases", &lines, "").await.expect(404).json();
    assert_eq!(missing["error"]["code"], "queue_not_found", "what is wrong at once has its status");
    http(at, "POST", "/v1/queues/jobs/messages", &create, "first").await.expect(201);
    let mut reader = Http::connect(at).await.expect("it listens");
    reader
        .ask("POST", "/v1/queues/jobs/leases", &lines, b"{\"max\": 10, \"lease_ms\": 600000}")
        .await
        .expect("it is sent");
    let (status, headers) = reader.head().await.expect("it answers");
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "application/x-ndjson".to_owned())), "{headers:?}");
    let first = documents(&mut reader).await;
    assert_eq!((first.len(), &first[0]["body"]), (1, &"first".into()));
    // What is pushed later comes later, over the same answer.
    for n in 0..5 {
        let body = format!("later {n}");
        http(cluster.http(2), "POST", "/v1/queues/jobs/messages", &[], &body).await.expect(201);
        let later = documents(&mut reader).await;
        assert_eq!((later.len(), &later[0]["body"]), (1, &body.clone().into()));
        let receipts = json!({ "receipts": [later[0]["receipt"]] });
        ask(cluster.http(0), "POST", "/v1/ack", &receipts).await.expect(200);
    }
    // When the reader goes, nobody waits any more: the next message is for another one.
    let waiting = async |count: u64| {
        until("so many wait", LIMIT, async || {
            let view = ask(at, "GET", "/v1/queues/jobs", &Value::Null).await.expect(200).json();
            if view["waiting"] == count { Ok(()) } else { Err(view["waiting"].to_string()) }
        })
        .await;
    };
    waiting(1).await;
    drop(reader);
    waiting(0).await;
    http(at, "POST", "/v1/queues/jobs/messages", &[], "for another").await.expect(201);
    // With an end: what is there, and then no more.
    let drained =
        http(at, "POST", "/v1/queues/jobs/pop", &lines, "{\"max\": 10, \"wait_ms\": 0}").await.expect(200);
    assert!(drained.body.contains("for another") && drained.body.lines().count() == 1, "{drained:?}");
    let begin = tokio::time::Instant::now();
    let idle = http(at, "POST", "/v1/queues/jobs/pop", &lines, "{\"wait_ms\": 700}").await.expect(200);
    assert!(begin.elapsed() >= Duration::from_millis(700), "{idle:?}");
    assert!(idle.body.trim().is_empty(), "{idle:?}");
    // A session has numbers, and these have none.
    let session = http(at, "POST", "/v1/sessions", &[], "").await.expect(201).json();
    let session = session["session"].as_str().expect("a name").to_owned();
    let both = [lines[0], ("Queue-Session", &session), ("Queue-Number", "1")];
    http(at, "POST", "/v1/queues/jobs/leases", &both, "").await.expect(400);
    // A queue that is removed meanwhile is the last line.
    let mut reader = Http::connect(at).await.expect("it listens");
    reader.ask("POST", "/v1/queues/jobs/pop", &lines, b"").await.expect("it is sent");
    reader.head().await.expect("it answers");
    waiting(1).await;
    ask(at, "DELETE", "/v1/queues/jobs", &Value::Null).await.expect(200);
    assert_eq!(documents(&mut reader).await[0]["error"]["code"], "queue_not_found");
    assert_eq!(reader.chunk().await.expect("an end"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_that_are_watched_are_told_at_each_change_until_the_node_stops() {
    let mut cluster = cluster_of(1).await;
    let at = cluster.http(0).to_owned();
    ask(&at, "GET", "/v1/queues/jobs/stats?watch", &Value::Null).await.expect(404);
    for bad in ["0", "99", "60001", "soon"] {
        ask(&at, "GET", &format!("/v1/stats?watch={bad}"), &Value::Null).await.expect(400);
    }
    http(&at, "POST", "/v1/queues/jobs/messages", &[("Queue-Create", "true")], "x").await.expect(201);
    let once = ask(&at, "GET", "/v1/queues/jobs/stats", &Value::Null).await.expect(200).json();
    assert_eq!((&once["ready"], once.get("settings")), (&1.into(), None));
    let mut watcher = Http::connect(&at).await.expect("it listens");
    watcher.ask("GET", "/v1/queues/jobs/stats?watch=100", &[], b"").await.expect("it is sent");
    let (status, headers) = watcher.head().await.expect("it answers");
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
    let event = async |watcher: &mut Http| {
        let chunk = watcher.chunk().await.expect("it goes on");
        let (name, data) = chunk.split_once('\n').expect("two lines");
        let data = data.strip_prefix("data: ").expect("data").trim_end();
        let document: Value = serde_json::from_str(data).expect("a document");
        (name.to_owned(), document)
    };
    let (name, first) = event(&mut watcher).await;
    assert_eq!((&*name, &first["ready"]), ("event: stats", &1.into()));
    http(&at, "POST", "/v1/queues/jobs/messages", &[], "y").await.expect(201);
    while event(&mut watcher).await.1["ready"] != 2 {}
    ask(&at, "DELETE", "/v1/queues/jobs", &Value::Null).await.expect(200);
    let (name, gone) = loop {
        let told = event(&mut watcher).await;
        if told.0 != "event: stats" {
            break told;
        }
    };
    assert_eq!((&*name, &gone["code"]), ("event: error", &"queue_not_found".into()));
    // They leave room for others, and their places are free again when they go.
    let mut all = Vec::new();
    for _ in 1..128 {
        let mut one = Http::connect(&at).await.expect("it listens");
        one.ask("GET", "/v1/stats?watch=60000", &[], b"").await.expect("it is sent");
        assert_eq!(one.head().await.expect("it answers").0, 200);
        all.push(one);
    }
    let full = ask(&at, "GET", "/v1/stats?watch", &Value::Null).await.expect(503).json();
    assert_eq!(full["error"]["code"], "overloaded");
    ask(&at, "GET", "/v1/stats", &Value::Null).await.expect(200);
    drop(all);
    until("there is a place", LIMIT, async || {
        let mut one = Http::connect(&at).await.expect("it listens");
        one.ask("GET", "/v1/stats?watch=60000", &[], b"").await.expect("it is sent");
        match one.head().await.expect("it answers").0 {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    // Somebody who watches does not keep a node from stopping.
    let begin = tokio::time::Instant::now();
    cluster.stop(0).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(watcher.chunk().await.expect("an end"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_logs_more_for_a_while_and_goes_back_by_itself() {
    let cluster = cluster_of(1).await;
    let at = cluster.http(0);
    let level = async |method: &str, body: &Value| ask(at, method, "/v1/log", body).await;
    let now = level("GET", &Value::Null).await.expect(200).json();
    assert_eq!(now, json!({ "level": "info", "settings": "info", "left_ms": null }));
    for bad in [
        json!({ "level": "trace" }),
        json!({ "level": "debug", "for_ms": 0 }),
        json!({}),
        json!({ "level": "DEBUG" }),
    ] {
        level("PUT", &bad).await.expect(400);
    }
    // Something that only debug tells: an HTTP connection that breaks off.
    let broken = async || {
        let mut http = Http::connect(at).await.expect("it listens");
        http.write(b"no HTTP at all\r\n\r\n").await.expect("it reads");
        let _ = http.answer().await;
        cluster.log_of(0).matches("a connection over HTTP has ended").count()
    };
    assert_eq!(broken().await, 0);
    let chosen = level("PUT", &json!({ "level": "debug", "for_ms": 1500 })).await.expect(200).json();
    assert_eq!((&chosen["level"], &chosen["settings"]), (&"debug".into(), &"info".into()));
    until("debug is told", LIMIT, async || if broken().await > 0 { Ok(()) } else { Err("not yet") }).await;
    until("it goes back", LIMIT, async || {
        let now = level("GET", &Value::Null).await.expect(200).json();
        if now["level"] == "info" { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let before = broken().await;
    assert_eq!(broken().await, before);
    // Of two choices the later one counts, also when the first one's time is over; and it can be ended.
    level("PUT", &json!({ "level": "debug", "for_ms": 1 })).await.expect(200);
    level("PUT", &json!({ "level": "off", "for_ms": 600_000 })).await.expect(200);
    tokio::time::timeout(Duration::from_secs(60), cluster.ctl(&["ping"]))
        .await
        .expect("it answers")
        .expect(0);
    let now = level("GET", &Value::Null).await.expect(200).json();
    assert_eq!(now["level"], "off");
    assert!(now["left_ms"].as_u64().is_some_and(|left| left > 500_000), "{now}");
    assert_eq!(level("DELETE", &Value::Null).await.expect(200).json()["level"], "info");
}

/// What the curl of a line of the README asks, at another address.
fn typed(line: &str) -> (String, String, Vec<(String, String)>, String) {
    let (mut method, mut path, mut headers, mut body) = (None, String::new(), Vec::new(), String::new());
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, left) = match rest.strip_prefix('\'').map(|rest| rest.split_once('\'')) {
            Some(quoted) => quoted.expect("a quote ends"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word);
        rest = left.trim_start();
    }
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "curl" => {}
            "-X" => method = words.next(),
            "-d" => body = words.next().expect("a body").to_owned(),
            "-H" => {
                let header = words.next().expect("a header").split_once(": ").expect("name and value");
                headers.push((header.0.to_owned(), header.1.to_owned()));
            }
            url => path = url.strip_prefix("http://localhost:7411").expect("a URL of a node").to_owned(),
        }
    }
    let method = method.unwrap_or(if body.is_empty() { "GET" } else { "POST" });
    (method.to_owned(), path, headers, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_the_readme_do_what_it_says() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("it is there");
    let section = readme.split("### HTTP\n").nth(1).expect("a section of that name");
    let block = section.split("```").nth(1).expect("a block");
    let cluster = cluster_of(3).await;
    let mut shown = None::<String>;
    let mut count = 0;
    for line in block.lines() {
        if let Some(expected) = line.strip_prefix("# ") {
            let shown = shown.take().expect("a call before its answer");
            let same =
                shown.trim_end() == expected || (expected.contains("\"id\"") && shown.contains("\"id\""));
            assert!(same, "{shown:?} is not {expected:?}");
        } else if line.starts_with("curl ") {
            let (method, path, headers, body) = typed(line);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answered = http(cluster.http(count % 3), &method, &path, &headers, &body).await;
            assert!(answered.status < 300, "{line}: {answered:?}");
            shown = Some(answered.body);
            count += 1;
        }
    }
    assert_eq!(count, 4, "so many calls are in the block");
    tokio::time::timeout(Duration::from_secs(60), cluster.ctl(&["ping"]))
        .await
        .expect("it answers")
        .expect(0);
}

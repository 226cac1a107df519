//! Where the time of writes goes: `queuectl stats --stages` of all, `queuectl slow` of those that took long.

use std::time::Duration;

use harness::cluster::Cluster;
use harness::http::http;
use harness::trace;

use super::slow_disk::Slow;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_of_a_write_is_measured() {
    let cluster = Cluster::start().await;
    for body in ["a", "b", "c"] {
        cluster.ctl(&["push", "jobs", body, "--create"]).await.expect(0);
    }
    let told = cluster.ctl(&["stats", "--stages", "--json"]).await.expect(0).json();
    assert_eq!(told["schema"], "stages/v1");
    let stages = told["stages"].as_array().expect("a list");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().expect("a name")).collect();
    assert_eq!(names, ["wait", "encode", "write", "sync", "replicate", "apply", "answer"]);
    for stage in stages {
        assert!(stage["count"].as_u64().expect("a number") >= 3, "{stage}");
        let measures = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
        let measures = measures.map(|name| stage[name].as_f64().expect("a number"));
        assert!(measures.is_sorted() && measures[0] > 0.0, "{stage}");
    }
    let shown = cluster.ctl(&["stats", "--stages"]).await.expect(0).stdout;
    let names: Vec<_> = shown.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(names, ["STAGE", "wait", "encode", "write", "sync", "replicate", "apply", "answer"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what is not tried is to be seen")]
async fn a_slow_request_is_listed_with_the_stages_it_passed() {
    if let Some(missing) = trace::missing() {
        println!("skipped: {missing}");
        return;
    }
    let mut cluster = Cluster::start_with(1, &[]).await;
    cluster.serve_http().await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    // Who waits for messages is not slow.
    cluster.ctl(&["pop", "jobs", "--wait", "400ms"]).await;
    let none = cluster.ctl(&["slow", "--json"]).await.expect(0).json();
    let of_jobs = |list: &serde_json::Value| -> Vec<serde_json::Value> {
        let all = list["nodes"][0]["requests"].as_array().expect("a list").clone();
        all.into_iter().filter(|one| one["queue"] == "jobs" && one["request"] != "CreateQueue").collect()
    };
    assert!(of_jobs(&none).is_empty(), "{none}");
    let slow = Slow::begin(&cluster, 0, Duration::from_millis(400));
    slow.works_after(async || drop(cluster.ctl(&["push", "jobs", "first"]).await.expect(0))).await;
    cluster.ctl(&["push", "jobs", "x"]).await.expect(0);
    drop(slow);
    let listed = cluster.ctl(&["slow", "n1", "--json"]).await.expect(0).json();
    let of_jobs = of_jobs(&listed);
    let one = of_jobs.first().unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((&one["request"], &one["code"]), (&"Push".into(), &serde_json::Value::Null), "{one}");
    assert!(one["client"].as_str().is_some_and(|client| client.starts_with("queuectl")), "{one}");
    let sync = one["stages_us"]["sync"].as_u64().unwrap_or_else(|| panic!("no sync in {one}"));
    assert!(sync >= 350_000 && one["took_us"].as_u64() >= Some(sync), "{one}");
    for stage in ["wait", "encode", "write", "apply", "answer"] {
        assert!(one["stages_us"][stage].as_u64().is_some_and(|us| us < 350_000 || stage == "wait"), "{one}");
    }
    assert!(listed["nodes"][0]["total"].as_u64() >= Some(2), "{listed}");
    let shown = cluster.ctl(&["slow"]).await.expect(0);
    assert!(shown.stdout.contains("sync 4"), "{shown}");
    // The same over HTTP, in the metrics and in the log.
    let over_http = http(cluster.http(0), "GET", "/v1/slow", &[], "").await.expect(200).json();
    assert_eq!(over_http["requests"][0], listed["nodes"][0]["requests"][0]);
    let metrics = http(cluster.http(0), "GET", "/metrics", &[], "").await.expect(200).body;
    let count = metrics.lines().find_map(|line| line.strip_prefix("queued_slow_requests_total "));
    assert!(count.and_then(|count| count.parse::<f64>().ok()).is_some_and(|count| count >= 2.0), "{count:?}");
    let log = cluster.log_of(0);
    assert!(
        log.lines().any(|line| line.contains("a request was slow") && line.contains("queue=\"jobs\"")),
        "{log}"
    );
}

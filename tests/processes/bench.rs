//! `queuectl bench`: what it counts is what was done, and nothing of it is left.

use harness::cluster::Cluster;
use harness::program::Running;
use harness::{LIMIT, until};
use rustix::process::{Pid, Signal, kill_process};

async fn queues(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.ctl(&["queue", "ls", "--json"]).await.expect(0).json();
    let queues = listed["queues"].as_array().expect("a list");
    queues.iter().map(|queue| queue["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_counts_what_was_done_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let common = ["--warmup", "100ms", "--clients", "2", "--in-flight", "8", "--verify", "--count", "700"];
    for kind in ["push", "pop", "roundtrip", "roundtrip --worker"] {
        let pushed_before =
            cluster.ctl(&["stats", "--json"]).await.json()["pushed_total"].as_u64().expect("a count");
        let words: Vec<&str> = kind.split(' ').collect();
        let kind = words[0];
        let words =
            [&["bench"], &words[..], &["--json", "--size", "100B", "--batch", "3"][..], &common].concat();
        let result = cluster.ctl(&words).await.expect(0).json();
        assert_eq!((&result["schema"], &result["kind"]), (&"bench/v1".into(), &kind.into()));
        assert_eq!(result["messages"], 700, "{result}");
        assert_eq!((&result["verify"]["lost"], &result["verify"]["duplicated"]), (&0.into(), &0.into()));
        let bars = result["histogram_us"].as_array().expect("bars");
        let drawn: u64 = bars.iter().map(|bar| bar[2].as_u64().expect("a count")).sum();
        assert_eq!(drawn, 700, "every message is in the picture: {result}");
        let latency = |name: &str| result["latency_us"][name].as_u64().expect("a time");
        assert!(latency("min") <= latency("p50") && latency("p50") <= latency("max"), "{result}");
        let stats = cluster.ctl(&["stats", "--json"]).await.json();
        assert!(stats["pushed_total"].as_u64().expect("a count") >= pushed_before + 700, "{stats}");
        if cfg!(target_os = "linux") {
            let processes = result["processes"].as_array().expect("a list");
            assert_eq!(processes.len(), 3, "{result}");
            assert!(processes.iter().all(|node| node["resident_bytes"].as_u64() > Some(1 << 20)), "{result}");
        }
        assert_eq!(queues(&cluster).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_have_shapes_and_leave_nothing() {
    let cluster = Cluster::start().await;
    let common = ["--json", "--verify", "--warmup", "1ms", "--count", "600", "--size", "50B"];
    let shapes = [
        "push --queues 50 --in-flight 20 --connections 30",
        "roundtrip --queues 12 --clients 2 --in-flight 6",
        "push --groups 40 --in-flight 10",
        "roundtrip --groups 40 --worker --in-flight 10",
    ];
    for shape in shapes {
        let words: Vec<&str> = ["bench"].into_iter().chain(shape.split(' ')).chain(common).collect();
        let result = cluster.ctl(&words).await.expect(0).json();
        assert_eq!(result["messages"], 600, "{shape}: {result}");
        assert_eq!((&result["verify"]["lost"], &result["verify"]["duplicated"]), (&0.into(), &0.into()));
        assert_eq!(queues(&cluster).await, [""; 0], "{shape}");
    }
    let few = cluster.ctl(&["bench", "roundtrip", "--queues", "9", "--in-flight", "8"]).await;
    few.expect(2).says("a slot for each queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_keeps_its_rate_and_results_are_compared() {
    let cluster = Cluster::start().await;
    let words = ["bench", "push", "--rate", "200", "--duration", "2s", "--warmup", "100ms"];
    let result =
        cluster.ctl(&[&words[..], &["--json", "--save", "base.json"]].concat()).await.expect(0).json();
    let rate = result["msgs_per_s"].as_u64().expect("a rate");
    assert!((150..=201).contains(&rate), "200 a second, less what was late at the end: {result}");
    let ran = cluster.ctl(&[&words[..], &["--compare", "base.json"]].concat()).await.expect(0);
    for word in ["messages ", "latency ", "p99.9 ", "node ", "client ", "█", "base.json", "change", "p99 µs"]
    {
        assert!(ran.stdout.contains(word), "{word}\n{ran}");
    }
    let bad = cluster.ctl(&["bench", "push", "--compare", "none.json"]).await;
    bad.expect(74).says("none.json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bench_that_is_interrupted_shows_what_it_measured_and_removes_its_queue() {
    let cluster = Cluster::start().await;
    let mut bench = cluster.queuectl();
    let running = Running::start(bench.args(["bench", "push", "--duration", "10m", "--warmup", "1ms"]));
    until("it pushes", LIMIT, async || {
        let ready = cluster.ctl(&["stats", "--json"]).await.json()["ready"].as_u64();
        if ready > Some(1_000) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::INT).expect("it runs");
    let ran = running.end().await.expect(130);
    for word in ["stopped: ", "messages ", "p99.9 "] {
        assert!(ran.stdout.contains(word), "{word}\n{ran}");
    }
    assert_eq!(queues(&cluster).await, [""; 0]);
}

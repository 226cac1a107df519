//! `queuectl stats --stages`: the leader of a cluster tells where the time of writes goes.

use harness::cluster::Cluster;

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

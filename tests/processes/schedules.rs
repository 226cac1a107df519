//! Recurring pushes: they come in time, go on when the leader dies, and what was missed is made up for as was said.

use harness::cluster::Cluster;
use harness::program::Ran;
use harness::{LIMIT, until};
use serde_json::Value;

async fn ctl(cluster: &Cluster, words: &[&str]) -> Ran {
    cluster.ctl(words).await
}

/// The schedule of that name, once `is_so` holds of it.
async fn once(cluster: &Cluster, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    until("the schedule is as it should be", LIMIT, async || {
        let ran = ctl(cluster, &["schedule", "ls", "--json"]).await;
        if ran.code != 0 {
            return Err(ran.to_string());
        }
        let document = ran.json();
        let all = document["schedules"].as_array().expect("a list");
        found = all.iter().find(|one| one["name"] == name).cloned().unwrap_or_default();
        if is_so(&found) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    found
}

fn stored(schedule: &Value) -> u64 {
    schedule["stored"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_goes_on_under_another_leader() {
    let mut cluster = Cluster::start().await;
    ctl(&cluster, &["queue", "create", "jobs"]).await.expect(0);
    let every = ["schedule", "add", "beat", "jobs", "tick", "--every", "1s", "-H", "kind=beat"];
    assert_eq!(ctl(&cluster, &every).await.expect(0).stdout, "added schedule beat for jobs\n");
    ctl(&cluster, &every).await.expect(73).says("schedule_exists");
    once(&cluster, "beat", |beat| stored(beat) >= 2).await;
    let (leader, _) = cluster.leader().await;
    cluster.kill(leader);
    let before = stored(&once(&cluster, "beat", |beat| stored(beat) > 0).await);
    let after = once(&cluster, "beat", |beat| stored(beat) >= before + 2).await;
    let took = ctl(&cluster, &["pop", "jobs", "-n", "1"]).await.expect(0);
    assert_eq!(took.stdout, "tick\n");
    assert_eq!(after["refused"], 0);
    ctl(&cluster, &["schedule", "rm", "beat"]).await.expect(0);
    ctl(&cluster, &["schedule", "rm", "beat"]).await.expect(66).says("schedule_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_while_nobody_led_comes_as_the_schedule_says() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    for (name, missed) in [("once", "once"), ("all", "catch-up=100")] {
        ctl(&cluster, &["queue", "create", name]).await.expect(0);
        let add = ["schedule", "add", name, name, "x", "--every", "1s", "--missed", missed];
        ctl(&cluster, &add).await.expect(0);
    }
    once(&cluster, "all", |all| stored(all) > 0).await;
    let before = stored(&once(&cluster, "once", |once| stored(once) > 0).await);
    cluster.kill(0);
    // The time that passes is what is tried.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    cluster.restart(0).await;
    let all = once(&cluster, "all", |all| stored(all) >= before + 5).await;
    let once = once(&cluster, "once", |once| stored(once) > before).await;
    assert!(stored(&all) >= stored(&once) + 3, "{all} {once}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_pattern_is_listed_with_its_next_time_or_refused() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, &["queue", "create", "jobs"]).await.expect(0);
    let add = |cron: &'static str, zone: &'static str| {
        ["schedule", "add", "night", "jobs", "x", "--cron", cron, "--zone", zone, "--replace"]
    };
    ctl(&cluster, &add("30 2 * * *", "Europe/Berlin")).await.expect(0);
    let night = once(&cluster, "night", |night| night["next_at"].is_string()).await;
    let next = night["next_at"].as_str().expect("a time");
    assert!(next.ends_with("T00:30:00.000Z") || next.ends_with("T01:30:00.000Z"), "{next}");
    let text = ctl(&cluster, &["schedule", "ls"]).await.expect(0).stdout;
    assert!(text.contains("30 2 * * * Europe/Berlin"), "{text}");
    let again = ctl(&cluster, &add("0 0 1 1 *", "UTC")).await.expect(0).stdout;
    assert_eq!(again, "replaced schedule night for jobs\n");
    ctl(&cluster, &add("0 25 * * *", "UTC")).await.expect(65).says("0 25 * * *");
    ctl(&cluster, &add("0 0 * * *", "Mars/Olympus")).await.expect(65).says("Mars/Olympus");
    ctl(&cluster, &["schedule", "add", "n", "nowhere", "x", "--every", "1s"]).await.expect(66);
}

//! Who changed what: real nodes tell it alike, and go on telling it from a snapshot.

use harness::cluster::Cluster;
use harness::{LIMIT, until};
use serde_json::Value;

fn acts(lines: &str) -> Vec<String> {
    let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a document"));
    documents.map(|document| document["act"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_the_same_journal_before_and_after_all_were_away() {
    let mut cluster = Cluster::start_with(3, &[]).await;
    cluster.ctl(&["queue", "create", "jobs"]).await.expect(0);
    cluster.ctl(&["push", "jobs", "x"]).await.expect(0);
    cluster.ctl(&["queue", "set", "jobs", "max-failures=7"]).await.expect(0);
    cluster.ctl(&["queue", "rm", "jobs", "--yes"]).await.expect(0);
    let listed = cluster.ctl(&["audit", "--queue", "jobs", "--json"]).await.expect(0).stdout;
    assert_eq!(acts(&listed), ["create_queue", "alter_queue", "remove_queue"]);
    let all = acts(&cluster.ctl(&["audit", "--json"]).await.expect(0).stdout);
    assert!(all.contains(&"found_cluster".to_owned()) && all.contains(&"members".to_owned()), "{all:?}");
    cluster.ctl(&["audit", "--since", "1h"]).await.expect(0).prints("max_failures=7");
    cluster.ctl(&["audit", "verify"]).await.expect(0).prints("each follows the one before");
    cluster.kill_all();
    cluster.restart_all().await;
    let again = cluster.ctl(&["audit", "--queue", "jobs", "--json"]).await.expect(0).stdout;
    assert_eq!(again, listed);
    until("all nodes have all of it", LIMIT, async || {
        let verified = cluster.ctl(&["audit", "verify", "--json"]).await.expect(0).json();
        let nodes = verified["nodes"].as_array().expect("a list").clone();
        let same = nodes.iter().all(|node| node["records"] == nodes[0]["records"]);
        if same && nodes.len() == 3 { Ok(()) } else { Err(verified.to_string()) }
    })
    .await;
}

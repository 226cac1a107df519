//! Groups through real processes: order that outlives a leader, turns, and every blockage explained.

use std::collections::BTreeMap;

use harness::bodies::{bodies, lease, queue};
use harness::cluster::Cluster;
use harness::program::Ran;
use queue_protocol::client::NewMessage;
use queue_protocol::wire::bounded::Bounded;
use queue_protocol::wire::request::{PushOptions, Receipts};
use queue_protocol::wire::requests::ask;
use serde_json::Value;

async fn ctl(cluster: &Cluster, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    cluster.ctl(&words).await
}

/// The receipt of the only message of a lease.
async fn leased(cluster: &Cluster, queue: &str) -> String {
    let document = ctl(cluster, &format!("lease {queue} --json")).await.expect(0).json();
    document["receipt"].as_str().expect("a lease has one").to_owned()
}

/// What holds a queue back, by kind and by group.
async fn holds(cluster: &Cluster, queue: &str) -> Vec<(String, Option<String>)> {
    let ran = ctl(cluster, &format!("explain {queue} --json")).await;
    let document = ran.json();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let holds = document["holds"].as_array().expect("a list").iter();
    holds.map(|hold| (text(&hold["hold"]).expect("a name"), text(&hold["group"]))).collect()
}

fn of_group(kind: &str, group: &str) -> (String, Option<String>) {
    (kind.to_owned(), Some(group.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_group_is_worked_off_in_order_though_the_leader_dies_in_between() {
    const GROUPS: usize = 5;
    const EACH: usize = 12;
    let mut cluster = Cluster::start().await;
    ctl(&cluster, "queue create jobs --ordered on --lease 60s").await.expect(0);
    let client = cluster.client();
    let message = |k: usize| {
        let group = Some(format!("g{}", k % GROUPS).parse().expect("a key"));
        let options = PushOptions { group, ..PushOptions::default() };
        NewMessage { options, ..NewMessage::of_body(format!("{}", k / GROUPS).as_bytes()) }
    };
    let messages = (0..GROUPS * EACH).map(message).collect();
    client.push(queue("jobs"), false, messages).await.expect("they are stored");
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < GROUPS * EACH {
        let answered =
            client.ask(ask::Lease(lease("jobs", 100, None, 30_000))).await.expect("there are some");
        let bodies = bodies(&answered);
        assert!(!bodies.is_empty() && bodies.len() <= GROUPS, "one of each group at most");
        let mut receipts = Vec::new();
        for (delivery, body) in answered.answer.iter().zip(bodies) {
            let group = delivery.group.as_ref().expect("all are of groups").to_string();
            seen.entry(group).or_default().push(String::from_utf8_lossy(&body).into_owned());
            receipts.push((delivery.id, delivery.token));
            count += 1;
        }
        if count == 3 * GROUPS {
            let (leader, _) = cluster.leader().await;
            cluster.kill(leader);
        }
        let receipts = Bounded::new(receipts).expect("a few");
        client
            .ask(ask::Ack(Receipts { queue: queue("jobs"), receipts }))
            .await
            .expect("the leases are its own");
    }
    let in_order: Vec<String> = (0..EACH).map(|k| k.to_string()).collect();
    assert_eq!(seen.len(), GROUPS);
    assert!(seen.values().all(|bodies| *bodies == in_order), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_blockage_of_groups_is_explained() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --ordered on --on-poison block --backoff 1h").await.expect(0);
    ctl(&cluster, "push jobs a1 a2 --group a").await.expect(0);
    ctl(&cluster, "push jobs b1 b2 --group b").await.expect(0);
    ctl(&cluster, "push jobs c1 c2 --group c").await.expect(0);
    assert!(holds(&cluster, "jobs").await.is_empty());
    let (a, b) = (leased(&cluster, "jobs").await, leased(&cluster, "jobs").await);
    leased(&cluster, "jobs").await;
    ctl(&cluster, &format!("nack {a} --reason later")).await.expect(0);
    ctl(&cluster, &format!("nack {b} --reject --reason bad")).await.expect(0);
    let expected =
        [of_group("group_waits", "a"), of_group("group_blocked", "b"), of_group("group_leased", "c")];
    assert_eq!(holds(&cluster, "jobs").await, expected);
    // What holds a group back is named, with what can be done about it.
    let text = ctl(&cluster, "explain jobs").await.expect(1).stdout;
    for part in ["failed and waits: due in", "is blocked: its message", "is leased for"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    ctl(&cluster, "dead retry jobs --all --yes").await.expect(0);
    assert_eq!(ctl(&cluster, "pop jobs").await.expect(0).stdout, "b1\n");

    ctl(&cluster, "queue create few --group-leased-max 1 --group-rate-max 2 --group-rate-per 1h")
        .await
        .expect(0);
    ctl(&cluster, "push few d1 d2 d3 --group d").await.expect(0);
    let d = leased(&cluster, "few").await;
    assert_eq!(holds(&cluster, "few").await, [of_group("group_full", "d")]);
    ctl(&cluster, &format!("ack {d}")).await.expect(0);
    ctl(&cluster, "pop few").await.expect(0);
    assert_eq!(holds(&cluster, "few").await, [of_group("group_rate", "d")]);
    ctl(&cluster, "queue pause few").await.expect(0);
    assert_eq!(holds(&cluster, "few").await, [("paused".to_owned(), None), of_group("group_rate", "d")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_has_much_keeps_a_fair_queue_from_nobody() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --fair on").await.expect(0);
    ctl(&cluster, "push jobs h1 h2 h3 h4 h5 h6 --group hot").await.expect(0);
    ctl(&cluster, "push jobs c1 c2 --group cold").await.expect(0);
    ctl(&cluster, "push jobs plain").await.expect(0);
    let popped = ctl(&cluster, "pop jobs -n 9").await.expect(0).stdout;
    assert_eq!(popped, "h1\nc1\nplain\nh2\nc2\nh3\nh4\nh5\nh6\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_with_weights_counts_and_what_holds_them_back() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --ordered on --on-poison block --group-weight 2").await.expect(0);
    assert_eq!(ctl(&cluster, "group ls jobs").await.expect(0).stdout, "");
    for group in ["a", "a", "b", "b", "c"] {
        ctl(&cluster, &format!("push jobs body --group {group}")).await.expect(0);
    }
    ctl(&cluster, "group weight jobs d 7").await.expect(0);
    leased(&cluster, "jobs").await;
    let poisoned = leased(&cluster, "jobs").await;
    ctl(&cluster, &format!("nack {poisoned} --reject")).await.expect(0);
    let list = ctl(&cluster, "group ls jobs --json").await.expect(0).json();
    let groups = list["groups"].as_array().expect("a list").iter();
    let counts = ["weight", "ready", "leased", "dead"];
    let shown: Vec<_> = groups
        .map(|group| {
            let name = group["group"].as_str().expect("a name").to_owned();
            let held = group["held"].as_str().map(str::to_owned);
            (name, counts.map(|count| group[count].as_u64().expect("a number")), held)
        })
        .collect();
    let expected = [
        ("a", [2, 1, 1, 0], Some("leased")),
        ("b", [2, 1, 0, 1], Some("blocked")),
        ("c", [2, 1, 0, 0], None),
        ("d", [7, 0, 0, 0], None),
    ];
    let expected = expected.map(|(name, counts, held)| (name.to_owned(), counts, held.map(str::to_owned)));
    assert_eq!(shown, expected);
    let table = ctl(&cluster, "group ls jobs").await.expect(0);
    assert!(table.stdout.contains("7*") && table.stdout.contains("blocked by a dead one"), "{table}");
    ctl(&cluster, "group ls nothing").await.expect(66);
}

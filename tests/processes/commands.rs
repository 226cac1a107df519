//! The words of `queuectl` for what a queue can do, each against a cluster of one node.

use harness::cluster::Cluster;
use harness::program::{Ran, run};
use harness::{LIMIT, until};
use serde_json::Value;

/// Runs a command line without quotes.
async fn ctl(cluster: &Cluster, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    cluster.ctl(&words).await
}

/// The document of a command that succeeds.
async fn json(cluster: &Cluster, line: &str) -> Value {
    ctl(cluster, &format!("{line} --json")).await.expect(0).json()
}

/// The id of the only message of a push.
async fn push(cluster: &Cluster, line: &str) -> String {
    let document = json(cluster, &format!("push {line}")).await;
    document["ids"][0].as_str().unwrap_or_else(|| panic!("one id: {document}")).to_owned()
}

/// Ready, leased, delayed and dead.
async fn counts(cluster: &Cluster, queue: &str) -> [u64; 4] {
    let document = json(cluster, &format!("queue info {queue}")).await;
    ["ready", "leased", "delayed", "dead"].map(|state| document[state].as_u64().expect("a count"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_made_with_settings_and_changed_by_who_has_seen_its_version() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create poison").await.expect(0);
    let flags = "--max-failures 3 --lease 1m --backoff none --ttl 1h --on-expiry drop --max-messages 1,000 \
                 --max-bytes 1MiB --on-full drop-oldest --dead-to poison --dedup-window 1d";
    ctl(&cluster, &format!("queue create jobs {flags}")).await.expect(0);
    let made = json(&cluster, "queue info jobs").await;
    let settings = &made["settings"];
    assert_eq!(made["version"], 1);
    let shown = ["max_failures", "lease_ms", "ttl_ms", "max_messages", "max_bytes", "dedup_window_ms"]
        .map(|key| settings[key].as_u64());
    assert_eq!(shown, [3, 60_000, 3_600_000, 1_000, 1 << 20, 86_400_000].map(Some), "{made}");
    let words = ["on_expiry", "on_full", "dead_to"].map(|key| settings[key].as_str());
    assert_eq!(words, ["drop", "drop_oldest", "poison"].map(Some), "{made}");
    assert_eq!(settings["backoff_ms"], Value::Null);

    let set = ctl(&cluster, "queue set jobs max-failures=9 dead-to=none ttl=none --if-version 1").await;
    assert_eq!(set.expect(0).stdout, "changed jobs\n");
    let changed = json(&cluster, "queue info jobs").await;
    let settings = &changed["settings"];
    assert_eq!((&settings["max_failures"], &settings["dead_to"]), (&9.into(), &Value::Null));
    assert_eq!((&settings["ttl_ms"], &settings["max_messages"]), (&Value::Null, &1_000.into()));
    let stale = ctl(&cluster, "queue set jobs max-failures=1 --if-version 1").await;
    stale.expect(73).says("queue_changed");
    ctl(&cluster, "queue set jobs dead-to=jobs").await.expect(73).says("dead_to_cycle");
    ctl(&cluster, "queue set jobs colour=red").await.expect(2).says("max-failures");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_paused_or_full_says_so() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --max-messages 2").await.expect(0);
    push(&cluster, "jobs one").await;
    ctl(&cluster, "queue pause jobs").await.expect(0);
    assert!(ctl(&cluster, "queue info jobs").await.stdout.contains("leases paused"));
    ctl(&cluster, "pop jobs").await.expect(1);
    assert_eq!(explained(&cluster, "jobs").await, ["paused"]);
    push(&cluster, "jobs two").await;
    ctl(&cluster, "push jobs three").await.expect(75).says("queue_full");
    ctl(&cluster, "queue pause jobs --pushes").await.expect(0);
    ctl(&cluster, "push jobs three").await.expect(75).says("queue_paused");
    let resumed = ctl(&cluster, "queue resume jobs --pushes --leases").await.expect(0);
    assert_eq!(resumed.stdout, "resumed pushes and leases of jobs\n");
    assert_eq!(ctl(&cluster, "pop jobs -n 2").await.expect(0).stdout, "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_store_a_message_once_and_times_decide_when_it_lives() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs").await.expect(0);
    // A dedup key outlives the message.
    let first = push(&cluster, "jobs one --dedup-key k").await;
    ctl(&cluster, "pop jobs").await.expect(0);
    let again = json(&cluster, "push jobs one --dedup-key k").await;
    assert_eq!((&again["count"], &again["deduplicated"]), (&0.into(), &1.into()), "{again}");
    assert_eq!(again["ids"][0], first.as_str());
    ctl(&cluster, "push jobs one two --dedup-key k").await.expect(2).says("--dedup-prefix");
    // The same for a whole input.
    for stored in [3, 0] {
        let mut command = cluster.queuectl();
        command.args(["push", "jobs", "--dedup-prefix", "file", "--json"]);
        let ran = run(&mut command, b"a\nb\nc\n").await.expect(0).json();
        assert_eq!(ran["count"], stored, "{ran}");
    }
    ctl(&cluster, "pop jobs -n 3").await.expect(0);
    // A unique key is held while its message lives.
    let first = push(&cluster, "jobs old --unique u").await;
    ctl(&cluster, "push jobs new --unique u").await.expect(73).says("unique_held");
    assert_eq!(push(&cluster, "jobs new --unique u --on-held keep").await, first);
    assert_ne!(push(&cluster, "jobs new --unique u --on-held replace").await, first);
    assert_eq!(ctl(&cluster, "pop jobs -n 9").await.expect(0).stdout, "new\n");
    push(&cluster, "jobs newer --unique u").await;
    // Later, and not for ever.
    push(&cluster, "jobs later --not-before 2100-01-01T00:00:00Z").await;
    push(&cluster, "jobs now --not-before 2001-01-01").await;
    assert_eq!(counts(&cluster, "jobs").await, [2, 0, 1, 0]);
    ctl(&cluster, "push jobs never --ttl 1ms --delay 1h").await.expect(65).says("expire before it is ready");
    let brief = push(&cluster, "jobs brief --ttl 1s").await;
    until("it expires", LIMIT, async || {
        let dead = counts(&cluster, "jobs").await[3];
        if dead == 1 { Ok(()) } else { Err(format!("{dead} are dead")) }
    })
    .await;
    let shown = json(&cluster, &format!("dead show jobs {brief}")).await;
    assert_eq!((&shown["reason"], &shown["state"]), (&"expired".into(), &"dead".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_changed_by_id_unless_their_state_forbids() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs").await.expect(0);
    ctl(&cluster, "queue create other").await.expect(0);
    let low = push(&cluster, "jobs low").await;
    let high = push(&cluster, "jobs high").await;
    let later = push(&cluster, "jobs later --delay 1h").await;
    let never = push(&cluster, "jobs never --delay 1h").await;
    ctl(&cluster, &format!("message edit jobs {high} --priority 9")).await.expect(0);
    let kicked = ctl(&cluster, &format!("message kick jobs {later}")).await.expect(0);
    assert_eq!(kicked.stdout, format!("kicked {later}\n"));
    ctl(&cluster, &format!("message cancel jobs {never}")).await.expect(0);
    ctl(&cluster, &format!("message cancel jobs {low}")).await.expect(73).says("already_ready");
    ctl(&cluster, &format!("message rm jobs {never} --yes")).await.expect(66).says("message_not_found");
    // In the order of priorities, the kicked one behind those pushed before it.
    let leased = json(&cluster, "lease jobs").await;
    assert_eq!(leased["id"], high.as_str());
    ctl(&cluster, &format!("message rm jobs {high} --yes")).await.expect(73).says("message_leased");
    let part = ctl(&cluster, &format!("message move jobs {low} {high} {later} --to other")).await.expect(3);
    assert_eq!(part.stdout, "moved 2 messages to other\n");
    part.says(&format!("{high}  it is leased"));
    assert_eq!(ctl(&cluster, "pop other -n 2").await.expect(0).stdout, "low\nlater\n");
    ctl(
        &cluster,
        &format!("nack {} --reject --reason poison", leased["receipt"].as_str().expect("a receipt")),
    )
    .await
    .expect(0);
    let shown = ctl(&cluster, &format!("message show jobs {high}")).await.expect(0).stdout;
    for word in ["dead since", "rejected", "poison", "died", "attempt 1", "high"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    ctl(&cluster, &format!("message rm jobs {high}")).await.expect(2).says("confirm_required");
    ctl(&cluster, &format!("message rm jobs {high} --yes")).await.expect(0);
    assert_eq!(counts(&cluster, "jobs").await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_purged_moved_and_put_back_by_filter_and_counted_first() {
    let cluster = Cluster::start_with(1, &[]).await;
    for queue in ["jobs", "other"] {
        ctl(&cluster, &format!("queue create {queue} --backoff none --max-failures 1")).await.expect(0);
    }
    ctl(&cluster, "push jobs a b c d").await.expect(0);
    for (nack, reason) in [("", "disk"), ("", "net"), ("--reject", "bad")] {
        let receipt = json(&cluster, "lease jobs").await["receipt"].as_str().expect("a receipt").to_owned();
        ctl(&cluster, &format!("nack {receipt} {nack} --reason {reason}")).await.expect(0);
    }
    assert_eq!(counts(&cluster, "jobs").await, [1, 0, 0, 3]);
    let count = async |line: &str| json(&cluster, line).await["messages"].as_u64().expect("a count");
    assert_eq!(count("queue purge jobs --dry-run").await, 4);
    assert_eq!(count("queue purge jobs --older-than 1h --yes").await, 0);
    assert_eq!(count("dead retry jobs --all --reason max_failures --dry-run").await, 2);
    assert_eq!(count("dead rm jobs --all --since 1h --limit 1 --dry-run").await, 1);
    assert_eq!(counts(&cluster, "jobs").await, [1, 0, 0, 3], "nothing was done yet");

    let refused = ctl(&cluster, "dead retry jobs --all --error net --to other").await.expect(2);
    refused.says("1 message goes back to other").says("dead retry jobs --all --to other --error 'net'");
    assert_eq!(count("dead retry jobs --all --error net --to other --yes").await, 1);
    assert_eq!(ctl(&cluster, "pop other").await.expect(0).stdout, "b\n");
    assert_eq!(count("dead rm jobs --all --reason rejected --yes").await, 1);
    assert_eq!(
        ctl(&cluster, "queue move jobs other --state ready").await.expect(0).stdout,
        "moved 1 message from jobs to other\n"
    );
    assert_eq!(counts(&cluster, "jobs").await, [0, 0, 0, 1]);
    let dead = json(&cluster, "peek jobs --state dead").await["id"].as_str().expect("an id").to_owned();
    ctl(&cluster, &format!("dead rm jobs {dead} 999999 --yes")).await.expect(3).says("no dead message");
    ctl(&cluster, "queue purge nowhere --dry-run").await.expect(66).says("queue_not_found");
}

/// The kinds of what holds a queue or a message back.
async fn explained(cluster: &Cluster, what: &str) -> Vec<String> {
    let ran = ctl(cluster, &format!("--json explain {what}")).await;
    let document = ran.json();
    let holds = document["holds"].as_array().expect("a list");
    assert_eq!(ran.code, i32::from(!holds.is_empty()), "{ran}");
    holds.iter().map(|hold| hold["hold"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_a_queue_or_a_message_back_is_explained() {
    let cluster = Cluster::start_with(1, &[]).await;
    let create = "queue create jobs --ordered on --on-poison block --max-failures 1";
    ctl(&cluster, create).await.expect(0);
    assert_eq!(explained(&cluster, "jobs").await, ["empty"]);
    let first = push(&cluster, "jobs one --group a").await;
    let second = push(&cluster, "jobs two --group a").await;
    assert!(explained(&cluster, "jobs").await.is_empty());
    let of_first = json(&cluster, &format!("explain jobs {first}")).await;
    assert_eq!((&of_first["ahead"], &of_first["waiting"]), (&0.into(), &0.into()), "{of_first}");

    let leased = json(&cluster, "lease jobs").await;
    assert_eq!(explained(&cluster, "jobs").await, ["group_leased"]);
    assert_eq!(explained(&cluster, &format!("jobs {first}")).await, ["leased"]);
    assert_eq!(explained(&cluster, &format!("jobs {second}")).await, ["group_leased"]);
    let text = ctl(&cluster, "explain jobs").await.expect(1).stdout;
    assert!(text.starts_with(&format!("group a: its message {first} is leased for ")), "{text}");

    let receipt = leased["receipt"].as_str().expect("it was leased");
    ctl(&cluster, &format!("nack {receipt} --reason broken")).await.expect(0);
    assert_eq!(explained(&cluster, "jobs").await, ["group_blocked"]);
    assert_eq!(explained(&cluster, &format!("jobs {first}")).await, ["dead"]);

    ctl(&cluster, "push later --create x --delay 1h").await.expect(0);
    assert_eq!(explained(&cluster, "later").await, ["delayed"]);
    ctl(&cluster, "explain jobs 999999").await.expect(66);
    ctl(&cluster, "explain nowhere").await.expect(66);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_messages_back_and_who_waits_gets_the_next_one_in_time() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --rate-max 2 --rate-per 1s").await.expect(0);
    ctl(&cluster, "push jobs a b c d").await.expect(0);
    assert_eq!(ctl(&cluster, "pop jobs -n 9").await.expect(0).stdout, "a\nb\n");
    ctl(&cluster, "queue set jobs rate-max=1 rate-per=1h").await.expect(0);
    assert_eq!(ctl(&cluster, "pop jobs -n 9").await.expect(0).stdout, "c\n");
    ctl(&cluster, "pop jobs").await.expect(1);
    assert_eq!(explained(&cluster, "jobs").await, ["rate"]);
    let text = ctl(&cluster, "explain jobs").await.expect(1).stdout;
    assert!(text.starts_with("jobs has given as many messages as its rate allows; next in "), "{text}");

    ctl(&cluster, "queue set jobs rate-max=none group-rate-max=1 group-rate-per=500ms").await.expect(0);
    ctl(&cluster, "push jobs e f --group g").await.expect(0);
    assert_eq!(ctl(&cluster, "pop jobs -n 9").await.expect(0).stdout, "d\ne\n");
    // Parked at the leader until the group may be served again.
    assert_eq!(ctl(&cluster, "pop jobs --wait 30s").await.expect(0).stdout, "f\n");
    ctl(&cluster, "queue set jobs rate-per=2h").await.expect(65).says("1 h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_a_fair_queue_is_given_a_weight() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --fair on").await.expect(0);
    let weighed = ctl(&cluster, "group weight jobs big 2").await.expect(0);
    assert_eq!(weighed.stdout, "group big of jobs weighs 2\n");
    ctl(&cluster, "push jobs b1 b2 b3 b4 --group big").await.expect(0);
    ctl(&cluster, "push jobs s1 s2 s3 --group small").await.expect(0);
    assert_eq!(ctl(&cluster, "pop jobs -n 6").await.expect(0).stdout, "b1\nb2\ns1\nb3\nb4\ns2\n");
    let before = json(&cluster, "group weight jobs big none").await;
    assert_eq!((&before["weight_before"], &before["weight"]), (&2.into(), &Value::Null), "{before}");
    ctl(&cluster, "group weight jobs big 0").await.expect(2).says("1 to 1,000");
    ctl(&cluster, "group weight nowhere big 1").await.expect(66).says("queue_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_does_all_of_its_steps_or_none() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs").await.expect(0);
    ctl(&cluster, "queue create results").await.expect(0);
    push(&cluster, "jobs work").await;
    let spare = push(&cluster, "jobs spare").await;
    let leased = json(&cluster, "lease jobs").await;
    let receipt = leased["receipt"].as_str().expect("it was leased");
    let file = format!(
        r#"{{"if": [{{"leased": "{receipt}"}}, {{"queue": "results", "at_most": 5}}],
            "do": [{{"push": "results", "body": "done", "headers": {{"of": "work"}}}},
                   {{"ack": "{receipt}"}}, {{"rm": "jobs/{spare}"}}]}}"#
    );
    let run_file = async |file: &str, json: bool| {
        let mut command = cluster.queuectl();
        command.args(["txn", "-"]).args(json.then_some("--json"));
        run(&mut command, file.as_bytes()).await
    };
    let done = run_file(&file, true).await.expect(0).json();
    assert_eq!(done["steps"].as_array().map(Vec::len), Some(3), "{done}");
    assert_eq!((counts(&cluster, "jobs").await, counts(&cluster, "results").await), ([0; 4], [1, 0, 0, 0]));
    assert_eq!(ctl(&cluster, "pop results").await.expect(0).stdout, "done\n");
    run_file(&file, false).await.expect(73).says("condition 1 does not hold").says("nothing was done");
    let stale = format!(r#"{{"do": [{{"push": "results", "body": "again"}}, {{"ack": "{receipt}"}}]}}"#);
    run_file(&stale, false).await.expect(66).says("step 2 cannot be done");
    assert_eq!(counts(&cluster, "results").await, [0; 4]);
    run_file(r#"{"do": [{"ack": 5}]}"#, false).await.expect(65).says("step 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_a_message_is_counted() {
    let cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs").await.expect(0);
    ctl(&cluster, "push jobs one two three").await.expect(0);
    ctl(&cluster, "push jobs first --priority 9").await.expect(0);
    let told = json(&cluster, "message position jobs 3").await;
    assert_eq!((told["schema"].as_str(), told["ahead"].as_u64()), (Some("position/v1"), Some(3)), "{told}");
    let text = ctl(&cluster, "message position jobs 4").await.expect(0).stdout;
    assert_eq!(text, "ready messages before it: 0\n");
    ctl(&cluster, "lease jobs").await.expect(0);
    let leased = ctl(&cluster, "message position jobs 4").await.expect(1).stdout;
    assert!(leased.starts_with("message 4 is not ready\nmessage 4 is leased for "), "{leased}");
    assert_eq!(json(&cluster, "message position jobs 3").await["ahead"], 2);
    ctl(&cluster, "message position jobs 9").await.expect(66);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_to_a_message_is_told_also_when_it_is_gone_and_after_a_restart() {
    let mut cluster = Cluster::start_with(1, &[]).await;
    ctl(&cluster, "queue create jobs --backoff none").await.expect(0);
    ctl(&cluster, "push jobs one two three").await.expect(0);
    let leased = json(&cluster, "lease jobs").await;
    let receipt = leased["receipt"].as_str().expect("a lease has one");
    ctl(&cluster, &format!("nack {receipt} --reason broken")).await.expect(0);
    let live = json(&cluster, "message history jobs 1").await;
    assert_eq!(
        (live["state"].as_str(), live["history"][0]["what"].as_str()),
        (Some("ready"), Some("failed"))
    );
    ctl(&cluster, "pop jobs -n 2").await.expect(0);
    ctl(&cluster, "message rm jobs 3 --yes").await.expect(0);

    let fates = async |cluster: &Cluster| {
        let mut fates = Vec::new();
        for id in ["1", "2", "3"] {
            let told = json(cluster, &format!("message history jobs {id}")).await;
            assert_eq!(told["state"], "gone", "{told}");
            let attempts = told["gone"]["attempts"].as_u64().expect("a number");
            fates.push((told["gone"]["how"].as_str().expect("a word").to_owned(), attempts));
        }
        fates
    };
    let expected = [("acked", 2), ("acked", 1), ("deleted", 0)].map(|(how, count)| (how.to_owned(), count));
    assert_eq!(fates(&cluster).await, expected);
    let text = ctl(&cluster, "message history jobs 1").await.expect(0);
    assert!(text.stdout.contains("attempt 1  failed") && text.stdout.contains("acked"), "{text}");
    ctl(&cluster, "message history jobs 9").await.expect(66).says("was never pushed");
    ctl(&cluster, "queue create other").await.expect(0);
    ctl(&cluster, "message history other 1").await.expect(66).says("among those that went lately");

    // What the log still holds is told again.
    cluster.kill(0);
    cluster.restart(0).await;
    assert_eq!(fates(&cluster).await, expected);
}

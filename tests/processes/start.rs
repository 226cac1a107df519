//! `queued start`: the same command on every machine makes one cluster, in whatever order the machines come, and never a
//! second one.

use std::collections::BTreeSet;

use harness::machines::{Machines, readme_commands};
use harness::process::{Daemon, show_log};
use harness::{LIMIT, until};

const NAMES: [&str; 3] = ["a", "b", "c"];
const SETTINGS: &str =
    "export QUEUED_STORAGE_SEGMENT_SIZE=1MiB QUEUED_LOG_FORMAT=text QUEUED_SHUTDOWN_GRACE=1s";

/// Machines on which the commands of the README are typed.
struct Typed {
    machines: Machines,
    start: String,
    wait: String,
    running: Vec<(&'static str, Daemon)>,
}

impl Typed {
    /// With the secret on each of them.
    async fn new() -> Self {
        let commands = readme_commands("### Start a cluster");
        let [secret, start, wait] = <[String; 3]>::try_from(commands).expect("the README has these three");
        let machines = Machines::new(&NAMES);
        machines.run("a", &secret).await.expect(0);
        NAMES[1..].iter().for_each(|name| machines.copy("queued.secret", "a", name));
        Self { machines, start, wait, running: Vec::new() }
    }

    fn start(&mut self, name: &'static str) {
        let mut command = self.machines.command(name, &format!("{SETTINGS}; exec {}", self.start));
        self.running.push((name, Daemon::start(&mut command, &self.machines.log(name))));
    }

    /// `kill -9`
    fn kill(&mut self, name: &str) {
        let at = self.running.iter().position(|(running, _)| *running == name).expect("it runs");
        self.running.remove(at).1.kill();
    }

    /// SIGTERM to all, and waits for their ends.
    async fn stop_all(&mut self) {
        self.running.iter().for_each(|(_, daemon)| daemon.terminate());
        for (name, mut daemon) in self.running.drain(..) {
            let ended = until(&format!("{name} ends"), LIMIT, async || daemon.ended().ok_or("it runs")).await;
            assert!(ended.success(), "{name}: {ended}");
        }
    }

    async fn ended(&mut self, name: &str) -> Option<i32> {
        let at = self.running.iter().position(|(running, _)| *running == name).expect("it runs");
        let (_, mut daemon) = self.running.remove(at);
        until(&format!("{name} ends"), LIMIT, async || daemon.ended().ok_or("it runs")).await.code()
    }

    async fn says(&self, name: &str, words: &str) {
        until(&format!("{name} says {words:?}"), LIMIT, async || {
            let log = self.machines.log_of(name);
            if log.contains(words) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Waits until all three vote in one cluster, and gives its id.
    async fn forms(&self) -> String {
        let servers = "queuectl --servers a:7410,b:7410,c:7410";
        until("three nodes vote in one cluster", LIMIT * 2, async || {
            let status = self.machines.run("c", &format!("{servers} cluster members --json")).await;
            if status.code != 0 {
                return Err(status.to_string());
            }
            let voters = status.json()["members"]
                .as_array()
                .map_or(0, |members| members.iter().filter(|member| member["voter"] == true).count());
            if voters == 3 { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        self.machines.run("c", &self.wait).await.expect(0);
        let clusters: BTreeSet<String> = NAMES.iter().filter_map(|name| self.cluster_on(name)).collect();
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        clusters.into_iter().next().expect("one")
    }

    /// The cluster id on the disk of a machine.
    fn cluster_on(&self, name: &str) -> Option<String> {
        let identity = std::fs::read(self.machines.dir(name).join("data/IDENTITY")).ok()?;
        Some(identity[16..32].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            NAMES.iter().for_each(|name| show_log(name, &self.machines.log(name)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_start_in_any_order_or_at_once_make_one_cluster() {
    let mut typed = Typed::new().await;
    NAMES.into_iter().for_each(|name| typed.start(name));
    typed.forms().await;
    typed.stop_all().await;

    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut typed = Typed::new().await;
        for (nth, at) in order.into_iter().enumerate() {
            typed.start(NAMES[at]);
            // It waits before the next one comes.
            if nth < 2 {
                typed.says(NAMES[at], "this node has no cluster yet").await;
                assert!(
                    NAMES.iter().all(|name| typed.cluster_on(name).is_none()),
                    "not before all are there"
                );
            }
        }
        typed.forms().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_anew_while_a_cluster_forms_and_when_all_machines_have_moved() {
    let mut typed = Typed::new().await;
    typed.machines.hide("b");
    typed.start("a");
    typed.start("c");
    typed.says("a", "no answer from b:7410").await;
    typed.machines.place(&["b"]);
    typed.start("b");
    let cluster = typed.forms().await;
    typed.machines.run("b", "queuectl --servers a:7410,b:7410 push --create q kept").await.expect(0);

    typed.stop_all().await;
    typed.machines.place(&NAMES);
    NAMES.into_iter().for_each(|name| typed.start(name));
    assert_eq!(typed.forms().await, cluster);
    let popped = typed.machines.run("a", "queuectl --servers c:7410 pop q").await.expect(0);
    assert_eq!(popped.stdout, "kept\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_data_is_gone_ends_and_names_the_way_out_and_makes_no_second_cluster() {
    let mut typed = Typed::new().await;
    NAMES.into_iter().for_each(|name| typed.start(name));
    let cluster = typed.forms().await;

    // The first of the list, which made the cluster.
    typed.kill("a");
    typed.machines.wipe("a", "data");
    typed.start("a");
    assert_eq!(typed.ended("a").await, Some(66));
    typed.says("a", "cluster replace n1 a:7410").await;
    assert_eq!(typed.cluster_on("a"), None);

    // Nobody is there to tell it that there was a cluster.
    typed.kill("b");
    typed.kill("c");
    typed.start("a");
    typed.says("a", "no answer from b:7410").await;
    typed.start("b");
    assert_eq!(typed.ended("a").await, Some(66));
    assert_eq!((typed.cluster_on("a"), typed.cluster_on("b")), (None, Some(cluster)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_prove_the_secret_is_waited_for() {
    let mut typed = Typed::new().await;
    std::fs::write(typed.machines.dir("b").join("queued.secret"), "ab".repeat(32)).expect("it is ours");
    NAMES.into_iter().for_each(|name| typed.start(name));
    typed.says("a", "secret was not proved").await;
    assert!(NAMES.iter().all(|name| typed.cluster_on(name).is_none()));
    typed.kill("b");
    typed.machines.copy("queued.secret", "a", "b");
    typed.start("b");
    typed.forms().await;
}

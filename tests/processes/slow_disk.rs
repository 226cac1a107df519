//! A slow disk: that of a follower slows nobody, and a leader whose own is slow hands over.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use harness::bodies::push;
use harness::cluster::Cluster;
use harness::trace;
use harness::{LIMIT, until};
use tokio::time::Instant;

const QUEUE: &str = "q";
/// What each sync of the slow disk takes on top.
const DELAY: Duration = Duration::from_millis(1_500);

/// A node whose syncs take long, until this is dropped; by strace.
pub(crate) struct Slow {
    strace: Child,
    trace: PathBuf,
}

impl Slow {
    /// Each sync of node `n` takes `delay` on top.
    pub(crate) fn begin(cluster: &Cluster, n: usize, delay: Duration) -> Self {
        let trace = cluster.dir().join(format!("strace-{n}"));
        let inject = format!("inject=fdatasync:delay_enter={}", delay.as_micros());
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fdatasync", "-e", &inject, "-o"]).arg(&trace);
        let strace = strace.args(["-p", &cluster.pid(n).to_string()]).spawn().expect("strace is there");
        Self { strace, trace }
    }

    /// Until one sync was slow.
    async fn works(&self) {
        until("a sync is slow", LIMIT, async || {
            let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
            if trace.contains("DELAYED") { Ok(()) } else { Err(trace) }
        })
        .await;
    }
}

impl Slow {
    /// Until one sync was slow of those that `make` brings about.
    pub(crate) async fn works_after(&self, make: impl AsyncFn()) {
        until("a sync is slow", LIMIT, async || {
            make().await;
            let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
            if trace.contains("DELAYED") { Ok(()) } else { Err(trace) }
        })
        .await;
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.strace.kill().and_then(|()| self.strace.wait()).expect("it is a child");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what is not tried is to be seen")]
async fn a_slow_follower_slows_nobody_and_a_slow_leader_hands_over() {
    if let Some(missing) = trace::missing() {
        println!("skipped: {missing}");
        return;
    }
    let cluster = Cluster::start().await;
    cluster.ctl(&["queue", "create", QUEUE]).await.expect(0);
    let client = cluster.client();
    let (leader, before) = cluster.leader().await;

    let slow = Slow::begin(&cluster, (leader + 1) % cluster.count(), DELAY);
    push(&client, QUEUE, &["first"]).await.expect("there is a quorum");
    slow.works().await;
    let mut times = Vec::new();
    for number in 0..40 {
        let begin = Instant::now();
        push(&client, QUEUE, &[format!("message {number}")]).await.expect("there is a quorum");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < DELAY / 5, "half of the pushes took longer than {median:?}");
    let (_, status) = cluster.leader().await;
    assert_eq!((status.node, status.term), (before.node, before.term), "a slow follower ends no leadership");
    drop(slow);

    let _slow = Slow::begin(&cluster, leader, DELAY);
    let pushing = tokio::spawn(async move {
        for number in 0.. {
            push(&client, QUEUE, &[format!("more {number}")]).await.expect("somebody leads");
        }
    });
    until("the slow leader hands over", LIMIT, async || {
        let log = cluster.log_of(leader);
        if log.contains("it hands over") { Ok(()) } else { Err(log) }
    })
    .await;
    until("another node leads", LIMIT, async || {
        let (now, status) = cluster.leader().await;
        if now != leader { Ok(()) } else { Err(format!("{} leads in term {}", status.name, status.term)) }
    })
    .await;
    pushing.abort();
}

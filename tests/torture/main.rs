//! `torture kill|power CYCLES [SEED]`: one cluster of three real nodes under load, struck CYCLES times, and after each
//! strike everything that was acknowledged is accounted for. Adds a line to `tests/ledger.csv` for every hundred cycles.
//!
//! | strike | what happens |
//! |---|---|
//! | `kill` | SIGKILL to a random node, to the leader, or to all three at once |
//! | `power` | the file systems of all three nodes lose what was not flushed, then SIGKILL to all |
//!
//! A cycle fails, and with it the program, if: an acknowledged message is neither there nor acked · an acked one comes
//! back · something comes that nobody pushed, or twice · a receipt is refused before its lease can have ended · a node
//! does not start · a term goes back · two nodes lead in one term · nobody leads again. What failed stays in the
//! directory that is printed at the start.

mod history;
mod power;
mod random;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use harness::cluster::Cluster;
use queue_protocol::names::NodeId;
use queue_protocol::response::Role;
use tokio::time::{Instant, sleep};

use self::history::Load;
use self::power::{Disks, Missing};
use self::random::Random;

/// Short elections: a cycle of waiting for one would test nothing.
const SETTINGS: [(&str, &str); 2] =
    [("QUEUED_RAFT_HEARTBEAT", "40ms"), ("QUEUED_RAFT_ELECTION_TIMEOUT", "200ms..400ms")];
/// Cycles for each line of the ledger.
const LINE_CYCLES: u64 = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    Kill,
    Power,
}

/// What nodes have said of their terms.
#[derive(Default)]
struct Terms {
    seen: Vec<u64>,
    leaders: BTreeMap<u64, NodeId>,
}

impl Terms {
    async fn look(&mut self, cluster: &Cluster) {
        self.seen.resize(cluster.count(), 0);
        for n in 0..cluster.count() {
            let Ok(status) = cluster.status(n).await else { continue };
            assert!(status.term >= self.seen[n], "{} was in term {}: {status:?}", status.name, self.seen[n]);
            self.seen[n] = status.term;
            if status.role == Role::Leader {
                let leader = *self.leaders.entry(status.term).or_insert(status.node);
                assert_eq!(leader, status.node, "two nodes lead in term {}", status.term);
            }
        }
    }
}

struct Torture {
    strike: Strike,
    cluster: Cluster,
    disks: Option<Disks>,
    random: Random,
    terms: Terms,
}

impl Torture {
    async fn start(strike: Strike, seed: u64) -> Result<Self, Missing> {
        let mut dir =
            tempfile::Builder::new().prefix("torture").tempdir().expect("there is a temporary directory");
        dir.disable_cleanup(true);
        say(&format!("seed {seed}, in {}", dir.path().display()));
        let disks = match strike {
            Strike::Kill => None,
            Strike::Power => Some(Disks::mount(dir.path(), 3)?),
        };
        let data = (1..=3).map(|number| match &disks {
            Some(disks) => disks.data_dir(number),
            None => dir.path().join(format!("n{number}")),
        });
        let data = data.collect();
        let cluster = Cluster::start_in(dir, data, &SETTINGS).await;
        Ok(Self { strike, cluster, disks, random: Random::new(seed), terms: Terms::default() })
    }

    /// One cycle; how many messages were acknowledged in it.
    async fn cycle(&mut self, number: u64) -> usize {
        let load = Arc::new(Load::default());
        let workers = load.spawn(&self.cluster, number, &mut self.random);
        sleep(Duration::from_millis(self.random.within(20..200))).await;
        self.terms.look(&self.cluster).await;
        match self.strike {
            Strike::Kill => self.kill().await,
            Strike::Power => self.cut(),
        }
        self.cluster.restart_all().await;
        self.cluster.leader().await;
        load.stop();
        for worker in workers {
            worker.await.expect("no worker panics");
        }
        self.terms.look(&self.cluster).await;
        load.settle_all(&self.cluster.client()).await
    }

    async fn kill(&mut self) {
        match self.random.within(0..3) {
            0 => self.cluster.kill_all(),
            1 => {
                let (leader, _) = self.cluster.leader().await;
                self.cluster.kill(leader);
            }
            _ => {
                let node = usize::try_from(self.random.within(0..3)).expect("less than three");
                self.cluster.kill(node);
            }
        }
        sleep(Duration::from_millis(self.random.within(0..60))).await;
    }

    fn cut(&mut self) {
        let disks = self.disks.as_ref().expect("power is cut on disks of our own");
        disks.cut();
        self.cluster.kill_all();
        disks.mount_again();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let strike = match words.first().map(String::as_str) {
        Some("kill") => Some(Strike::Kill),
        Some("power") => Some(Strike::Power),
        _ => None,
    };
    let cycles = words.get(1).and_then(|word| word.parse::<u64>().ok());
    let (Some(strike), Some(cycles)) = (strike, cycles) else {
        say("usage: torture kill|power CYCLES [SEED]");
        return ExitCode::from(2);
    };
    let seed = words.get(2).and_then(|word| word.parse().ok()).unwrap_or(1);
    let mut torture = match Torture::start(strike, seed).await {
        Ok(torture) => torture,
        Err(missing) => {
            say(&format!("skipped: {missing}"));
            return ExitCode::SUCCESS;
        }
    };
    let began = Instant::now();
    let mut messages = 0;
    for number in 1..=cycles {
        messages += torture.cycle(number).await;
        if number % LINE_CYCLES == 0 {
            note(&words[0], seed, LINE_CYCLES);
        }
        if number % 10 == 0 || number == cycles {
            let highest = torture.terms.leaders.len();
            say(&format!("{number} cycles, {messages} acknowledged, {highest} terms, {:?}", began.elapsed()));
        }
    }
    note(&words[0], seed, cycles % LINE_CYCLES);
    torture.cluster.kill_all();
    let dir = torture.cluster.dir().to_owned();
    drop(torture);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
    say("nothing lost");
    ExitCode::SUCCESS
}

/// Adds cycles that found nothing to the ledger.
fn note(strike: &str, seed: u64, cycles: u64) {
    if cycles == 0 {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ledger.sh");
    let setting = format!("3 nodes seed {seed}");
    let status = Command::new(script).args([strike, &setting, &cycles.to_string(), "ok"]).status();
    assert!(status.expect("bash is there").success(), "the ledger takes no line");
}

#[expect(clippy::print_stderr, reason = "this is for the person who started it")]
fn say(what: &str) {
    eprintln!("torture: {what}");
}

//! One cluster under load, struck and accounted for, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use harness::cluster::{Cluster, Place};
use harness::net::{self, Net};
use harness::trace;
use tokio::time::sleep;

use crate::history::Load;
use crate::power::Disks;
use crate::random::Random;
use crate::terms::Terms;
use crate::{eio, partition, say};

/// Short elections: a cycle of waiting for one would test nothing. Small snapshots, so that they are made, sent and
/// recovered from as well, and a restart has little to apply. A network of our own is not the loopback.
const SETTINGS: [(&str, &str); 5] = [
    ("QUEUED_RAFT_HEARTBEAT", "80ms"),
    ("QUEUED_RAFT_ELECTION_TIMEOUT", "400ms..600ms"),
    ("QUEUED_RAFT_SNAPSHOT_EVERY", "300"),
    ("QUEUED_RAFT_KEEP_BYTES", "1MiB"),
    ("QUEUED_INSECURE", "true"),
];

/// Nodes.
const COUNT: usize = 3;
/// A sync that fails is one of so many after the start.
const SYNCS_MAX: u64 = 100;
/// A process whose sync failed has ended after this, microseconds, strace and a busy machine included.
const END_MAX_US: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    Kill,
    Power,
    Eio,
    Partition,
}

impl Strike {
    pub(crate) const ALL: &[Self] = &[Self::Kill, Self::Power, Self::Eio, Self::Partition];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Eio => "eio",
            Self::Partition => "partition",
        }
    }
}

pub(crate) struct Torture {
    strike: Strike,
    cluster: Cluster,
    disks: Option<Disks>,
    net: Option<Net>,
    random: Random,
    terms: Terms,
    /// How often each kind of strike fell.
    struck: BTreeMap<&'static str, u64>,
}

impl Torture {
    /// Three nodes, as the strike needs them.
    ///
    /// # Errors
    /// What this machine does not have for it.
    pub(crate) async fn start(strike: Strike, seed: u64) -> Result<Self, String> {
        if let (Strike::Eio, Some(missing)) = (strike, trace::missing()) {
            return Err(missing);
        }
        let net = match strike {
            Strike::Partition => Some(net::enter().map(|()| Net::new(COUNT))?),
            Strike::Kill | Strike::Power | Strike::Eio => None,
        };
        let mut dir =
            tempfile::Builder::new().prefix("torture").tempdir().expect("there is a temporary directory");
        dir.disable_cleanup(true);
        say(&format!("seed {seed}, in {}", dir.path().display()));
        let disks = match strike {
            Strike::Power => Some(Disks::mount(dir.path(), COUNT)?),
            Strike::Kill | Strike::Eio | Strike::Partition => None,
        };
        let place = |n: usize| {
            let data =
                disks.as_ref().map_or(dir.path().join(format!("n{}", n + 1)), |disks| disks.data_dir(n));
            net.as_ref().map_or_else(|| Place::local(data.clone()), |net| net.place(n, data.clone()))
        };
        let places = (0..COUNT).map(place).collect();
        let cluster = Cluster::start_in(dir, places, &SETTINGS).await;
        let (random, terms, struck) = (Random::new(seed), Terms::default(), BTreeMap::new());
        Ok(Self { strike, cluster, disks, net, random, terms, struck })
    }

    /// One cycle; how many messages were acknowledged in it.
    pub(crate) async fn cycle(&mut self, number: u64) -> usize {
        let load = Arc::new(Load::default());
        let workers = load.spawn(&self.cluster, number, &mut self.random);
        sleep(Duration::from_millis(self.random.within(20..200))).await;
        self.terms.look(&self.cluster).await;
        let kind = match self.strike {
            Strike::Kill => self.kill().await,
            Strike::Power => self.cut_power(),
            Strike::Eio => self.fail_a_sync(number).await,
            Strike::Partition => self.part().await,
        };
        *self.struck.entry(kind).or_default() += 1;
        self.cluster.restart_all().await;
        self.cluster.leader().await;
        load.stop();
        for worker in workers {
            worker.await.expect("no worker panics");
        }
        self.terms.look(&self.cluster).await;
        load.settle_all(&self.cluster.client()).await
    }

    async fn kill(&mut self) -> &'static str {
        let kind = match self.random.within(0..3) {
            0 => {
                self.cluster.kill_all();
                "all"
            }
            1 => {
                let (leader, _) = self.cluster.leader().await;
                self.cluster.kill(leader);
                "leader"
            }
            _ => {
                let node = self.any_node();
                self.cluster.kill(node);
                "any"
            }
        };
        sleep(Duration::from_millis(self.random.within(0..60))).await;
        kind
    }

    fn cut_power(&mut self) -> &'static str {
        let disks = self.disks.as_ref().expect("power is cut on disks of our own");
        disks.cut();
        self.cluster.kill_all();
        disks.mount_again();
        "all"
    }

    /// Starts a node again with a sync ahead of it that fails, as a leader if its turn comes, and waits for its end.
    async fn fail_a_sync(&mut self, number: u64) -> &'static str {
        let node = self.any_node();
        let output = self.cluster.dir().join(format!("{number}.trace"));
        self.cluster.kill(node);
        let when = 1 + self.random.within(0..SYNCS_MAX);
        self.cluster.run_under(node, eio::under(&output, when));
        self.cluster.start_node(node);
        let pid = self.cluster.pid(node);
        let name = self.cluster.name(node).to_owned();
        if self.random.within(0..2) == 0 {
            // It may not live to lead.
            let _ = self.cluster.ctl(&["cluster", "transfer", &name]).await;
        }
        let led = self.cluster.leader().await.0 == node;
        let status = self.cluster.ended(node).await;
        assert_eq!(status.code(), Some(74), "{name}, sync {when}: {}", self.cluster.log_of(node));
        let calls = trace::calls(&output, pid).await;
        let after = eio::check(&calls);
        assert!(after <= END_MAX_US, "{name} lived on for {after} us after its sync {when} had failed");
        std::fs::remove_file(&output).expect("the directory is ours");
        self.cluster.run_under(node, Vec::new());
        if led { "leader" } else { "follower" }
    }

    async fn part(&mut self) -> &'static str {
        let net = self.net.as_ref().expect("nodes have a network of their own");
        let (leader, _) = self.cluster.leader().await;
        let trouble = partition::any(&mut self.random, leader);
        net.cut(&trouble.cuts);
        trouble.paused.iter().for_each(|node| self.cluster.pause(*node));
        sleep(Duration::from_millis(self.random.within(100..2_000))).await;
        net.cut(&[]);
        trouble.paused.iter().for_each(|node| self.cluster.resume(*node));
        trouble.name
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.random.within(0..COUNT as u64)).expect("less than three")
    }

    /// How often each kind of strike fell.
    pub(crate) fn struck(&self) -> String {
        let kinds: Vec<String> = self.struck.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        kinds.join(", ")
    }

    /// Terms in which somebody was seen to lead.
    pub(crate) fn terms(&self) -> usize {
        self.terms.count()
    }

    /// Kills all, and removes what they wrote.
    pub(crate) fn end(mut self) {
        self.cluster.kill_all();
        let dir = self.cluster.dir().to_owned();
        drop(self);
        std::fs::remove_dir_all(dir).expect("the directory is ours");
    }
}

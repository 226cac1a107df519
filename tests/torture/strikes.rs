//! One cluster under load, struck and accounted for, again and again.

use std::sync::Arc;
use std::time::Duration;

use harness::cluster::{Cluster, Place};
use tokio::time::sleep;

use crate::history::Load;
use crate::power::{Disks, Missing};
use crate::random::Random;
use crate::say;
use crate::terms::Terms;

/// Short elections: a cycle of waiting for one would test nothing.
const SETTINGS: [(&str, &str); 2] =
    [("QUEUED_RAFT_HEARTBEAT", "40ms"), ("QUEUED_RAFT_ELECTION_TIMEOUT", "200ms..400ms")];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    Kill,
    Power,
}

impl Strike {
    pub(crate) const ALL: &[Self] = &[Self::Kill, Self::Power];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
        }
    }
}

pub(crate) struct Torture {
    strike: Strike,
    cluster: Cluster,
    disks: Option<Disks>,
    random: Random,
    terms: Terms,
}

impl Torture {
    /// Three nodes, as the strike needs them.
    ///
    /// # Errors
    /// What this machine does not have for it.
    pub(crate) async fn start(strike: Strike, seed: u64) -> Result<Self, Missing> {
        let mut dir =
            tempfile::Builder::new().prefix("torture").tempdir().expect("there is a temporary directory");
        dir.disable_cleanup(true);
        say(&format!("seed {seed}, in {}", dir.path().display()));
        let disks = match strike {
            Strike::Power => Some(Disks::mount(dir.path(), 3)?),
            Strike::Kill => None,
        };
        let places = (1..=3).map(|number| {
            Place::local(match &disks {
                Some(disks) => disks.data_dir(number),
                None => dir.path().join(format!("n{number}")),
            })
        });
        let places = places.collect();
        let cluster = Cluster::start_in(dir, places, &SETTINGS).await;
        Ok(Self { strike, cluster, disks, random: Random::new(seed), terms: Terms::default() })
    }

    /// One cycle; how many messages were acknowledged in it.
    pub(crate) async fn cycle(&mut self, number: u64) -> usize {
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
                let node = self.any_node();
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

    fn any_node(&mut self) -> usize {
        usize::try_from(self.random.within(0..3)).expect("less than three")
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

//! One machine: its disk, its clock, its power, and what runs on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harness::simulation::{Book, Hands, SimNet, Wires, outside};
use queue_broker::fs::sim::{Bias, Image, SimDisk};
use queue_broker::node::identity::Identity;
use queue_broker::node::{self, NodeError, NodeOptions, Way};
use queue_broker::outside::{ExitStatus, Fatal};
use queue_broker::raft::seeded;
use queue_protocol::wire::hello::Secret;
use queue_protocol::wire::membership::Standing;
use tokio::sync::Notify;

/// What is to run.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Nothing: the machine is on, and dials are refused.
    Nothing,
    /// A node that makes the cluster.
    Found,
    /// A node that joins through one of the members, unless it has.
    Join { through: String, standing: Standing, secret: Secret },
    /// A node that is formatted.
    Serve,
    /// The same, with the secret of another member copied into its directory before.
    ServeWith(Secret),
}

/// What a machine and its boots share.
pub(crate) struct Shared {
    options: NodeOptions,
    /// Where others are told to find it.
    address: Mutex<String>,
    book: Book,
    job: Mutex<(Job, u64)>,
    pub(crate) disk: SimDisk,
    pub(crate) hands: Arc<Hands>,
    wires: Mutex<Wires>,
    stop: Mutex<Arc<Notify>>,
    ended: Arc<Mutex<Option<Fatal>>>,
    node: Mutex<Option<u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// No: nothing that is sent to it comes back.
    Off,
    /// The machine does, the process does not.
    Idle,
    /// A process runs.
    On,
}

/// What the operator knows of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its node is to be a member.
    Joining,
    /// Its node is one.
    Member,
    /// Its data is not what it was: another node must take its place.
    Lost,
    /// It is being removed on request.
    Leaving,
    /// Its node was a member.
    Removed,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) power: Power,
    pub(crate) role: Role,
    /// How it was asked to join.
    pub(crate) standing: Standing,
    /// When it is to be started, in simulated time.
    pub(crate) wake: Option<Duration>,
    /// Its present process was told to fail a sync, and must end with 74.
    pub(crate) must_fail: bool,
    /// Its disk is full.
    pub(crate) is_full: bool,
    /// What is on its disk for good: a leader counted on it, and it is committed.
    pub(crate) has: u64,
    /// When its operator turns it off, because another has taken its place.
    pub(crate) off_at: Option<Duration>,
    /// Since when it is being removed.
    pub(crate) leaving: Duration,
    /// What its log must hold when it comes back.
    pub(crate) owed: u64,
    /// Wherever it was told that it is.
    pub(crate) places: Vec<String>,
    /// The leader knows it where it is.
    pub(crate) is_known: bool,
    /// Since when it uses an older secret than the leader, which waits for nobody.
    pub(crate) old_since: Option<Duration>,
    shared: Arc<Shared>,
}

impl Shared {
    /// One boot, for ever: whoever drives the simulation ends it.
    async fn live(self: Arc<Self>) -> turmoil::Result {
        let (job, boot) = locked(&self.job).clone();
        if !matches!(job, Job::Nothing) {
            seeded(boot, self.run(job, boot)).await;
        }
        std::future::pending().await
    }

    async fn run(&self, job: Job, boot: u64) {
        let wires = locked(&self.wires).clone();
        let end = match self.serve(job, boot, &wires).await {
            Ok(()) => Fatal { status: ExitStatus::Done, what: "stopped".to_owned() },
            Err(error) => Fatal { status: error.status, what: format!("{}: {}", error.code, error.what) },
        };
        wires.end();
        locked(&self.ended).get_or_insert(end);
    }

    async fn serve(&self, job: Job, boot: u64, wires: &Wires) -> Result<(), NodeError> {
        let stop = locked(&self.stop).clone();
        let (ends, ended) = (wires.clone(), Arc::clone(&self.ended));
        let end = Arc::new(move |fatal: Fatal| {
            // From here on the process does nothing that anybody sees.
            ends.end();
            locked(&ended).get_or_insert(fatal);
        });
        let net = SimNet { wires: wires.clone(), book: self.book.clone() };
        let outside = outside(self.disk.boot(), net, Arc::clone(&self.hands), boot, end);
        let options = NodeOptions { advertise: Some(locked(&self.address).clone()), ..self.options.clone() };
        match job {
            Job::Nothing | Job::Serve => {}
            Job::ServeWith(secret) => {
                node::secret::write(&*outside.disk, &self.options.data_dir, &secret).await?;
            }
            Job::Found => {
                node::init(&outside, &options).await?;
            }
            Job::Join { through, standing, secret } => {
                let found = Identity::read(&*outside.disk, &self.options.data_dir);
                if !found.is_ok_and(|found| found.identity.is_joined()) {
                    node::join(&outside, &options, Way::Ask { at: through, standing }, secret).await?;
                }
            }
        }
        let node = node::start(outside, options).await?;
        *locked(&self.node) = Some(node.identity().node.0);
        stop.notified().await;
        node.stop().await;
        Ok(())
    }
}

impl Machine {
    /// A machine that is off and empty.
    pub(crate) fn new(name: &str, number: u64, disk: SimDisk, options: NodeOptions, book: Book) -> Self {
        let address = options.advertise.clone().expect("a plan names an address");
        let shared = Shared {
            options,
            address: Mutex::new(address.clone()),
            book,
            job: Mutex::new((Job::Nothing, 0)),
            disk,
            hands: Hands::new(number),
            wires: Mutex::default(),
            stop: Mutex::default(),
            ended: Arc::default(),
            node: Mutex::default(),
        };
        Self {
            name: name.to_owned(),
            power: Power::Off,
            role: Role::Joining,
            standing: Standing::Voter,
            wake: None,
            must_fail: false,
            is_full: false,
            has: 0,
            off_at: None,
            leaving: Duration::ZERO,
            owed: 0,
            places: vec![address],
            is_known: true,
            old_since: None,
            shared: Arc::new(shared),
        }
    }

    /// What the simulator runs at each start of the machine.
    pub(crate) fn software(
        &self,
    ) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = turmoil::Result>>> + use<> {
        let shared = Arc::clone(&self.shared);
        move || Box::pin(Arc::clone(&shared).live())
    }

    /// What the next start runs.
    pub(crate) fn prepare(&mut self, job: Job, boot: u64) {
        self.power = if matches!(job, Job::Nothing) { Power::Idle } else { Power::On };
        self.wake = None;
        *locked(&self.shared.job) = (job, boot);
        *locked(&self.shared.wires) = Wires::default();
        *locked(&self.shared.stop) = Arc::default();
        *locked(&self.shared.ended) = None;
    }

    /// The power is gone, and with it what was not synced.
    pub(crate) fn lose_power(&mut self, now: Duration, seed: u64, bias: Option<Bias>) {
        self.hands().reboot(now);
        match bias {
            Some(bias) => self.disk().crash_with(seed, bias),
            None => self.disk().crash(seed),
        }
        self.end();
        self.power = Power::Off;
    }

    /// The process is gone; the cache of its system stays.
    pub(crate) fn lose_process(&mut self) {
        self.disk().kill();
        self.end();
    }

    fn end(&mut self) {
        self.disk().clear_faults();
        self.must_fail = false;
        self.wake = None;
        *locked(&self.shared.ended) = None;
    }

    /// Where its node says that it is, from its next start on.
    pub(crate) fn go_to(&mut self, address: &str) {
        address.clone_into(&mut locked(&self.shared.address));
        self.places.push(address.to_owned());
        self.is_known = false;
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        self.places.last().expect("it is somewhere")
    }

    /// Something else lies on its disk.
    pub(crate) fn restore(&self, image: &Image) {
        self.disk().restore(image);
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.shared.disk
    }

    /// How its process ended, if it did.
    pub(crate) fn ended(&self) -> Option<Fatal> {
        locked(&self.shared.ended).clone()
    }

    /// The number of its node, once it has one.
    pub(crate) fn node(&self) -> Option<u64> {
        *locked(&self.shared.node)
    }

    /// Resets its connections; how many.
    pub(crate) fn reset_wires(&self) -> usize {
        let wires = locked(&self.shared.wires).clone();
        wires.reset()
    }

    /// Asks its process to stop.
    pub(crate) fn stop(&self) {
        locked(&self.shared.stop).notify_one();
    }

    /// Its clocks.
    pub(crate) fn hands(&self) -> &Hands {
        &self.shared.hands
    }
}

//! The simulated world: machines, the network between them, time; and what must hold at every step of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::history::{History, Replicas};
use harness::simulation::{Book, Named};
use queue_broker::fs::sim::{Bias, SimDisk};
use queue_broker::outside::{ExitStatus, Fatal};
use queue_protocol::wire::hello::Secret;
use queue_protocol::wire::response::{Role as Leads, StatusView};

use super::coverage::Covered;
use super::dial::Dial;
use super::machine::{Job, Machine, Power, Role};
use super::operator::{Operator, Picture};
use super::plan::{Dice, Plan, place};
use super::trace::Trace;

/// A step of simulated time.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Places where clients are.
pub(crate) const CLIENTS: [&str; 2] = ["c1", "c2"];
/// Latency of a message when nothing delays it.
pub(crate) const LATENCY_MAX: Duration = Duration::from_millis(4);
/// A process that must end does so within this time.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What is wrong: the run ends with it.
#[derive(Debug)]
pub(crate) struct Violation(pub(crate) String);

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Everything there is.
pub(crate) struct World {
    pub(crate) sim: turmoil::Sim<'static>,
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Pairs of places between which something is wrong.
    pub(crate) troubled: BTreeSet<(String, String)>,
    pub(crate) operator: Operator,
    pub(crate) replicas: Replicas,
    pub(crate) history: History,
    pub(crate) covered: Covered,
    pub(crate) trace: Trace,
    pub(crate) secret: Option<Secret>,
    /// When a rotation was last told not to wait.
    pub(crate) forced: Duration,
    /// Numbers of nodes that a rotation did not wait for.
    pub(crate) left_out: BTreeSet<u64>,
    boots: u64,
    made: u64,
    terms: BTreeMap<String, u64>,
    failed: BTreeMap<String, Duration>,
    pub(crate) dial: Dial,
    pub(crate) book: Book,
    /// Since when nobody leads.
    pub(super) leaderless: Option<Duration>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(LATENCY_MAX)
            .tcp_capacity(4_096)
            .simulation_duration(Duration::from_secs(20_000));
        let replicas = Replicas::default();
        replicas.expect_leases(plan.leader_lease_ms());
        let mut world = Self {
            sim: builder.build(),
            dice: Dice::new(plan.seed, 2),
            machines: BTreeMap::new(),
            troubled: BTreeSet::new(),
            operator: Operator::default(),
            replicas,
            history: History::default(),
            covered: Covered::default(),
            trace: Trace::default(),
            secret: None,
            forced: Duration::ZERO,
            left_out: BTreeSet::new(),
            boots: plan.seed << 20,
            made: 0,
            terms: BTreeMap::new(),
            failed: BTreeMap::new(),
            dial: Dial::default(),
            book: Book::default(),
            leaderless: None,
            plan,
        };
        let (operator, seed, book) = (world.operator.clone(), world.plan.seed, world.book.clone());
        world.sim.client("operator", operator.run(seed, book));
        world
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// One line of what happens.
    pub(crate) fn note(&mut self, what: &str) {
        let now = self.now();
        self.trace.line(now, what);
    }

    /// A new machine, idle.
    pub(crate) fn machine(&mut self) -> String {
        self.made += 1;
        let name = format!("n{}", self.made);
        let disk = SimDisk::new(self.plan.disk(self.made));
        let elapsed =
            || turmoil::sim_elapsed().map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let witness = self.replicas.witness(&name, elapsed);
        self.book.set(&place(&name), Named::Machine(name.clone()));
        let book = self.book.clone();
        let machine = Machine::new(&name, self.made, disk, self.plan.options(&name, witness), book);
        self.sim.host(name.clone(), machine.software());
        self.operator.watch(&name);
        self.machines.insert(name.clone(), machine);
        name
    }

    /// Machines made so far.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn at(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).expect("it was made")
    }

    /// Starts a machine that is off or idle.
    pub(crate) fn boot(&mut self, name: &str, job: Job) {
        self.boots += 1 << 8;
        let boot = self.boots;
        self.note(&format!("{name} runs {}", job_name(&job)));
        self.at(name).prepare(job, boot);
        self.sim.bounce(name);
    }

    /// The power of a machine goes. What it says last may still get through, or not even its connections end.
    pub(crate) fn power_off(&mut self, name: &str, bias: Option<Bias>) {
        let silent = self.dice.chance(1, 2);
        self.note(&format!(
            "{name} loses power, {}",
            if silent { "silently" } else { "its connections end" }
        ));
        let others: Vec<String> = self.places().into_iter().filter(|other| other != name).collect();
        let free: Vec<&String> = others.iter().filter(|other| !self.is_troubled(name, other)).collect();
        if silent {
            free.iter().for_each(|other| self.sim.partition(name, other.as_str()));
        }
        self.sim.crash(name);
        if silent {
            free.iter().for_each(|other| self.sim.repair(name, other.as_str()));
        }
        let seed = self.dice.next();
        let before = self.contents(name);
        self.owe(name);
        let now = self.now();
        self.at(name).lose_power(now, seed, bias);
        let after = self.contents(name);
        let torn = before.iter().filter(|(path, bytes)| after.get(*path) != Some(*bytes)).count();
        self.covered.add("torn_files", torn as u64);
    }

    /// What its disk shows.
    pub(crate) fn contents(&self, name: &str) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
        let disk = self.machines[name].disk();
        disk.files().into_iter().filter_map(|path| Some((path.clone(), disk.bytes(&path).ok()?))).collect()
    }

    /// The process of a machine goes; the machine stays, and refuses dials.
    pub(crate) fn kill(&mut self, name: &str) {
        self.note(&format!("{name} loses its process"));
        // Ends its tasks before anything else can be said.
        self.sim.crash(name);
        self.owe(name);
        self.at(name).lose_process();
        self.boot(name, Job::Nothing);
    }

    /// What the log of a machine must hold when it comes back.
    fn owe(&mut self, name: &str) {
        let machine = self.at(name);
        machine.owed = machine.owed.max(machine.has);
    }

    /// All places of the network but the operator's.
    pub(crate) fn places(&self) -> Vec<String> {
        let clients = CLIENTS.iter().map(|name| (*name).to_owned());
        self.machines.keys().cloned().chain(clients).collect()
    }

    pub(crate) fn is_troubled(&self, a: &str, b: &str) -> bool {
        self.troubled.contains(&pair(a, b))
    }

    pub(crate) fn picture(&self) -> Option<Picture> {
        self.operator.picture(self.now())
    }

    pub(crate) fn seen(&self, name: &str) -> Option<StatusView> {
        self.operator.seen(name, self.now())
    }

    /// One step of time, and all that must hold after it.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn step(&mut self) -> Checked {
        self.sim.step().map_err(|error| Violation(format!("the simulation ended: {error}")))?;
        for (name, status) in self.operator.news() {
            self.look(&name, &status)?;
        }
        if let Some(what) = self.replicas.violations().into_iter().next() {
            return Err(Violation(what));
        }
        self.look_at_clocks()?;
        let ended: Vec<(String, Fatal)> =
            self.machines.values().filter_map(|m| Some((m.name.clone(), m.ended()?))).collect();
        for (name, fatal) in ended {
            self.process_ended(&name, &fatal)?;
        }
        self.look_at_failed()
    }

    /// Steps until so much time has passed.
    ///
    /// # Errors
    /// As [`World::step`].
    pub(crate) fn pass(&mut self, time: Duration) -> Checked {
        let until = self.now() + time;
        while self.now() < until {
            self.step()?;
        }
        Ok(())
    }

    fn look(&mut self, name: &str, status: &StatusView) -> Checked {
        let machine = self.machines.get_mut(name).expect("only machines are watched");
        if machine.power != Power::On {
            return Ok(());
        }
        let term = self.terms.entry(name.to_owned()).or_default();
        // A directory that was put back knows no better.
        if status.term < *term && !matches!(machine.role, Role::Lost | Role::Removed) {
            return Err(Violation(format!("{name} was in term {term}, now in {}", status.term)));
        }
        *term = status.term.max(*term);
        if status.last_index < machine.owed {
            let what = format!(
                "the log of {name} ends at entry {}, and {} was durable before it started",
                status.last_index, machine.owed
            );
            return Err(Violation(what));
        }
        if status.role == Leads::Leader {
            self.credit(status);
            self.look_at_places(status)?;
        }
        Ok(())
    }

    /// A leader knows a node nowhere but where it was or is.
    fn look_at_places(&mut self, leader: &StatusView) -> Checked {
        for member in leader.members.iter() {
            let mut machines = self.machines.values_mut();
            let Some(machine) = machines.find(|machine| machine.node() == Some(member.node.0)) else {
                continue;
            };
            if !machine.places.iter().any(|place| *place == *member.address) {
                let what = format!("{} is known at {}, where it never was", machine.name, member.address);
                return Err(Violation(what));
            }
            if !machine.is_known && *member.address == *machine.address() {
                machine.is_known = true;
                self.covered.add("moved", 1);
            }
        }
        Ok(())
    }

    /// What a leader counts on its followers to have, as far as it is committed, they still have at any later start.
    fn credit(&mut self, leader: &StatusView) {
        for member in leader.members.iter() {
            let Some(matched) = member.matched_index else { continue };
            let mut machines = self.machines.values_mut();
            let Some(machine) = machines.find(|machine| machine.node() == Some(member.node.0)) else {
                continue;
            };
            if machine.role != Role::Lost {
                machine.has = machine.has.max(matched.min(leader.commit_index));
            }
        }
    }

    /// A process whose sync failed does not go on.
    fn look_at_failed(&mut self) -> Checked {
        let now = self.now();
        for machine in self.machines.values().filter(|machine| machine.must_fail) {
            if machine.disk().planned_faults() > 0 {
                continue;
            }
            let since = *self.failed.entry(machine.name.clone()).or_insert(now);
            if now.saturating_sub(since) > END_WITHIN {
                return Err(Violation(format!("{} goes on after a sync that failed", machine.name)));
            }
        }
        let machines = &self.machines;
        self.failed.retain(|name, _| machines[name].must_fail);
        Ok(())
    }

    fn process_ended(&mut self, name: &str, fatal: &Fatal) -> Checked {
        let Fatal { status, what } = fatal;
        let code = status.code();
        self.note(&format!("{name} ends with {code}: {what}"));
        self.covered.add(&format!("exit_{code}"), 1);
        if self.machines[name].disk().is_off() {
            // The machine went off in the middle of it.
            self.power_off(name, None);
            let wake = self.now() + self.dice.ms(20..1_500);
            self.at(name).wake = Some(wake);
            return Ok(());
        }
        let machine = self.at(name);
        let expected = match (status, machine.role) {
            (ExitStatus::Done, _) => true,
            (ExitStatus::Corrupt, role) => matches!(role, Role::Lost | Role::Removed),
            (ExitStatus::Directory, Role::Lost | Role::Leaving | Role::Removed) => true,
            (ExitStatus::Directory, Role::Joining) => what.starts_with("leftover"),
            (ExitStatus::Unavailable, role) => role == Role::Joining,
            (ExitStatus::Disk, _) => machine.must_fail || machine.is_full,
            _ => false,
        };
        if !expected {
            let role = machine.role;
            return Err(Violation(format!("{name}, {role:?}, ended with {code}: {what}")));
        }
        if *status == ExitStatus::Directory && machine.role == Role::Joining {
            // Moved away by the operator: nothing of it is in any cluster.
            self.sim.crash(name);
            self.at(name).restore(&queue_broker::fs::sim::Image::default());
            self.at(name).has = 0;
        }
        self.kill(name);
        let wake = self.now() + self.dice.ms(50..800);
        let machine = self.at(name);
        if machine.role == Role::Leaving && *status == ExitStatus::Directory {
            machine.role = Role::Removed;
        }
        machine.wake = (!matches!(machine.role, Role::Lost | Role::Removed)).then_some(wake);
        Ok(())
    }
}

fn job_name(job: &Job) -> String {
    match job {
        Job::Nothing => "nothing".to_owned(),
        Job::Found => "a node that makes the cluster".to_owned(),
        Job::Join { through, standing, .. } => format!("a node that joins through {through}: {standing:?}"),
        Job::Serve => "its node".to_owned(),
        Job::ServeWith(_) => "its node, with a copied secret".to_owned(),
    }
}

/// Two places, in order.
pub(crate) fn pair(a: &str, b: &str) -> (String, String) {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    (low.to_owned(), high.to_owned())
}

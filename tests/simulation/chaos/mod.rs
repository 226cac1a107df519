//! One seed: a cluster, its clients and its operator, while everything goes wrong; then peace, and the account.

mod account;
mod coverage;
mod dial;
mod faults;
mod judge;
mod late;
mod lies;
mod load;
mod machine;
mod members;
mod moves;
mod operator;
mod plan;
mod queues;
mod trace;
mod world;

use std::time::Duration;

use harness::history::{Outcome, check};
use queue_protocol::wire::response::At;

use self::account::account;
pub(crate) use self::coverage::Covered;
use self::dial::LABELS_WITHIN;
use self::faults::Chaos;
pub(crate) use self::faults::KINDS;
pub(crate) use self::judge::{Loss, judge};
use self::load::Load;
use self::machine::{Power, Role};
use self::plan::Plan;
use self::world::{CLIENTS, Checked, Violation, World};

/// Simulated time in which all faults of a seed must have begun.
const CHAOS_MAX: Duration = Duration::from_secs(400);
/// Simulated time in which a healed cluster must be whole again.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// Simulated time in which everything must be taken out of a healthy cluster.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// A cluster that took long to heal is given this time for its labels.
const LABELS_MIN: Duration = Duration::from_secs(10);

/// What came of a seed.
pub(crate) struct Report {
    pub(crate) covered: Covered,
    /// The same for the same run.
    pub(crate) trace: u64,
    /// Why it failed.
    pub(crate) violation: Option<String>,
}

/// Runs a seed. Once in a process: a second run in the same one would be another.
pub(crate) fn run(seed: u64) -> Report {
    let plan = Plan::new(seed);
    let mut world = World::new(plan);
    let load = Load::new(world.book.clone());
    let result = live(&mut world, &load);
    let violation = result.err().map(|Violation(what)| what);
    world.note_operations();
    let now = world.now();
    world.trace.line(now, violation.as_deref().unwrap_or("ok"));
    Report { trace: world.trace.hash(), covered: world.covered, violation }
}

fn live(world: &mut World, load: &Load) -> Checked {
    let plan = world.plan.clone();
    world.note(&format!("{plan:?}"));
    world.set_up()?;
    for (place, name) in (0..).zip(CLIENTS) {
        let working = load.clone().run(world.history.clone(), plan.seed, place, plan.workers);
        world.sim.client(name, working);
    }
    let mut chaos = Chaos::new(world.now());
    let until = world.now() + CHAOS_MAX;
    while chaos.begun() < plan.faults {
        world.step()?;
        world.tend()?;
        chaos.drive(world)?;
        if world.now() > until {
            return Err(Violation(format!("only {} faults began", chaos.begun())));
        }
    }
    world.covered.add("faults", chaos.begun());
    world.pass(Duration::from_millis(500))?;
    chaos.end(world);
    chaos.end_excursions(world);
    let peace = world.now();
    load.stop();
    world.wait("the cluster heals", HEALED_WITHIN, |world| {
        if load.working() > 0 { Err(format!("{} workers wait", load.working())) } else { world.is_well() }
    })?;
    let within = (peace + LABELS_WITHIN).saturating_sub(world.now()).max(LABELS_MIN);
    world.wait("labels follow right clocks", within, World::label_is_right)?;
    let left = load::Left::new();
    world.sim.client("c3", load::drain(world.history.clone(), plan.seed, left.clone(), world.book.clone()));
    world.wait("everything is taken out", DRAINED_WITHIN, |_| left.nothing())?;
    world.wait("all have applied the same", HEALED_WITHIN, World::is_well)?;
    world.replicas.compare_newest(&world.whole());
    world.settle_accounts(load)
}

impl World {
    fn wait(&mut self, what: &str, within: Duration, done: impl Fn(&World) -> Result<(), String>) -> Checked {
        let until = self.now() + within;
        loop {
            self.step()?;
            self.tend()?;
            let Err(why) = done(self) else {
                self.note(&format!("{what}: so it is"));
                return Ok(());
            };
            if self.now() > until {
                return Err(Violation(format!("{what}: not within {within:?}: {why}")));
            }
        }
    }

    /// Every member runs, has applied what the leader has, and nobody else does.
    fn is_well(&self) -> Result<(), String> {
        let picture = self.picture().ok_or("nobody leads")?;
        for machine in self.machines.values() {
            let name = &machine.name;
            match machine.role {
                Role::Member if self.is_member(&picture, name) => {}
                Role::Removed if machine.power != Power::On => {}
                role => return Err(format!("{name} is {role:?}")),
            }
        }
        let whole = self.whole();
        if let Some(moved) =
            self.machines.values().find(|machine| machine.role == Role::Member && !machine.is_known)
        {
            return Err(format!("{} is not known at {}", moved.name, moved.address()));
        }
        if picture.members.len() != whole.len() {
            return Err(format!("{} members are {:?}", whole.len(), picture.members));
        }
        let leader = self.seen(&picture.leader).ok_or("the leader does not answer")?;
        for name in whole {
            let status = self.seen(&name).ok_or_else(|| format!("{name} does not answer"))?;
            if status.applied_index != leader.applied_index {
                return Err(format!("{name} stands at {}, {leader:?}", status.applied_index));
            }
            if status.secret != leader.secret || leader.secret.rotation.is_some() {
                return Err(format!("{name} has {:?}, the leader {:?}", status.secret, leader.secret));
            }
        }
        Ok(())
    }

    /// What clients asked and got goes into the trace.
    fn note_operations(&mut self) {
        for operation in self.history.operations() {
            let (at, outcome) = match &operation.outcome {
                Outcome::Ok(answered) => (answered.at, "ok"),
                Outcome::Fail(why) => (At::default(), why.as_str()),
                Outcome::Unknown => (At::default(), "unknown"),
            };
            let asked: String = format!("{:?}", operation.request).chars().take(70).collect();
            let (session, invoked, completed) = (operation.session.0, operation.invoked, operation.completed);
            self.note(&format!(
                "{session:x} {invoked}..{completed} {}:{} {outcome}: {asked}",
                at.index, at.position
            ));
        }
    }

    /// Nothing was lost, nothing invented, everything answered as the model says.
    fn settle_accounts(&mut self, load: &Load) -> Checked {
        let operations = self.history.operations();
        let checked = check(&operations, &self.replicas.entries());
        let tally = self.replicas.tally();
        for (what, count) in [
            ("operations", operations.len() as u64),
            ("answers", checked.answers),
            ("repeated", checked.repeated),
            ("reads", checked.reads),
            ("unknown", checked.unknown),
            ("refused", checked.failed),
            ("redelivered", checked.redelivered),
            ("txns_done", checked.done),
            ("txns_undone", checked.undone),
            ("dead", checked.dead),
            ("leaderships", self.operator.leaderships() as u64),
            ("entries", tally.applied),
            ("snapshots_taken", tally.taken),
            ("compared", tally.compared),
            ("leases_ended", tally.leases_ended),
            ("machines", self.made()),
        ] {
            self.covered.add(what, count);
        }
        for (what, count) in self.operator.done() {
            self.covered.add(what, count);
        }
        self.note(&self.covered.to_string());
        let mut wrong = checked.violations;
        wrong.extend(self.replicas.violations());
        wrong.extend(load.wrong());
        wrong.extend(account(&operations, queues::keeps));
        match wrong.first() {
            None => Ok(()),
            Some(first) => Err(Violation(format!("{} things are wrong; {first}", wrong.len()))),
        }
    }
}

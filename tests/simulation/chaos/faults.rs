//! What goes wrong, drawn from the seed: begun now, ended later, some of it by the operator.
//!
//! Anything may happen to power, processes, the network, clocks and the speed of disks at any time and together. What takes
//! away data that was synced is limited to what the design promises to survive: one node at a time, replaced before the
//! next; and a directory that lies (put back, or damaged at its end) only while the others are well, since what it had is
//! known to its peers alone.

use std::time::Duration;

use queue_broker::fs::sim::{Bias, Fault as DiskFault, Image, Latency, Op};
use queue_protocol::wire::membership::Standing;

use super::dial::{excursion, length};
use super::machine::{Machine, Power, Role};
use super::members::MACHINES_MAX;
use super::moves;
use super::operator::{promote, remove, rotate, transfer};
use super::plan::CAPACITY;
use super::world::{CLIENTS, Checked, LATENCY_MAX, World, pair};

/// Faults of a kind are begun so often, in proportion.
pub(crate) const KINDS: &[(&str, u64)] = &[
    ("crash", 12),
    ("reboot", 8),
    ("blackout", 6),
    ("mid_write", 6),
    ("kill", 6),
    ("stop", 3),
    ("cut", 6),
    ("one_way", 6),
    ("isolate", 8),
    ("split", 5),
    ("hold", 5),
    ("delay", 5),
    ("reset", 5),
    ("lose_answers", 5),
    ("slow_disk", 6),
    ("sync_fails", 4),
    ("clock", 5),
    ("clocks", 2),
    ("full_disk", 3),
    ("transfer", 6),
    ("add", 3),
    ("promote", 2),
    ("remove", 2),
    ("wipe", 2),
    ("put_back", 2),
    ("swap", 1),
    ("flip", 4),
    ("move", 4),
    ("trade", 2),
    ("move_all", 1),
];

/// What ends a fault.
enum Undo {
    Links(Vec<(String, String)>),
    Disk(String),
    Clocks(Vec<String>),
}

struct Active {
    until: Duration,
    undo: Undo,
}

/// Faults under way and to come.
pub(crate) struct Chaos {
    active: Vec<Active>,
    /// Clocks that are wrong: no trouble that keeps others away.
    clocks: Vec<Active>,
    next: Duration,
    begun: u64,
    /// A directory as it was, to be put back.
    pub(super) image: Option<(Duration, String, Image)>,
    /// Until the lost node is replaced nothing else happens.
    pub(super) quiet: bool,
    /// A lie that waits for the others to be well, since when.
    pub(super) lie: Option<(&'static str, Duration)>,
    /// The kind of the fault that began last, until it is taken.
    pub(super) last: Option<&'static str>,
}

/// Everybody has told everybody what they have in this time.
const SETTLED: Duration = Duration::from_secs(4);

impl Chaos {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            active: Vec::new(),
            clocks: Vec::new(),
            next: now,
            begun: 0,
            image: None,
            quiet: false,
            lie: None,
            last: None,
        }
    }

    /// Faults begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// Ends what is due, and begins something if it is time.
    ///
    /// # Errors
    /// As [`World::step`].
    pub(crate) fn drive(&mut self, world: &mut World) -> Checked {
        let now = world.now();
        for faults in [&mut self.active, &mut self.clocks] {
            let due: Vec<Active> = faults.extract_if(.., |active| active.until <= now).collect();
            due.into_iter().for_each(|active| undo(world, active.undo));
        }
        self.power_that_is_gone(world);
        if self.quiet {
            self.quiet = world.lost().is_some();
            self.next = now;
        }
        if let Some((kind, since)) = self.lie {
            if now >= since + SETTLED {
                self.lie = None;
                self.tell_lie(world, kind)?;
                self.last = Some(kind);
            }
            return Ok(());
        }
        if now < self.next || self.quiet {
            return Ok(());
        }
        self.next = now + world.dice.ms(20..2 * world.plan.pause_ms);
        if self.troubles(world) < 3
            && let Some(kind) = draw(world)
            && self.begin(world, kind)
        {
            self.begun += 1;
            self.last = Some(kind);
            world.covered.add(kind, 1);
        }
        Ok(())
    }

    /// Ends everything at once. What was stopped starts again, what was lost stays lost.
    pub(crate) fn end(&mut self, world: &mut World) {
        world.note("everything is mended");
        for active in std::mem::take(&mut self.active) {
            undo(world, active.undo);
        }
        self.lie = None;
        let names: Vec<String> = world.machines.keys().cloned().collect();
        for name in names {
            if world.machines[&name].disk().is_off() {
                world.power_off(&name, None);
            }
            let now = world.now();
            let machine = world.at(&name);
            // A fault that has not happened will not; one that has still ends its process.
            if machine.disk().clear_faults() > 0 {
                machine.must_fail = false;
            }
            if machine.power != Power::On && !matches!(machine.role, Role::Lost | Role::Removed) {
                machine.wake = Some(machine.wake.map_or(now, |at| at.min(now)));
            }
        }
    }

    fn troubles(&self, world: &World) -> usize {
        let down = world.machines.values().filter(|m| m.power != Power::On && m.role == Role::Member).count();
        let moving = world.machines.values().filter(|m| !m.is_known && m.role == Role::Member).count();
        self.active.len() + down + moving
    }

    /// Machines whose power went in the middle of a write.
    fn power_that_is_gone(&mut self, world: &mut World) {
        let gone = |machine: &&Machine| machine.power == Power::On && machine.disk().is_off();
        let gone: Vec<String> = world.machines.values().filter(gone).map(|m| m.name.clone()).collect();
        for name in gone {
            world.power_off(&name, None);
            wake_within(world, &name, 20..1_500);
        }
    }

    fn links(&mut self, world: &mut World, pairs: Vec<(String, String)>, until: Duration) -> bool {
        if pairs.is_empty() {
            return false;
        }
        world.troubled.extend(pairs.iter().cloned());
        self.active.push(Active { until, undo: Undo::Links(pairs) });
        true
    }

    fn begin(&mut self, world: &mut World, kind: &'static str) -> bool {
        let Some(name) = target(world) else { return false };
        let for_ms = |world: &mut World, range| world.now() + world.dice.ms(range);
        world.note(&format!("fault: {kind} at {name}"));
        match kind {
            "crash" => {
                world.power_off(&name, None);
                wake_within(world, &name, 50..3_000);
            }
            "reboot" => {
                let bias = world.dice.pick(&[Bias::None, Bias::AlmostNone, Bias::Half]);
                world.power_off(&name, bias);
                wake_within(world, &name, 1..60);
            }
            "blackout" => {
                let bias = world.dice.pick(&[Bias::None, Bias::AlmostNone, Bias::Half]);
                for name in world.whole() {
                    if world.machines[&name].power != Power::Off {
                        world.power_off(&name, bias);
                        wake_within(world, &name, 10..800);
                    }
                }
            }
            "mid_write" => {
                let operations = world.dice.within(1..40);
                world.machines[&name].disk().off_after(operations);
            }
            "kill" => {
                world.kill(&name);
                wake_within(world, &name, 1..1_500);
            }
            "stop" => {
                world.machines[&name].stop();
            }
            "cut" | "one_way" | "isolate" | "split" | "hold" | "delay" | "lose_answers" => {
                let until = for_ms(world, 100..4_000);
                let pairs = self.network(world, kind, &name);
                return self.links(world, pairs, until);
            }
            "reset" => {
                let count = world.machines[&name].reset_wires();
                world.covered.add("connections_reset", count as u64);
            }
            "slow_disk" => {
                let until = for_ms(world, 300..3_000);
                let min = world.dice.ms(5..150);
                let stalls =
                    Latency { min, max: 2 * min, stalls_per_mille: 100, stall: Duration::from_millis(200) };
                let machine = world.at(&name);
                machine.disk().set_latency(stalls);
                self.active.push(Active { until, undo: Undo::Disk(name) });
            }
            "sync_fails" => {
                let nth = world.dice.within(1..20);
                world.machines[&name].disk().fail(Op::Sync, nth, DiskFault::Io);
                world.at(&name).must_fail = true;
            }
            "clock" => self.clocks(world, vec![name]),
            "clocks" => {
                let all = world.machines.keys().cloned().collect();
                self.clocks(world, all);
            }
            "full_disk" => {
                let until = for_ms(world, 1_000..5_000);
                let machine = world.at(&name);
                let used: usize = machine
                    .disk()
                    .files()
                    .iter()
                    .filter_map(|path| Some(machine.disk().bytes(path).ok()?.len()))
                    .sum();
                machine.disk().set_capacity(used as u64);
                machine.is_full = true;
                self.active.push(Active { until, undo: Undo::Disk(name) });
            }
            "transfer" | "promote" | "remove" | "add" | "rotate" => return change(world, kind, &name),
            "move" | "trade" | "move_all" => return moves::begin(world, kind, &name),
            "wipe" | "put_back" | "swap" | "flip" => return self.take_data(world, kind, &name),
            _ => unreachable!("every kind is above"),
        }
        true
    }

    /// Clocks go wrong for a while, or until peace.
    fn clocks(&mut self, world: &mut World, names: Vec<String>) {
        let offset_ms = excursion(world);
        world.set_clocks(&names, offset_ms);
        if let Some(length) = length(world) {
            self.clocks.push(Active { until: world.now() + length, undo: Undo::Clocks(names) });
        }
    }

    /// All clocks are right, also those of machines that are off.
    pub(crate) fn end_excursions(&mut self, world: &mut World) {
        self.clocks.clear();
        let all: Vec<String> = world.machines.keys().cloned().collect();
        world.set_clocks(&all, 0);
    }

    /// Breaks links that are whole; which.
    fn network(&self, world: &mut World, kind: &str, name: &str) -> Vec<(String, String)> {
        let nodes: Vec<String> = world.machines.keys().cloned().collect();
        let clients: Vec<String> = CLIENTS.iter().map(|client| (*client).to_owned()).collect();
        let others: Vec<String> = nodes.iter().filter(|other| *other != name).cloned().collect();
        let mut pairs: Vec<(String, String)> = Vec::new();
        match kind {
            "cut" | "one_way" => {
                pairs.extend(world.dice.pick(&others).map(|other| (name.to_owned(), other)));
            }
            "isolate" | "hold" | "delay" => {
                pairs.extend(others.iter().map(|other| (name.to_owned(), other.clone())));
                // Who is left on its side goes on asking it, while the others find a new leader.
                for client in &clients {
                    if world.dice.chance(1, 2) {
                        pairs.push((name.to_owned(), client.clone()));
                    }
                }
            }
            "split" => {
                let places: Vec<String> = nodes.iter().chain(&clients).cloned().collect();
                let side: Vec<bool> = places.iter().map(|_| world.dice.chance(1, 2)).collect();
                for (a, on_a) in places.iter().zip(&side) {
                    for (b, on_b) in places.iter().zip(&side) {
                        if a < b && on_a != on_b {
                            pairs.push((a.clone(), b.clone()));
                        }
                    }
                }
            }
            _ => pairs.extend(clients.iter().map(|client| (name.to_owned(), client.clone()))),
        }
        pairs.retain(|(a, b)| !world.is_troubled(a, b));
        let one_way = kind == "isolate" && world.dice.chance(1, 3);
        let inwards = world.dice.chance(1, 2);
        for (a, b) in &pairs {
            let (a, b) = (a.as_str(), b.as_str());
            let (from, to) = if inwards { (b, a) } else { (a, b) };
            match kind {
                "one_way" => world.sim.partition_oneway(from, to),
                "lose_answers" => world.sim.partition_oneway(a, b),
                "isolate" if one_way => world.sim.partition_oneway(from, to),
                "hold" => world.sim.hold(a, b),
                "delay" => {
                    let max = LATENCY_MAX * 30;
                    world.sim.set_link_max_message_latency(a, b, max);
                }
                _ => world.sim.partition(a, b),
            }
        }
        pairs.iter().map(|(a, b)| pair(a, b)).collect()
    }
}

pub(super) fn wake_within(world: &mut World, name: &str, range: std::ops::Range<u64>) {
    let at = world.now() + world.dice.ms(range);
    world.at(name).wake = Some(at);
}

fn draw(world: &mut World) -> Option<&'static str> {
    let mut at = world.dice.within(0..KINDS.iter().map(|(_, weight)| weight).sum());
    KINDS
        .iter()
        .find(|(_, weight)| at.checked_sub(*weight).map(|left| at = left).is_none())
        .map(|(kind, _)| *kind)
}

/// A machine to hit, the leader's rather often.
fn target(world: &mut World) -> Option<String> {
    let running = |machine: &&Machine| machine.power == Power::On && machine.role == Role::Member;
    let names: Vec<String> = world.machines.values().filter(running).map(|m| m.name.clone()).collect();
    let leader = world.picture().map(|picture| picture.leader).filter(|leader| names.contains(leader));
    if world.dice.chance(2, 5) { leader.or(world.dice.pick(&names)) } else { world.dice.pick(&names) }
}

/// A change that an operator asks for.
fn change(world: &mut World, kind: &str, name: &str) -> bool {
    let Some(picture) = world.picture() else { return false };
    let leader = picture.leader.clone();
    let node = world.machines[name].node();
    match kind {
        "transfer" => {
            let to = if world.dice.chance(1, 2) { node } else { None };
            world.operator.order(&leader, transfer(to));
        }
        "rotate" => world.operator.order(&leader, rotate(false)),
        "promote" => {
            let learner = picture.members.iter().find(|member| !member.voter).map(|member| member.node.0);
            let Some(learner) = learner else { return false };
            world.operator.order(&leader, promote(learner));
        }
        "remove" => {
            let may = picture.voters() > 3 && world.lost().is_none() && !world.is_moving();
            let Some(node) = node.filter(|_| may) else {
                return false;
            };
            world.operator.order(&leader, remove(node));
            let now = world.now();
            let machine = world.at(name);
            (machine.role, machine.leaving) = (Role::Leaving, now);
        }
        _ => {
            let coming = world.machines.values().any(|machine| machine.role == Role::Joining);
            if world.is_moving()
                || picture.members.len() >= 5
                || world.made() >= MACHINES_MAX
                || coming
                || world.lost().is_some()
            {
                return false;
            }
            let standing = if world.dice.chance(1, 3) { Standing::Learner } else { Standing::Voter };
            let new = world.machine();
            world.join(&new, standing);
        }
    }
    true
}

fn undo(world: &mut World, undo: Undo) {
    match undo {
        Undo::Links(pairs) => {
            for (a, b) in pairs {
                world.note(&format!("{a} and {b} hear each other"));
                world.sim.release(a.as_str(), b.as_str());
                world.sim.set_link_max_message_latency(a.as_str(), b.as_str(), LATENCY_MAX);
                world.troubled.remove(&(a, b));
            }
        }
        Undo::Disk(name) => {
            world.note(&format!("the disk of {name} is well"));
            let latency = world.plan.latency;
            let machine = world.at(&name);
            machine.disk().set_latency(latency);
            machine.disk().set_capacity(CAPACITY);
            machine.is_full = false;
        }
        Undo::Clocks(names) => world.set_clocks(&names, 0),
    }
}

//! Nodes that come back under another name: one, two in each other's place, all of them. What a node was called before
//! refuses, is silent, or leads to another node.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use harness::simulation::Named;
use queue_broker::fs::{Disk as _, Open};

use super::faults::wake_within;
use super::machine::{Power, Role};
use super::plan::{address, place};
use super::world::World;

/// Nobody has led for so long: the operator says in every directory where the others are.
const LEADERLESS_MAX: Duration = Duration::from_secs(30);

/// Moves the nodes of some machines that run, or does not.
pub(super) fn begin(world: &mut World, kind: &str, name: &str) -> bool {
    let coming = world.machines.values().any(|machine| machine.role == Role::Joining);
    let Some(picture) = world.picture() else { return false };
    if coming || picture.changing || world.lost().is_some() || world.is_moving() {
        return false;
    }
    let all = world.whole();
    let others: Vec<String> = all.iter().filter(|other| *other != name).cloned().collect();
    let moving = match kind {
        "move" => vec![name.to_owned()],
        "trade" => match world.dice.pick(&others) {
            Some(other) => vec![name.to_owned(), other],
            None => return false,
        },
        _ => all,
    };
    for name in &moving {
        if world.machines[name].power != Power::Off {
            world.power_off(name, None);
        }
    }
    if let ("trade", [one, other]) = (kind, &moving[..]) {
        let places = [one, other].map(|name| host(world.machines[name].address()));
        for (name, place) in moving.iter().zip(places.iter().rev()) {
            go(world, name, place);
        }
    } else {
        for name in &moving {
            let before = host(world.machines[name].address());
            let gone = if world.dice.chance(1, 2) { Named::Refusal } else { Named::Silence };
            world.book.set(&before, gone);
            let next = format!("{}-{}", place(name), world.machines[name].places.len());
            go(world, name, &next);
        }
    }
    for name in moving {
        wake_within(world, &name, 50..3_000);
    }
    true
}

fn host(address: &str) -> String {
    address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned()
}

/// Machine `name` is called `place` from now on.
fn go(world: &mut World, name: &str, place: &str) {
    world.note(&format!("{name} moves to {place}"));
    world.book.set(place, Named::Machine(name.to_owned()));
    world.at(name).go_to(&address(place));
}

impl World {
    /// A node is somewhere else than the cluster knows.
    pub(super) fn is_moving(&self) -> bool {
        let counts = |role| !matches!(role, Role::Removed | Role::Joining);
        self.machines.values().any(|machine| counts(machine.role) && !machine.is_known)
    }

    /// An operator whose nodes do not find each other says in the directory of each where the others are.
    pub(super) fn tell_addresses(&mut self) {
        let now = self.now();
        if self.picture().is_some() || !self.is_moving() {
            self.leaderless = None;
            return;
        }
        if now < *self.leaderless.get_or_insert(now) + LEADERLESS_MAX {
            return;
        }
        self.leaderless = Some(now);
        self.note("the operator says where everybody is");
        self.covered.add("told", 1);
        let members = self.machines.values().filter(|machine| machine.role == Role::Member);
        let places: BTreeMap<String, String> =
            members.map(|machine| (machine.name.clone(), machine.address().to_owned())).collect();
        for name in places.keys() {
            if self.machines[name].power == Power::Off {
                continue;
            }
            self.kill(name);
            let others = places.iter().filter(|(other, _)| *other != name);
            let lines: String = others.map(|(other, address)| format!("{other} {address}\n")).collect();
            let (disk, path) = (self.machines[name].disk().boot(), Path::new("data/ADDRESSES"));
            // Without room, or with a disk that fails, it is told the next time.
            let _ = disk.remove(path);
            let _ = disk
                .open(path, Open::Create)
                .and_then(|file| file.write_at(&[IoSlice::new(lines.as_bytes())], 0));
            wake_within(self, name, 50..500);
        }
    }
}

//! Data that goes away, and directories that lie: put back, swapped, with a bit that flipped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use queue_broker::fs::sim::{Bias, Image};

use super::faults::{Chaos, wake_within};
use super::machine::{Machine, Power, Role};
use super::members::MACHINES_MAX;
use super::world::{Checked, Violation, World};

/// Steps in which a node must see that its directory is another's.
const SWAPPED_STEPS: u64 = 2_000;
/// So often a written byte is looked for.
const DRAWS: usize = 8;
/// So long a node writes before a bit of its log flips, twice.
const WRITES: Duration = Duration::from_millis(100);
/// An image is older than this when it is put back.
const IMAGE_AGE: Duration = Duration::from_secs(5);

impl Chaos {
    /// Takes the data of one node away, or makes it lie.
    pub(super) fn take_data(&mut self, world: &mut World, kind: &'static str, name: &str) -> bool {
        let Some(picture) = world.picture() else { return false };
        let coming = world.machines.values().any(|machine| machine.role == Role::Joining);
        if world.is_moving() || world.lost().is_some() || coming || world.made() >= MACHINES_MAX {
            return false;
        }
        // Between two voters of old and three of new none may be lost.
        if picture.voters() < 3 || picture.changing {
            return false;
        }
        if self.image.is_none() && kind != "put_back" {
            self.keep_image(world, name);
        }
        if kind == "wipe" {
            if !world.is_member(&picture, name) {
                return false;
            }
            world.power_off(name, None);
            let machine = world.at(name);
            machine.restore(&Image::default());
            lose(machine);
            wake_within(world, name, 50..500);
            return true;
        }
        if kind == "put_back" && self.image.is_none() {
            self.keep_image(world, name);
            return false;
        }
        // First everybody else is well, and has heard it from the others.
        self.end(world);
        self.lie = Some((kind, world.now()));
        true
    }

    /// Keeps the directory of a machine as it is, to be put back later.
    fn keep_image(&mut self, world: &World, name: &str) {
        let image = world.machines[name].disk().image();
        self.image = Some((world.now(), name.to_owned(), image));
    }

    pub(super) fn tell_lie(&mut self, world: &mut World, kind: &'static str) -> Checked {
        let whole = world.whole();
        let well = |name: &String| world.seen(name).is_some();
        let Some(picture) = world
            .picture()
            .filter(|now| !world.is_moving() && !now.changing && whole.iter().all(well) && whole.len() >= 3)
        else {
            return Ok(());
        };
        world.note(&format!("lie: {kind}"));
        match kind {
            "swap" => {
                let Some(names) = whole.first_chunk::<2>() else { return Ok(()) };
                let images = names.each_ref().map(|name| world.machines[name].disk().image());
                for (name, image) in names.iter().zip(images.iter().rev()) {
                    world.power_off(name, Some(Bias::All));
                    world.at(name).restore(image);
                    world.at(name).role = Role::Lost;
                    world.start(name);
                }
                // Both refuse, and the operator swaps them back.
                let refused =
                    |world: &World| names.iter().all(|name| world.machines[name].power == Power::Idle);
                for _ in 0..SWAPPED_STEPS {
                    if !refused(world) {
                        world.step()?;
                    }
                }
                if !refused(world) {
                    return Err(Violation("a directory that belongs to another node starts".to_owned()));
                }
                for (name, image) in names.iter().zip(&images) {
                    world.sim.crash(name.as_str());
                    world.at(name).restore(image);
                    world.at(name).role = Role::Member;
                    world.start(name);
                }
                return Ok(());
            }
            "put_back" => {
                let Some((at, name, image)) = self.image.take() else { return Ok(()) };
                let old = world.now().saturating_sub(at) >= IMAGE_AGE;
                if !old || !whole.contains(&name) || !world.is_member(&picture, &name) {
                    return Ok(());
                }
                world.power_off(&name, None);
                world.at(&name).restore(&image);
                lose(world.at(&name));
                wake_within(world, &name, 50..500);
            }
            _ => {
                let Some(name) = world.dice.pick(&whole) else { return Ok(()) };
                let durable = durable_bytes(world, &name)?;
                world.power_off(&name, Some(Bias::All));
                let files = world.machines[&name].disk().files();
                let tells = |path: &PathBuf| !path.ends_with("LOCK");
                let files: Vec<PathBuf> = files.into_iter().filter(tells).collect();
                let lately = world.dice.pick(&durable).filter(|_| world.dice.chance(1, 2));
                let lately = lately.map(|(path, at)| (path, 8 * at + world.dice.within(0..8)));
                let Some((path, bit)) = lately.or_else(|| any_bit(world, &name, &files)) else {
                    wake_within(world, &name, 50..500);
                    return Ok(());
                };
                world.machines[&name].disk().flip(&path, bit).expect("it is within the file");
                world.note(&format!("bit {bit} of {} at {name}", path.display()));
                // What it owes it still owes: it has it or says that it has not.
                world.at(&name).role = Role::Lost;
                wake_within(world, &name, 50..500);
            }
        }
        world.covered.add("lies", 1);
        self.quiet = true;
        Ok(())
    }
}

/// Bytes of the log that were written lately, and where in their files, with more behind them: what a restart must not take for a torn end.
fn durable_bytes(world: &mut World, name: &str) -> Checked<Vec<(PathBuf, u64)>> {
    let logs = |world: &World| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = world.contents(name).into_iter();
        files.filter(|(path, _)| path.extension().is_some_and(|end| end == "log")).collect()
    };
    let before = logs(world);
    world.pass(WRITES)?;
    let written = logs(world);
    world.pass(WRITES)?;
    let after = logs(world);
    // A closed file is not searched for its end.
    let open = written.iter().rfind(|(path, bytes)| after.get(*path).is_some_and(|after| after != *bytes));
    let Some((path, bytes)) = open else { return Ok(Vec::new()) };
    let (before, after) = (&before.get(path).unwrap_or(bytes), &after[path]);
    let stays = |at: &usize| before.get(*at) != bytes.get(*at) && after.get(*at) == bytes.get(*at);
    Ok((0..bytes.len()).filter(stays).map(|at| (path.clone(), at as u64)).collect())
}

/// A bit of any of `files`, rather of a byte that is not zero: most of a segment is room for more.
fn any_bit(world: &mut World, name: &str, files: &[PathBuf]) -> Option<(PathBuf, u64)> {
    let path = world.dice.pick(files)?;
    let bytes = world.machines[name].disk().bytes(&path).unwrap_or_default();
    if bytes.is_empty() {
        return None;
    }
    let draws: Vec<u64> = (0..DRAWS).map(|_| world.dice.within(0..8 * bytes.len() as u64)).collect();
    let is_written = |bit: &&u64| usize::try_from(**bit / 8).is_ok_and(|at| bytes[at] != 0);
    Some((path, *draws.iter().find(is_written).unwrap_or(&draws[0])))
}

/// It owes nothing any more.
fn lose(machine: &mut Machine) {
    machine.role = Role::Lost;
    (machine.has, machine.owed) = (0, 0);
}

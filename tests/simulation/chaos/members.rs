//! What an operator does: starts what has stopped, takes a new node in for one whose data is gone, turns off what was
//! removed.

use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::wire::hello::Secret;
use queue_protocol::wire::membership::Standing;
use queue_protocol::wire::security::RotationPhase;

use super::machine::{Job, Power, Role};
use super::operator::{Picture, rotate};
use super::plan::address;
use super::world::{Checked, Violation, World};

/// Machines of one run, those that are gone included.
pub(crate) const MACHINES_MAX: u64 = 9;
/// A removal that was not done after so long will not be.
const LEAVING_MAX: Duration = Duration::from_secs(12);
/// A node that was replaced ends by itself when the leader tells it. An old directory may not know who leads now; the
/// others refuse it, and their operator ends it, as the refusal says, after so long.
const REPLACED_MAX: Duration = Duration::from_secs(10);
/// Between two orders not to wait for those that do not answer.
const FORCED_AGAIN: Duration = Duration::from_secs(3);
/// A member that uses an older secret than the leader for so long was left out, and does not see the log.
const LEFT_OUT_SEEN: Duration = Duration::from_secs(3);
/// Steps that the first nodes may take to become a cluster.
const SETUP_STEPS: u64 = 60_000;

impl World {
    /// Makes the first nodes and waits until all of them vote.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn set_up(&mut self) -> Checked {
        let names: Vec<String> = (0..self.plan.nodes).map(|_| self.machine()).collect();
        self.boot(&names[0], Job::Found);
        let mut next = 1;
        for _ in 0..SETUP_STEPS {
            self.step()?;
            if self.secret.is_none() {
                let disk = self.machines[&names[0]].disk().clone();
                self.secret = queue_broker::node::secret::read(&disk, "data".as_ref()).ok();
            }
            let Some(picture) = self.picture() else { continue };
            for name in &names {
                if self.is_voter(&picture, name) {
                    self.at(name).role = Role::Member;
                }
            }
            self.tend()?;
            let all = picture.voters() == next;
            match names.get(next) {
                Some(name) if all => {
                    let name = name.clone();
                    next += 1;
                    self.join(&name, Standing::Voter);
                }
                None if all => return Ok(()),
                _ => {}
            }
        }
        Err(Violation("the first nodes do not become a cluster".to_owned()))
    }

    fn is_voter(&self, picture: &Picture, name: &str) -> bool {
        let node = self.machines[name].node();
        node.and_then(|node| picture.member(node)).is_some_and(|member| member.voter)
    }

    /// Whether the node of `name` is a member, as the leader says.
    pub(crate) fn is_member(&self, picture: &Picture, name: &str) -> bool {
        self.machines[name].node().is_some_and(|node| picture.member(node).is_some())
    }

    /// Somebody to join through: the leader, else anybody who runs. An operator does not join through a node that lost
    /// something, its secret perhaps.
    fn sponsor(&mut self) -> Option<String> {
        if let Some(picture) = self.picture()
            && self.machines[&picture.leader].role != Role::Lost
        {
            return Some(picture.leader);
        }
        let running =
            |machine: &&super::machine::Machine| machine.power == Power::On && machine.role == Role::Member;
        let names: Vec<String> = self.machines.values().filter(running).map(|m| m.name.clone()).collect();
        self.dice.pick(&names)
    }

    /// Starts the node of `name`, which is to become a member, through whoever can take it in now.
    pub(crate) fn join(&mut self, name: &str, standing: Standing) {
        self.at(name).standing = standing;
        let sponsor = self.sponsor();
        let secret = sponsor.as_ref().and_then(|name| self.secret_of(name)).or(self.secret.clone());
        let (Some(sponsor), Some(secret)) = (sponsor, secret) else {
            let later = self.now() + self.dice.ms(100..500);
            self.at(name).wake = Some(later);
            return;
        };
        self.boot(name, Job::Join { through: address(&sponsor), standing, secret });
    }

    /// The file SECRET of a machine, as somebody copies it.
    fn secret_of(&self, name: &str) -> Option<Secret> {
        queue_broker::node::secret::read(self.machines[name].disk(), "data".as_ref()).ok()
    }

    /// A member that is lost holds a rotation up, and the rotation its replacement: then those that do not answer are left
    /// out. Who was left out gets a copy of the secret that counts.
    fn tend_secrets(&mut self, picture: &Picture) {
        let now = self.now();
        let Some(leader) = self.seen(&picture.leader) else { return };
        let open = leader.secret.rotation.as_ref().filter(|now| now.phase != RotationPhase::Dropping);
        let is_held_up = open.is_some_and(|rotation| !rotation.waits_for.is_empty());
        if is_held_up && self.lost().is_some() && now >= self.forced + FORCED_AGAIN {
            self.forced = now;
            self.operator.order(&picture.leader, rotate(true));
        }
        let left_out = leader.secret.rotation.iter().flat_map(|rotation| rotation.left_out.iter());
        self.left_out.extend(left_out.map(|node| node.0));
        for name in self.whole() {
            // Nobody else may ever lack the secret that counts.
            let is_left_out = self.machines[&name].node().is_some_and(|node| self.left_out.contains(&node));
            let seen = self.seen(&name).filter(|_| open.is_none() && is_left_out);
            let is_old = seen.is_some_and(|status| status.secret.generation < leader.secret.generation);
            let since = self.machines[&name].old_since;
            match since {
                _ if !is_old => self.at(&name).old_since = None,
                None => self.at(&name).old_since = Some(now),
                Some(since) if now < since + LEFT_OUT_SEEN => {}
                Some(_) => {
                    let Some(secret) = self.secret_of(&picture.leader) else { continue };
                    self.covered.add("secret_copied", 1);
                    self.at(&name).old_since = None;
                    self.kill(&name);
                    self.boot(&name, Job::ServeWith(secret));
                }
            }
        }
    }

    /// Starts the node of `name`.
    pub(crate) fn start(&mut self, name: &str) {
        match self.machines[name].role {
            Role::Joining => self.join(name, self.machines[name].standing),
            Role::Member | Role::Leaving | Role::Lost | Role::Removed => self.boot(name, Job::Serve),
        }
    }

    /// Does what is due, as of now.
    ///
    /// # Errors
    /// Something is not as it must be.
    pub(crate) fn tend(&mut self) -> Checked {
        let now = self.now();
        let due = |machine: &&super::machine::Machine| machine.wake.is_some_and(|at| at <= now);
        let due: Vec<String> = self.machines.values().filter(due).map(|m| m.name.clone()).collect();
        for name in due {
            self.start(&name);
        }
        self.tell_addresses();
        let Some(picture) = self.picture() else { return Ok(()) };
        self.tend_secrets(&picture);
        let names: Vec<String> = self.machines.keys().cloned().collect();
        for name in names {
            let is_member = self.is_member(&picture, &name);
            let role = self.machines[&name].role;
            match role {
                Role::Joining if is_member => self.at(&name).role = Role::Member,
                Role::Lost if !is_member => {
                    self.covered.add("replaced", 1);
                    let machine = self.at(&name);
                    (machine.role, machine.off_at) = (Role::Removed, Some(now + REPLACED_MAX));
                }
                Role::Lost => self.replace(&name),
                Role::Removed if self.machines[&name].off_at.is_some_and(|at| at <= now) => {
                    self.at(&name).off_at = None;
                    if self.machines[&name].power == Power::On {
                        self.covered.add("turned_off", 1);
                        self.kill(&name);
                    }
                }
                Role::Leaving if !is_member => {
                    self.covered.add("removed", 1);
                    self.at(&name).role = Role::Removed;
                }
                // The order was lost on its way, or refused.
                Role::Leaving if now >= self.machines[&name].leaving + LEAVING_MAX => {
                    self.at(&name).role = Role::Member;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a new node in for the lost one of `name`, unless one is coming.
    fn replace(&mut self, name: &str) {
        let Some(node) = self.machines[name].node() else { return };
        let standing = Standing::InsteadOf(NodeId(node));
        if self.machines.values().any(|machine| machine.standing == standing) || self.made() >= MACHINES_MAX {
            return;
        }
        let new = self.machine();
        self.join(&new, standing);
    }

    /// Members whose data is whole.
    pub(crate) fn whole(&self) -> Vec<String> {
        let whole = self.machines.values().filter(|machine| machine.role == Role::Member);
        whole.map(|machine| machine.name.clone()).collect()
    }

    /// The machine whose data is gone and that no other has replaced.
    pub(crate) fn lost(&self) -> Option<String> {
        self.machines.values().find(|machine| machine.role == Role::Lost).map(|machine| machine.name.clone())
    }
}

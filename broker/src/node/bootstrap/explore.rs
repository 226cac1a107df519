//! Every order of starts, losses and questions of a small cluster, with the decisions of [`super::decide`]: never two
//! clusters, and always one in the end.
//!
//! Machines: `a`, `b`, `c`, and in one test `a2`, which was set up as another `a`: the address of `a` leads to one of the
//! two, and may move at any time. A question reaches one address, and its answer may be believed much later, together
//! with older ones; a process that ends forgets what it was told and what it promised. What a machine holds may be lost
//! at any time at which it does not run.

use std::collections::{BTreeSet, VecDeque};

use queue_protocol::names::NodeId;
use queue_protocol::wire::peer::Holder;

use super::decide::{Asker, Directory, Seen, Step, Word, decide};
use super::*;

/// Machines: the last one is a second `a`.
const MACHINES: usize = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Disk {
    Empty,
    /// Of the cluster that this process made.
    Of(u8),
}

/// A process that has not formatted its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: u8,
    /// What each address said last, in this round.
    answers: [Option<Answer>; 3],
    /// To whom it has given its word.
    word: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Silent,
    Empty { id: u8, position: u8, word: Option<u8> },
    Member { cluster: u8, holds: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    disks: [Disk; MACHINES],
    /// Running, and without a cluster if there is a process here.
    runs: [bool; MACHINES],
    processes: [Option<Process>; MACHINES],
    /// The machine that the address of `a` leads to.
    a_is: usize,
    next_id: u8,
    machines: usize,
    losses_left: u8,
    starts_left: u8,
    moves_left: u8,
    /// Processes end.
    ends: bool,
}

fn position(machine: usize) -> usize {
    machine % 3
}

impl World {
    fn of(machines: usize) -> Self {
        Self {
            machines,
            disks: [Disk::Empty; MACHINES],
            runs: [false; MACHINES],
            processes: Default::default(),
            a_is: 0,
            next_id: 1,
            losses_left: 0,
            starts_left: 0,
            moves_left: 0,
            ends: false,
        }
    }

    fn at(&self, name: usize) -> usize {
        if name == 0 { self.a_is } else { name }
    }

    /// What `asker` is told at an address.
    fn ask(&mut self, asker: usize, name: usize) -> Answer {
        let machine = self.at(name);
        if !self.runs[machine] {
            return Answer::Silent;
        }
        let id = self.processes[asker].as_ref().expect("only those without a cluster ask").id;
        if let Disk::Of(cluster) = self.disks[machine] {
            // Whoever is a member at the asker's address has another store: the asker's is empty.
            let holds = self.disks.iter().enumerate().any(|(other, disk)| {
                other != asker && *disk == Disk::Of(cluster) && position(other) == position(asker)
            });
            return Answer::Member { cluster, holds };
        }
        let process = self.processes[machine].as_mut().expect("it runs without a cluster");
        let own = position(machine);
        let word = if own == 0 {
            Some(process.id)
        } else {
            let mut word = Word::default();
            if let Some(given) = process.word {
                word.give(StoreId(given.into()), true, Duration::ZERO);
            }
            let given = word.give(StoreId(id.into()), position(asker) == 0, Duration::ZERO);
            let given = given.map(|id| u8::try_from(id.0).expect("they are small"));
            process.word = given;
            given
        };
        Answer::Empty { id: process.id, position: own.try_into().expect("three"), word }
    }

    fn step(&self, machine: usize) -> Option<Step> {
        let process = self.processes[machine].as_ref()?;
        let peers: Vec<String> = NAMES.map(str::to_owned).to_vec();
        let seen: Option<Vec<Seen>> = process
            .answers
            .iter()
            .map(|answer| {
                Some(match (*answer)? {
                    Answer::Silent => Seen::Silent("off".to_owned()),
                    Answer::Empty { id, position, word } => Seen::Empty {
                        id: StoreId(id.into()),
                        peers: peers.clone(),
                        position: position.into(),
                        word: word.map(|id| StoreId(id.into())),
                    },
                    Answer::Member { cluster, holds } => Seen::Member {
                        cluster: ClusterId(cluster.into()),
                        holder: holds.then(|| Holder { node: NodeId(1), name: Text::cut("n") }),
                    },
                })
            })
            .collect();
        let id = StoreId(process.id.into());
        let me = Asker { peers: &peers, position: position(machine), id, directory: Directory::Empty };
        Some(decide(&me, &seen?))
    }

    /// All that may happen next.
    fn next(&self) -> Vec<Self> {
        let mut worlds = Vec::new();
        let mut may = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            worlds.push(world);
        };
        for machine in 0..self.machines {
            if !self.runs[machine] {
                if self.starts_left > 0 {
                    may(&|world| world.start(machine));
                }
                if self.losses_left > 0 && self.disks[machine] != Disk::Empty {
                    may(&|world| {
                        world.losses_left -= 1;
                        world.disks[machine] = Disk::Empty;
                    });
                }
                continue;
            }
            if self.ends {
                may(&|world| {
                    world.runs[machine] = false;
                    world.processes[machine] = None;
                });
            }
            let Some(process) = &self.processes[machine] else { continue };
            // Once a round, the first of the list in any order: it alone looks at more than members.
            let is_first = position(machine) == 0;
            let left = (0..NAMES.len()).filter(|name| process.answers[*name].is_none());
            for name in left.take(if is_first { NAMES.len() } else { 1 }) {
                may(&|world| {
                    let answer = world.ask(machine, name);
                    world.hear(machine, name, answer);
                });
            }
            match self.step(machine) {
                Some(Step::Initialise) => may(&|world| {
                    let process = world.processes[machine].take().expect("it decided");
                    world.disks[machine] = Disk::Of(process.id);
                }),
                Some(Step::Join(through)) => may(&|world| world.join(machine, through)),
                Some(Step::Wait(_) | Step::Held { .. } | Step::TwoClusters(..)) | None => {}
            }
        }
        if self.moves_left > 0 {
            may(&|world| {
                world.moves_left -= 1;
                world.a_is = 3 - world.a_is;
            });
        }
        worlds
    }

    /// Takes an answer in; a round that decides nothing is over.
    fn hear(&mut self, machine: usize, name: usize, answer: Answer) {
        let is_member = matches!(answer, Answer::Member { .. });
        let answer = if position(machine) == 0 || is_member { answer } else { Answer::Silent };
        self.processes[machine].as_mut().expect("it runs").answers[name] = Some(answer);
        if let Some(Step::Wait(_)) = self.step(machine) {
            self.ask_anew(machine);
        }
    }

    fn ask_anew(&mut self, machine: usize) {
        self.processes[machine].as_mut().expect("it runs").answers = [None; 3];
    }

    fn start(&mut self, machine: usize) {
        self.starts_left = self.starts_left.saturating_sub(1);
        self.runs[machine] = true;
        if self.disks[machine] == Disk::Empty {
            self.processes[machine] = Some(Process { id: self.next_id, ..Process::default() });
            self.next_id += 1;
        }
    }

    /// Joins, if a member still answers there; else it asks anew.
    fn join(&mut self, machine: usize, through: usize) {
        let member = self.at(through);
        match self.disks[member] {
            Disk::Of(cluster) if self.runs[member] => {
                self.processes[machine] = None;
                self.disks[machine] = Disk::Of(cluster);
            }
            _ => self.ask_anew(machine),
        }
    }

    fn clusters(&self) -> BTreeSet<u8> {
        let of = |disk: &Disk| match disk {
            Disk::Of(cluster) => Some(*cluster),
            Disk::Empty => None,
        };
        self.disks.iter().filter_map(of).collect()
    }

    /// Without further losses, with every machine of the list up: what becomes of it.
    fn settle(mut self) -> BTreeSet<u8> {
        self.runs[3] = false;
        self.processes[3] = None;
        self.a_is = 0;
        for machine in 0..3 {
            if !self.runs[machine] {
                self.start(machine);
            }
        }
        for _ in 0..4 {
            for machine in 0..3 {
                if self.processes[machine].is_none() {
                    continue;
                }
                self.ask_anew(machine);
                for name in 0..3 {
                    let answer = self.ask(machine, name);
                    self.hear(machine, name, answer);
                }
                match self.step(machine) {
                    Some(Step::Initialise) => {
                        let process = self.processes[machine].take().expect("it decided");
                        self.disks[machine] = Disk::Of(process.id);
                    }
                    Some(Step::Join(through)) => self.join(machine, through),
                    // Words are kept while they are asked for: nobody asks for the old one any more.
                    _ => self.processes.iter_mut().flatten().for_each(|process| process.word = None),
                }
            }
        }
        self.clusters()
    }
}

/// Explores all that can come of `first`; how many worlds were seen, and in how many of them there is a cluster.
fn explore(first: World, check: &dyn Fn(&World)) -> (usize, usize) {
    let mut seen = BTreeSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    let mut formed = 0;
    while let Some(world) = queue.pop_front() {
        check(&world);
        formed += usize::from(!world.clusters().is_empty());
        for next in world.next() {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), formed)
}

fn never_two(world: &World) {
    assert!(world.clusters().len() <= 1, "two clusters: {world:?}");
}

#[test]
fn every_order_of_starts_and_losses_makes_one_cluster() {
    let first = World { losses_left: 2, starts_left: 5, ends: true, ..World::of(3) };
    let (seen, formed) = explore(first, &|world| {
        never_two(world);
        assert_eq!(world.clone().settle().len(), 1, "with all three up there is a cluster: {world:?}");
    });
    assert!(seen > 10_000 && formed > 1_000, "{seen} worlds, {formed} with a cluster");
}

#[test]
fn of_two_nodes_that_are_both_the_first_one_makes_the_cluster() {
    let (seen, formed) = explore(World { starts_left: 4, moves_left: 2, ..World::of(MACHINES) }, &never_two);
    assert!(seen > 10_000 && formed > 1_000, "{seen} worlds, {formed} with a cluster");
}

#[cfg(feature = "mutants")]
#[test]
fn a_node_that_does_not_wait_and_a_word_given_twice_are_noticed() {
    use crate::mutants::{self, Mutant};
    let this = std::env::current_exe().expect("this test has a program");
    let run = |name: &str, mutant: Option<Mutant>| {
        let mut command = std::process::Command::new(&this);
        command.args(["--exact", &format!("node::bootstrap::explore::{name}")]).env_remove(mutants::VARIABLE);
        command.envs(mutant.map(|mutant| (mutants::VARIABLE, mutant.name())));
        command.output().expect("it starts").status.success()
    };
    let (losses, two) = (
        "every_order_of_starts_and_losses_makes_one_cluster",
        "of_two_nodes_that_are_both_the_first_one_makes_the_cluster",
    );
    assert!(run(losses, None) && run(two, None));
    assert!(!run(losses, Some(Mutant::BootstrapWithSilentPeers)));
    assert!(!run(two, Some(Mutant::BootstrapWordTwice)));
}

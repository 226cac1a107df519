//! Planted bugs ([`queue_broker::mutants`]): a sweep that would not notice them proves nothing.
//!
//! `mutants.csv` names for each the seed that shows it first, and what was wrong there.
//!
//! | variable | meaning |
//! |---|---|
//! | `SIMULATION_MUTANTS=500` | look for each in the seeds 1 to 500, and write the list anew |
//! | `SIMULATION_MUTANT=ack-before-sync` | only this one |

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use queue_broker::mutants::{Mutant, Suite};
use tokio::runtime::Runtime;

use crate::sweep::{self, Said};

/// A change of the product shifts what a seed does: so many seeds from the listed one on are tried.
const SHIFT: u64 = 12;
const HEAD: &str = "mutant,seed,what is wrong there";

/// A line of the list.
#[derive(Clone, Debug)]
struct Caught {
    seed: u64,
    what: String,
}

type List = BTreeMap<String, Caught>;

/// The planted bugs that the simulation has to catch.
fn planted() -> impl Iterator<Item = Mutant> {
    Mutant::ALL.iter().copied().filter(|mutant| mutant.suite() == Suite::Simulation)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("simulation/mutants.csv")
}

fn read() -> List {
    let text = std::fs::read_to_string(path()).expect("the list is there");
    let row = |line: &str| {
        let mut cells = line.splitn(3, ',').map(str::to_owned);
        let mut cell = || cells.next().unwrap_or_else(|| panic!("{line} has not three cells"));
        let (name, seed, what) = (cell(), cell(), cell());
        (name, Caught { seed: seed.parse().expect("a seed"), what })
    };
    text.lines().skip(1).map(row).collect()
}

fn write(list: &List) {
    let rows = list.iter().map(|(name, Caught { seed, what })| format!("{name},{seed},{what}\n"));
    std::fs::write(path(), format!("{HEAD}\n{}", rows.collect::<String>())).expect("it can be written");
}

/// The violation in words that are the same in every run, on one line and without commas.
fn words(violation: &str) -> String {
    let first = violation.lines().next().unwrap_or_default();
    let what = first.split_once("things are wrong; ").map_or(first, |(_, what)| what);
    let what = what.split_once(" panicked at ").map_or(what, |(_, place)| place);
    let what: String = what.chars().take(100).map(|c| if c == ',' { ';' } else { c }).collect();
    what.trim().to_owned()
}

/// The first of `seeds` that shows `mutant`.
async fn catch(mutant: Mutant, seeds: RangeInclusive<u64>) -> Option<Caught> {
    for seed in seeds {
        let Said { violation, ended, .. } = sweep::elsewhere(seed, Some(mutant)).await;
        // One that takes too long has shown nothing.
        if let Some(what) = violation.filter(|_| ended) {
            return Some(Caught { seed, what: words(&what) });
        }
    }
    None
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is for people")]
fn every_planted_bug_is_caught() {
    let variable = |name| std::env::var(name).ok();
    let search: Option<u64> = variable("SIMULATION_MUTANTS").map(|count| count.parse().expect("a count"));
    let only = variable("SIMULATION_MUTANT");
    let mut list = read();
    let chosen = |mutant: &Mutant| only.as_ref().is_none_or(|only| only == mutant.name());
    let chosen: Vec<Mutant> = planted().filter(chosen).collect();
    assert!(!chosen.is_empty(), "{only:?} is no planted bug");
    let seeds = |mutant: Mutant| match search {
        Some(count) => 1..=count,
        None => {
            let listed = list.get(mutant.name());
            let seed = listed.unwrap_or_else(|| panic!("{} has no line in the list", mutant.name())).seed;
            seed..=seed + SHIFT
        }
    };
    let todo: Vec<_> = chosen.into_iter().map(|mutant| (mutant, catch(mutant, seeds(mutant)))).collect();
    let done = Runtime::new().expect("a runtime").block_on(sweep::together(todo));
    println!("{:34} {:>4}  what is wrong there", "mutant", "seed");
    let mut missed = Vec::new();
    for (mutant, caught) in done {
        let name = mutant.name();
        match caught {
            Some(caught) => {
                println!("{name:34} {:>4}  {}", caught.seed, caught.what);
                list.insert(name.to_owned(), caught);
            }
            None => {
                println!("{name:34}    -  nothing was noticed");
                missed.push(name);
            }
        }
    }
    if search.is_some() {
        list.retain(|name, _| planted().any(|mutant| mutant.name() == name));
        write(&list);
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

#[test]
fn the_list_names_every_planted_bug_and_no_other() {
    let listed: Vec<String> = read().into_keys().collect();
    let mut known: Vec<&str> = planted().map(Mutant::name).collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}

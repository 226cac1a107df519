//! The real broker under a seeded simulator: nodes, clients and an operator on simulated machines whose power, processes,
//! disks, clocks and network fail; then peace, and every answer is accounted for. One seed a process, because that is what
//! makes a run repeatable.
//!
//! | variable | meaning |
//! |---|---|
//! | `SIMULATION_SEEDS=1..101` | which seeds; 43..73 by default, which meet every fault |
//! | `SIMULATION_SEED=7` | only this one, in this process |
//! | `SIMULATION_LOSS=2:n3` | with one seed of the verdicts: stop n3 at the second, and end there |
//! | `SIMULATION_MUTANTS=500` | look for the planted bugs anew, see [`mutants`] |
//! | `SIMULATION_TRACE=1` | print what happens in it, `SIMULATION_LOG=debug` also what the nodes log |

mod chaos;
mod mutants;
mod sweep;
mod verdicts;

use std::ops::Range;

use tokio::runtime::Runtime;

/// Names the one seed to run.
const SEED: &str = "SIMULATION_SEED";
/// The test that runs seeds.
const TEST: &str = "promises_hold_whatever_fails";
/// Things that every default sweep must have met.
const COVERED: &[&str] = &[
    "crash",
    "reboot",
    "blackout",
    "mid_write",
    "kill",
    "stop",
    "cut",
    "one_way",
    "isolate",
    "split",
    "hold",
    "delay",
    "reset",
    "lose_answers",
    "slow_disk",
    "sync_fails",
    "clock",
    "clocks",
    "clock_near",
    "clock_far",
    "clock_long",
    "label_wrong",
    "times_taken",
    "full_disk",
    "transfer",
    "add",
    "wipe",
    "put_back",
    "swap",
    "flip",
    "move",
    "trade",
    "move_all",
    "moved",
    "told",
    "replaced",
    "torn_files",
    "exit_65",
    "exit_66",
    "exit_74",
    "repeated",
    "unknown",
    "redelivered",
    "leases_ended",
    "snapshots_taken",
    "reads",
];

fn seeds() -> Range<u64> {
    seeds_or("43..73")
}

fn seeds_or(usual: &str) -> Range<u64> {
    let text = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| usual.to_owned());
    let numbers = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    numbers.unwrap_or_else(|| panic!("SIMULATION_SEEDS is {text}, expected 43..73"))
}

fn log() {
    let Some(level) = std::env::var("SIMULATION_LOG").ok().and_then(|level| level.parse().ok()) else {
        return;
    };
    let level: tracing_subscriber::filter::LevelFilter = level;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .without_time()
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
}

#[test]
#[expect(clippy::print_stdout, reason = "a sweep says what it met")]
fn promises_hold_whatever_fails() {
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        log();
        return sweep::here(seed);
    }
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let (failed, covered) = Runtime::new().expect("a runtime").block_on(sweep::sweep(seeds.clone()));
    println!("covered {covered}");
    println!("{count} seeds, {} violations", failed.len());
    assert!(failed.is_empty(), "{} of {count} seeds fail, the first: {:?}", failed.len(), failed[0]);
    if count >= 30 {
        let missed: Vec<&&str> = COVERED.iter().filter(|what| covered.get(what) == 0).collect();
        assert!(missed.is_empty(), "nothing of this happened: {missed:?}");
    }
}

#[test]
fn a_seed_run_twice_gives_equal_traces() {
    let seed = seeds().start;
    let run = async { (sweep::elsewhere(seed, None).await, sweep::elsewhere(seed, None).await) };
    let (one, other) = Runtime::new().expect("a runtime").block_on(run);
    assert_eq!(one, other, "the same seed gave two runs");
    assert!(!one.trace.is_empty());
}

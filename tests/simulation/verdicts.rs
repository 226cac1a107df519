//! Verdicts on the health of the cluster against what a push meets, under every fault of the list. What goes wrong stays as it
//! is from 3 s before a verdict until the push after it is decided. What a verdict says of the loss of a node is tried by the
//! same seed once more, in which that node stops with the verdict.

use tokio::runtime::Runtime;

use crate::chaos::{self, Covered, KINDS, Loss};
use crate::sweep::{self, Said};
use crate::{SEED, log, seeds_or};

/// The test that runs seeds.
const TEST: &str = "verdicts::verdicts_are_what_a_push_meets";
/// Names the node that stops, and with which verdict.
const LOSS: &str = "SIMULATION_LOSS";
/// Kinds of faults of which a sweep of so many seeds must have judged every one.
const SEEDS_FOR_ALL: u64 = 30;

fn repeat(seed: u64, loss: Option<&str>) -> String {
    let loss = loss.map(|loss| format!("{LOSS}={loss} ")).unwrap_or_default();
    format!(
        "{loss}{SEED}={seed} SIMULATION_TRACE=1 cargo test -p tests --test simulation -- --exact {TEST} --nocapture"
    )
}

/// Runs a seed in this process and says what came of it.
fn here(seed: u64) {
    log();
    let text = std::env::var(LOSS).ok();
    let loss = text.as_deref().map(|text| Loss::parse(text).unwrap_or_else(|| panic!("{LOSS} is {text}")));
    sweep::tell(seed, chaos::judge(seed, loss), &repeat(seed, text.as_deref()));
}

/// Runs a seed, and once more for each loss that it spoke of; all violations.
async fn with_losses(seed: u64) -> (Covered, Vec<(String, String)>) {
    let run = async |loss: Option<&str>| -> Said {
        let env: Vec<_> = loss.iter().map(|loss| (LOSS, (*loss).to_owned())).collect();
        sweep::elsewhere_as(TEST, seed, &env).await
    };
    let first = run(None).await;
    let (mut covered, mut wrong) = (first.covered, Vec::new());
    wrong.extend(first.violation.map(|what| (what, repeat(seed, None))));
    for loss in &first.losses {
        let again = run(Some(loss)).await;
        covered.merge(&again.covered);
        wrong.extend(again.violation.map(|what| (what, repeat(seed, Some(loss)))));
    }
    (covered, wrong)
}

#[test]
#[expect(clippy::print_stdout, reason = "a sweep says what it met")]
fn verdicts_are_what_a_push_meets() {
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        return here(seed);
    }
    let seeds = seeds_or("1..13");
    let count = seeds.end - seeds.start;
    let todo = seeds.map(|seed| (seed, with_losses(seed)));
    let done = Runtime::new().expect("a runtime").block_on(sweep::together(todo));
    let (mut covered, mut failed) = (Covered::default(), Vec::new());
    for (seed, (met, wrong)) in done {
        covered.merge(&met);
        for (what, repeat) in wrong {
            println!("seed {seed}: {what}\n  {repeat}");
            failed.push(format!("seed {seed}: {what}"));
        }
    }
    println!("covered {covered}");
    println!("{count} seeds, {} wrong verdicts", failed.len());
    assert!(failed.is_empty(), "{} verdicts are wrong, the first: {}", failed.len(), failed[0]);
    let met = |what: &str| covered.get(what) > 0;
    assert!(met("said_yes") && met("said_no") && met("loss_survived"), "verdicts of one kind alone");
    if count >= SEEDS_FOR_ALL {
        let missed: Vec<&str> =
            KINDS.iter().map(|(kind, _)| *kind).filter(|kind| !met(&format!("judged_{kind}"))).collect();
        assert!(missed.is_empty(), "no verdict was given under {missed:?}");
    }
}

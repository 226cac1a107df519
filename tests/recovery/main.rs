//! What a node finds after the worst moment: every crash point of a workload over log, snapshots and identity, and
//! every bit of every file.
//!
//! The short setting runs with every build. `RECOVERY_SEEDS=40 cargo test --release -p tests --test recovery --
//! --nocapture` goes through so many workloads, each with every bias of what a crash leaves, and prints how many
//! recoveries it made; `RECOVERY_STRIDE=1` flips every bit, `RECOVERY_SYNCS=250` lets
//! so many syncs fail. `RECOVERY_LEDGER=1` adds what they found to `tests/ledger.csv`.

mod crash;
mod failing_sync;
mod flips;
mod mutants;
mod store;

/// A number from the environment.
fn setting(name: &str, short: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// What was counted, for people and, if asked for, for the ledger.
#[expect(clippy::print_stdout, reason = "the sums are for people")]
fn tell(suite: &str, count: u64, what: &str) {
    println!("{suite}: {count} {what}");
    if setting("RECOVERY_LEDGER", 0) > 0 {
        harness::ledger::note(suite, "one node", count);
    }
}

/// Runs a test under virtual time.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing").block_on(test)
}

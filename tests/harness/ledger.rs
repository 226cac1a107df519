//! `tests/ledger.csv`: what the long runs found.

use std::process::Command;

/// Adds a line of what found nothing to the ledger.
///
/// # Panics
///
/// If the ledger takes no line.
pub fn note(suite: &str, setting: &str, count: u64) {
    note_result(suite, setting, count, "ok");
}

/// Adds a line of what was measured: a number and its unit.
///
/// # Panics
///
/// If the ledger takes no line.
pub fn note_result(suite: &str, setting: &str, count: u64, result: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ledger.sh");
    let status = Command::new(script).args([suite, setting, &count.to_string(), result]).status();
    assert!(status.expect("bash is there").success(), "the ledger takes no line");
}
